"""The report: numbers, reasons and the recipe, the same for the same input."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from reports import NAMES, make_report

from utils.results.evaluation import Evaluation, evaluate
from utils.results.events import EvaluationTable
from utils.results.options import EvaluationOptions
from utils.results.plotting import Style, figures
from utils.results.report import write_report
from utils.schema import ClassInfo


def test_same_input_same_page(
    report: Path, evaluation: Evaluation, drawn: dict[str, go.Figure], tmp_path: Path
) -> None:
    again = make_report(tmp_path / "again.html", evaluation, drawn)
    assert again.read_bytes() == report.read_bytes()


def test_report_holds_numbers_reasons_and_recipe(report: Path, evaluation: Evaluation) -> None:
    text = report.read_text()
    assert len(text) < 5_000_000 + 2_000_000
    area = evaluation.scores[0].roc_auc_macro
    assert f"{area.value:.2f}" in text
    for reason in evaluation.gaps.values():
        assert reason.replace("'", "&#x27;") in text
    assert "m_&lt;sv&gt;" in text
    assert "toy &lt;2018&gt;" in text
    assert text.count('id="plotly"') == 1
    assert "</script><b>" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_sections_that_were_not_asked_for_are_one_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    table = EvaluationTable(
        classes=tuple(ClassInfo(name=name) for name in NAMES),
        proba=rng.dirichlet(np.ones(3), 60),
        target=rng.integers(0, 3, 60),
        fold=np.zeros(60, int),
    )
    some = evaluate(table, EvaluationOptions(n_bootstrap=5, sections=("roc", "scores")))
    style = Style(some.classes)
    drawn = figures(some, style)
    assert {key.split("/")[0] for key in drawn} == {"performance", "certainty"}
    text = make_report(tmp_path / "report.html", some, drawn).read_text()
    (sentence,) = re.findall(r"Not asked for: ([a-z ,]+)\.", text)
    names = sentence.split(", ")
    assert {"densities", "confusion", "precision recall"} <= set(names)
    assert not {"roc", "scores"} & set(names)
    assert text.count("ot asked for") == 1


def test_missing_audit_is_said(evaluation: Evaluation, tmp_path: Path) -> None:
    path = write_report(
        tmp_path / "r.html", evaluation, Style(evaluation.classes), {}, title="t", recipe={},
        audit=None,
    )  # fmt: skip
    assert path.read_text().count("Nothing was recorded.") == 2
