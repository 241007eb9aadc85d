"""The evaluation as a whole: every section, every view, and every awkward sample."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from utils.results.metrics import (
    UNLABELLED,
    VIEWS,
    EvaluationOptions,
    EvaluationTable,
    class_slugs,
    compare,
    evaluate,
    flat_metrics,
    gain_importance,
    permutation_importance,
    shap_summary,
)
from utils.schema import ClassInfo, InputError

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics_figures.json"
FAST = EvaluationOptions(n_bootstrap=40, n_permutations=40)


def make_table(n=2000, k=3, seed=1, weight="positive", features=True, infold=False, **changes):
    """Return seeded softmax scores of k Gaussian classes, weights, two folds and features."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, k, n).astype(np.int32)
    z = rng.normal(size=(n, k))
    z[np.arange(n), target] += 1.2
    columns = {
        "m_vis": rng.normal(100, 20, n) + 10 * target,
        "njets": rng.integers(0, 5, n),
        "missing": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
    }
    table = EvaluationTable(
        classes=tuple(ClassInfo(name=f"class {c}") for c in range(k)),
        proba=_softmax(z),
        target=target,
        fold=(np.arange(n) % 2).astype(np.int32),
        weight={
            "positive": rng.exponential(size=n) * (1 + target),
            "signed": rng.normal(1, 0.8, n),
            None: None,
        }[weight],
        features=columns if features else {},
        infold_proba=_softmax(z + 0.3 * (np.arange(k) == target[:, None])) if infold else None,
        n_folds=2,
    )
    return dataclasses.replace(table, **changes)


def _softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# --- numbers against scikit-learn ---------------------------------------------------------------


def test_numbers_equal_scikit_learn_in_every_view():
    table = make_table()
    n = len(table.target)
    count = np.bincount(table.target)
    found = evaluate(table, FAST)
    weights = {
        "balanced": (n / count)[table.target],
        "physics": table.weight,
        "unweighted": np.ones(n),
    }
    assert found.views == VIEWS
    for view in VIEWS:
        scores, w = found.view(view), weights[view]
        predicted = table.proba.argmax(axis=1)
        loss = sk.log_loss(table.target, table.proba, sample_weight=w)
        assert scores.log_loss.value == pytest.approx(loss, rel=1e-9)
        accuracy = sk.accuracy_score(table.target, predicted, sample_weight=w)
        assert scores.accuracy.value == pytest.approx(accuracy, rel=1e-9)
        brier = 0
        for c in range(3):
            y = table.target == c
            own = np.where(y, n / count[c], n / (n - count[c])) if view == "balanced" else w
            p = table.proba[:, c]
            assert scores.roc_auc[c].value == pytest.approx(
                sk.roc_auc_score(y, p, sample_weight=own), abs=1e-12
            )
            assert scores.average_precision[c].value == pytest.approx(
                sk.average_precision_score(y, p, sample_weight=own), abs=1e-12
            )
            share = 0.5 if view == "balanced" else np.average(y, weights=w)
            assert scores.prevalence[c] == pytest.approx(share)
            term = sk.brier_score_loss(y, p, sample_weight=w)
            assert scores.brier_class[c].value == pytest.approx(term, rel=1e-9)
            brier += term
        assert scores.brier.value == pytest.approx(brier, rel=1e-9)
        matrix = next(m for m in found.confusion if m.view == view)
        for name, how in (("norm_true", "true"), ("norm_pred", "pred")):
            expected = sk.confusion_matrix(table.target, predicted, sample_weight=w, normalize=how)
            np.testing.assert_allclose(getattr(matrix, name), expected, rtol=1e-9)
        np.testing.assert_allclose(
            matrix.yields, sk.confusion_matrix(table.target, predicted, sample_weight=w), rtol=1e-9
        )


