"""Two classes are one score: one curve, one distribution from 0 to 1, one set of numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from evaluations import make_evaluation
from scored_tables import FAST, scored_table
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from utils.results.evaluation import Evaluation, evaluate
from utils.results.events import EvaluationTable
from utils.results.metrics.importance import shap_summary
from utils.results.metrics.naming import flat_metrics
from utils.results.metrics.significance import asimov
from utils.results.plotting import Style, figures

NAMES = ("class 0", "class 1")
CASES: list[tuple[tuple[str, ...], int]] = [
    ((), 1),
    (NAMES[:1], 0),
    (NAMES[1:], 1),
    (NAMES, 1),
]
"""Classes called signal, and the one whose probability is then the score."""


def table(dataset: str = "test") -> EvaluationTable:
    made: EvaluationTable = scored_table(k=2, infold=dataset == "train", dataset=dataset)
    return made


def evaluated(signals: tuple[str, ...] = ()) -> Evaluation:
    options = dataclasses.replace(FAST, signal_classes=signals, luminosity=60.0)
    return evaluate(table(), options, train=table("train"))


@pytest.mark.parametrize(("signals", "signal"), CASES)
def test_one_set_of_numbers_is_that_of_the_signals_probability(
    signals: tuple[str, ...], signal: int
) -> None:
    scored, found = table(), evaluated(signals)
    y, p = scored.target == signal, scored.proba[:, signal]
    weight = np.where(y, 1 / y.sum(), 1 / (~y).sum())
    flat = flat_metrics(found)
    for name, oracle in (
        ("roc_auc", roc_auc_score(y, p)),
        ("roc_auc_macro", roc_auc_score(y, p)),
        ("pr_average_prec", average_precision_score(y, p, sample_weight=weight)),
        ("log_loss", log_loss(y, p, sample_weight=weight)),
        ("brier", brier_score_loss(y, p, sample_weight=weight)),
        ("accuracy", np.average((p >= 0.5) == y, weights=weight)),
        ("unweighted/brier", brier_score_loss(y, p)),
        ("physics/log_loss", log_loss(y, p, sample_weight=scored.weight)),
        ("physics/pr_average_prec", average_precision_score(y, p, sample_weight=scored.weight)),
    ):
        assert flat[f"test/{name}"] == pytest.approx(oracle, rel=1e-9), name
    assert flat["test/low/brier"] < flat["test/brier"] < flat["test/high/brier"]
    assert 0 < flat["test/calibration_error"] < 1
    of_classes = [n for n in flat if "class_" in n and "/cm_" not in n]
    assert of_classes == []


@pytest.mark.parametrize(("signals", "signal"), CASES)
def test_one_curve_and_one_distribution_of_all_events(
    signals: tuple[str, ...], signal: int
) -> None:
    found, scored = evaluated(signals), table()
    for curves in (found.roc, found.precision_recall, found.thresholds):
        assert [c.class_id for c in curves if c.view == "balanced"] == [signal]
    assert [c.class_id for c in found.calibration] == [signal]
    [density] = [d for d in found.densities if d.view == "unweighted"]
    assert (density.edges[0], density.edges[-1]) == (0, 1)
    of_true = [np.histogram(scored.proba[scored.target == c, signal], density.edges)[0]
               for c in range(2)]  # fmt: skip
    np.testing.assert_array_equal(density.yields, of_true)
    o = found.over_training
    assert o is not None
    assert [d.category for d in o.densities] == [signal]
    assert o.densities[0].edges[0] == 0
    assert {g.metric for g in o.gaps} == {"roc_auc_macro", "log_loss"}
    assert {(t.class_id, t.of) for t in o.ks} == {(signal, "class"), (signal, "rest")}


def test_significance_is_scanned_over_all_events_and_combined_of_both_sides() -> None:
    scored, found = table(), evaluated(NAMES[:1])
    assert found.significance is not None
    assert scored.weight is not None
    [scan] = found.significance.scans
    p, y, w = scored.proba[:, 0], scored.target == 0, scored.weight
    for at in (0, 37, 80):
        passed = p >= scan.threshold[at] - 1e-12
        assert scan.signal[at] == pytest.approx(w[passed & y].sum())
        assert scan.background[at] == pytest.approx(w[passed & ~y].sum())
    assert scan.threshold[0] == 0
    sides = [asimov(w[side & y].sum(), w[side & ~y].sum()) for side in (p >= 0.5, p < 0.5)]
    assert found.significance.combined == pytest.approx(float(np.hypot(*sides)))
    flat = flat_metrics(found)
    assert flat["test/significance/combined"] == pytest.approx(float(np.hypot(*sides)))


def test_two_outputs_of_a_model_are_the_odds_of_the_signal() -> None:
    outputs = np.random.default_rng(2).normal(size=(5, 2, 3))
    found = shap_summary(["a", "b", "c"], outputs, np.ones((5, 3)), signal=0)
    np.testing.assert_allclose(found.values[0], (outputs[:, 0] - outputs[:, 1]).T, rtol=1e-6)
    assert found.score_classes == (0,)


def test_figures_are_not_doubled() -> None:
    found: Any = make_evaluation(NAMES)
    drawn = figures(found, Style(found.classes, stacked=True))
    keys = {key.split("/")[1] for key in drawn}
    assert {"score", "score_log", "score_stacked", "overlay", "significance", "shap_values"} <= keys
    assert not [k for k in keys if k.endswith(("_class_0", "_class_1")) and "by_class" not in k]
    lines = [t for t in drawn["performance/roc_balanced"].data if t.showlegend is not False]
    assert len(lines) == 1
    assert [len(t.x) for t in drawn["certainty/roc_areas"].data if t.error_x.array is not None] == [
        1, 1
    ]  # fmt: skip
