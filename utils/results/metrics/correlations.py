"""Linear correlation coefficients of the features, of all classes and of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.estimates import ratio
from utils.results.events import EvaluationTable, classes_present

_MOST_CORRELATED = 200_000


@dataclass(frozen=True, eq=False)
class Correlations:
    """Linear correlation coefficients of the features, pairs with a missing value left out.

    matrix (F, F): all classes, class-balanced. per_class: {class id: (F, F)}, NaN where a feature
    is constant.
    """

    names: tuple[str, ...]
    matrix: Floats
    per_class: Mapping[int, Floats]


def make_correlations(table: EvaluationTable) -> Correlations:
    """Return correlation coefficients of the features; `table` is all labelled.

    Each pair uses the events in which both have a value, of at most 200,000 events, evenly spaced:
    that leaves an error of 0.002. The matrix of all classes is balanced: every class enters with
    the same weight.
    """
    names = tuple(table.features)
    step = -(-len(table.target) // _MOST_CORRELATED)
    target = np.asarray(table.target)[::step]
    matrix = np.array([np.asarray(v[::step], dtype=np.float64) for v in table.features.values()])
    known = np.isfinite(matrix)
    # About the mean and in units of the spread, sums of products keep their digits.
    n_known = np.maximum(known.sum(axis=1), 1)
    centre = np.where(known, matrix, 0.0).sum(axis=1) / n_known
    matrix = np.where(known, matrix - centre[:, None], 0.0)
    scale = np.sqrt((matrix**2).sum(axis=1) / n_known)
    matrix /= np.where(scale > 0, scale, 1.0)[:, None]
    per_class_sums = {}
    for c in classes_present(target):
        mine = target == c
        x, m = matrix[:, mine], known[:, mine].astype(np.float64)
        # pairs known, and sums of x_i, x_i^2, x_i x_j, each where x_j is known as well
        per_class_sums[c] = np.stack([m @ m.T, x @ m.T, x**2 @ m.T, x @ x.T])
    sizes = np.bincount(target, minlength=len(table.classes))
    everything = np.sum([sums / sizes[c] for c, sums in per_class_sums.items()], axis=0)
    per_class = {c: _coefficients(sums) for c, sums in per_class_sums.items()}
    return Correlations(names, _coefficients(everything), per_class)


def _coefficients(sums: NDArray[np.float64]) -> Floats:
    n = np.maximum(sums[0], 1e-300)
    mean, square, product = sums[1] / n, sums[2] / n, sums[3] / n
    variance = square - mean**2
    # A constant leaves only rounding behind.
    variance = np.where(variance > 1e-12 * np.maximum(square, 1e-30), variance, 0.0)
    found = ratio(product - mean * mean.T, np.sqrt(variance * variance.T))
    return np.clip(found, -1.0, 1.0)