def test_values_per_fold_are_those_of_the_fold_alone():
    table = make_table(n=3000)
    found = evaluate(table, FAST)
    shares = []
    for fold in (0, 1):
        mine = table.fold == fold
        alone = evaluate(
            dataclasses.replace(
                table,
                proba=table.proba[mine],
                target=table.target[mine],
                fold=table.fold[mine],
                weight=table.weight[mine],
                features={},
            ),
            FAST,
        )
        for view in VIEWS:
            for name in ("roc_auc_macro", "log_loss", "brier", "accuracy"):
                folds = getattr(found.view(view), name).folds
                expected = getattr(alone.view(view), name).value
                assert folds[fold] == pytest.approx(expected, rel=1e-4), (view, name)
            for c in range(3):
                assert found.view(view).average_precision[c].folds[fold] == pytest.approx(
                    alone.view(view).average_precision[c].value, abs=2e-3
                )
        shares.append([(m.norm_true, m.norm_pred) for m in alone.confusion])
    for matrix, *folds in zip(found.confusion, *shares, strict=True):
        true, predicted = np.std(folds, axis=0, ddof=1)
        np.testing.assert_allclose(matrix.norm_true_spread, true, atol=1e-6)
        np.testing.assert_allclose(matrix.norm_pred_spread, predicted, atol=1e-6)


def test_signed_weights_stay_signed():
    table = make_table(weight="signed")
    found = evaluate(table, FAST)
    physics = found.view("physics")
    y, p, w = table.target == 0, table.proba[:, 0], table.weight
    a, b = p[y][:, None], p[~y][None]
    pairs = w[y][:, None] * w[~y][None]
    expected = ((a > b) * pairs).sum() / pairs.sum()
    assert physics.roc_auc[0].value == pytest.approx(expected, abs=1e-10)
    assert physics.roc_auc[0].error > 0
    assert all(math.isnan(e.value) for e in physics.average_precision)
    assert "negative weights" in physics.average_precision[0].note
    assert "negative weights" in found.gaps["average_precision/physics"]
    assert not [c for c in found.precision_recall if c.view == "physics"]
    assert np.isfinite(found.view("balanced").average_precision[0].value)
    matrix = next(m for m in found.confusion if m.view == "physics")
    cell = (table.target == 1) & (table.proba.argmax(axis=1) == 2)
    assert matrix.yields[1, 2] == pytest.approx(w[cell].sum())
    assert matrix.yields_error[1, 2] == pytest.approx(np.sqrt((w[cell] ** 2).sum()))
    counts = found.class_counts[1]
    mine = w[table.target == 1]
    assert counts.negative_fraction == pytest.approx((mine < 0).mean())
    assert counts.n_effective == pytest.approx(mine.sum() ** 2 / (mine**2).sum())


def test_yields_have_intervals_and_a_spread_over_folds():
    """The interval of a sum of weights is 1.96 sqrt(sum of squares) wide on either side."""
    table = make_table(n=20_000, weight="signed", features=False)
    found = evaluate(table, EvaluationOptions(seed=1, n_bootstrap=400, sections=("confusion",)))
    matrix = next(m for m in found.confusion if m.view == "physics")
    for end, sign in ((matrix.yields_low, -1), (matrix.yields_high, 1)):
        pull = (end - matrix.yields) / (sign * matrix.yields_error)
        np.testing.assert_allclose(pull, 1.96, atol=0.45)
        assert pull.mean() == pytest.approx(1.96, abs=0.15)
    n_folds = table.n_folds
    cell = 3 * table.target + table.proba.argmax(axis=1)
    folds = [
        n_folds * np.bincount(cell[mine], table.weight[mine], minlength=9).reshape(3, 3)
        for mine in (table.fold == i for i in range(n_folds))
    ]
    np.testing.assert_allclose(matrix.yields_spread, np.std(folds, axis=0, ddof=1), rtol=1e-4)
    few = evaluate(make_table(n=12, features=False), FAST).confusion[0]
    assert np.isnan(few.yields_low[few.counts < 5]).all()


def test_yields_are_divided_by_the_evaluated_fraction():
    whole = evaluate(make_table(features=False), FAST)
    tenth = evaluate(make_table(features=False, fraction=0.1), FAST)
    for a, b in zip(whole.confusion, tenth.confusion, strict=True):
        factor = 10 if a.view == "physics" else 1
        np.testing.assert_allclose(b.yields, factor * a.yields)
        np.testing.assert_allclose(b.yields_error, factor * a.yields_error)
        np.testing.assert_allclose(b.norm_true, a.norm_true)
    for a, b in zip(whole.densities, tenth.densities, strict=True):
        factor = 10 if a.view == "physics" else 1
        np.testing.assert_allclose(b.yields, factor * a.yields)
        np.testing.assert_allclose(b.density, a.density)


