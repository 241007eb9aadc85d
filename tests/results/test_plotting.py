"""Figures: what is in them (data, not pixels), for ordinary and for awkward evaluations."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from evaluations import make_evaluation, make_table
from utils.results.containers import (
    Evaluation,
    EvaluationOptions,
    Importance,
)
from utils.results.metrics.sections import evaluate
from utils.results.plotting.summary import ranks, swarm

from utils.results.plotting import QUESTIONS, Style, figures
from utils.results.plotting.labels import label, literal, measured, number, shorten
from utils.results.plotting.matrices import BLUE_WHITE_RED, between
from utils.results.plotting.style import PALETTE_6, conditions, parse_color, step_points
from utils.schema import ClassInfo, ConfigError

ODD_NAMES = ("<b>x</b>", "a & b", "$m_{T}$", "%{x}", "h+jets", "h jets")


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return make_evaluation()


@pytest.fixture(scope="module")
def drawn(evaluation: Evaluation) -> dict[str, go.Figure]:
    style = Style(
        evaluation.classes,
        experiment_text="CMS Simulation",
        luminosity=59.83,
        center_of_mass_energy=13,
        feature_labels={"m_sv": "$m_{\\tau\\tau}$ [GeV]"},
        stacked=True,
    )
    return figures(evaluation, style)


def texts(figure: go.Figure) -> str:
    """Return everything a reader of the figure may see, as JSON text."""
    return json.dumps(json.loads(figure.to_json()), ensure_ascii=False)


def trace(figure: go.Figure, name: str) -> Any:
    return next(t for t in figure.data if t.name and t.name.startswith(name))


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
        *("model/correlations_by_class_1", "model/distributions_1", "failures/profile_1"),
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


def test_confusion_matrix_shows_percent(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    cells = drawn["failures/by_true_balanced"].data[0]
    shares = 100 * evaluation.confusion[0].norm_true
    np.testing.assert_allclose(cells.marker.color, shares.ravel(), rtol=1e-5)
    assert cells.text[1].startswith(f"{shares[0, 1]:.1f}")
    assert (cells.x[1], cells.y[1]) == (1, 0)  # across: categories, down: true classes


def test_correlations_are_painted_in_their_colours(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    result = evaluation.correlations
    assert result is not None
    by_class = [(f"x{i + 1}" if i else "x", m) for i, m in enumerate(result.per_class.values())]
    for key, panels in (
        ("correlations", [("x", result.matrix)]),
        ("correlations_by_class_1", by_class),
    ):
        figure = drawn[f"model/{key}"]
        for place, matrix in panels:
            seen: dict[tuple[int, int], str] = {}
            for shape in (s for s in figure.layout.shapes if s.xref == place):
                for left, top, right in re.findall(r"M([-.\d]+),([-.\d]+)H([-.\d]+)", shape.path):
                    x, y = (float(left) + float(right)) / 2, float(top) + 0.5
                    seen[round(y), round(x)] = shape.fillcolor
            assert len(seen) == np.isfinite(matrix).sum()
            for (row, column), color in seen.items():
                expected = between(BLUE_WHITE_RED, (1 + matrix[row, column]) / 2)
                # Half a step of the levels at most.
                np.testing.assert_allclose(parse_color(color, ""), expected, atol=3)
            (told,) = (t for t in figure.data if (t.xaxis or "x") == place and len(t.x) > 1)
            np.testing.assert_allclose(told.customdata, 100 * matrix.ravel(), rtol=1e-5)


def test_best_cut_is_marked(evaluation: Evaluation, drawn: dict[str, go.Figure]) -> None:
    assert evaluation.significance is not None
    scan = evaluation.significance.scans[0]
    assert scan.best is not None
    star = trace(drawn["performance/significance_signal"], "best")
    assert star.x[0] == pytest.approx(scan.threshold[scan.best])


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
    size = sum(len(figure.to_json(engine="json")) for figure in drawn.values())
    assert size < 300_000 * n_classes + 500_000
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


def test_empty_category_says_so() -> None:
    evaluation = make_evaluation(("signal", "background", "never"), avoid=2)
    drawn = figures(evaluation, Style(evaluation.classes, stacked=True))
    for key in ("score_never", "score_never_log", "score_never_stacked_log"):
        shown = [a.text for a in drawn[f"performance/{key}"].layout.annotations]
        assert "no event is assigned to the never category" in shown
    matrix = drawn["failures/by_predicted_balanced"].data[0]
    assert matrix.text[2::3] == ("–",) * 3
    assert list(matrix.marker.size[2::3]) == [0, 0, 0]


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


def test_unlabelled_events_are_points() -> None:
    table = make_table(("signal", "background"), 300, "data")
    unknown = replace(table, target=np.full(300, -1))
    evaluation = evaluate(unknown, EvaluationOptions(n_bootstrap=5, n_permutations=5))
    drawn = figures(evaluation, Style(evaluation.classes))
    shown = trace(drawn["performance/score_signal"], "unlabelled")
    assert shown.mode == "markers"
    assert shown.error_y.array is not None


def test_page_data_stay_small_for_many_events() -> None:
    evaluation = make_evaluation(tuple("abcd"), n=20_000)
    drawn = figures(evaluation, Style(evaluation.classes))
    assert sum(len(f.to_json()) for f in drawn.values()) < 2_000_000


# --- texts and colours ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("$p_{T}^{miss}$ [GeV]", "p<sub>T</sub><sup>miss</sup> [GeV]"),
        ("$m_{\\tau\\tau}$", "m<sub>ττ</sub>"),
        ("m_{#tau#tau} [GeV]", "m<sub>ττ</sub> [GeV]"),
        ("H $\\to$ ττ", "H → ττ"),
        ("$\\mathrm{d}R_{b\\bar{b}}$", "dR<sub>bb\N{COMBINING OVERLINE}</sub>"),
        ("pt_1", "pt_1"),
        ("#5 <b>", "#5 &lt;b&gt;"),
        ("costs 5$", "costs 5&#36;"),
        ("$\\unknown$", "\\unknown"),
    ],
)
def test_labels(written: str, shown: str) -> None:
    assert label(written) == shown


def test_literal_text_means_itself() -> None:
    assert literal("<&>$%\n#") == "&lt;&amp;&gt;&#36;&#37; #"
    assert shorten("abcdefghij", 6) == "abcd…j"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1234.5, "1 234"), (0.01234, "0.0123"), (-2.0, "−2.00"), (float("nan"), "–")],
)
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown
    assert number(3.2e7) == "3.20×10<sup>7</sup>"


def test_measured_has_the_decimals_of_its_error() -> None:
    assert measured(0.91234, 0.00187) == "0.9123 ± 0.0019"
    assert measured(12.3, float("nan")) == "12.3"


@pytest.mark.parametrize(
    "text", ["194,71,92", "rgb(194, 71, 92)", "rgba(194,71,92,0.4)", "#c2475c", " #C2475C "]
)
def test_colors_as_users_write_them(text: str) -> None:
    assert parse_color(text, "x") == (194, 71, 92)


@pytest.mark.parametrize("text", ["#12", "300,0,0", "no such colour"])
def test_wrong_color_names_class_and_remedy(text: str) -> None:
    style = Style((ClassInfo(name="Fakes", color=text),))
    with pytest.raises(ConfigError, match=r"'Fakes'.*leave it out"):
        style.color(0)


def test_default_colors_are_the_colour_blind_safe_ones() -> None:
    style = Style(tuple(ClassInfo(name=str(i)) for i in range(6)))
    assert [style.color(i) for i in range(6)] == [parse_color(c, "") for c in PALETTE_6]


def test_conditions() -> None:
    classes = (ClassInfo(name="a"),)
    assert conditions(Style(classes)) == ""
    assert conditions(Style(classes, luminosity=137.6)) == "138 fb<sup>−1</sup>"
    assert conditions(Style(classes, center_of_mass_energy=13.6)) == "√s = 13.6 TeV"


def test_step_points() -> None:
    x, y = step_points([0, 1, 3], [5, 7])
    assert x.tolist() == [0, 1, 1, 3]
    assert y.tolist() == [5, 5, 7, 7]


def test_swarm_and_ranks() -> None:
    offsets = swarm(np.array([0.0, 0.0, 0.0, 1.0]))
    assert len(set(offsets[:3])) == 3
    assert np.abs(offsets).max() <= 0.4
    assert ranks(np.array([3.0, 1.0, 3.0, np.nan])).tolist() == [1, 0, 1, 0.5]
