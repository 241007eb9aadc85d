"""Confusion matrices: who is assigned where, in counts, yields and shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.columns.arrays import Array
from utils.results.estimates import INTERVAL, MIN_EVENTS, Estimates, deviation, limits
from utils.results.events import EvaluationTable, View
from utils.results.histograms import fill_cells
from utils.results.metrics.bootstrap import Sums
from utils.results.metrics.scores import exact_numbers, numbers


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Confusion matrix of one view; every array is (K, K), [true class, category].

    counts: events. yields: sums of weights (physics: expected events), with errors from the sums of
    squares; their fold's sums are taken times the number of folds. norm_true: each row divided by
    its sum; norm_pred: each column by its; NaN in an empty row or column. Intervals (and the
    errors of shares) are the bootstrap's, NaN for rows and columns (of yields: cells) of fewer than
    five events.
    """

    view: View
    counts: Array
    yields: Estimates
    norm_true: Estimates
    norm_pred: Estimates


def make_confusion(table: EvaluationTable, view: View, sums: Sums) -> ConfusionMatrix:
    """Return the confusion matrix of a view; `table` is all labelled.

    Balanced yields are sums of N / N_class, physics yields of physics weights.
    """
    k = len(table.classes)
    columns = numbers(sums.columns, k, view, areas=False)
    exact = exact_numbers(sums, k, view, areas=False)
    counts = np.rint(sums.exact["cells/unweighted"]).astype(np.int64).reshape(k, k)

    def shares(name: str, axis: int) -> Estimates:
        value, replicates = exact[name], columns[name]
        low, high = limits(replicates, INTERVAL, sums.n_folds)
        enough = np.isfinite(value) & np.isfinite(low)
        enough &= counts.sum(axis=axis, keepdims=True) >= MIN_EVENTS
        folds, drawn = np.split(replicates[..., 1:], [sums.n_folds], axis=-1)
        uncertainty = (deviation(drawn), value + low, value + high)
        error, low, high = (np.where(enough, v, np.nan) for v in uncertainty)
        return Estimates(value, error, low, high, deviation(folds))

    yields = _yields(table, view, sums, counts)
    return ConfusionMatrix(view, counts, yields, shares("norm_true", 1), shares("norm_pred", 0))


def _yields(table: EvaluationTable, view: View, sums: Sums, counts: Array) -> Estimates:
    k = len(counts)
    per_event = np.ones((k, 1))
    if view == "balanced":
        per_event = len(table.target) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if view == "physics":
        name = "cells/physics"
        cells = table.target * k + table.category
        errors = np.sqrt(fill_cells(cells, (k, k), table.weight).variance)
    else:
        name = "cells/unweighted"
        errors = np.sqrt(counts) * per_event
    value = sums.exact[name].reshape(k, k) * per_event
    replicates = sums.columns[name].reshape(k, k, -1) * per_event[..., None]
    low, high = limits(replicates, INTERVAL, sums.n_folds)
    enough = counts >= MIN_EVENTS
    low, high = (np.where(enough, value + end, np.nan) for end in (low, high))
    spread = deviation(replicates[..., 1 : 1 + sums.n_folds]) * sums.n_folds
    return Estimates(value, errors, low, high, spread)