# --- curves and distributions -------------------------------------------------------------------


def test_bands_hold_their_curves_and_shrink_with_the_sample():
    widths = []
    for n in (1000, 16_000):
        found = evaluate(make_table(n=n, features=False), FAST)
        curve = next(c for c in found.roc if c.view == "physics")
        assert np.all(curve.tpr_low <= curve.tpr + 0.02)
        assert np.all(curve.tpr_high >= curve.tpr - 0.02)
        inside = (curve.fpr > 0.02) & (curve.fpr < 0.9)
        widths.append(np.mean((curve.tpr_high - curve.tpr_low)[inside]))
        pr = next(c for c in found.precision_recall if c.view == "balanced")
        middle = (pr.recall > 0.2) & (pr.recall < 0.9)
        assert np.all(pr.precision_low[middle] <= pr.precision_high[middle])
        assert np.all(np.diff(pr.recall) >= 0)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.5)


def test_roc_area_of_the_drawn_points_is_the_area_of_the_full_curve():
    for curve in evaluate(make_table(n=20_000, features=False), FAST).roc:
        drawn = np.trapezoid(curve.tpr, curve.fpr)
        assert drawn == pytest.approx(curve.area.value, abs=1e-3)
        assert curve.threshold[0] == math.inf
        assert (curve.fpr[0], curve.tpr[0]) == (0, 0)
        assert (curve.fpr[-1], curve.tpr[-1]) == pytest.approx((1, 1))


def test_threshold_scan_equals_direct_counting():
    table = make_table(weight="signed")
    for scan in evaluate(table, FAST).thresholds:
        if scan.view == "balanced":
            continue
        w = table.weight if scan.view == "physics" else np.ones(len(table.target))
        y, p = table.target == scan.class_id, table.proba[:, scan.class_id]
        for i in (0, 40, 90, 140):
            chosen = p >= scan.threshold[i]
            assert scan.efficiency[i] == pytest.approx(w[chosen & y].sum() / w[y].sum())
            assert scan.purity[i] == pytest.approx(w[chosen & y].sum() / w[chosen].sum())
            rejected = w[chosen & ~y].sum() / w[~y].sum()
            assert scan.background_efficiency[i] == pytest.approx(rejected)
        if scan.view == "unweighted":
            e, n = scan.efficiency, y.sum()
            np.testing.assert_allclose(scan.efficiency_error, np.sqrt(e * (1 - e) / n), atol=1e-12)


def test_densities_are_unit_area_histograms_of_the_category():
    table = make_table()
    found = evaluate(table, FAST)
    category = table.proba.argmax(axis=1)
    assert len(found.densities) == 9
    for d in found.densities:
        assert d.edges[-1] == 1
        assert d.edges[0] <= 1 / 3
        for t, true in enumerate(d.true_classes):
            mine = (category == d.category) & (table.target == true)
            assert d.n[t] == mine.sum()
            assert np.sum(d.density[t] * np.diff(d.edges)) == pytest.approx(1)
            w = table.weight[mine] if d.view == "physics" else np.ones(mine.sum())
            if d.view == "balanced":
                w = w * len(category) / (table.target == true).sum()
            expected, _ = np.histogram(table.proba[mine, d.category], d.edges, weights=w)
            np.testing.assert_allclose(d.yields[t], expected, atol=1e-9)
            squares, _ = np.histogram(table.proba[mine, d.category], d.edges, weights=w**2)
            np.testing.assert_allclose(d.yields_error[t], np.sqrt(squares), atol=1e-9)


def test_the_bin_size_of_a_class_sets_its_density():
    classes = (ClassInfo(name="a", bin_size=0.1), ClassInfo(name="b"), ClassInfo(name="c"))
    found = evaluate(make_table(classes=classes), FAST)
    np.testing.assert_allclose(np.diff(found.densities[0].edges), 0.1)
    np.testing.assert_allclose(np.diff(found.densities[1].edges), 0.025)


