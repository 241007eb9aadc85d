"""Pages in a real browser: every figure is drawn, offline, and answers the pointer."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs_version
from reports import NAMES, make_report

from utils.results.evaluation import Evaluation
from utils.results.metrics.correlations import Correlations
from utils.results.plotting import Style, figures
from utils.results.report import skeleton, write_html


def open_page(browser: Any, url: str) -> tuple[Any, list[str]]:
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: said.append(request.url) if "http" in request.url else None)
    page.goto(url)
    page.wait_for_function("document.body.dataset.drawn")
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


def test_the_library_draws_what_figures_are_made_of(drawn: dict[str, go.Figure]) -> None:
    assert {trace.type for figure in drawn.values() for trace in figure.data} <= skeleton.TRACES
    # Figures are written for the plotly.js that plotly itself brings: the bundle is that version.
    begin = gzip.decompress(skeleton.LIBRARY.read_bytes())[:200].decode()
    assert f"plotly.js (basic - minified) v{get_plotlyjs_version()}\n" in begin
    assert "MIT license" in begin


def test_figures_in_sight_are_there_when_the_page_has_loaded(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.set_viewport_size({"width": 1700, "height": 2600})
    page.add_init_script(
        "window.addEventListener('load', () => { window.seen = [...document.querySelectorAll("
        "'.plot')].filter((p) => p.getBoundingClientRect().top < innerHeight)"
        ".map((p) => p.querySelectorAll('.main-svg').length > 0); });"
    )
    page.goto(report.as_uri())
    seen = page.evaluate("window.seen")
    assert len(seen) >= 2
    assert all(seen)
    page.close()


@pytest.mark.parametrize(("width", "is_open"), [(480, False), (1700, True)])
def test_a_report_scrolls_one_way_and_begins_with_numbers(
    browser: Any, report: Path, width: int, is_open: bool
) -> None:
    page = browser.new_page()
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(report.as_uri())
    page.wait_for_function("document.body.dataset.drawn")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    sideways = "[...document.querySelectorAll('*')].filter((e) => e.scrollWidth > e.clientWidth + 1"
    sideways += " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).length"
    assert page.evaluate(sideways) == 0
    assert page.evaluate("document.querySelector('nav > details').open") is is_open
    assert page.locator(".card").first.bounding_box()["y"] < 300
    lefts = {round(box["x"]) for box in (f.bounding_box() for f in page.locator("figure").all())}
    assert len(lefts) > 1 or not is_open  # side by side where there is room
    page.close()


def test_contents_open_when_the_page_becomes_wide(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.set_viewport_size({"width": 480, "height": 800})
    page.goto(report.as_uri())
    page.wait_for_function("!document.querySelector('nav > details').open")
    page.set_viewport_size({"width": 1700, "height": 800})
    page.wait_for_function("document.querySelector('nav > details').open")
    assert page.locator("nav a[href='#recipe']").is_visible()
    page.set_viewport_size({"width": 480, "height": 800})
    page.wait_for_function("!document.querySelector('nav > details').open")
    page.close()


def test_buttons_cover_no_text(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.set_viewport_size({"width": 1300, "height": 900})
    page.goto(report.as_uri())
    page.wait_for_function("document.body.dataset.drawn")
    covered = """[...document.querySelectorAll('.plot')].filter((plot) => {
        const bar = plot.querySelector('.modebar').getBoundingClientRect();
        return [...plot.querySelectorAll('text')].some((text) => {
            const box = text.getBoundingClientRect();
            return box.width && box.left < bar.right && box.right > bar.left
                && box.top < bar.bottom && box.bottom > bar.top;
        });
    }).length"""
    assert page.evaluate(covered) == 0
    page.close()


@pytest.mark.parametrize("width", [1280, 420])
def test_a_matrix_tells_the_value_under_the_pointer(
    browser: Any, evaluation: Evaluation, tmp_path: Path, width: int
) -> None:
    names = ("m_sv", "m_vis", "njets")
    matrix = np.array([[1, 0.25, -0.5], [0.25, 1, 0.75], [-0.5, 0.75, 1]])
    correlated = replace(evaluation, correlations=Correlations(names, matrix, {0: matrix}))
    style = Style(evaluation.classes)
    drawn = figures(correlated, style)
    [key] = (k.split("/")[1] for k in drawn if k.startswith("model/correlations_"))
    figure = drawn[f"model/{key}"]
    page, said = open_page(browser, write_html(figure, tmp_path / "c.html", key).as_uri())
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(100)
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
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(frame.as_uri())
    inner = page.frame_locator("iframe")
    inner.locator(f"body[data-drawn='{len(few)}']").wait_for()
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
