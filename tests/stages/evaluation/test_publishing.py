"""What an evaluation leaves in its run: all of one evaluation, its manifest, then its metrics."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.formats.runs import Run
from utils.results.evaluation import evaluate
from utils.results.events import EvaluationTable
from utils.results.metrics.comparison import compare
from utils.results.options import EvaluationOptions
from utils.results.report import PdfWriter
from utils.schema import AnalysisConfig, ClassInfo, EvaluateConfig, FoldRule, Recipe, RunError, load
from utils.stages.evaluation.numbers import Evaluated
from utils.stages.evaluation.publishing import publish

OPTIONS = EvaluationOptions(n_bootstrap=5, sections=("confusion", "comparison"))


class Papers(PdfWriter):
    """Writes a line for each figure, at once, and remembers which."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def write(self, figure: Any, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a figure")
        self.drawn.append(path.name)

    def finish(self) -> None:
        pass


@dataclass(frozen=True)
class LocalRun(Run):
    """A run of a local store that remembers which artifacts there were when metrics came."""

    seen: list[list[str]] = field(default_factory=list)

    def connect(self) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], gone: Collection[str] = ()) -> None:
        assert metrics["test/n_events"] == 60
        self.seen.append(self.artifacts("plots/test"))


@pytest.fixture
def run(tmp_path: Path) -> LocalRun:
    return LocalRun("run", "0", tmp_path.as_uri())


def evaluated(compared: bool) -> Evaluated:
    rng = np.random.default_rng(1)
    classes = (ClassInfo(name="a"), ClassInfo(name="b"))
    target, fold = rng.integers(0, 2, 60), np.zeros(60, int)
    one, other = (
        EvaluationTable(classes, rng.dirichlet([1, 1], 60), target, fold) for _ in range(2)
    )
    comparison = compare(one, other, OPTIONS) if compared else None
    nothing: dict[str, Any] = {}
    recipe = Recipe(
        analysis=nothing, training=nothing, classes=(), features=(),
        pipeline={"fingerprint": ""}, fold=FoldRule("entry", (), 2), weight="weight",
        objective="multiclass", models=(), samples=(), files=(), skims={"train": "train.h5"},
        audit=(), audit_passed=True,
    )  # fmt: skip
    result = evaluate(one, OPTIONS, comparison=comparison)
    return Evaluated(result, recipe, load(AnalysisConfig, nothing))


def listed(run: LocalRun) -> set[str]:
    manifest = run.artifact("plots/test/manifest.json", "manifest")
    return set(json.loads(manifest.read_text())["files"])


def there(run: LocalRun) -> set[str]:
    folders = ("plots/test", "plots/test/pdf")
    return {p for f in folders for p in run.artifacts(f)} - {"plots/test/pdf"}


def test_figures_of_an_earlier_evaluation_go_and_others_stay(run: LocalRun) -> None:
    config = EvaluateConfig(run_id="run")
    publish(run, config, evaluated(compared=True), Papers(), {})
    first = listed(run)
    assert any("comparison_" in name for name in first)
    other = run.artifact("plots/test/report.html", "report").parent / "mine.pdf"
    other.write_text("what someone put there")
    publish(run, config, evaluated(compared=False), Papers(), {})
    second = listed(run)
    assert second == {name for name in first if "comparison_" not in name}
    assert there(run) == second | {"plots/test/manifest.json", "plots/test/mine.pdf"}


def test_metrics_follow_the_manifest(run: LocalRun) -> None:
    publish(run, EvaluateConfig(run_id="run"), evaluated(compared=False), Papers(), {})
    [seen] = run.seen
    assert "plots/test/manifest.json" in seen


def test_an_interrupted_evaluation_keeps_the_earlier_figures(run: LocalRun) -> None:
    config = EvaluateConfig(run_id="run")
    publish(run, config, evaluated(compared=True), Papers(), {})
    first = listed(run)

    class Broken(Papers):
        def finish(self) -> None:
            raise RunError("no PDFs")

    with pytest.raises(RunError, match="no PDFs"):
        publish(run, config, evaluated(compared=False), Broken(), {})
    assert there(run) == first | {"plots/test/manifest.json"}


def test_a_manifest_that_cannot_be_read_is_told(run: LocalRun) -> None:
    config = EvaluateConfig(run_id="run")
    publish(run, config, evaluated(compared=False), Papers(), {})
    run.artifact("plots/test/manifest.json", "manifest").write_text("[]")
    with pytest.raises(RunError, match=r"manifest\.json of run run can't be read"):
        publish(run, config, evaluated(compared=False), Papers(), {})


def test_a_pdf_is_drawn_again_only_where_its_figure_changed(run: LocalRun) -> None:
    def drawn(compared: bool = False, **changes: Any) -> list[str]:
        papers, found = Papers(), evaluated(compared)
        analysis = found.analysis.model_copy(update=changes)
        publish(run, EvaluateConfig(run_id="run"), replace(found, analysis=analysis), papers, {})
        assert {Path(p).name for p in listed(run)} >= {*papers.drawn}
        for name in listed(run):
            if name.endswith(".pdf"):
                assert run.artifact(name, "figure").read_text() == "a figure"
        return sorted(papers.drawn)

    every = drawn()
    assert every
    assert drawn() == []
    assert drawn(experiment_text="CMS") == every
    others = drawn(compared=True, experiment_text="CMS")
    assert others
    assert set(others).isdisjoint(every)
    place = run.artifact(next(p for p in listed(run) if p.endswith(every[0])), "figure")
    place.write_text("damaged")
    assert drawn(experiment_text="CMS") == every[:1]