def test_features_correlations_and_profiles():
    rng = np.random.default_rng(3)
    table = make_table(n=4000)
    x = rng.normal(size=4000)
    features = {
        **table.features,
        "x": x + 1e6,  # far from zero: products must keep their digits
        "y": 0.6 * x + 0.8 * rng.normal(size=4000),
        "constant": np.full(4000, 7.0),
    }
    table = dataclasses.replace(table, features=features)
    options = dataclasses.replace(FAST, profile_features=("m_vis",))
    found = evaluate(table, options)
    by_name = {f.name: f for f in found.features}
    assert by_name["njets"].integer
    np.testing.assert_allclose(by_name["njets"].edges, np.arange(-0.5, 5))
    for c in range(3):
        mine = table.target == c
        expected = np.isnan(table.features["missing"][mine]).sum()
        assert by_name["missing"].n_missing[c] == expected
        jets = np.bincount(table.features["njets"][mine], weights=table.weight[mine], minlength=5)
        np.testing.assert_allclose(by_name["njets"].density[c], jets / jets.sum())
    assert np.sum(by_name["m_vis"].density[0] * np.diff(by_name["m_vis"].edges)) == pytest.approx(1)

    names = found.correlations.names
    i, j, m = names.index("x"), names.index("y"), names.index("missing")
    w = (4000 / np.bincount(table.target))[table.target]
    expected = np.cov(features["x"], features["y"], aweights=w)
    expected = expected[0, 1] / np.sqrt(expected[0, 0] * expected[1, 1])
    assert found.correlations.matrix[i, j] == pytest.approx(expected, abs=1e-9)
    mine = (table.target == 1) & np.isfinite(features["missing"])
    expected = np.corrcoef(features["missing"][mine], features["m_vis"][mine])[0, 1]
    at = found.correlations.per_class[1][m, names.index("m_vis")]
    assert at == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(found.correlations.matrix[i, i], 1)
    assert np.isnan(found.correlations.matrix[names.index("constant")]).all()

    profile = found.profiles[0]
    mine = (table.target == 2) & (table.features["m_vis"] >= profile.edges[9])
    mine &= table.features["m_vis"] < profile.edges[10]
    assert profile.n[2, 9] == mine.sum() > 5
    assert profile.mean[1, 2, 9] == pytest.approx(table.proba[mine, 1].mean())
    expected = table.proba[mine, 1].std(ddof=1) / np.sqrt(mine.sum())
    assert profile.error[1, 2, 9] == pytest.approx(expected)


# --- calibration --------------------------------------------------------------------------------


def test_calibrated_scores_show_an_error_of_the_size_of_noise():
    rng = np.random.default_rng(5)
    n = 20_000
    p = rng.beta(2, 2, n)
    target = (rng.random(n) < p).astype(np.int32)
    table = EvaluationTable(
        classes=(ClassInfo(name="a"), ClassInfo(name="b")),
        proba=np.stack([1 - p, p], axis=1),
        target=target,
        fold=np.zeros(n, dtype=np.int32),
        train_weight=np.ones(n),
    )
    found = evaluate(table, FAST).calibration[1]
    assert found.error.value == pytest.approx(found.noise, rel=0.6)
    assert found.error.low < found.noise
    pull = (found.observed - found.predicted) / found.observed_error
    assert 0.5 < np.sqrt(np.mean(pull**2)) < 1.5
    assert found.n.sum() == n
    assert found.n.min() > 0.9 * n / 20

    wrong = dataclasses.replace(table, proba=np.stack([1 - p**2, p**2], axis=1))
    found = evaluate(wrong, FAST).calibration[1]
    truth = np.mean(p - p**2)
    assert found.error.value == pytest.approx(truth, abs=0.01)
    assert found.error.low <= truth <= found.error.high
    assert found.error.low > 5 * found.noise


