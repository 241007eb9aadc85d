"""Distributions are drawn as the histograms of the results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
from evaluations import make_evaluation, make_table
from shown import trace

from utils.results.evaluation import Evaluation, evaluate
from utils.results.options import EvaluationOptions
from utils.results.plotting import Style, figures


def test_density_outline_is_the_histogram(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    result = next(d for d in evaluation.densities if d.view == "balanced" and d.category == 0)
    shown = trace(drawn["performance/score_signal"], "signal")
    np.testing.assert_allclose(shown.y[1:-1:2], result.density[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shown.x[1:-1:2], result.edges[:-1], rtol=1e-5)
    logarithmic = drawn["performance/score_signal_log"]
    assert logarithmic.layout.yaxis.type == "log"
    assert min(trace(logarithmic, "signal").y) > 0


def test_band_belongs_to_its_class_in_the_legend(drawn: dict[str, go.Figure]) -> None:
    groups = [t.legendgroup for t in drawn["performance/score_signal"].data]
    assert groups.count("class 0") == 2
    hidden = [t for t in drawn["performance/score_signal"].data if t.showlegend is False]
    assert all(t.fill == "toself" or t.error_y.array is not None for t in hidden)


def test_empty_category_says_so() -> None:
    evaluation = make_evaluation(("signal", "background", "never"), avoid=2)
    drawn = figures(evaluation, Style(evaluation.classes, stacked=True))
    for key in ("score_never", "score_never_log", "score_never_stacked_log"):
        shown = [a.text for a in drawn[f"performance/{key}"].layout.annotations]
        assert "no event is assigned to the never category" in shown
    matrix = drawn["failures/by_predicted_balanced"].data[0]
    assert matrix.text[2::3] == ("–",) * 3
    assert list(matrix.marker.size[2::3]) == [0, 0, 0]


def test_unlabelled_events_are_points() -> None:
    table = make_table(("signal", "background"), 300, "data")
    unknown = replace(table, target=np.full(300, -1))
    evaluation = evaluate(unknown, EvaluationOptions(n_bootstrap=5, n_permutations=5))
    drawn = figures(evaluation, Style(evaluation.classes))
    shown = trace(drawn["performance/score"], "unlabelled")
    assert shown.mode == "markers"
    assert shown.error_y.array is not None


def test_the_signal_is_stacked_on_top_whatever_its_size() -> None:
    evaluation = make_evaluation(("signal", "background", "other"))
    drawn = figures(evaluation, Style(evaluation.classes, stacked=True))
    for category in ("signal", "background", "other"):
        stack = drawn[f"performance/score_{category}_stacked"]
        names = [t.name for t in stack.data if t.name in {"signal", "background", "other"}]
        assert names[-1] == "signal"
