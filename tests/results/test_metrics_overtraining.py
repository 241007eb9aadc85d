"""Over-training: gaps, permutation tests and the sentence; significance against closed forms."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from utils.results.metrics import EvaluationOptions, EvaluationTable, evaluate
from utils.results.metrics.overtraining import ks_distance, make_over_training
from utils.results.metrics.significance import asimov, asimov_uncertain
from utils.schema import ClassInfo

FAST = EvaluationOptions(n_bootstrap=100, n_permutations=99)
CLASSES = tuple(ClassInfo(name=name) for name in ("tt", "higgs", "ztt"))


def _softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _table(seed, n=3000, memory=0.0, strength=1.2, dataset="train", n_folds=2):
    """Return a table whose in-fold scores know the true class better by `memory`."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 3, n).astype(np.int32)
    truth = np.arange(3) == target[:, None]
    z = rng.normal(size=(n, 3)) + strength * truth
    infold = _softmax(z + memory * truth + 0.1 * rng.normal(size=(n, 3)))
    return EvaluationTable(
        classes=CLASSES,
        proba=_softmax(z + 0.1 * rng.normal(size=(n, 3))),
        target=target,
        fold=(np.arange(n) % n_folds).astype(np.int32),
        infold_proba=infold if dataset == "train" else None,
        dataset=dataset,
        n_folds=n_folds,
    )


def test_memory_is_seen_and_is_not_bias():
    found = make_over_training(_table(1, memory=0.2), _table(2, dataset="test"), FAST)
    assert found.memorised is True
    assert found.biased is False
    assert found.verdict.startswith("The models remember their training events")
    assert "agree with the test set" in found.verdict
    gaps = {(g.first, g.metric, g.class_id): g for g in found.gaps}
    assert len(found.gaps) == 10
    macro = gaps["in-fold", "roc_auc_macro", None]
    assert macro.paired
    assert macro.difference.low > 0
    assert macro.difference.value == pytest.approx(macro.first_value - macro.second_value)
    unpaired = gaps["out-of-fold", "roc_auc_macro", None]
    assert not unpaired.paired
    assert unpaired.difference.error > 2 * macro.difference.error
    assert gaps["in-fold", "log_loss", None].difference.high < 0
    memory = [t for t in found.ks if t.first == "in-fold" and t.of == "class"]
    assert [t.class_id for t in memory] == [0, 1, 2]
    assert all(t.p_value == 0.01 for t in memory)  # the floor, 1/(99 + 1)


def test_gaps_under_physics_weights_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    train = dataclasses.replace(_table(3, memory=0.3), weight=rng.exponential(size=3000))
    test = dataclasses.replace(_table(4, dataset="test"), weight=rng.exponential(size=3000))
    found = make_over_training(train, test, FAST)
    of = {(g.view, g.first, g.metric, g.class_id): g for g in found.gaps}
    assert len(of) == len(found.gaps) == 20
    for c in range(3):
        gap = of["physics", "in-fold", "roc_auc", c]
        values = [
            roc_auc_score(train.target == c, p[:, c], sample_weight=train.weight)
            for p in (train.infold_proba, train.proba)
        ]
        assert [gap.first_value, gap.second_value] == pytest.approx(values)
        assert gap.difference.low < values[0] - values[1] < gap.difference.high
    losses = [log_loss(t.target, t.proba, sample_weight=t.weight) for t in (train, test)]
    gap = of["physics", "out-of-fold", "log_loss", None]
    assert gap.difference.value == pytest.approx(losses[0] - losses[1])
    alone = make_over_training(train, dataclasses.replace(test, weight=None), FAST)
    assert {g.view for g in alone.gaps if g.second == "test"} == {"balanced"}
    assert alone.verdict == found.verdict


def test_no_memory_no_bias():
    found = make_over_training(_table(3), _table(4, dataset="test"), FAST)
    assert found.memorised is False
    assert found.biased is False
    assert "no memory" in found.verdict
    assert len(found.ks) == 12
    assert np.median([t.p_value for t in found.ks]) > 0.05


def test_a_worse_test_set_is_bias():
    found = make_over_training(_table(5), _table(6, strength=0.9, dataset="test"), FAST)
    assert found.biased is True
    assert "better than on the test set" in found.verdict
    assert "find out why" in found.verdict


def test_one_fold_compares_training_with_test():
    train = dataclasses.replace(_table(7, strength=1.5, n_folds=1), infold_proba=None)
    found = make_over_training(train, _table(8, dataset="test"), FAST)
    assert {(g.first, g.second) for g in found.gaps} == {("in-fold", "test")}
    assert found.memorised is True
    assert found.biased is None
    assert found.verdict.startswith("With one fold the models do better")


