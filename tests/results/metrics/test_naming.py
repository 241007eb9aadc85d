"""Names of metrics: safe everywhere, and no two the same."""

from __future__ import annotations

import dataclasses
import math

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
