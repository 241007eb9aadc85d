"""A run's description says what the run holds, and keeps what its user wrote."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import make_evaluation
from scored_files import weighted_recipe

from utils.formats.runs import Run
from utils.results.description import END, describe, headline, keep_current
from utils.results.metrics.naming import flat_metrics, short_metrics
from utils.schema import ClassInfo


@dataclass(frozen=True)
class Noted(Run):
    """A run of a local store whose description is kept here."""

    written: list[str] = field(default_factory=list)

    def note(self) -> str:
        return self.written[-1] if self.written else ""

    def write_note(self, text: str) -> None:
        self.written.append(text)

    def log_metrics(self, *_: Any) -> None:
        pass


@pytest.fixture
def run(tmp_path: Path) -> Noted:
    made = Noted("abc", "0", tmp_path.as_uri())
    recipe = replace(
        weighted_recipe(),
        classes=(ClassInfo(name="H_sig"), ClassInfo(name="t|t<b>")),
        features=("pt_1", "m_sv"),
        analysis={"analysis_name": "bbH", "year": "2018"},
        training={"signal_classes": ["H_sig"]},
        models=({"index": 0, "n_train": 1234}, {"index": 1, "n_train": 1200}),
    )
    made.__dict__["recipe"] = recipe
    return made


def test_it_says_what_was_trained_evaluated_and_predicted(run: Noted, tmp_path: Path) -> None:
    keep_current(run)
    trained = run.note()
    assert trained.startswith("**bbH 2018** · 2 cross-trained models")
    assert "- **2 classes:** H\\_sig (signal), t\\|t\\<b\\>" in trained
    assert "- **2 features:** pt\\_1, m\\_sv" in trained
    assert "1,234, 1,200" in trained
    assert "Evaluation of" not in trained
    evaluation = make_evaluation(("signal", "background"))
    for name in ("report.html", "test.parquet"):
        (tmp_path / name).write_text("made")
    about = {
        "dataset": "test",
        "metrics": flat_metrics(evaluation),
        "headline": headline(evaluation),
    }
    run.publish({"plots/test/report.html": tmp_path / "report.html"}, about)
    run.publish({"pred/test.parquet": tmp_path / "test.parquet"}, {})
    keep_current(run)
    said = run.note()
    assert evaluation.scores
    area = evaluation.scores[0].roc_auc_macro
    row = f"| ROC AUC of signal | **{area.value:.4f}** | {area.low:.4f} to {area.high:.4f} |"
    assert row in said
    assert "**Evaluation of test**, 400 events" in said
    assert "#/experiments/0/runs/abc/artifacts/plots/test/report.html" in said
    assert "**Tables** in `pred/`: test" in said
    assert evaluation.over_training is not None
    assert evaluation.over_training.verdict.split(";")[0][:40] in said.replace("\\", "")


def test_words_of_the_user_stay(run: Noted) -> None:
    run.write_note("my own words")
    keep_current(run)
    assert run.note() == f"{describe(run)}\n\nmy own words\n"
    run.write_note(run.note() + "and more")
    keep_current(run)
    keep_current(run)
    assert run.note().partition(END)[2].split("\n") == ["", "", "my own words", "and more", ""]


def test_short_names_are_those_of_the_long_ones() -> None:
    evaluation = make_evaluation()
    long, short = flat_metrics(evaluation), short_metrics(evaluation)
    assert short == {
        "auc_test": long["test/roc_auc_macro"],
        "log_loss_test": long["test/log_loss"],
        "significance_test": long["test/significance/combined_uncertain"],
    }
