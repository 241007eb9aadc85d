"""Efficiency and purity of selecting by a threshold on a class's probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.estimates import MIN_EVENTS, ratio
from utils.results.events import EvaluationTable, View, one_versus_rest, view_weights
from utils.results.histograms import fill_cells
from utils.results.metrics.curves import codes_between
from utils.results.metrics.one_versus_rest import ClassCurves, Ranked

THRESHOLDS = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True, eq=False)
class ThresholdScan:
    """Efficiency and purity of the selection `probability of the class >= threshold`.

    All arrays (p,); thresholds ascending. efficiency: selected share of the class. purity: share of
    the class among all selected, NaN below five selected events. background_efficiency: selected
    share of all other classes.
    """

    view: View
    class_id: int
    threshold: Floats
    efficiency: Floats
    efficiency_error: Floats
    purity: Floats
    purity_error: Floats
    background_efficiency: Floats


def make_threshold_scans(
    table: EvaluationTable,
    ranked: Sequence[Ranked],
    drawn: Mapping[View, Sequence[ClassCurves]],
) -> tuple[ThresholdScan, ...]:
    """Return a scan for each view and class that has a ROC curve; `table` is all labelled."""
    scans = []
    # The number of the highest threshold that each score passes.
    codes = [codes_between(one.ranking, THRESHOLDS) - 1 for one in ranked]
    for view, curves in drawn.items():
        weight = view_weights(table, view)
        for code, curve in zip(codes, curves, strict=True):
            positive = table.target == curve.class_id
            own = one_versus_rest(positive) if view == "balanced" else weight
            if curve.roc is not None:
                scans.append(_scan(code, positive, own, view, curve.class_id))
    return tuple(scans)


def _scan(
    code: NDArray[np.integer],
    positive: NDArray[np.bool_],
    weight: Floats,
    view: View,
    class_id: int,
) -> ThresholdScan:
    """Return efficiency and purity of `score >= threshold`; errors by first-order propagation.

    code (n,): the highest threshold passed. With S_p, S the selected and total sums of weights of
    the class and V sums of squared weights, var(S_p / S) = ((1 - e)^2 V_selected + e^2 V_rejected)
    / S^2, and likewise for the purity.
    """
    m = len(THRESHOLDS)
    above = fill_cells(code + m * positive, (2, m), weight).above()
    (rest, signal), (rest_squares, signal_squares) = above.value, above.variance
    efficiency = ratio(signal, signal[0])
    variance = (1 - efficiency) ** 2 * signal_squares + efficiency**2 * (
        signal_squares[0] - signal_squares
    )
    n_selected = np.cumsum(np.bincount(code, minlength=m)[::-1])[::-1]
    purity = np.where(n_selected >= MIN_EVENTS, ratio(signal, signal + rest), np.nan)
    spread = (1 - purity) ** 2 * signal_squares + purity**2 * rest_squares
    return ThresholdScan(
        view=view,
        class_id=class_id,
        threshold=THRESHOLDS,
        efficiency=efficiency,
        efficiency_error=ratio(np.sqrt(np.maximum(variance, 0)), signal[0]),
        purity=purity,
        purity_error=ratio(np.sqrt(spread), signal + rest),
        background_efficiency=ratio(rest, rest[0]),
    )
