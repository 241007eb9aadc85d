"""Calibration: whether a predicted probability is the share that is observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.results.estimates import Estimate, class_notes, estimate, ratio
from utils.results.events import EvaluationTable, trained_weights
from utils.results.metrics.bootstrap import Sums, Term
from utils.results.metrics.curves import Ranking, codes_between

Bins = tuple[Floats, NDArray[np.int32]]
"""Edges of a class's bins, and the bin of each event (n,)."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Reliability of one class's probability, under the weights trained with.

    All arrays (b,), one entry per bin, bins equally populated and ascending. edges (b+1,).
    predicted: mean probability; observed: weighted share of the class, with observed_error (that of
    a right prediction where all or none are of the class); n: events. error: expected
    calibration error, the mean |observed - predicted| over events (its
    interval is the basic bootstrap's, clipped at 0 and widened to hold the value). noise: the error
    that a perfectly calibrated classifier would show with these statistics.
    """

    class_id: int
    edges: Floats
    predicted: Floats
    observed: Floats
    observed_error: Floats
    n: Array
    error: Estimate
    noise: float


def calibration_terms(
    table: EvaluationTable, rankings: Mapping[int, Ranking], n_bins: int
) -> tuple[dict[str, Term], dict[int, Bins]]:
    """Return the sums that calibration needs, and the bin edges and bin of each event.

    Of each class whose scores, sorted, are among `rankings`.
    """
    weight = trained_weights(table)
    n_bins = min(n_bins, max(len(table.target) // 100, 5))
    terms: dict[str, Term] = {}
    bins: dict[int, Bins] = {}
    for c, ranking in rankings.items():
        p = table.proba[:, c]
        lowest, highest = ranking.threshold[-1], ranking.threshold[0]
        share = np.linspace(0, 1, n_bins + 1)[1:-1]
        inner = np.unique(p[ranking.order[::-1][(share * (len(p) - 1)).astype(np.intp)]])
        inner = inner[inner > lowest]
        code = codes_between(ranking, inner)
        edges = np.concatenate([[lowest], inner, [highest]])
        m = len(inner) + 1
        row = code + np.int32(m) * (table.target == c)
        terms[f"calibration_{c}"] = Term(row, weight, 2 * m)
        terms[f"calibration_p_{c}"] = Term(code, weight * p, m)
        bins[c] = (edges, code)
    return terms, bins


def make_calibration(
    table: EvaluationTable, sums: Sums, bins: Mapping[int, Bins]
) -> tuple[Calibration, ...]:
    """Return the reliability of the probabilities in `bins` under the weights trained with."""
    notes = class_notes(table.target, table.names)
    return tuple(
        _calibration(table, sums, c, edges, code, notes[c]) for c, (edges, code) in bins.items()
    )


def _calibration(
    table: EvaluationTable, sums: Sums, c: int, edges: Floats, code: NDArray[np.int32], note: str
) -> Calibration:
    m, p, weight = len(edges) - 1, table.proba[:, c], trained_weights(table)
    names = (f"calibration_{c}", f"calibration_p_{c}")

    def sum_of(values: Floats) -> Floats:
        return np.bincount(code, weights=values, minlength=m).astype(np.float64)

    predicted, observed, share = _shares(*(sums.exact[name] for name in names))
    value = float(_mean_gap(predicted, observed, share))
    replicates = _mean_gap(*_shares(*(sums.columns[name] for name in names)))
    total = sum_of(weight)
    spread = np.sqrt(sum_of((((table.target == c) - observed[code]) * weight) ** 2))
    # The scatter of y around a perfect p, for the error that chance alone would show.
    chance = np.sqrt(sum_of(weight**2 * p * (1 - p)))
    scatter = np.where((observed > 0) & (observed < 1), spread, chance)
    return Calibration(
        class_id=c,
        edges=edges,
        predicted=predicted,
        observed=observed,
        observed_error=ratio(scatter, total),
        n=np.bincount(code, minlength=m),
        error=Estimate(value, note=note)
        if note
        else estimate(value, replicates, sums.n_folds, basic=True, bounds=(0, 1)),
        noise=float(np.sqrt(2 / np.pi) * np.nansum(ratio(chance, np.full(m, total.sum())))),
    )


def _shares(columns: NDArray[Any], predicted: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return each bin's mean prediction, share of the class, and share of all weights."""
    no, yes = np.split(np.asarray(columns, float), 2)
    total = no + yes
    return ratio(predicted, total), ratio(yes, total), ratio(total, total.sum(axis=0))


def _mean_gap(predicted: Floats, observed: Floats, share: Floats) -> Floats:
    """Return sum over bins of share * |observed - predicted|; empty bins have no share."""
    gap = np.where(np.isfinite(share) & (share > 0), share * np.abs(observed - predicted), 0.0)
    result = np.asarray(gap.sum(axis=0))
    return np.where(np.isfinite(share).any(axis=0), result, np.nan)
