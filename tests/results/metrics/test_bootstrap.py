"""The Poisson bootstrap: sums, replicates, and coverage of its intervals by toys."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, poisson
from scored_tables import two_gaussians

from utils.results.estimates import estimate, limits
from utils.results.events import VIEWS
from utils.results.metrics.bootstrap import Term, _multiplicity_table, poisson_sums
from utils.results.metrics.confusion import make_confusion
from utils.results.metrics.one_versus_rest import make_curves, rank_classes
from utils.results.metrics.scores import make_scores, score_terms


def test_multiplicities_are_poisson():
    table = _multiplicity_table()
    share = np.bincount(table.astype(int)) / len(table)
    np.testing.assert_allclose(share, poisson.pmf(np.arange(len(share)), 1), atol=2e-5)
    assert table.mean() == pytest.approx(1, abs=1e-4)
    assert table.var() == pytest.approx(1, abs=3e-4)


def test_sums_over_all_events_folds_and_replicates():
    rng = np.random.default_rng(1)
    n = 70_000  # more than one block
    row = rng.integers(0, 3, n).astype(np.int32)
    value = rng.normal(2, 1, n)
    fold = rng.integers(0, 2, n)
    sums = poisson_sums({"v": Term(row, value, 3), "n": Term(row, None, 3)}, 300, 5, fold, 2)
    for r in range(3):
        assert sums.exact["v"][r] == pytest.approx(value[row == r].sum(), rel=1e-12)
        assert sums.columns["v"][r, 0] == pytest.approx(value[row == r].sum(), rel=1e-4)
        for f in range(2):
            mine = (row == r) & (fold == f)
            assert sums.columns["n"][r, 1 + f] == mine.sum()
        replicates = sums.columns["v"][r, 3:].astype(float)
        assert replicates.std() == pytest.approx(np.sqrt((value[row == r] ** 2).sum()), rel=0.15)
        assert replicates.mean() == pytest.approx(value[row == r].sum(), rel=2e-3)


def test_replicates_depend_on_the_seed_and_nothing_else():
    row = np.zeros(100, dtype=np.int32)
    first, again, other = (
        poisson_sums({"n": Term(row, None, 1)}, 50, seed).columns["n"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    more = poisson_sums({"a": Term(row, np.arange(100.0), 1), "n": Term(row, None, 1)}, 50, 1)
    np.testing.assert_array_equal(first, more.columns["n"])


def test_threads_change_no_number():
    rng = np.random.default_rng(2)
    row = rng.integers(0, 5, 40_000).astype(np.int32)
    terms = {"n": Term(row, None, 5), "v": Term(row, rng.random(40_000), 5)}
    fold = rng.integers(-1, 2, 40_000)
    alone, shared = (poisson_sums(terms, 150, 3, fold, 2, n) for n in (1, 3))
    for name in terms:
        np.testing.assert_array_equal(alone.columns[name], shared.columns[name])
    assert alone.columns["n"][:, 1:3].sum() == (fold >= 0).sum()
    fewer = poisson_sums(terms, 120, 3, fold, 2).columns["n"]
    np.testing.assert_array_equal(fewer, alone.columns["n"][:, :123])


def test_estimate_moves_the_percentiles_to_the_exact_value():
    columns = np.concatenate([[1.0], [0.9, 1.1], 1.0 + np.linspace(-0.1, 0.1, 201)])
    found = estimate(5.0, columns, n_folds=2)
    assert found.value == 5
    assert found.folds == (0.9, 1.1)
    assert found.low == pytest.approx(4.905, abs=1e-9)
    assert found.high == pytest.approx(5.095, abs=1e-9)
    assert found.fold_spread == pytest.approx(0.2 / np.sqrt(2))
    assert found.error == pytest.approx(columns[3:].std(ddof=1))


def test_estimate_says_why_there_is_no_interval():
    columns = np.full(101, np.nan)
    columns[0] = 0.7
    found = estimate(0.7, columns)
    assert found.value == 0.7
    assert np.isnan(found.low)
    assert "too few" in found.note
    assert estimate(float("nan"), columns, note="no event").note == "no event"


def test_limits_agree_with_numpy_also_where_replicates_are_missing():
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(4, 201))
    columns[1, 5:50] = np.nan
    columns[2, 5:180] = np.nan
    low, high = limits(columns, 0.9)
    deviation = columns[:, 1:] - columns[:, :1]
    for r in (0, 1, 3):
        assert low[r] == pytest.approx(np.nanpercentile(deviation[r], 5))
        assert high[r] == pytest.approx(np.nanpercentile(deviation[r], 95))
    assert np.isnan(low[2])
    assert np.isnan(high[2])


N_TOYS = 100


@pytest.fixture(scope="module")
def toys():
    """Return scores of every view and the confusion matrix of samples of the same Gaussians."""
    rng = np.random.default_rng(11)
    found = []
    for _ in range(N_TOYS):
        table = two_gaussians(rng, n=300, weight=True)
        ranked = rank_classes(table)
        codes = {one.class_id: one.codes for one in ranked}
        terms = score_terms(table.proba, table.target, codes, table.weight)
        sums = poisson_sums(terms, 100, 1)
        scores = {
            view: make_scores(table, view, sums, make_curves(ranked, view, True)[1])
            for view in VIEWS
        }
        found.append((scores, make_confusion(table, "unweighted", sums)))
    return found


def _coverage(numbers, truth):
    inside = [number.low <= truth <= number.high for number in numbers]
    pull = [(number.value - truth) / number.error for number in numbers]
    return np.mean(inside), np.std(pull)


def test_intervals_cover_the_truth(toys):
    auc = norm.cdf(1 / np.sqrt(2))
    grid = np.linspace(-8, 9, 20_001)
    p = 1 / (1 + np.exp(-(grid - 0.5)))
    step = grid[1] - grid[0]
    loss = -0.5 * step * np.sum(norm.pdf(grid, 1) * np.log(p) + norm.pdf(grid, 0) * np.log(1 - p))
    brier = 0.5 * step * np.sum(norm.pdf(grid, 1) * (1 - p) ** 2 + norm.pdf(grid, 0) * p**2)
    accuracy = norm.cdf(0.5)
    truths = {"roc_auc_macro": auc, "log_loss": loss, "brier": brier, "accuracy": accuracy}
    for view in VIEWS:
        for name, truth in truths.items():
            covered, pull = _coverage([getattr(t[0][view], name) for t in toys], truth)
            # 0.95 within three binomial deviations; pulls of unit width.
            assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / N_TOYS), (view, name)
            assert 0.8 < pull < 1.25, (view, name)


def test_intervals_are_not_too_wide(toys):
    truth = norm.cdf(1 / np.sqrt(2))
    numbers = [scores["unweighted"].roc_auc[0] for scores, _ in toys]
    covered = np.mean([abs(number.value - truth) <= number.error for number in numbers])
    assert 0.55 < covered < 0.80


def test_confusion_intervals_cover_the_truth(toys):
    truth = norm.cdf(0.5)
    inside = [m.norm_true.low[0, 0] <= truth <= m.norm_true.high[0, 0] for _, m in toys]
    assert np.mean(inside) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / N_TOYS)
