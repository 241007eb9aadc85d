"""Figures: what is in them (data, not pixels), for ordinary and for awkward evaluations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from evaluations import make_evaluation
from shown import texts

from utils.results.evaluation import Evaluation
from utils.results.metrics.correlations import Correlations
from utils.results.metrics.importance import Importance
from utils.results.plotting import QUESTIONS, Style, figures

ODD_NAMES = ("<b>x</b>", "a & b", "$m_{T}$", "%{x}", "h+jets", "h jets")


def test_every_result_has_its_figures(drawn: dict[str, go.Figure]) -> None:
    expected = {
        *("performance/roc_balanced", "performance/rejection_balanced", "performance/roc_physics"),
        *("performance/precision_recall_balanced", "performance/score_signal"),
        *("performance/score_signal_log", "performance/score_signal_stacked"),
        *("performance/thresholds_1", "performance/significance"),
        *("performance/significance_signal", "certainty/roc_areas", "certainty/reliability_1"),
        *("over_training/overlay_signal", "over_training/gaps_roc_auc"),
        *("over_training/gaps_log_loss", "over_training/learning_curves"),
        *("model/importance_gain", "model/shap", "model/shap_signal", "model/correlations"),
        *("model/correlations_by_class_signal", "model/distributions_1", "failures/profile_1"),
        *("failures/by_true_balanced", "failures/by_predicted_physics", "failures/yields"),
    }
    assert expected <= set(drawn)
    assert {key.split("/")[0] for key in drawn} == set(QUESTIONS)


def test_figures_carry_titles_captions_and_the_experiment(drawn: dict[str, go.Figure]) -> None:
    for key, figure in drawn.items():
        assert figure.layout.meta["title"], key
        assert figure.layout.meta["caption"].endswith("."), key
        shown = [a.text for a in figure.layout.annotations]
        assert any("<b>CMS</b>" in t for t in shown), key
        assert any(t == "59.8 fb<sup>−1</sup> (13 TeV)" for t in shown), key


def test_drawing_again_gives_the_same_figures(evaluation: Evaluation) -> None:
    style = Style(evaluation.classes)
    first, second = figures(evaluation, style), figures(evaluation, style)
    assert {k: f.to_json() for k, f in first.items()} == {k: f.to_json() for k, f in second.items()}


@pytest.mark.parametrize("n_classes", [2, 20])
def test_any_number_of_classes(n_classes: int) -> None:
    evaluation = make_evaluation(tuple(f"class {i}" for i in range(n_classes)), n=20_000)
    style = Style(evaluation.classes)
    drawn = figures(evaluation, style)
    looks = {(style.color(i), style.dash(i)) for i in range(n_classes)}
    assert len(looks) == n_classes
    matrix = drawn["failures/by_true_balanced"]
    assert matrix.data[0].textfont.size >= 8
    # The data of a page: of 20 classes it was 9 MB while bands had all points of their curves.
    sizes = {key: len(figure.to_json(engine="json")) for key, figure in drawn.items()}
    shifted = sum(size for key, size in sizes.items() if key.startswith("variations/"))
    assert sum(sizes.values()) - shifted < 300_000 * n_classes + 500_000
    assert shifted < 3 * (15_000 * n_classes + 30_000)  # of three variations
    roc = drawn["performance/roc_balanced"]
    if roc.layout.legend.x > 1:  # beside the frame: every entry must have its line
        assert roc.layout.height - roc.layout.margin.t - roc.layout.margin.b >= 20 * n_classes


def test_odd_names_are_shown_as_they_are() -> None:
    evaluation = make_evaluation(ODD_NAMES)
    drawn = figures(evaluation, Style(evaluation.classes, stacked=True))
    assert len({key.lower() for key in drawn}) == len(drawn)
    for key, figure in drawn.items():
        assert ".." not in key.split("/")
        seen = texts(figure.update_layout(meta=None))
        for forbidden in ("<b>x</b>", "$m_{T}$", "%{x}:", '"%{x}"', "a & b"):
            assert forbidden not in seen, key


@pytest.mark.parametrize("n_features", [3, 16, 25])
def test_a_figure_as_large_as_a_slide_can_be_read(evaluation: Evaluation, n_features: int) -> None:
    """Texts have 9 points or nearly on a slide of 960 x 540, be there few features or many."""
    names = tuple(f"a feature {i}" for i in range(n_features))
    matrix = np.eye(n_features)
    many = replace(evaluation, correlations=Correlations(names, matrix, {0: matrix, 1: matrix}))
    for key, figure in figures(many, Style(many.classes)).items():
        layout = figure.layout
        scale = min(960 / layout.width, 540 / layout.height)
        axes = [axis for kind in (figure.select_xaxes(), figure.select_yaxes()) for axis in kind]
        sizes = [axis.tickfont.size for axis in axes if axis.tickfont.size]
        sizes += [a.font.size for a in layout.annotations if a.font.size]
        sizes += [
            np.min(t.textfont.size) for t in figure.data if t.type == "scatter" and "text" in t.mode
        ]
        assert min(sizes) * scale >= 8.5, key


def test_nothing_to_draw_gives_no_figure(evaluation: Evaluation) -> None:
    empty = Evaluation("test", evaluation.classes, 0, 0, 0, 2, 1.0, ())
    assert figures(empty, Style(empty.classes)) == {}


def test_undefined_numbers_never_stop_a_figure(evaluation: Evaluation) -> None:
    importance = Importance("permutation", ("a", "b"), np.full((2, 2), np.nan), "Increase")
    scans = evaluation.significance
    assert scans is not None
    nothing = replace(scans.scans[0], best=None, z_uncertain=np.full_like(scans.scans[0].z, np.nan))
    broken = replace(
        evaluation, importances=(importance,), significance=replace(scans, scans=(nothing,))
    )
    drawn = figures(broken, Style(broken.classes))
    assert "model/importance_permutation" in drawn
    assert "performance/significance_signal" in drawn


def test_page_data_stay_small_for_many_events() -> None:
    evaluation = make_evaluation(tuple("abcd"), n=20_000)
    drawn = figures(evaluation, Style(evaluation.classes))
    assert sum(len(f.to_json()) for f in drawn.values()) < 2_000_000
