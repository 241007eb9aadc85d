"""Files of figures: pages in a real browser, vector PDFs, and the report."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from utils.results.containers import Correlations, Evaluation, EvaluationOptions, EvaluationTable
from utils.results.metrics.sections import evaluate

from utils.results.plotting import Style, figures
from utils.results.report import pdf, write_figures, write_html, write_pdf, write_pdfs, write_report
from utils.schema import ClassInfo, PipelineError

NAMES = ("</script><b>S&B", "$x_{1}$ → τ", "other")


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    rng = np.random.default_rng(3)
    target = rng.integers(0, 3, 300)
    proba = rng.dirichlet(np.ones(3), 300)
    table = EvaluationTable(
        classes=tuple(ClassInfo(name=name) for name in NAMES),
        proba=proba,
        target=target,
        fold=rng.integers(0, 2, 300),
        features={"m_sv": rng.gamma(4, 25, 300)},
        n_folds=2,
    )
    return evaluate(table, EvaluationOptions(n_bootstrap=5, n_permutations=5))


@pytest.fixture(scope="module")
def drawn(evaluation: Evaluation) -> dict[str, go.Figure]:
    return figures(evaluation, Style(evaluation.classes))


def make_report(path: Path, evaluation: Evaluation, drawn: dict[str, go.Figure]) -> Path:
    return write_report(
        path,
        evaluation,
        Style(evaluation.classes),
        drawn,
        title="toy <2018>",
        recipe={"run": "abc", "features": ["pt_1", "m_<sv>"], "parameters": {"seed": 1}},
        audit=[{"model": 0, "overlap": 0, "passed": True}],
    )


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> Path:
    return make_report(tmp_path_factory.mktemp("report") / "report.html", evaluation, drawn)


def open_page(browser: Any, url: str) -> tuple[Any, list[str]]:
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: said.append(request.url) if "http" in request.url else None)
    page.goto(url)
    page.wait_for_function("document.body.dataset.drawn", timeout=120_000)
    return page, said


def test_report_draws_every_figure_offline(
    browser: Any, report: Path, drawn: dict[str, go.Figure]
) -> None:
    page, said = open_page(browser, report.as_uri())
    assert said == []
    assert page.locator(".plot").count() == len(drawn)
    assert page.evaluate(
        "[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.main-svg'))"
    )
    assert page.locator("h1").inner_text() == "toy <2018>"
    assert NAMES[0] in page.locator("table").first.inner_text()
    page.close()


def test_legend_toggles_a_class_with_its_band(
    browser: Any, drawn: dict[str, go.Figure], tmp_path: Path
) -> None:
    key = "performance/roc_balanced"
    page, _ = open_page(browser, write_html(drawn[key], tmp_path / "roc.html", key).as_uri())
    plot = page.locator("#fig-performance-roc_balanced")
    visible = "document.getElementById('fig-performance-roc_balanced').data.map((t) => t.visible)"
    assert "legendonly" not in page.evaluate(visible)
    plot.locator(".legendtoggle").first.click()
    page.wait_for_function(f"{visible}.includes('legendonly')")
    assert page.evaluate(visible).count("legendonly") == 2
    page.close()


def test_a_matrix_tells_the_value_under_the_pointer(
    browser: Any, evaluation: Evaluation, tmp_path: Path
) -> None:
    names = ("m_sv", "m_vis", "njets")
    matrix = np.array([[1, 0.25, -0.5], [0.25, 1, 0.75], [-0.5, 0.75, 1]])
    correlated = replace(evaluation, correlations=Correlations(names, matrix, {0: matrix}))
    style = Style(evaluation.classes)
    key = "correlations_by_class_1"
    figure = figures(correlated, style)[f"model/{key}"]
    page, said = open_page(browser, write_html(figure, tmp_path / "c.html", key).as_uri())
    frame = page.locator(f"#fig-{key} .nsewdrag").first.bounding_box()
    # Near a corner of the square of row 2, column 1.
    page.mouse.move(frame["x"] + frame["width"] * 0.38, frame["y"] + frame["height"] * 0.95)
    page.wait_for_selector(".hoverlayer .hovertext")
    assert "m_vis, njets: 75.0 %" in (page.locator(".hoverlayer").text_content() or "")
    assert said == []
    page.close()


def test_contents_lead_to_sections_in_a_sandboxed_frame(
    browser: Any, evaluation: Evaluation, tmp_path: Path, drawn: dict[str, go.Figure]
) -> None:
    few = dict(list(drawn.items())[:2])
    report = make_report(tmp_path / "report.html", evaluation, few)
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe sandbox="allow-scripts" src="{report.as_uri()}" width="1400" height="900">'
    )
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(frame.as_uri())
    inner = page.frame_locator("iframe")
    inner.locator(f"body[data-drawn='{len(few)}']").wait_for(timeout=120_000)
    inner.locator("nav a[href='#recipe']").click()
    assert inner.locator("#recipe").bounding_box()["y"] < 900
    assert said == []
    page.close()


def test_single_figure_page(browser: Any, drawn: dict[str, go.Figure], tmp_path: Path) -> None:
    key = "performance/roc_balanced"
    path = write_html(drawn[key], tmp_path / "deep" / "roc.html", key)
    page, said = open_page(browser, path.as_uri())
    assert said == []
    assert page.locator(".main-svg").count() > 0
    assert "ROC" in page.title()
    page.close()
    assert list(path.parent.iterdir()) == [path]


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


def test_pdfs_are_vector_graphics(drawn: dict[str, go.Figure], tmp_path: Path) -> None:
    chosen = {k: drawn[k] for k in ("performance/roc_balanced", "failures/by_true_balanced")}
    paths = write_figures(chosen, tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in paths) == [
        "failures/by_true_balanced.html",
        "pdf/failures/by_true_balanced.pdf",
        "pdf/performance/roc_balanced.pdf",
        "performance/roc_balanced.html",
    ]
    for path in (p for p in paths if p.suffix == ".pdf"):
        data = path.read_bytes()
        assert data.startswith(b"%PDF")
        assert b"/Subtype /Image" not in data
        if shutil.which("pdftotext"):
            text = subprocess.run(
                ["pdftotext", str(path), "-"], capture_output=True, text=True, check=True
            ).stdout
            assert "$x_{1}$" in text


def test_silent_kaleido_is_given_up_with_one_line(
    drawn: dict[str, go.Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "CHILD", "import time; time.sleep(60)")
    target = tmp_path / "x.pdf"
    with pytest.raises(PipelineError, match=r"x\.pdf: kaleido gave no PDF in 4 attempts"):
        write_pdfs({target: drawn["performance/roc_balanced"]}, patience=0.02)
    assert not target.exists()


def test_broken_kaleido_is_named(
    drawn: dict[str, go.Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "CHILD", 'input(); print(\'{"error": "no library"}\')')
    with pytest.raises(PipelineError, match=r"y\.pdf: .*no library.*pinned kaleido"):
        write_pdf(drawn["performance/roc_balanced"], tmp_path / "y.pdf")
