"""The evaluation as a whole: every section, every view, and every awkward sample."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from scored_tables import FAST, scored_table, softmax

from utils.results.evaluation import evaluate
from utils.results.events import UNLABELLED, VIEWS
from utils.results.metrics.comparison import compare
from utils.results.metrics.naming import flat_metrics
from utils.schema import ClassInfo, InputError

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics_figures.json"


# --- awkward samples ----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 7, 20])
def test_any_number_of_classes(k):
    found = evaluate(scored_table(n=30 * k, k=k, infold=True, dataset="train"), FAST)
    assert len(found.roc) == (3 * k if k > 2 else 3)
    assert found.confusion[0].norm_true.value.shape == (k, k)
    assert found.over_training is not None
    assert all(np.isfinite(list(flat_metrics(found).values())))


def test_an_absent_class_is_a_stated_gap():
    table = scored_table(k=4)
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
    assert np.isnan(found.confusion[0].norm_true.value[2]).all()
    assert 2 not in found.densities[0].true_classes
    assert not any("class_2" in name and "roc_auc" in name for name in flat_metrics(found))
    assert found.class_counts[2].n == 0


def test_one_class_alone_has_no_curves_but_all_else():
    table = scored_table()
    found = evaluate(dataclasses.replace(table, target=np.zeros_like(table.target)), FAST)
    assert found.roc == ()
    assert found.view("balanced").roc_auc[0].note == "no event of another class than class 0"
    assert math.isnan(found.view("unweighted").roc_auc_macro.value)
    assert found.view("unweighted").log_loss.value > 0
    assert found.densities[0].true_classes == (0,)


def test_an_empty_category_is_a_column_without_numbers():
    table = scored_table()
    proba = table.proba.copy()
    proba[:, 1] *= 1e-3
    proba /= proba.sum(axis=1, keepdims=True)
    found = evaluate(dataclasses.replace(table, proba=proba), FAST)
    assert np.isnan(found.confusion[0].norm_pred.value[:, 1]).all()
    assert (found.confusion[0].norm_true.value[:, 1] == 0).all()
    empty = next(d for d in found.densities if d.category == 1)
    assert empty.n.sum() == 0
    assert (empty.density == 0).all()
    assert np.isfinite(found.view("balanced").roc_auc[1].value)


def test_constant_scores_are_random():
    table = scored_table(infold=True)
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
    table = scored_table(n=5000)
    random = evaluate(dataclasses.replace(table, proba=softmax(rng.normal(size=(5000, 3)))), FAST)
    macro = random.view("balanced").roc_auc_macro
    assert abs(macro.value - 0.5) < 4 * macro.error
    perfect = evaluate(dataclasses.replace(table, proba=np.eye(3)[table.target]), FAST)
    for view in VIEWS:
        scores = perfect.view(view)
        assert scores.roc_auc_macro.value == 1
        assert scores.log_loss.value == pytest.approx(0, abs=1e-12)
        assert scores.brier.value == 0
        assert all(e.value == pytest.approx(1) for e in scores.average_precision)
    np.testing.assert_array_equal(perfect.confusion[0].norm_true.value, np.eye(3))


def test_one_event_per_class_has_values_but_no_intervals():
    table = scored_table(n=3, infold=True, target=np.arange(3, dtype=np.int32))
    found = evaluate(dataclasses.replace(table, dataset="train"), FAST)
    for scores in found.scores:
        assert np.isfinite(scores.roc_auc_macro.value)
        assert np.isnan(scores.roc_auc_macro.low)
        assert "no interval" in scores.roc_auc_macro.note
        assert all(np.isnan(e.error) for e in scores.roc_auc)
    assert np.isnan(found.confusion[0].norm_true.low).all()
    assert np.isfinite(found.confusion[0].norm_true.value).all()
    assert "no verdict" in found.over_training.verdict
    assert not any("/low/" in name and "roc_auc" in name for name in flat_metrics(found))


def test_a_table_of_nothing_but_fillers_is_all_gaps():
    table = scored_table(n=10, proba=np.full((10, 3), np.nan))
    found = evaluate(table, FAST)
    assert found.n_events == 0
    assert found.densities == found.roc == found.features == ()
    assert {"densities", "scores", "features", "over_training"} <= set(found.gaps)


def test_unlabelled_samples_get_distributions_only():
    table = scored_table(target=np.full(2000, UNLABELLED, dtype=np.int32))
    found = evaluate(table, dataclasses.replace(FAST, profile_features=("m_vis",)))
    assert found.n_unlabelled == 2000
    assert "no event of known class" in found.gaps["scores"]
    assert found.scores == found.roc == found.confusion == ()
    assert found.densities[0].true_classes == (UNLABELLED,)
    assert found.densities[0].n.sum() > 0
    assert found.features[0].true_classes == (UNLABELLED,)
    assert found.profiles[0].mean.shape[1] == 1


def test_without_a_physics_weight_that_view_is_a_gap():
    found = evaluate(scored_table(weight=None, features=False), FAST)
    assert found.views == ("balanced", "unweighted")
    assert found.view("physics") is None
    assert found.gaps["physics"] == "no physics weight is configured"
    assert found.gaps["features"] == "the table has no features"


def test_weights_of_a_class_that_cancel_are_a_stated_gap():
    table = scored_table()
    weight = table.weight.copy()
    mine = np.flatnonzero(table.target == 0)
    weight[mine] = np.where(np.arange(len(mine)) % 2, 1.0, -1.5)
    found = evaluate(dataclasses.replace(table, weight=weight), FAST)
    assert math.isnan(found.view("physics").roc_auc[0].value)
    assert "roc/physics/class 0" in found.gaps
    assert "no positive sum" in found.gaps["roc/physics/class 0"]
    assert np.isfinite(found.view("unweighted").roc_auc[0].value)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="nearest: 'class 1'"):
        evaluate(scored_table(), dataclasses.replace(FAST, signal_classes=("clas 1",)))
    found = evaluate(scored_table(), dataclasses.replace(FAST, profile_features=("m_viss",)))
    assert "nearest: 'm_vis'" in found.gaps["profiles"]


# --- a choice of sections -------------------------------------------------------------------------


def test_only_what_is_asked_for_is_made_and_it_is_the_same():
    table = scored_table(n=300, weight="signed")
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
    """Regenerate with UPDATE_GOLDEN=1 pytest -k figure_data_are_golden, and read the diff."""
    options = dataclasses.replace(
        FAST, signal_classes=("class 0",), luminosity=60.0, profile_features=("m_vis",)
    )
    train = scored_table(n=400, infold=True, dataset="train")
    test = scored_table(n=300, seed=2, fraction=0.5)
    run_b = dataclasses.replace(test, proba=softmax(3 * test.proba))
    found = evaluate(test, options, train=train, comparison=compare(test, run_b, options))
    # Through JSON and back, so that both sides hold the same plain types.
    plain = json.loads(json.dumps(_plain(found)))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n")
    _same(plain, json.loads(GOLDEN.read_text()), "evaluation")
