"""The report: numbers, reasons and the recipe, the same for the same input."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from evaluations import make_evaluation
from reports import NAMES, make_report

from utils.results.evaluation import Evaluation, evaluate
from utils.results.events import EvaluationTable
from utils.results.metrics.comparison import Comparison
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


HOSTILE = "=<img src=x onerror=alert(1)>\"'&%{x}"


class Tags(HTMLParser):
    """Counts the tags of a page, and holds what attributes say."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}


def hostile_report(path: Path, text: str) -> str:
    """Return a report in which every text that comes from a file is `text`."""
    names = tuple(f"{text} {i}" for i in range(2))
    classes = tuple(ClassInfo(name=name, label=name) for name in names)
    made = make_evaluation(names)
    compared = replace(
        made.comparison or Comparison(text, text, text, 1, (), text), a=text, b=text, verdict=text
    )
    evaluation = replace(
        made,
        dataset=text,
        classes=classes,
        gaps={f"roc/{text}": text},
        learning_curves=made.learning_curves and replace(made.learning_curves, metric=text),
        importances=tuple(replace(i, features=(text, "x"), unit=text) for i in made.importances),
        features=tuple(replace(f, name=text) for f in made.features),
        profiles=tuple(replace(p, feature=text) for p in made.profiles),
        comparison=compared,
    )
    style = Style(classes, experiment_text=text, feature_labels={text: text})
    nested = {text: [text, {text: text}]}
    page = write_report(
        path,
        evaluation,
        style,
        figures(evaluation, style),
        title=text,
        recipe=nested,
        audit=[nested],
    )
    return page.read_text()


def test_texts_from_files_are_texts_in_the_report(tmp_path: Path) -> None:
    plain, hostile = (
        Tags(re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL))
        for page in (
            hostile_report(tmp_path / "a.html", "plain"),
            hostile_report(tmp_path / "b.html", HOSTILE),
        )
    )
    assert hostile.tags == plain.tags
    assert hostile.attributes == plain.attributes


def test_texts_from_files_are_texts_in_figures() -> None:
    """Plotly shows a few tags and replaces %{...}: neither may come from a name."""
    names = (HOSTILE, HOSTILE + "2")
    style = Style(
        tuple(ClassInfo(name=name, label=name) for name in names),
        experiment_text=HOSTILE,
        feature_labels={"m_sv": HOSTILE, "njets": HOSTILE},
        stacked=True,
    )
    for key, figure in figures(make_evaluation(names), style).items():
        shown = json.loads(figure.to_json())
        del shown["layout"]["meta"]  # plain text, escaped where it is shown
        text = json.dumps(shown)
        assert "<img" not in text, key
        assert "%{x}&" not in text, key


def test_missing_audit_is_said(evaluation: Evaluation, tmp_path: Path) -> None:
    path = write_report(
        tmp_path / "r.html", evaluation, Style(evaluation.classes), {}, title="t", recipe={},
        audit=None,
    )  # fmt: skip
    assert path.read_text().count("Nothing was recorded.") == 2
