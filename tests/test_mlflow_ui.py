"""An evaluated run in a started `mlflow ui`, looked at with a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from evaluations import make_evaluation
from servers import mlflow

from utils.formats import runs
from utils.results.metrics.naming import flat_metrics
from utils.results.plotting import Style, figures
from utils.results.report import write_html, write_report

FIGURE = "performance/roc_balanced"


@dataclass(frozen=True)
class Shown:
    """A run with an evaluation, its metrics, and the address of the UI that shows it."""

    run_id: str
    metrics: dict[str, float]
    n_figures: int
    address: str

    def artifact(self, path: str) -> str:
        return f"{self.address}/#/experiments/0/runs/{self.run_id}/artifacts/{path}"


@pytest.fixture(scope="module")
def shown(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """Log an evaluation as evaluate.py does, and start the UI on its store."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(folder)
        client = runs.client()
        run = runs.open_run(client.create_run("0", run_name="evaluated").info.run_id)
        evaluation = make_evaluation(("signal", "background"))
        style = Style(evaluation.classes)
        drawn = figures(evaluation, style)
        report = write_report(
            folder / "report.html", evaluation, style, drawn, title="toy", recipe={}, audit=None
        )
        single = write_html(drawn[FIGURE], folder / "roc_balanced.html", FIGURE)
        run.publish({f"plots/test/{path.name}": path for path in (single, report)})
        metrics = flat_metrics(evaluation)
        run.log_metrics(metrics)
    with mlflow("ui", folder, "--backend-store-uri", uri) as address:
        yield Shown(run.run_id, metrics, len(drawn), address)


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """One page for all tests: the UI's own code is loaded once."""
    opened = browser.new_page()
    yield opened
    opened.close()


def test_the_runs_page_shows_its_metrics(page: Any, shown: Shown) -> None:
    page.goto(f"{shown.address}/#/experiments/0/runs/{shown.run_id}")
    page.get_by_text("test/roc_auc_macro", exact=True).first.wait_for()
    rows = page.locator("[role=row]")
    row = rows.filter(has=page.get_by_text("test/roc_auc_macro", exact=True)).first
    value = float(row.inner_text().split()[-1])
    assert value == pytest.approx(shown.metrics["test/roc_auc_macro"], rel=1e-4)


@pytest.mark.parametrize("name", ["report.html", "roc_balanced.html"])
def test_artifact_viewer_draws_every_figure(page: Any, shown: Shown, name: str) -> None:
    said: list[str] = []

    def listen(message: Any) -> None:
        # What the UI itself complains of, at its own address, is not ours.
        if not message.location.get("url", "").startswith(shown.address):
            said.append(f"{message.type}: {message.text}")

    page.on("console", listen)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto("about:blank")  # another fragment alone would not choose another file
    page.goto(shown.artifact(f"plots/test/{name}"))
    inner = page.frame_locator("iframe")
    wanted = shown.n_figures if name == "report.html" else 1
    inner.locator(f"body[data-drawn='{wanted}']").wait_for()
    assert inner.locator(".plot").count() == wanted
    assert inner.locator(".plot:has(.main-svg)").count() == wanted
    assert inner.get_by_text("could not be drawn").count() == 0
    assert said == []