def test_calibration_uses_the_weights_trained_with():
    # With 1:9 classes, scores right for balanced training are wrong for unweighted training.
    rng = np.random.default_rng(6)
    n = 20_000
    target = (rng.random(n) < 0.1).astype(np.int32)
    x = rng.normal(size=n) + target
    p = 1 / (1 + np.exp(-(x - 0.5)))
    table = EvaluationTable(
        classes=(ClassInfo(name="a"), ClassInfo(name="b")),
        proba=np.stack([1 - p, p], axis=1),
        target=target,
        fold=np.zeros(n, dtype=np.int32),
    )
    balanced = evaluate(table, FAST).calibration[1].error.value
    unweighted = evaluate(dataclasses.replace(table, train_weight=np.ones(n)), FAST)
    assert balanced < 0.03
    assert unweighted.calibration[1].error.value > 0.2


# --- awkward samples ----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 7, 20])
def test_any_number_of_classes(k):
    found = evaluate(make_table(n=30 * k, k=k, infold=True, dataset="train"), FAST)
    assert len(found.roc) == 3 * k
    assert found.confusion[0].norm_true.shape == (k, k)
    assert found.over_training is not None
    assert all(np.isfinite(list(flat_metrics(found).values())))


def test_an_absent_class_is_a_stated_gap():
    table = make_table(k=4)
    table = dataclasses.replace(table, target=np.where(table.target == 2, 1, table.target))
    found = evaluate(table, FAST)
    scores = found.view("balanced")
    assert math.isnan(scores.roc_auc[2].value)
    assert scores.roc_auc[2].note == "no event of class class 2"
    assert found.gaps["roc/balanced/class 2"] == "no event of class class 2"
    present = [scores.roc_auc[c].value for c in (0, 1, 3)]
    assert scores.roc_auc_macro.value == pytest.approx(np.mean(present))
    assert "class 2" in scores.roc_auc_macro.note
    assert np.isfinite(scores.roc_auc_macro.low)
    assert np.isfinite(scores.log_loss.value)
    assert np.isnan(found.confusion[0].norm_true[2]).all()
    assert 2 not in found.densities[0].true_classes
    assert not any("class_2" in name and "roc_auc" in name for name in flat_metrics(found))
    assert found.class_counts[2].n == 0


def test_one_class_alone_has_no_curves_but_all_else():
    table = make_table()
    found = evaluate(dataclasses.replace(table, target=np.zeros_like(table.target)), FAST)
    assert found.roc == ()
    assert found.view("balanced").roc_auc[0].note == "no event of another class than class 0"
    assert math.isnan(found.view("unweighted").roc_auc_macro.value)
    assert found.view("unweighted").log_loss.value > 0
    assert found.densities[0].true_classes == (0,)


def test_an_empty_category_is_a_column_without_numbers():
    table = make_table()
    proba = table.proba.copy()
    proba[:, 1] *= 1e-3
    proba /= proba.sum(axis=1, keepdims=True)
    found = evaluate(dataclasses.replace(table, proba=proba), FAST)
    assert np.isnan(found.confusion[0].norm_pred[:, 1]).all()
    assert (found.confusion[0].norm_true[:, 1] == 0).all()
    empty = next(d for d in found.densities if d.category == 1)
    assert empty.n.sum() == 0
    assert (empty.density == 0).all()
    assert np.isfinite(found.view("balanced").roc_auc[1].value)


def test_constant_scores_are_random():
    table = make_table(infold=True)
    proba = np.full_like(table.proba, 1 / 3)
    table = dataclasses.replace(table, proba=proba, infold_proba=proba, dataset="train")
    found = evaluate(table, FAST)
    for view in VIEWS:
        for auc in found.view(view).roc_auc:
            assert auc.value == pytest.approx(0.5)
            assert auc.low == pytest.approx(0.5)
    assert found.view("balanced").average_precision[0].value == pytest.approx(0.5)
    assert found.view("balanced").log_loss.value == pytest.approx(np.log(3))
    assert all(len(c.n) == 1 for c in found.calibration)
    assert found.over_training.ks[0].distance == 0
    assert found.over_training.ks[0].p_value == 1


