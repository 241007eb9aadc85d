"""Curves are drawn through the points of the results."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
from shown import trace

from utils.results.evaluation import Evaluation
from utils.results.plotting import Style
from utils.results.plotting.labels import measured


def test_roc_shows_the_curves_of_the_results(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    curve = next(c for c in evaluation.roc if c.view == "balanced" and c.class_id == 0)
    shown = trace(drawn["performance/roc_balanced"], "signal")
    np.testing.assert_allclose(shown.x, curve.fpr, atol=1e-6)
    np.testing.assert_allclose(shown.y, curve.tpr, atol=1e-6)
    assert measured(curve.area.value, curve.area.error) in shown.name
    rejection = trace(drawn["performance/rejection_balanced"], "signal")
    np.testing.assert_allclose(rejection.y, 1 / curve.fpr[curve.fpr > 0], rtol=1e-5)
    assert drawn["performance/rejection_balanced"].layout.yaxis.type == "log"


def test_best_cut_is_marked(evaluation: Evaluation, drawn: dict[str, go.Figure]) -> None:
    assert evaluation.significance is not None
    scan = evaluation.significance.scans[0]
    assert scan.best is not None
    star = trace(drawn["performance/significance_signal"], "best")
    assert star.x[0] == pytest.approx(scan.threshold[scan.best])


def test_significance_is_in_the_colours_of_classes(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    style = Style(evaluation.classes)
    assert evaluation.significance is not None
    assert evaluation.significance.signal_classes == (0,)
    for class_id, name in enumerate(("signal", "background", "other")):
        figure = drawn[f"performance/significance_{name}"]
        known, uncertain = trace(figure, "background known"), trace(figure, "background ±")
        assert known.line.color == uncertain.line.color == style.rgba(class_id)
        assert (known.line.dash, uncertain.line.dash) == ("dash", "solid")
        [signal] = (t for t in figure.data if t.name == "signal")
        assert signal.line.color == style.rgba(0)
    bars = [t for t in drawn["performance/significance"].data if len(t.y) > 1]
    for alpha, one in zip((0.4, 1.0), bars, strict=True):
        assert list(one.marker.color[:3]) == [style.rgba(c, alpha) for c in range(3)]
