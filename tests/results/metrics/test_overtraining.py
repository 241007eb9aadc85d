"""Over-training: gaps, permutation tests and the sentence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scored_tables import remembering
from sklearn.metrics import log_loss, roc_auc_score

from utils.results.evaluation import evaluate
from utils.results.metrics.kolmogorov import ks_distance
from utils.results.metrics.overtraining import make_over_training
from utils.results.options import EvaluationOptions

FAST = EvaluationOptions(n_bootstrap=100, n_permutations=99)


def test_memory_is_seen_and_is_not_bias():
    found = make_over_training(remembering(1, memory=0.2), remembering(2, dataset="test"), FAST)
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
    train = dataclasses.replace(remembering(3, memory=0.3), weight=rng.exponential(size=3000))
    test = dataclasses.replace(remembering(4, dataset="test"), weight=rng.exponential(size=3000))
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
    found = make_over_training(remembering(3), remembering(4, dataset="test"), FAST)
    assert found.memorised is False
    assert found.biased is False
    assert "no memory" in found.verdict
    assert len(found.ks) == 12
    assert np.median([t.p_value for t in found.ks]) > 0.05


def test_a_worse_test_set_is_bias():
    found = make_over_training(remembering(5), remembering(6, strength=0.9, dataset="test"), FAST)
    assert found.biased is True
    assert "better than on the test set" in found.verdict
    assert "find out why" in found.verdict


def test_one_fold_compares_training_with_test():
    train = dataclasses.replace(remembering(7, strength=1.5, n_folds=1), infold_proba=None)
    found = make_over_training(train, remembering(8, dataset="test"), FAST)
    assert {(g.first, g.second) for g in found.gaps} == {("in-fold", "test")}
    assert found.memorised is True
    assert found.biased is None
    assert found.verdict.startswith("With one fold the models do better")


def test_one_fold_that_is_worse_in_training_than_in_the_test_set_does_not_agree_with_it():
    train = dataclasses.replace(remembering(7, strength=0.9, n_folds=1), infold_proba=None)
    found = make_over_training(train, remembering(8, dataset="test"), FAST)
    assert found.memorised is False
    assert found.verdict.startswith("With one fold the models do worse on the events they trained")
    assert "find out in what" in found.verdict
    assert "agree" not in found.verdict
    alike = dataclasses.replace(remembering(7, n_folds=1), infold_proba=None)
    found = make_over_training(alike, remembering(8, dataset="test"), FAST)
    assert found.verdict.startswith("No over-training is seen")


def test_without_a_test_set_only_memory_is_judged():
    found = evaluate(remembering(9, memory=0.2), FAST).over_training
    assert found.memorised is True
    assert found.biased is None
    assert "test set" not in found.verdict


def test_what_is_missing_is_said():
    test = remembering(10, n=200, dataset="test")
    assert evaluate(test, FAST).gaps["over_training"] == "the training set's scores are not given"
    train = dataclasses.replace(remembering(11, n=200), infold_proba=None)
    assert "one set of scores only" in evaluate(train, FAST).gaps["over_training"]


def test_densities_overlay_the_three_samples():
    train, test = remembering(12, memory=0.2), remembering(13, dataset="test")
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
    found = make_over_training(remembering(15, n=900), remembering(16, n=700, dataset="test"), FAST)
    train, test = remembering(15, n=900), remembering(16, n=700, dataset="test")
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
        train = remembering([17, seed], n=150)
        test = remembering([18, seed], n=150, dataset="test")
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


def test_rows_are_limited_within_each_class_and_distances_are_of_all():
    options = dataclasses.replace(FAST, max_permuted_rows=500, n_permutations=9)
    sets = remembering(19, n=2000), remembering(20, n=1000, dataset="test")
    found = make_over_training(*sets, options)
    own = [t for t in found.ks if t.of == "class"]
    assert [t.n for t in own if t.second == "out-of-fold"] == [(500, 500)] * 3
    assert [sum(t.n) for t in own if t.second == "test"] == [500] * 3
    every = make_over_training(*sets, dataclasses.replace(options, max_permuted_rows=10**6))
    assert [t.distance for t in found.ks] == [t.distance for t in every.ks]


def test_a_rare_class_keeps_all_its_rows():
    """Thinned with all others together, 60 of 30,000 events would be one or none of 500."""
    rare = np.r_[np.full(60, 2), np.arange(29_940) % 2]
    train = remembering(21, n=30_000, target=rare)
    test = remembering(22, n=30_000, target=rare, dataset="test")
    options = dataclasses.replace(FAST, max_permuted_rows=500, n_permutations=9)
    tests = [t for t in make_over_training(train, test, options).ks if t.of == "class"]
    assert {sum(t.n) for t in tests if t.class_id == 2} == {120}


def test_a_p_value_at_the_floor_is_known_to_be_one():
    found = make_over_training(remembering(1, memory=0.2), remembering(2, dataset="test"), FAST)
    for t in found.ks:
        assert t.n_arrangements == FAST.n_permutations + 1
        assert t.at_floor == (t.p_value == 1 / t.n_arrangements)
    assert any(t.at_floor for t in found.ks)
    assert not all(t.at_floor for t in found.ks)