def test_one_fold_that_is_worse_in_training_than_in_the_test_set_does_not_agree_with_it():
    train = dataclasses.replace(_table(7, strength=0.9, n_folds=1), infold_proba=None)
    found = make_over_training(train, _table(8, dataset="test"), FAST)
    assert found.memorised is False
    assert found.verdict.startswith("With one fold the models do worse on the events they trained")
    assert "find out in what" in found.verdict
    assert "agree" not in found.verdict
    alike = dataclasses.replace(_table(7, n_folds=1), infold_proba=None)
    found = make_over_training(alike, _table(8, dataset="test"), FAST)
    assert found.verdict.startswith("No over-training is seen")


def test_without_a_test_set_only_memory_is_judged():
    found = evaluate(_table(9, memory=0.2), FAST).over_training
    assert found.memorised is True
    assert found.biased is None
    assert "test set" not in found.verdict


def test_what_is_missing_is_said():
    test = _table(10, n=200, dataset="test")
    assert evaluate(test, FAST).gaps["over_training"] == "the training set's scores are not given"
    train = dataclasses.replace(_table(11, n=200), infold_proba=None)
    assert "one set of scores only" in evaluate(train, FAST).gaps["over_training"]


def test_densities_overlay_the_three_samples():
    train, test = _table(12, memory=0.2), _table(13, dataset="test")
    found = make_over_training(train, test, FAST)
    for density in found.densities:
        for part in (density.of_class, density.of_rest):
            assert list(part) == ["in-fold", "out-of-fold", "test"]
            for values, errors in part.values():
                assert np.sum(values * np.diff(density.edges)) == pytest.approx(1)
                assert (errors[values > 0] > 0).all()
    inside = (train.infold_proba.argmax(axis=1) == 1) & (train.target == 1)
    expected, _ = np.histogram(
        train.infold_proba[inside, 1], found.densities[1].edges, density=True
    )
    np.testing.assert_allclose(found.densities[1].of_class["in-fold"][0], expected, atol=1e-9)


def test_distance_equals_scipy():
    rng = np.random.default_rng(14)
    a, b = np.round(rng.normal(size=300), 1), np.round(rng.normal(0.2, 1, size=500), 1)
    assert ks_distance(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)
    found = make_over_training(_table(15, n=900), _table(16, n=700, dataset="test"), FAST)
    train, test = _table(15, n=900), _table(16, n=700, dataset="test")
    for t in found.ks:
        if t.second != "test" or t.of != "class":
            continue
        parts = [s.proba[s.target == t.class_id, t.class_id] for s in (train, test)]
        expected = stats.ks_2samp(*parts)
        assert t.distance == pytest.approx(expected.statistic)
        assert t.n == (len(parts[0]), len(parts[1]))
        # Permutation against asymptotic p-value.
        assert t.p_value == pytest.approx(expected.pvalue, abs=0.15)


def test_p_values_are_uniform_where_nothing_differs():
    options = dataclasses.replace(FAST, n_bootstrap=2, n_permutations=19)
    p_values = {"out-of-fold": [], "test": []}
    for seed in range(40):
        train = _table([17, seed], n=150)
        test = _table([18, seed], n=150, dataset="test")
        for t in make_over_training(train, test, options).ks:
            if t.class_id == 0 and t.of == "rest":
                p_values[t.second].append(t.p_value)
    for second, values in p_values.items():
        values = np.array(values)
        assert len(values) == 40
        assert values.min() >= 1 / 20
        # Uniform: mean 0.5 and a fifth below 0.2, within three deviations.
        assert abs(values.mean() - 0.525) < 3 * 0.29 / np.sqrt(40), second
        assert np.mean(values <= 0.2) < 0.2 + 3 * np.sqrt(0.16 / 40), second


def test_rows_are_limited():
    options = dataclasses.replace(FAST, max_permuted_rows=500, n_permutations=9)
    found = make_over_training(_table(19, n=2000), _table(20, n=1000, dataset="test"), options)
    paired = [t for t in found.ks if t.second == "out-of-fold" and t.class_id == 0]
    assert sum(t.n[0] for t in paired) == 500
    other = [t for t in found.ks if t.second == "test" and t.class_id == 0]
    assert sum(sum(t.n) for t in other) == 500


# --- significance ---------------------------------------------------------------------------------


