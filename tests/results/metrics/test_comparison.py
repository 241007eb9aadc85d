"""Two runs on the same events: paired differences, and events that do not belong together."""

from __future__ import annotations

import numpy as np
import pytest
from scored_tables import TWO_CLASSES, two_gaussians

from utils.results.evaluation import evaluate
from utils.results.events import EvaluationTable
from utils.results.metrics.comparison import compare
from utils.results.options import EvaluationOptions
from utils.schema import ClassInfo, InputError


def test_a_run_compared_with_itself_does_not_differ():
    table = two_gaussians(np.random.default_rng(4), n=2000, weight=True, n_folds=2)
    found = compare(table, table, EvaluationOptions(n_bootstrap=50), ("A", "B"))
    for metric in found.metrics:
        if metric.metric == "average_precision" and metric.view == "physics":
            assert metric.difference.note == "undefined with negative weights"
            continue
        assert metric.difference.value == 0
        assert metric.difference.low == metric.difference.high == 0
        assert metric.verdict.startswith("no significant difference")


def _pair(seed, n=4000, noise=0.15):
    """Return the same events scored well, and scored with a little noise added."""
    good = two_gaussians(np.random.default_rng(seed), n=n)
    rng = np.random.default_rng(seed + 1)
    logit = np.log(good.proba[:, 1] / good.proba[:, 0]) + noise * rng.normal(size=n)
    p = 1 / (1 + np.exp(-logit))
    bad = EvaluationTable(TWO_CLASSES, np.stack([1 - p, p], axis=1), good.target, good.fold)
    return good, bad


def test_pairing_sees_a_difference_far_below_the_single_uncertainties():
    good, bad = _pair(20, noise=0.4)
    options = EvaluationOptions(n_bootstrap=100)
    found = {(m.metric, m.class_id): m for m in compare(good, bad, options, ("A", "B")).metrics[:8]}
    macro = found["roc_auc_macro", None]
    alone = evaluate(good, options).view("balanced").roc_auc_macro.error
    assert 0 < macro.difference.error < 0.5 * alone
    assert macro.verdict.startswith("A is better")
    assert found["log_loss", None].difference.value < 0
    assert found["log_loss", None].verdict.startswith("A is better")
    swapped = compare(bad, good, options, ("A", "B"))
    assert swapped.verdict.startswith("B is better")


def test_paired_interval_covers_the_truth():
    # Both scores are equally noisy copies of the same one: the true difference is zero.
    options = EvaluationOptions(n_bootstrap=80)
    covered = []
    for seed in range(60):
        rng = np.random.default_rng([9, seed])
        base = two_gaussians(rng, n=200)
        tables = []
        for _ in range(2):
            logit = np.log(base.proba[:, 1] / base.proba[:, 0]) + 0.5 * rng.normal(size=200)
            p = 1 / (1 + np.exp(-logit))
            proba = np.stack([1 - p, p], axis=1)
            tables.append(EvaluationTable(TWO_CLASSES, proba, base.target, base.fold))
        difference = compare(*tables, options).metrics[0].difference
        covered.append(difference.low <= 0 <= difference.high)
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 60)


def test_tables_of_other_events_do_not_compare():
    rng = np.random.default_rng(5)
    a, b = two_gaussians(rng, n=50), two_gaussians(rng, n=60)
    with pytest.raises(InputError, match="50 events in one run and 60"):
        compare(a, b, EvaluationOptions())
    c = EvaluationTable(TWO_CLASSES, a.proba, 1 - a.target, a.fold)
    with pytest.raises(InputError, match="50 events have another class"):
        compare(a, c, EvaluationOptions())
    other = EvaluationTable((TWO_CLASSES[0], ClassInfo(name="x")), a.proba, a.target, a.fold)
    with pytest.raises(InputError, match="different classes"):
        compare(a, other, EvaluationOptions())


def test_fillers_of_either_run_leave_the_comparison():
    a, b = _pair(7, n=300)
    b.proba[:20] = np.nan
    assert compare(a, b, EvaluationOptions(n_bootstrap=20)).n_events == 280