def test_random_scores_agree_with_a_half_and_perfect_ones_are_one():
    rng = np.random.default_rng(8)
    table = make_table(n=5000)
    random = evaluate(dataclasses.replace(table, proba=_softmax(rng.normal(size=(5000, 3)))), FAST)
    macro = random.view("balanced").roc_auc_macro
    assert abs(macro.value - 0.5) < 4 * macro.error
    perfect = evaluate(dataclasses.replace(table, proba=np.eye(3)[table.target]), FAST)
    for view in VIEWS:
        scores = perfect.view(view)
        assert scores.roc_auc_macro.value == 1
        assert scores.log_loss.value == pytest.approx(0, abs=1e-12)
        assert scores.brier.value == 0
        assert all(e.value == pytest.approx(1) for e in scores.average_precision)
    np.testing.assert_array_equal(perfect.confusion[0].norm_true, np.eye(3))


def test_one_event_per_class_has_values_but_no_intervals():
    table = make_table(n=3, infold=True, target=np.arange(3, dtype=np.int32))
    found = evaluate(dataclasses.replace(table, dataset="train"), FAST)
    for scores in found.scores:
        assert np.isfinite(scores.roc_auc_macro.value)
        assert np.isnan(scores.roc_auc_macro.low)
        assert "no interval" in scores.roc_auc_macro.note
        assert all(np.isnan(e.error) for e in scores.roc_auc)
    assert np.isnan(found.confusion[0].norm_true_low).all()
    assert np.isfinite(found.confusion[0].norm_true).all()
    assert "no verdict" in found.over_training.verdict
    assert not any("/low/" in name and "roc_auc" in name for name in flat_metrics(found))


def test_filler_rows_are_dropped_and_counted():
    table = make_table()
    proba = np.concatenate([table.proba, np.full((100, 3), np.nan)])
    padded = dataclasses.replace(
        table,
        proba=proba,
        target=np.append(table.target, np.full(100, -1)),
        fold=np.append(table.fold, np.full(100, -1)),
        weight=np.append(table.weight, np.ones(100)),
        features={k: np.append(v, np.ones(100)) for k, v in table.features.items()},
    )
    found, plain = evaluate(padded, FAST), evaluate(table, FAST)
    assert (found.n_dropped, found.n_events, found.n_unlabelled) == (100, 2000, 0)
    assert flat_metrics(found) == flat_metrics(plain) | {"test/n_dropped": 100.0}


def test_a_table_of_nothing_but_fillers_is_all_gaps():
    table = make_table(n=10, proba=np.full((10, 3), np.nan))
    found = evaluate(table, FAST)
    assert found.n_events == 0
    assert found.densities == found.roc == found.features == ()
    assert {"densities", "scores", "features", "over_training"} <= set(found.gaps)


def test_unlabelled_samples_get_distributions_only():
    table = make_table(target=np.full(2000, UNLABELLED, dtype=np.int32))
    found = evaluate(table, dataclasses.replace(FAST, profile_features=("m_vis",)))
    assert found.n_unlabelled == 2000
    assert "no event of known class" in found.gaps["scores"]
    assert found.scores == found.roc == found.confusion == ()
    assert found.densities[0].true_classes == (UNLABELLED,)
    assert found.densities[0].n.sum() > 0
    assert found.features[0].true_classes == (UNLABELLED,)
    assert found.profiles[0].mean.shape[1] == 1


def test_without_a_physics_weight_that_view_is_a_gap():
    found = evaluate(make_table(weight=None, features=False), FAST)
    assert found.views == ("balanced", "unweighted")
    assert found.view("physics") is None
    assert found.gaps["physics"] == "no physics weight is configured"
    assert found.gaps["features"] == "the table has no features"


def test_weights_of_a_class_that_cancel_are_a_stated_gap():
    table = make_table()
    weight = table.weight.copy()
    mine = np.flatnonzero(table.target == 0)
    weight[mine] = np.where(np.arange(len(mine)) % 2, 1.0, -1.5)
    found = evaluate(dataclasses.replace(table, weight=weight), FAST)
    assert math.isnan(found.view("physics").roc_auc[0].value)
    assert "roc/physics/class 0" in found.gaps
    assert "no positive sum" in found.gaps["roc/physics/class 0"]
    assert np.isfinite(found.view("unweighted").roc_auc[0].value)


