"""Distributions: score densities, features per class, correlations, score profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.containers import (
    UNLABELLED,
    Correlations,
    EvaluationTable,
    FeatureDistribution,
    ScoreDensities,
    ScoreProfile,
    View,
)
from utils.results.metrics.bootstrap import MIN_EVENTS, ratio
from utils.results.metrics.table import class_balanced
from utils.system.threads import each

N_FEATURE_BINS = 50
N_PROFILE_BINS = 25
"""Most bins; fewer where events are few, see `bins_for`."""
_MOST_INTEGERS = 40
_MOST_CORRELATED = 200_000


def score_edges(table: EvaluationTable, category: int, default_bin: float) -> Floats:
    """Return bin edges of a category's probability: from about 1/K, the lowest possible, to 1."""
    width = table.classes[category].bin_size or default_bin
    lowest = 1.0 / len(table.classes)
    m = max(int(np.ceil((1 - lowest) / width - 1e-9)), 1)
    edges = np.maximum(1 - width * np.arange(m, -1, -1), 0.0)
    # Widths that do not divide 1 must not leave an empty first bin below 0.
    return np.unique(edges)


def classes_present(target: NDArray[Any]) -> tuple[int, ...]:
    """Return class ids with events, ascending, unlabelled (-1) last."""
    found = [int(c) for c in np.unique(target)]
    return tuple(sorted(found, key=lambda c: (c == UNLABELLED, c)))


def histogram(values: Floats, edges: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return sums of weights and of squared weights per bin; values outside go to the end bins."""
    m = len(edges) - 1
    code = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, m - 1)
    return (
        np.bincount(code, weights=weight, minlength=m).astype(np.float64),
        np.bincount(code, weights=weight**2, minlength=m).astype(np.float64),
    )


def density(sums: Floats, squares: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Return unit-area density and its error (bin sums taken as independent); zero where empty."""
    total = sums.sum()
    if total <= 0:
        return np.zeros(len(sums)), np.zeros(len(sums))
    width = np.diff(edges)
    return sums / total / width, np.sqrt(squares) / total / width


def weights_with_unlabelled(table: EvaluationTable, view: View) -> Floats:
    """Return the view's weights (n,) of all events; unlabelled ones weigh 1 unless in physics."""
    if view == "physics" and table.weight is not None:
        return np.asarray(table.weight, dtype=np.float64)
    weight = np.ones(len(table.target))
    if view == "balanced":
        known = np.asarray(table.target) != UNLABELLED
        weight[known] = class_balanced(np.asarray(table.target)[known], len(table.classes))
    return weight


def make_densities(
    table: EvaluationTable, views: Sequence[View], default_bin: float
) -> tuple[ScoreDensities, ...]:
    """Return one result per view and category; `table` may hold unlabelled events (class -1)."""
    target = np.asarray(table.target)
    present = classes_present(target)
    series = _series(target, present)
    category = table.proba.argmax(axis=1)
    made: dict[View, list[ScoreDensities]] = {view: [] for view in views}
    sizes = [int((target == c).sum()) for c in present]
    n_known = int((target != UNLABELLED).sum())
    for c in range(len(table.classes)):
        edges = score_edges(table, c, default_bin)
        m = len(edges) - 1
        shape = (len(present), m)
        mine = np.flatnonzero(category == c)
        code = np.searchsorted(edges, table.proba[mine, c], side="right") - 1
        code = np.clip(code, 0, m - 1) + m * series[mine]
        n = np.bincount(code, minlength=len(present) * m).reshape(shape)
        counts = n.astype(np.float64)
        for view in views:
            sums, squares = counts, counts
            if view == "physics" and table.weight is not None:
                w = np.asarray(table.weight, dtype=np.float64)[mine]
                sums, squares = (
                    np.bincount(code, weights=v, minlength=counts.size)
                    .astype(np.float64)
                    .reshape(shape)
                    for v in (w, w**2)
                )
            elif view == "balanced":
                per_event = np.array(
                    [
                        n_known / size if t != UNLABELLED else 1.0
                        for t, size in zip(present, sizes, strict=True)
                    ]
                )[:, None]
                sums, squares = counts * per_event, counts * per_event**2
            both = [density(a, b, edges) for a, b in zip(sums, squares, strict=True)]
            dens, dens_error = (np.array([pair[i] for pair in both]) for i in (0, 1))
            made[view].append(
                ScoreDensities(
                    view=view,
                    category=c,
                    edges=edges,
                    true_classes=present,
                    density=dens,
                    density_error=dens_error,
                    yields=sums,
                    yields_error=np.sqrt(squares),
                    n=n.sum(axis=1),
                )
            )
    return tuple(d for of_view in made.values() for d in of_view)


def _series(target: NDArray[Any], present: Sequence[int]) -> NDArray[np.intp]:
    """Return the place of each event's class among those `present`, unlabelled ones last."""
    series = np.searchsorted([c for c in present if c != UNLABELLED], target)
    series[target == UNLABELLED] = len(present) - 1
    return series


def without_filler(values: NDArray[Any]) -> NDArray[Any]:
    """Return `values` (n,) with NaN for a filler, such as the -10 of a jet that is not there.

    That is the lowest value, if it is negative, not that of whole numbers within a short range,
    and shared by at least 1 % of the events.
    """
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if len(known) == 0 or known.min() >= 0 or feature_edges(known)[1]:
        return values
    filled = values == known.min()
    if np.count_nonzero(filled) < max(0.01 * len(values), 2):
        return values
    return np.where(filled, np.nan, values)


def make_feature_distributions(
    table: EvaluationTable, n_threads: int = 1
) -> tuple[FeatureDistribution, ...]:
    """Return the distribution of every feature per true class, physics-weighted where possible."""
    present = classes_present(np.asarray(table.target))
    series = _series(np.asarray(table.target), present)
    view: View = "unweighted" if table.weight is None else "physics"
    weight = weights_with_unlabelled(table, view)
    n_bins = bins_for(np.bincount(series), N_FEATURE_BINS)

    def one(name: str) -> FeatureDistribution:
        values = np.asarray(table.features[name], dtype=np.float64)
        known = np.isfinite(values)
        edges, integer = feature_edges(values[known], n_bins)
        shape = (len(present), len(edges) - 1)
        inside = known & (values >= edges[0]) & (values <= edges[-1])
        code = np.searchsorted(edges, values[inside], side="right") - 1
        code = series[inside] * shape[1] + np.minimum(code, shape[1] - 1)
        w = weight[inside]
        size = shape[0] * shape[1]
        sums, squares = (
            np.bincount(code, weights=v, minlength=size).astype(np.float64).reshape(shape)
            for v in (w, w**2)
        )
        dens = np.array([density(a, b, edges) for a, b in zip(sums, squares, strict=True)])
        missing = np.bincount(series[~known], minlength=len(present))
        return FeatureDistribution(
            name, view, edges, present, dens[:, 0], dens[:, 1], missing, integer
        )

    return tuple(each(one, table.features, n_threads))


def bins_for(sizes: NDArray[np.integer], most: int) -> int:
    """Return 2 n^(1/3) (Rice), 10 to `most`, for the median n of the classes' `sizes`."""
    return int(np.clip(2 * np.cbrt(np.median(sizes)), 10, most))


def feature_edges(values: Floats, n_bins: int = N_FEATURE_BINS) -> tuple[Floats, bool]:
    """Return bin edges for finite values, and whether they are whole numbers with a bin each.

    Whole numbers of a range up to 40 get a bin each, anything else equal bins over the central
    99.8 %.
    """
    if len(values) == 0:
        return np.array([0.0, 1.0]), False
    low, high = float(values.min()), float(values.max())
    if high - low <= _MOST_INTEGERS and bool(np.all(values == np.rint(values))):
        return np.arange(low - 0.5, high + 1.0), True
    low, high = (float(v) for v in np.quantile(values, [0.001, 0.999]))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, n_bins + 1), False


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


