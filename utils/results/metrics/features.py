"""Features: their distributions per true class, and what of a score depends on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.columns.arrays import Array, Floats
from utils.results.estimates import MIN_EVENTS, ratio
from utils.results.events import EvaluationTable, View, classes_present, places, view_weights
from utils.results.histograms import bins_for, fill, fill_means
from utils.schema import nearest
from utils.system.threads import each

N_FEATURE_BINS = 50
N_PROFILE_BINS = 25
"""Most bins; fewer where events are few, see `bins_for`."""
_MOST_INTEGERS = 40


@dataclass(frozen=True, eq=False)
class FeatureDistribution:
    """Distribution of one feature per true class, unit area each, within the central 99.8 %.

    edges (m+1,). true_classes: T ids. density, density_error (T, m). n_missing (T,): events without
    a value (see `with_gaps`). integer: the values are
    whole numbers and have a bin each. view: physics where there
    are weights, else unweighted.
    """

    name: str
    view: View
    edges: Floats
    true_classes: tuple[int, ...]
    density: Floats
    density_error: Floats
    n_missing: Array
    integer: bool


@dataclass(frozen=True, eq=False)
class ScoreProfile:
    """Mean probability against a feature, per true class: where it bends, cuts sculpt the feature.

    edges (m+1,). score_classes: S ids. true_classes: T ids. mean, error (S, T, m): [score, true
    class, bin], unweighted, error of the mean; NaN in bins with fewer than five events. n (T, m).
    """

    feature: str
    edges: Floats
    score_classes: tuple[int, ...]
    true_classes: tuple[int, ...]
    mean: Floats
    error: Floats
    n: Array


def with_gaps(table: EvaluationTable) -> EvaluationTable:
    """Return the table with NaN for what is declared to stand for a missing value."""
    features = dict(table.features)
    for name, value in table.missing.items():
        if name in features and np.isfinite(value):
            values = np.asarray(features[name], dtype=np.float64)
            # A scaler and its inverse give a float32 value back but for some rounding.
            known = np.isfinite(values)
            size = abs(value) + np.abs(values[known]).sum() / max(known.sum(), 1)
            features[name] = np.where(np.abs(values - value) <= 1e-6 * size, np.nan, values)
    return replace(table, features=features)


def make_feature_distributions(
    table: EvaluationTable, n_threads: int = 1
) -> tuple[FeatureDistribution, ...]:
    """Return the distribution of every feature per true class, physics-weighted where possible."""
    present = classes_present(np.asarray(table.target))
    series = places(np.asarray(table.target), present)
    view: View = "unweighted" if table.weight is None else "physics"
    weight = view_weights(table, view)
    n_bins = bins_for(np.bincount(series), N_FEATURE_BINS)

    def one(name: str) -> FeatureDistribution:
        values = np.asarray(table.features[name], dtype=np.float64)
        known = np.isfinite(values)
        edges, integer = feature_edges(values[known], n_bins)
        inside = known & (values >= edges[0]) & (values <= edges[-1])
        sums = fill(values[inside], edges, weight[inside], (series[inside], len(present)))
        missing = np.bincount(series[~known], minlength=len(present))
        density = sums.density(edges)
        return FeatureDistribution(name, view, edges, present, *density, missing, integer)

    return tuple(each(one, table.features, n_threads))


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


def make_profiles(table: EvaluationTable, names: Sequence[str]) -> tuple[ScoreProfile, ...]:
    """Return the profiles against the features of the table that are named."""
    return tuple(_profile(table, name) for name in names if name in table.features)


def missing_profiles(table: EvaluationTable, names: Sequence[str]) -> str:
    """Return why some profiles are missing, '' if none is."""
    if not names:
        return "profile_features names no feature"
    missing = [name for name in names if name not in table.features]
    if len(missing) == 1:
        near = nearest(missing[0], table.features)
        return f"{missing[0]} is not among the table's features; {near}"
    return f"{', '.join(missing)} are not among the table's features" if missing else ""


def _profile(table: EvaluationTable, feature: str) -> ScoreProfile:
    """Return the mean of every class's probability in bins of a feature, per true class.

    Unweighted; the range is the central 99.8 %, unlabelled events included.
    """
    values = np.asarray(table.features[feature], dtype=np.float64)
    target = np.asarray(table.target)
    present = classes_present(target)
    known = np.isfinite(values)
    n_bins = bins_for(np.unique(target, return_counts=True)[1], N_PROFILE_BINS)
    edges, _ = feature_edges(values[known], n_bins)
    inside = known & (values >= edges[0]) & (values <= edges[-1])
    rows = (places(target, present)[inside], len(present))
    scores, of = table.proba[inside].T, table.score_classes
    means = [fill_means(values[inside], edges, scores[c], rows) for c in of]
    enough = means[0].n >= MIN_EVENTS
    mean = np.array([np.where(enough, m.mean, np.nan) for m in means])
    error = np.array([np.where(enough, np.sqrt(ratio(m.variance, m.n)), np.nan) for m in means])
    n = np.rint(means[0].n).astype(np.int64)
    return ScoreProfile(feature, edges, of, present, mean, error, n)
