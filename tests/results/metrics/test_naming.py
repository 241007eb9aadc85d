"""Names of metrics: safe everywhere, and no two the same."""

from __future__ import annotations

import dataclasses
import math

from evaluations import make_evaluation
from scored_tables import FAST, scored_table

from utils.results.evaluation import evaluate
from utils.results.metrics.naming import class_slugs, flat_metrics
from utils.schema import ClassInfo


def test_metric_names_are_safe_and_do_not_collide():
    names = ["h+jets", "h jets", "macro", "t t/b@", "W(lν)=1%&"]
    table = scored_table(n=500, k=5, classes=tuple(ClassInfo(name=n) for n in names))
    found = evaluate(table, dataclasses.replace(FAST, signal_classes=("macro",), luminosity=60.0))
    flat = flat_metrics(found, "my data+1")
    assert class_slugs(names) == ["h_jets", "h_jets_2", "macro_2", "t_t_b", "W_l_1"]
    for name, value in flat.items():
        assert not set(name) & set("+,()@=%& "), name
        assert name.startswith("my_data_1/")
        assert math.isfinite(value)
    assert flat["my_data_1/roc_auc_macro"] == found.view("balanced").roc_auc_macro.value
    assert flat["my_data_1/roc_auc_macro_2"] == found.view("balanced").roc_auc[2].value
    assert flat["my_data_1/cm_normtrue_h_jets/h_jets_2"] == found.confusion[0].norm_true.value[0, 1]
    assert flat["my_data_1/physics/log_loss"] == found.view("physics").log_loss.value
    assert flat["my_data_1/low/roc_auc_macro"] < flat["my_data_1/high/roc_auc_macro"]
    assert flat["my_data_1/significance/category/macro_2"] > 0


def test_effects_of_variations_have_names():
    evaluation = make_evaluation(("h+jets", "z z", "other"))
    flat = flat_metrics(evaluation, "test")
    [up, down, btag, tune] = evaluation.variations.shifts
    top = "test/variations/tauESUp"
    assert flat[f"{top}/roc_auc_macro"] == up.macro.value
    assert flat["test/low/variations/tauESUp/roc_auc_macro"] == up.macro.low
    by_class = {(m.metric, m.view, m.class_id): m.change for m in up.metrics}
    assert flat[f"{top}/roc_auc_z_z"] == by_class["roc_auc", "balanced", 1].value
    physics = flat["test/physics/variations/tauESUp/log_loss"]
    assert physics == by_class["log_loss", "physics", None].value
    assert flat[f"{top}/yield_h_jets"] == up.yields.relative.value[0]
    assert flat["test/high/variations/tauESUp/yield_h_jets"] == up.yields.relative.high[0]
    assert flat["test/variations/tauESDown/moved"] == down.moved
    assert flat["test/variations/tauESDown/switched"] == down.switched
    assert "test/variations/btagUp/moved" not in flat
    assert flat["test/variations/btagUp/yield_other"] == btag.yields.relative.value[2]
    assert flat["test/variations/tuneUp/log_loss"] == tune.metrics[1].change.value
