"""What the figures of systematic variations hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
from evaluations import make_evaluation

from utils.results.evaluation import Evaluation
from utils.results.plotting import Style, figures
from utils.results.plotting.labels import signed_percent


def of_variations(drawn: dict[str, go.Figure]) -> dict[str, go.Figure]:
    return {
        k.removeprefix("variations/"): f for k, f in drawn.items() if k.startswith("variations/")
    }


def test_each_variation_has_the_figures_of_its_kind(drawn: dict[str, go.Figure]) -> None:
    assert list(of_variations(drawn)) == [
        *("variations_roc_auc_macro", "variations_log_loss", "variations_yields"),
        *("variation_tauES_1", "migration_tauES_up", "migration_tauES_down", "drivers_tauES"),
        *("variation_btag_1", "variation_tune_1"),
    ]


def test_changes_stand_beside_each_other(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    figure = of_variations(drawn)["variations_roc_auc_macro"]
    assert figure.layout.yaxis.ticktext == ("tauES", "btag", "tune")
    assert evaluation.variations is not None
    up = [s.macro.value for s in evaluation.variations.shifts if s.direction == "Up"]
    [trace] = [t for t in figure.data if t.name == "up"]
    np.testing.assert_allclose(trace.x, up, rtol=1e-6)


def test_the_matrix_of_yields_is_in_percent(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    figure = of_variations(drawn)["variations_yields"]
    assert figure.layout.yaxis.ticktext == ("tauESUp", "tauESDown", "btagUp", "tuneUp")
    assert evaluation.variations is not None
    expected = [100 * s.yields.relative.value for s in evaluation.variations.shifts]
    np.testing.assert_allclose(figure.data[0].marker.color, np.ravel(expected), rtol=1e-5)
    assert figure.data[0].text[0] == signed_percent(expected[0][0] / 100)


def test_ratios_are_shifted_over_nominal(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    figure = of_variations(drawn)["variation_btag_1"]
    assert evaluation.variations is not None
    [effect] = evaluation.variations.of("btag")
    lines = [t for t in figure.data if t.name == "up" and t.mode == "lines"]
    assert len(lines) == 2 * 3
    for c, density in enumerate(effect.densities):
        top, ratio = (t for t in lines if t.xaxis in (f"x{c + 1}".rstrip("1") or "x", f"x{c + 4}"))
        np.testing.assert_allclose(top.y, np.repeat(density.shifted, 2), rtol=1e-5)
        np.testing.assert_allclose(ratio.y, np.repeat(density.ratio, 2), rtol=1e-5)


def test_what_enters_and_leaves_has_a_row_and_a_column(drawn: dict[str, go.Figure]) -> None:
    figure = of_variations(drawn)["migration_tauES_down"]
    assert figure.layout.xaxis.ticktext[-1] == "not selected"
    assert len(figure.data[0].x) == 16


def test_two_classes_have_one_panel_above_its_ratio() -> None:
    evaluation = make_evaluation(("signal", "background"))
    drawn = of_variations(figures(evaluation, Style(evaluation.classes)))
    assert {"xaxis", "xaxis2"} <= set(drawn["variation_tauES_1"].layout.to_plotly_json())
    assert "xaxis3" not in drawn["variation_tauES_1"].layout.to_plotly_json()


def test_without_variations_there_is_no_figure(evaluation: Evaluation) -> None:
    plain = replace(evaluation, variations=None)
    assert not of_variations(figures(plain, Style(evaluation.classes)))