def test_asimov_closed_forms_and_limits():
    assert asimov(10.0, 100.0) == pytest.approx(math.sqrt(2 * (110 * math.log(1.1) - 10)))
    # s << b: s / sqrt(b); with uncertainty: s / sqrt(b + sigma^2).
    assert asimov(1e-3, 1e4) == pytest.approx(1e-5, rel=1e-3)
    assert asimov(1.0, 1e10) == pytest.approx(1e-5, rel=1e-6)
    assert asimov_uncertain(1.0, 1e6, 3e3) == pytest.approx(1 / math.sqrt(1e6 + 9e6), rel=1e-3)
    np.testing.assert_allclose(
        asimov_uncertain(np.array([5.0, 50.0]), 20.0, 1e-3), asimov([5.0, 50.0], 20.0), rtol=1e-4
    )
    assert asimov_uncertain(5.0, 20.0, 0.0) == asimov(5.0, 20.0)
    assert np.isnan(asimov(1.0, 0.0))
    assert np.isnan(asimov_uncertain(1.0, -2.0, 1.0))
    assert asimov(0.0, 10.0) == 0
    assert asimov(-2.0, 10.0) < 0


@pytest.mark.parametrize(("s", "b", "sigma"), [(10, 100, 20), (3, 2, 0.7), (0.1, 50, 5)])
def test_significance_with_uncertainty_equals_the_printed_formula(s, b, sigma):
    v = sigma**2
    expected = math.sqrt(
        2
        * (
            (s + b) * math.log((s + b) * (b + v) / (b**2 + (s + b) * v))
            - b**2 / v * math.log(1 + v * s / (b * (b + v)))
        )
    )
    assert asimov_uncertain(s, b, sigma) == pytest.approx(expected, rel=1e-6)


def test_asimov_is_the_median_of_toy_experiments():
    s, b = 12.0, 40.0
    n = stats.poisson(s + b).rvs(20_001, random_state=1)
    z = np.sqrt(2 * np.maximum(n * np.log(np.maximum(n, 1) / b) - (n - b), 0))
    assert asimov(s, b) == pytest.approx(np.median(z * np.sign(n - b)), abs=0.1)


def test_significance_scan_equals_direct_sums():
    table = _table(21, n=4000, dataset="test")
    weight = np.random.default_rng(22).normal(1, 0.6, 4000)
    table = dataclasses.replace(table, weight=weight, fraction=0.5)
    options = dataclasses.replace(
        FAST, signal_classes=("higgs",), luminosity=60.0, background_uncertainty=0.2
    )
    found = evaluate(table, options).significance
    assert found.signal_classes == (1,)
    for scan in found.scans:
        for i in (0, 30, 60):
            chosen = table.proba.argmax(axis=1) == scan.category
            if i:
                chosen &= table.proba[:, scan.category] >= scan.threshold[i]
            signal = chosen & (table.target == 1)
            s, b = (2 * weight[part].sum() for part in (signal, chosen & ~signal))
            assert scan.signal[i] == pytest.approx(s)
            assert scan.background[i] == pytest.approx(b)
            assert scan.z[i] == pytest.approx(float(asimov(s, b)), nan_ok=True)
            b_error = 2 * np.sqrt((weight[chosen & ~signal] ** 2).sum())
            assert scan.background_error[i] == pytest.approx(b_error)
            sigma = math.hypot(b_error, 0.2 * b)
            expected = float(asimov_uncertain(s, b, sigma))
            assert scan.z_uncertain[i] == pytest.approx(expected, nan_ok=True)
    assert found.combined == pytest.approx(np.sqrt(np.sum(found.z**2)))
    assert found.scans[1].best is not None
    # First-order error against a numerical derivative in the signal.
    scan = found.scans[1]
    s, b, step = scan.signal[0], scan.background[0], 1e-3
    ds = float(asimov(s + step, b) - asimov(s - step, b)) / (2 * step)
    db = float(asimov(s, b + step) - asimov(s, b - step)) / (2 * step)
    expected = math.hypot(ds * scan.signal_error[0], db * scan.background_error[0])
    assert scan.z_error[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signal_classes": ()}, "names no class"),
        ({"luminosity": None}, "no luminosity"),
        ({"signal_classes": ("tt", "higgs", "ztt")}, "no background"),
        ({}, "need a physics weight"),
    ],
)
def test_significance_needs_signals_luminosity_and_weights(changes, reason):
    options = dataclasses.replace(FAST, signal_classes=("higgs",), luminosity=60.0)
    found = evaluate(_table(23, n=100, dataset="test"), dataclasses.replace(options, **changes))
    assert found.significance is None
    assert reason in found.gaps["significance"]