def test_rounded_probabilities_are_accepted():
    table = make_table(n=200)
    rounded = (table.proba * (1 + 1e-7)).astype(np.float32)
    found = evaluate(dataclasses.replace(table, proba=rounded), FAST)
    exact = evaluate(table, FAST).view("balanced").roc_auc_macro.value
    assert found.view("balanced").roc_auc_macro.value == pytest.approx(exact, abs=1e-5)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": np.zeros(5, dtype=int)}, "target has 5 rows"),
        ({"target": np.full(2000, 3)}, "target 3 is none of the 3 classes"),
        ({"proba": np.ones((2000, 2))}, "one column a class"),
        ({"proba": np.full((2000, 3), 1.5)}, "outside 0..1"),
        ({"weight": np.full(2000, np.nan)}, "weight is NaN or infinite in 2000 rows"),
        ({"fraction": 0.0}, "evaluated fraction"),
        ({"features": {"m": np.ones(3)}}, "m has 3 rows"),
    ],
)
def test_contradictory_tables_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        evaluate(dataclasses.replace(make_table(), **changes), FAST)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="nearest: 'class 1'"):
        evaluate(make_table(), dataclasses.replace(FAST, signal_classes=("clas 1",)))
    found = evaluate(make_table(), dataclasses.replace(FAST, profile_features=("m_viss",)))
    assert "nearest: 'm_vis'" in found.gaps["profiles"]


# --- importances ----------------------------------------------------------------------------------


def test_permutation_importance_finds_the_one_feature_used():
    rng = np.random.default_rng(9)
    matrix = rng.normal(size=(3000, 3))
    target = (matrix[:, 1] > 0).astype(int)
    fold = np.arange(3000) % 2
    calls = []

    def score(x, f):
        calls.append(set(f))
        p = 1 / (1 + np.exp(-4 * x[:, 1]))
        return np.stack([1 - p, p], axis=1)

    found = permutation_importance(
        score, matrix, target, fold, ["a", "b", "c"], n_folds=3, max_rows=1000
    )
    assert found.values.shape == (3, 3)
    assert np.isnan(found.values[2]).all()
    assert (found.values[:2, 1] > 0.5).all()
    np.testing.assert_array_equal(found.values[:2, [0, 2]], 0)
    assert found.mean[1] > 0.5
    assert found.spread[1] > 0
    assert all(len(f) == 1 for f in calls)
    with pytest.raises(InputError, match="3 columns for 1 features"):
        permutation_importance(score, matrix, target, fold, ["a"], n_folds=2)


