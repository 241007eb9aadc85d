"""ROC and precision-recall curves against scikit-learn, closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sk

from utils.results.metrics import curves
from utils.results.metrics.bootstrap import N_BINS


def _sample(n=5000, seed=1, ties=False, shift=1.0):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    score = rng.normal(size=n) + shift * positive
    if ties:
        score = np.round(score, 1)
    return score, positive, rng.exponential(size=n)


def _passed(score, positive, weight=None):
    return curves.cumulate(curves.rank(score), positive, weight)


def _roc(score, positive, weight=None):
    return curves.roc_points(_passed(score, positive, weight))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_areas_and_points_equal_scikit_learn(ties, weighted):
    score, positive, weight = _sample(ties=ties)
    weight = weight if weighted else None
    fpr, tpr = _roc(score, positive, weight)
    expected = sk.roc_curve(positive, score, sample_weight=weight, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0], atol=1e-12)
    np.testing.assert_allclose(tpr, expected[1], atol=1e-12)
    auc = sk.roc_auc_score(positive, score, sample_weight=weight)
    assert curves.area(fpr, tpr) == pytest.approx(auc, abs=1e-12)

    w = np.ones(len(score)) if weight is None else weight
    recall, precision = curves.precision_recall_points(_passed(score, positive, w))
    assert curves.average_precision(recall, precision) == pytest.approx(
        sk.average_precision_score(positive, score, sample_weight=weight), abs=1e-12
    )
    expected_precision, expected_recall, _ = sk.precision_recall_curve(
        positive, score, sample_weight=weight
    )
    np.testing.assert_allclose(recall[::-1], expected_recall[:-1], atol=1e-12)
    np.testing.assert_allclose(precision[::-1], expected_precision[:-1], atol=1e-12)


def test_signed_weights_give_the_pair_sum():
    score, positive, _ = _sample(n=400, ties=True)
    weight = np.random.default_rng(2).normal(0.6, 1, size=400)
    fpr, tpr = _roc(score, positive, weight)
    a, b = score[positive][:, None], score[~positive][None]
    pairs = (a > b) + 0.5 * (a == b)
    w = weight[positive][:, None] * weight[~positive][None]
    assert (weight < 0).any()
    assert curves.area(fpr, tpr) == pytest.approx((pairs * w).sum() / w.sum(), abs=1e-12)


def test_two_gaussians_have_the_closed_form_auc():
    d, n = 1.3, 200_000
    score, positive, _ = _sample(n=n, seed=3, shift=d)
    fpr, tpr = _roc(score, positive)
    n_pos = positive.sum()
    sigma = np.sqrt(0.25 / n_pos + 0.25 / (n - n_pos))
    assert curves.area(fpr, tpr) == pytest.approx(norm.cdf(d / np.sqrt(2)), abs=4 * sigma)
    # The curve itself: tpr = Phi(Phi^-1(fpr) + d).
    at = np.array([0.01, 0.1, 0.5])
    expected = norm.cdf(norm.ppf(at) + d)
    np.testing.assert_allclose(np.interp(at, fpr, tpr), expected, atol=0.01)


def test_constant_scores_are_half_and_perfect_ones_are_one():
    positive = np.array([True, False, True, False, False])
    assert curves.area(*_roc(np.full(5, 0.3), positive)) == 0.5
    assert curves.area(*_roc(positive.astype(float), positive)) == 1.0
    assert curves.area(*_roc(-positive.astype(float), positive)) == 0.0


def test_a_side_without_weight_has_no_curve():
    fpr, tpr = _roc(np.arange(3.0), np.ones(3, dtype=bool))
    assert np.isnan(fpr).all()
    assert tpr[-1] == 1
    fpr, _ = _roc(np.arange(3.0), np.array([True, False, False]), np.array([1.0, 2.0, -3.0]))
    assert np.isnan(fpr).all()


def _distance_to_line(x, y, line_x, line_y):
    """Return for each point the distance to the nearest segment of a line."""
    best = np.full(len(x), np.inf)
    for i in range(len(line_x) - 1):
        dx, dy = line_x[i + 1] - line_x[i], line_y[i + 1] - line_y[i]
        length = max(dx**2 + dy**2, 1e-300)
        t = np.clip(((x - line_x[i]) * dx + (y - line_y[i]) * dy) / length, 0, 1)
        best = np.minimum(best, np.hypot(x - line_x[i] - t * dx, y - line_y[i] - t * dy))
    return best


@pytest.mark.parametrize("ties", [False, True])
def test_thinned_curve_is_within_the_tolerance_everywhere(ties):
    score, positive, weight = _sample(n=100_000, seed=5, ties=ties, shift=1.5)
    fpr, tpr = _roc(score, positive, weight)
    kept = curves.thin(fpr, tpr, log_x=True)
    assert kept[0] == 0
    assert kept[-1] == len(fpr) - 1
    assert len(kept) < 600
    if ties:
        assert len(kept) <= len(fpr)
    # Vertically at every point of the full curve that is not inside a jump.
    moved = np.append(np.diff(fpr) > 0, True) & np.insert(np.diff(fpr) > 0, 0, True)
    drawn = np.interp(fpr[moved], fpr[kept], tpr[kept])
    assert np.abs(drawn - tpr[moved]).max() <= curves.TOLERANCE
    every = slice(None, None, 97)
    distance = _distance_to_line(fpr[every], tpr[every], fpr[kept], tpr[kept])
    assert distance.max() <= curves.TOLERANCE


@given(st.integers(0, 10_000))
@example(26)  # log-spaced points that came after the thinning had missed by 1.1e-3 here
@example(299)
@settings(max_examples=40)
def test_any_thinned_roc_curve_is_within_the_tolerance(seed):
    rng = np.random.default_rng(seed)
    n = int(10 ** rng.uniform(1.5, 4.7))
    positive = rng.random(n) < rng.uniform(0.05, 0.8)
    score = rng.normal(size=n) * rng.uniform(0.5, 2) + rng.uniform(0, 3) * positive
    if rng.random() < 0.3:
        score = np.round(score, rng.integers(1, 3))
    weight = rng.exponential(size=n) if rng.random() < 0.5 else None
    assume(0 < positive.sum() < n)
    x, y = _roc(score, positive, weight)
    kept = curves.thin(x, y, log_x=True)
    # From each point to the drawn segment that stands for it.
    segment = np.searchsorted(kept, np.arange(len(x)), side="right").clip(1, len(kept) - 1)
    start, end = kept[segment - 1], kept[segment]
    dx, dy = x[end] - x[start], y[end] - y[start]
    along = ((x - x[start]) * dx + (y - y[start]) * dy) / np.maximum(dx**2 + dy**2, 1e-300)
    along = along.clip(0, 1)
    distance = np.hypot(x - x[start] - along * dx, y - y[start] - along * dy)
    assert distance.max() <= curves.TOLERANCE


def test_thinned_precision_recall_and_signed_curves_stay_within_the_tolerance():
    score, positive, weight = _sample(n=30_000, seed=6)
    ranking = curves.rank(score)
    full = curves.precision_recall_points(curves.cumulate(ranking, positive, weight))
    signed = curves.roc_points(curves.cumulate(ranking, positive, weight - 0.3))
    for x, y in (full, signed):
        kept = curves.thin(x, y)
        assert len(kept) < 0.2 * len(x)
        every = slice(None, None, 41)
        assert _distance_to_line(x[every], y[every], x[kept], y[kept]).max() <= curves.TOLERANCE


def test_low_false_positive_rates_have_log_spaced_points():
    score, positive, _ = _sample(n=200_000, seed=7, shift=2)
    fpr, tpr = _roc(score, positive)
    drawn = fpr[curves.thin(fpr, tpr, log_x=True)]
    for decade in (-4, -3, -2):
        assert np.sum((drawn >= 10.0**decade) & (drawn < 10.0 ** (decade + 1))) >= 15


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.booleans(), st.floats(-1, 3, allow_nan=False)),
        min_size=2,
        max_size=40,
    )
)
@settings(max_examples=60)
def test_any_small_sample_gives_the_pair_sum_or_nothing(events):
    score = np.array([e[0] for e in events], dtype=float)
    positive = np.array([e[1] for e in events])
    weight = np.round(np.array([e[2] for e in events]), 3)
    fpr, tpr = _roc(score, positive, weight)
    w = weight[positive][:, None] * weight[~positive][None]
    if weight[positive].sum() > 1e-6 and weight[~positive].sum() > 1e-6:
        a, b = score[positive][:, None], score[~positive][None]
        expected = (((a > b) + 0.5 * (a == b)) * w).sum() / w.sum()
        assert curves.area(fpr, tpr) == pytest.approx(expected, rel=1e-6, abs=1e-6)
        kept = curves.thin(fpr, tpr, log_x=True)
        assert kept[0] == 0
        assert kept[-1] == len(fpr) - 1


def test_binning_of_scores_is_monotone_and_hardly_moves_the_areas():
    score, positive, weight = _sample(n=50_000, seed=8, shift=2)
    ranking = curves.rank(score)
    codes = curves.bin_codes(ranking, curves.cumulate(ranking, positive, None))
    assert np.all(np.diff(codes[ranking.order]) <= 0)
    assert codes.min() >= 0
    assert codes.max() < N_BINS
    true, false = (
        np.bincount(codes[side], weights=weight[side], minlength=N_BINS)[:, None]
        for side in (positive, ~positive)
    )
    auc = curves.area(*_roc(score, positive, weight))
    # The standard error is above 1e-3, so a tenth of the 95 % interval is above 4e-4.
    assert curves.binned_auc(true, false)[0] == pytest.approx(auc, abs=1e-4)
    exact = curves.average_precision(
        *curves.precision_recall_points(_passed(score, positive, weight))
    )
    binned = curves.binned_average_precision(true, true + false)[0]
    assert binned == pytest.approx(exact, abs=3e-4)


def test_equal_scores_share_a_bin():
    score, positive, _ = _sample(n=3000, ties=True)
    codes = curves.bin_codes(curves.rank(score), _passed(score, positive))
    for value in np.unique(score):
        assert len(np.unique(codes[score == value])) == 1


def test_codes_between_edges_are_those_of_a_binary_search():
    rng = np.random.default_rng(8)
    score = np.round(rng.random(3000), 2)
    edges = np.array([0.0, 0.13, 0.5, 0.505, 1.0])
    found = curves.codes_between(curves.rank(score), edges)
    np.testing.assert_array_equal(found, np.searchsorted(edges, score, side="right"))
