"""Shifts of made-up scores, whose right effects are counted, known in closed form, or redrawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scored_tables import scored_table, softmax
from sklearn.metrics import roc_auc_score

from utils.columns.weights import class_imbalance
from utils.results.metrics.shifted_events import AlternativeScores, ShiftedScores, VariedTable
from utils.results.metrics.variations import vary
from utils.results.options import EvaluationOptions
from utils.schema import InputError

OPTIONS = EvaluationOptions(n_bootstrap=200)


def moved_scores(proba, size, seed=3):
    """Return probabilities whose logarithms got a push of `size` for class 0, and some noise."""
    noise = np.random.default_rng(seed).normal(size=proba.shape)
    return softmax(np.log(proba) + size * (np.arange(proba.shape[1]) == 0) + 0.1 * size * noise)


def varied_table(table, *shifts, selected=None, alternatives=()):
    selected = np.ones(len(table.target), bool) if selected is None else selected
    return VariedTable(table, selected, shifts, alternatives)


def up(proba=None, **more):
    return ShiftedScores("tauES", "Up", "branches", proba, **more)


def number(effect, metric, view="balanced", c=None):
    [found] = [m for m in effect.metrics if (m.metric, m.view, m.class_id) == (metric, view, c)]
    return found


def test_scores_that_do_not_move_change_nothing():
    table = scored_table(weight="signed")
    [effect] = vary(varied_table(table, up(table.proba.copy())), OPTIONS).shifts
    for metric in effect.metrics:
        assert metric.change.value == metric.change.low == metric.change.high == 0, metric
    assert (effect.yields.change.value == 0).all()
    assert (effect.yields.change.high == 0).all()
    assert effect.moved == effect.switched == 0
    assert effect.note == "changes no score of these events"
    assert (effect.entered, effect.left, effect.n) == (0, 0, 2000)


def test_numbers_are_those_of_scikit_learn_and_of_counting():
    table = scored_table(weight="positive")
    after = moved_scores(table.proba, 0.4)
    [effect] = vary(varied_table(table, up(after)), OPTIONS).shifts
    w, target = table.weight, table.target
    for c in range(3):
        found = number(effect, "roc_auc", "physics", c)
        for proba, value in ((table.proba, found.nominal), (after, found.shifted)):
            auc = roc_auc_score(target == c, proba[:, c], sample_weight=w)
            assert value == pytest.approx(auc, abs=1e-12)
        assert found.change.value == found.shifted - found.nominal
    balanced = class_imbalance(target)
    loss = [-np.log(p[np.arange(2000), target]) for p in (table.proba, after)]
    expected = np.average(loss[1] - loss[0], weights=balanced)
    assert number(effect, "log_loss").change.value == pytest.approx(expected, abs=1e-12)
    category = [p.argmax(axis=1) for p in (table.proba, after)]
    yields = [np.bincount(c, weights=w, minlength=3) for c in category]
    np.testing.assert_allclose(effect.yields.change.value, yields[1] - yields[0], atol=1e-9)
    np.testing.assert_allclose(effect.yields.relative.value, yields[1] / yields[0] - 1, atol=1e-12)
    distance = 0.5 * abs(after - table.proba).sum(axis=1)
    assert effect.moved == pytest.approx(np.average(distance, weights=balanced), abs=1e-12)
    switch = np.average(category[0] != category[1], weights=balanced)
    assert effect.switched == pytest.approx(switch, abs=1e-12)


def test_errors_of_yields_are_those_of_the_events_that_move():
    """Sums over Poisson multiplicities: the variance is the sum of squares of what moves."""
    table = scored_table(n=4000, weight="signed")
    after = moved_scores(table.proba, 0.5)
    options = EvaluationOptions(n_bootstrap=800)
    [effect] = vary(varied_table(table, up(after)), options).shifts
    category = [p.argmax(axis=1) for p in (table.proba, after)]
    for c in range(3):
        step = (category[1] == c).astype(float) - (category[0] == c)
        error = np.sqrt(np.sum((table.weight * step) ** 2))
        assert effect.yields.change.error[c] == pytest.approx(error, rel=0.12)
        # Not paired, the error would be several times as large.
        assert error < 0.7 * np.sqrt(np.sum(table.weight[category[0] == c] ** 2))


def test_errors_of_areas_are_those_of_redrawn_events():
    table = scored_table(n=600, weight=None)
    after = moved_scores(table.proba, 0.5)
    [effect] = vary(varied_table(table, up(after)), OPTIONS).shifts
    rng = np.random.default_rng(8)
    drawn = []
    for _ in range(300):
        times = rng.poisson(1.0, 600)
        drawn.append(
            [
                roc_auc_score(table.target == c, after[:, c], sample_weight=times)
                - roc_auc_score(table.target == c, table.proba[:, c], sample_weight=times)
                for c in range(3)
            ]
        )
    errors = np.std(drawn, axis=0, ddof=1)
    found = [number(effect, "roc_auc", c=c).change.error for c in range(3)]
    np.testing.assert_allclose(found, errors, rtol=0.25)
    macro = np.std(np.mean(drawn, axis=1), ddof=1)
    assert number(effect, "roc_auc_macro").change.error == pytest.approx(macro, rel=0.25)


def selections(table, seed=5):
    """Return a shift that admits other rows than the nominal selection does."""
    rng = np.random.default_rng(seed)
    selected, admitted = rng.random((2, len(table.target))) < 0.8
    after = moved_scores(table.proba, 0.3)
    after[~admitted] = np.nan
    return selected, admitted, after


def test_rows_that_only_a_shift_admits_enter_no_nominal_number():
    table = scored_table(weight="positive")
    selected, admitted, after = selections(table)
    [effect] = vary(varied_table(table, up(after), selected=selected), OPTIONS).shifts
    assert effect.n == admitted.sum()
    assert effect.entered == (admitted & ~selected).sum()
    assert effect.left == (selected & ~admitted).sum()
    # Whatever stands in these rows, fillers among it: no nominal number knows.
    strange = table.proba.copy()
    strange[~selected] = [0.0, 0.0, 1.0]
    strange[np.flatnonzero(~selected)[:50]] = np.nan
    other = dataclasses.replace(table, proba=strange)
    [same] = vary(varied_table(other, up(after), selected=selected), OPTIONS).shifts
    only = table.of(selected)
    [alone] = vary(varied_table(only, up(only.proba)), OPTIONS).shifts
    for a, b, c in zip(effect.metrics, same.metrics, alone.metrics, strict=True):
        assert a.nominal == b.nominal == c.nominal
        assert a.change == b.change
    np.testing.assert_array_equal(effect.yields.nominal, alone.yields.nominal)
    np.testing.assert_array_equal(effect.migration.counts, same.migration.counts)
    # And the shifted numbers are those of the admitted rows alone.
    moved = dataclasses.replace(table, proba=after).of(admitted)
    [shifted] = vary(varied_table(moved, up(moved.proba)), OPTIONS).shifts
    for a, c in zip(effect.metrics, shifted.metrics, strict=True):
        assert a.shifted == pytest.approx(c.nominal, abs=1e-12)
    np.testing.assert_allclose(effect.yields.shifted, shifted.yields.nominal, rtol=1e-12)


def test_migration_counts_each_event_once():
    table = scored_table(weight="positive")
    selected, admitted, after = selections(table)
    [effect] = vary(varied_table(table, up(after), selected=selected), OPTIONS).shifts
    before = np.where(selected, table.proba.argmax(axis=1), 3)
    later = np.where(admitted, np.nan_to_num(after).argmax(axis=1), 3)
    for i in range(4):
        for j in range(4):
            cell = (before == i) & (later == j)
            expected = 0 if i == j == 3 else cell.sum()
            assert effect.migration.counts[i, j] == expected
            weight = 0 if i == j == 3 else table.weight[cell].sum()
            assert effect.migration.yields[i, j] == pytest.approx(weight)
    np.testing.assert_allclose(effect.migration.shares.sum(axis=1), 1)
    assert effect.migration.counts.sum() == (selected | admitted).sum()
    np.testing.assert_allclose(
        effect.migration.yields[:3].sum(axis=1), effect.yields.nominal, rtol=1e-12
    )
    np.testing.assert_allclose(
        effect.migration.yields[:, :3].sum(axis=0), effect.yields.shifted, rtol=1e-12
    )


def test_a_weight_moves_yields_and_no_score():
    table = scored_table(weight="positive")
    factor = np.where(table.target == 1, 1.1, 1.0)
    btag = ShiftedScores("btag", "Up", "weight", factor=factor)
    found = vary(varied_table(table, btag), OPTIONS)
    [effect] = found.shifts
    for metric in effect.metrics:
        if metric.view == "balanced":
            assert metric.change.value == metric.change.low == metric.change.high == 0
    mine = (table.target == 1) * table.weight
    category = table.proba.argmax(axis=1)
    expected = 0.1 * np.bincount(category, weights=mine, minlength=3)
    np.testing.assert_allclose(effect.yields.change.value, expected, rtol=1e-9)
    assert effect.migration is None
    assert effect.moved is None
    assert found.verdict.startswith("No variation changes a score. The yield of category class 1")


def test_another_sample_is_compared_with_two_sample_errors():
    table = scored_table(n=3000, weight="positive")
    replaced = table.target == 2
    other = scored_table(n=2500, seed=9, weight="positive")
    other = other.of(other.target == 2)
    tune = AlternativeScores("tune", "Up", replaced, [other])
    options = EvaluationOptions(n_bootstrap=800)
    [effect] = vary(varied_table(table, alternatives=[tune]), options).shifts
    assert effect.kind == "samples"
    assert effect.entered == len(other.target)
    assert effect.left == replaced.sum()
    category = [t.proba.argmax(axis=1) for t in (table, other)]
    for c in range(3):
        old = table.weight[replaced & (category[0] == c)]
        new = other.weight[category[1] == c]
        found = effect.yields.change
        assert found.value[c] == pytest.approx(new.sum() - old.sum())
        error = np.sqrt((old**2).sum() + (new**2).sum())
        assert found.error[c] == pytest.approx(error, rel=0.12)
    joined = [
        np.concatenate([getattr(table, n)[~replaced], getattr(other, n)])
        for n in ("target", "weight")
    ]
    score = np.concatenate([table.proba[~replaced, 2], other.proba[:, 2]])
    auc = roc_auc_score(joined[0] == 2, score, sample_weight=joined[1])
    assert number(effect, "roc_auc", "physics", 2).shifted == pytest.approx(auc, abs=1e-12)


def test_each_process_is_scaled_by_its_own_share():
    table = scored_table(weight="positive")
    process = (table.target.astype(np.int64), ("a", "b", "c"))
    shares = {"a": 0.5, "b": 0.25, "c": 1.0}
    scaled = dataclasses.replace(table, process=process, process_fractions=shares)
    after = moved_scores(table.proba, 0.4)
    [effect] = vary(varied_table(scaled, up(after)), OPTIONS).shifts
    weight = table.weight / np.array([0.5, 0.25, 1.0])[table.target]
    yields = np.bincount(after.argmax(axis=1), weights=weight, minlength=3)
    np.testing.assert_allclose(effect.yields.shifted, yields, rtol=1e-12)


def test_densities_add_up_to_the_yields_and_give_the_ratio():
    table = scored_table(weight="positive")
    after = moved_scores(table.proba, 0.4)
    [effect] = vary(varied_table(table, up(after)), OPTIONS).shifts
    for density in effect.densities:
        c = density.category
        for values, proba in ((density.nominal, table.proba), (density.shifted, after)):
            mine = proba.argmax(axis=1) == c
            counted, _ = np.histogram(proba[mine, c], density.edges, weights=table.weight[mine])
            np.testing.assert_allclose(values, counted, atol=1e-9)
        assert (density.nominal >= np.sqrt(20) * density.nominal_error).all()
        there = density.nominal > 0
        expected = density.shifted[there] / density.nominal[there]
        np.testing.assert_allclose(density.ratio[there], expected)
        assert np.isnan(density.ratio[~there]).all()
        mine = table.proba.argmax(axis=1) == c
        squares, _ = np.histogram(
            table.proba[mine, c], density.edges, weights=table.weight[mine] ** 2
        )
        np.testing.assert_allclose(density.nominal_error, np.sqrt(squares), atol=1e-9)


def test_a_category_without_events_has_one_bin():
    table = scored_table(n=400, weight=None)
    table.proba[:, 2] = 0.01
    table = dataclasses.replace(table, proba=table.proba / table.proba.sum(axis=1, keepdims=True))
    [effect] = vary(varied_table(table, up(table.proba)), OPTIONS).shifts
    assert len(effect.densities[2].edges) == 2
    assert effect.densities[2].nominal[0] == 0
    assert np.isnan(effect.densities[2].ratio[0])


def test_two_classes_have_one_score():
    table = scored_table(k=2, weight="positive")
    after = moved_scores(table.proba, 0.4)
    [effect] = vary(varied_table(table, up(after)), OPTIONS).shifts
    assert {(m.metric, m.class_id) for m in effect.metrics} == {
        ("roc_auc_macro", None),
        ("log_loss", None),
    }
    [density] = effect.densities
    assert (density.category, density.edges[0]) == (1, 0.0)
    counted, _ = np.histogram(after[:, 1], density.edges, weights=table.weight)
    np.testing.assert_allclose(density.shifted, counted, atol=1e-9)
    assert len(effect.yields.nominal) == 2


def test_the_feature_that_the_scores_follow_drives_them():
    table = scored_table(weight=None)

    def score(features, fold):
        pull = (features["m_vis"] - 100) / 20 + 0.1 * features["njets"] + fold
        return softmax(np.stack([pull, 0 * pull, -pull], axis=1))

    table = dataclasses.replace(table, proba=score(table.features, table.fold))
    features = {
        "m_vis": 1.1 * table.features["m_vis"],
        "njets": table.features["njets"] + 1,
        "missing": table.features["missing"] + 5,
    }
    after = score({**table.features, **features}, table.fold)
    found = vary(varied_table(table, up(after, features=features)), OPTIONS, score)
    [effect] = found.shifts
    drivers = dict(zip(effect.drivers.features, effect.drivers.moved, strict=True))
    assert drivers["missing"] == 0
    assert drivers["m_vis"] > 3 * drivers["njets"] > 0
    assert effect.drivers.together == pytest.approx(effect.moved, abs=1e-12)
    assert "driven by m_vis" in found.verdict


def test_the_verdict_names_what_moves_beyond_its_interval():
    table = scored_table(n=3000, weight="positive")
    noise = np.random.default_rng(2).normal(size=table.proba.shape)
    # Noise that no training knows makes scores worse, much or a little.
    worse, slightly = (softmax(np.log(table.proba) + s * noise) for s in (1.0, 0.2))
    shifts = [
        ShiftedScores("jes", "Up", "branches", slightly),
        ShiftedScores("tauES", "Up", "branches", worse),
        ShiftedScores("tauES", "Down", "branches", slightly),
    ]
    found = vary(varied_table(table, *shifts), OPTIONS)
    assert found.verdict.startswith("tauES moves the classifier most: macro AUC -0.")
    assert found.names == ("jes", "tauES")
    assert [s.name for s in found.of("tauES")] == ["tauESUp", "tauESDown"]
    barely = softmax(np.log(table.proba) + 1e-4 * noise)
    still = vary(varied_table(table, up(barely)), OPTIONS)
    assert still.shifts[0].moved > 0
    assert still.verdict.startswith(
        "No variation moves the macro AUC beyond its 95 % interval; tauES moves the scores most"
    )


def test_events_of_unknown_class_take_no_part():
    table = scored_table(weight="positive")
    target = table.target.copy()
    target[::4] = -1
    unlabelled = dataclasses.replace(table, target=target)
    after = moved_scores(table.proba, 0.4)
    [effect] = vary(varied_table(unlabelled, up(after)), OPTIONS).shifts
    assert effect.n == (target >= 0).sum()


def test_columns_of_other_events_are_refused():
    table = scored_table()
    with pytest.raises(InputError, match="proba of tauESUp has 10 rows, the table 2000"):
        vary(varied_table(table, up(table.proba[:10])), OPTIONS)
    nothing = np.full(table.proba.shape, np.nan)
    with pytest.raises(InputError, match="no event of known class is selected"):
        vary(varied_table(table, up(nothing)), OPTIONS)