def make_profile(table: EvaluationTable, feature: str) -> ScoreProfile:
    """Return the mean of every class's probability in bins of a feature, per true class.

    Unweighted; the range is the central 99.8 %, unlabelled events included.
    """
    values = np.asarray(table.features[feature], dtype=np.float64)
    target = np.asarray(table.target)
    present = classes_present(target)
    known = np.isfinite(values)
    n_bins = bins_for(np.unique(target, return_counts=True)[1], N_PROFILE_BINS)
    edges, _ = feature_edges(values[known], n_bins)
    m, k = len(edges) - 1, len(table.classes)
    mean, error = np.full((k, len(present), m), np.nan), np.full((k, len(present), m), np.nan)
    n = np.zeros((len(present), m), dtype=np.int64)
    for t, true in enumerate(present):
        mine = (target == true) & known & (values >= edges[0]) & (values <= edges[-1])
        code = np.clip(np.searchsorted(edges, values[mine], side="right") - 1, 0, m - 1)
        n[t] = np.bincount(code, minlength=m)
        for c in range(k):
            score = table.proba[mine, c]
            average = ratio(np.bincount(code, weights=score, minlength=m), n[t])
            squares = np.bincount(code, weights=(score - average[code]) ** 2, minlength=m)
            spread = ratio(squares, n[t] - 1)
            mean[c, t] = np.where(n[t] >= MIN_EVENTS, average, np.nan)
            error[c, t] = np.where(n[t] >= MIN_EVENTS, np.sqrt(ratio(spread, n[t])), np.nan)
    return ScoreProfile(feature, edges, present, mean, error, n)