def test_gain_importance_is_a_share():
    found = gain_importance(["a", "b"], np.array([[1.0, 3.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found.values, [[0.25, 0.75], [np.nan, np.nan]])
    np.testing.assert_allclose(found.mean, [0.25, 0.75])


def test_shap_summary_mirrors_a_binary_model():
    values = np.array([[[1.0, -2.0]], [[3.0, 0.0]]])
    found = shap_summary(["a", "b"], values, np.ones((2, 2)))
    np.testing.assert_allclose(found.values[0], -found.values[1])
    np.testing.assert_allclose(found.mean_abs, [[2, 1], [2, 1]])
    with pytest.raises(InputError, match="do not belong"):
        shap_summary(["a"], values, np.ones((2, 2)))


# --- names ----------------------------------------------------------------------------------------


def test_metric_names_are_safe_and_do_not_collide():
    names = ["h+jets", "h jets", "macro", "t t/b@", "W(lν)=1%&"]
    table = make_table(n=500, k=5, classes=tuple(ClassInfo(name=n) for n in names))
    found = evaluate(table, dataclasses.replace(FAST, signal_classes=("macro",), luminosity=60.0))
    flat = flat_metrics(found, "my data+1")
    assert class_slugs(names) == ["h_jets", "h_jets_2", "macro_2", "t_t_b", "W_l_1"]
    for name, value in flat.items():
        assert not set(name) & set("+,()@=%& "), name
        assert name.startswith("my_data_1/")
        assert math.isfinite(value)
    assert flat["my_data_1/roc_auc_macro"] == found.view("balanced").roc_auc_macro.value
    assert flat["my_data_1/roc_auc_macro_2"] == found.view("balanced").roc_auc[2].value
    assert flat["my_data_1/cm_normtrue_h_jets/h_jets_2"] == found.confusion[0].norm_true[0, 1]
    assert flat["my_data_1/physics/log_loss"] == found.view("physics").log_loss.value
    assert flat["my_data_1/low/roc_auc_macro"] < flat["my_data_1/high/roc_auc_macro"]
    assert flat["my_data_1/significance/category/macro_2"] > 0


def test_fillers_of_absent_quantities_are_missing_values():
    rng = np.random.default_rng(3)
    absent = np.arange(400) % 4 == 0
    table = make_table(n=400)
    columns = {
        "jpt": np.where(absent, -10.0, rng.exponential(50, 400)),
        "d0": rng.normal(size=400),  # negative, but no value twice
        "charge": np.where(absent, -1.0, 1.0),
    }
    found = evaluate(dataclasses.replace(table, features=columns), FAST)
    missing = {f.name: int(f.n_missing.sum()) for f in found.features}
    assert missing == {"jpt": 100, "d0": 0, "charge": 0}
    assert found.features[0].edges[0] >= 0
    expected = np.corrcoef(columns["jpt"][~absent], columns["d0"][~absent])
    unweighted = dataclasses.replace(table, features=columns, target=np.zeros(400, int))
    matrix = evaluate(unweighted, FAST).correlations.matrix
    assert matrix[0, 1] == pytest.approx(expected[0, 1], abs=1e-9)


def test_only_what_is_asked_for_is_made_and_it_is_the_same():
    table = make_table(n=300, weight="signed")
    every = evaluate(table, FAST)
    some = evaluate(table, dataclasses.replace(FAST, sections=("roc", "densities"), n_threads=3))
    assert _plain(some.roc) == _plain(every.roc)
    assert _plain(some.scores) == _plain(every.scores)
    assert _plain(some.densities) == _plain(every.densities)
    assert some.calibration == some.thresholds == some.features == ()
    assert some.gaps["calibration"] == some.gaps["over_training"] == "not asked for"
    with pytest.raises(InputError, match="'rocs' is no section; nearest: 'roc'"):
        evaluate(table, dataclasses.replace(FAST, sections=("rocs",)))


# --- golden figure data ---------------------------------------------------------------------------


def _plain(value):
    if isinstance(value, ClassInfo):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        # A few points of a long array hold it as firmly as all of them.
        picked = value.ravel()
        if value.size:
            picked = picked[np.unique(np.linspace(0, value.size - 1, 8).astype(int))]
        return {"shape": list(value.shape), "some": [_plain(v.item()) for v in picked]}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return None if not math.isfinite(value) else float(f"{float(value):.8g}")
    return value.item() if isinstance(value, np.generic) else value


def _same(found, golden, where):
    if isinstance(golden, dict):
        assert set(found) == set(golden), where
        for key, value in golden.items():
            _same(found[key], value, f"{where}.{key}")
    elif isinstance(golden, list):
        assert len(found) == len(golden), where
        for i, (a, b) in enumerate(zip(found, golden, strict=True)):
            _same(a, b, f"{where}[{i}]")
    elif isinstance(golden, float):
        assert found == pytest.approx(golden, rel=1e-5, abs=1e-7), where
    else:
        assert found == golden, where


def test_figure_data_are_golden():
    """Regenerate with UPDATE_GOLDEN=1 pytest tests/test_metrics.py -k golden, and read the diff."""
    options = dataclasses.replace(
        FAST, signal_classes=("class 0",), luminosity=60.0, profile_features=("m_vis",)
    )
    train = make_table(n=400, infold=True, dataset="train")
    test = make_table(n=300, seed=2, fraction=0.5)
    run_b = dataclasses.replace(test, proba=_softmax(3 * test.proba))
    found = evaluate(test, options, train=train, comparison=compare(test, run_b, options))
    # Through JSON and back, so that both sides hold the same plain types.
    plain = json.loads(json.dumps(_plain(found)))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n")
    _same(plain, json.loads(GOLDEN.read_text()), "evaluation")
