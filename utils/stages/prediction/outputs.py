"""What a kind of output is, and how the outputs of any kind are written and logged.

A kind is one module with a class like `OutputKind`, and one line of `OUTPUT_KINDS` (`__init__.py`).
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from utils.columns.arrays import Floats
from utils.columns.audit import LeakAudit, ModelAudit, merge_audits
from utils.formats.manifests import manifest_of
from utils.formats.runs import Run
from utils.schema import PROJECT, PredictConfig, RunError, short_name
from utils.stages.prediction.rows import InputRows, RowSource
from utils.stages.prediction.scorer import Scorer
from utils.system import units
from utils.system.engine import Engine, progress
from utils.system.files import scratch, writing
from utils.system.threads import ahead
from utils.system.units import UnitOfWork

log = logging.getLogger(__name__)


class Scored(NamedTuple):
    """A range of rows with their scores `(n, n_classes)`, NaN where a cut removed the row.

    `shifted` are the scores under each shift, by suffix.
    """

    rows: InputRows
    scores: Floats
    shifted: Mapping[str, Floats]


class Moved:
    """Counts the rows of which each shift moves a score: one that moves none is told."""

    def __init__(self) -> None:
        self._n_rows: dict[str, int] = {}

    def add(self, scored: Scored) -> None:
        for suffix, scores in scored.shifted.items():
            differ = (scores != scored.scores) & ~(np.isnan(scores) & np.isnan(scored.scores))
            moved = int(np.count_nonzero(differ.T.copy().any(axis=0)))  # quicker by class
            self._n_rows[suffix] = self._n_rows.get(suffix, 0) + moved

    @property
    def n_rows(self) -> Mapping[str, int]:
        """The rows of which each shift moves a score, by suffix."""
        return self._n_rows

    @property
    def notes(self) -> list[str]:
        idle = [suffix for suffix, moved in self._n_rows.items() if not moved]
        return [f"{', '.join(idle)}: no score is moved"] if idle else []


@dataclass(frozen=True)
class Outcome:
    """A written output: files by their names in the run, its entry in the manifest, log lines."""

    files: Mapping[str, Path]
    entry: Mapping[str, Any]
    said: Sequence[str]
    written: Sequence[tuple[int, int]] = ()
    """Size and time of each file when it had got its name."""


class Output(Protocol):
    """Something to be written of the rows of one source."""

    @property
    def source(self) -> RowSource: ...

    @property
    def lasting(self) -> Sequence[Path]:
        """The files that stay where the output writes them, beside the copies in the run."""

    def written(self, scorer: Scorer, scored: Iterable[Scored]) -> AbstractContextManager[Outcome]:
        """Write all rows in order and prove what was written; provide the outcome.

        The files get their names at the end of the block; after an error in it nothing is left.
        Raises ProofError where the output is not what it should be.
        """


@dataclass(frozen=True)
class Task:
    """Outputs that are complete together or absent: those of a sample, or one table."""

    name: str
    scorer: Scorer
    outputs: Sequence[Output]

    def __str__(self) -> str:
        return self.name

    def given(self, n_threads: int, memory: int | None) -> Task:
        """Return the task with what there is for it."""
        return replace(self, scorer=replace(self.scorer, n_threads=n_threads, memory=memory))

    @property
    def n_rows(self) -> int:
        return sum(output.source.span.size for output in self.outputs)


class OutputKind(Protocol):
    """A kind of output, made from a PredictConfig and a Scorer.

    `name` and `datasets`, what was asked for, make the name of the table of its audit.
    """

    name: str
    datasets: Sequence[str]

    @property
    def folder(self) -> Path | None:
        """The user's folder that outputs go to; None where the run alone gets them."""

    def tasks(self, scratch: Path, /) -> list[Task]:
        """Return what is to be written; `scratch` is for files that are for the run alone.

        Everything is checked against the run's recipe here, before any work.
        """

    def summary(self, n_outputs: int) -> str:
        """Return the last line of the log."""

    def next_commands(self, run: Run, prefix: str) -> Sequence[str]:
        """Return the commands that come next, ids filled in, to paste."""


def publish(run: Run, config: PredictConfig, kind: OutputKind, workers: Engine) -> list[str]:
    """Write all outputs that are asked for and not done already; publish each under `pred/`.

    Returns where they are: in the folder of the user's where they went to one, else in the run.
    """
    # Workers elsewhere need a folder that they share with this process.
    with scratch(None if workers.shares_memory else PROJECT / "outputs") as temporary:
        # The largest first: begun last, it would be worked on alone at the end.
        tasks = sorted(kind.tasks(temporary), key=lambda task: task.n_rows, reverse=True)
        # Of the inputs as they are now: what changes during the work is not what it was made of.
        unit_of = {task.name: _unit(run, config, task) for task in tasks}
        known = [_recalled(run, config, unit_of[task.name]) for task in tasks]
        audits = [audit for audit in known if audit is not None]
        left = [task for task, audit in zip(tasks, known, strict=True) if audit is None]
        n_threads, n_written = workers.threads(len(left)), 0
        left = [task.given(n_threads, workers.memory) for task in left]
        with progress(sum(t.n_rows for t in left), "events", "predicting") as bar:
            places = (path for task in left for out in task.outputs for path in out.lasting)
            done = workers.map(write, left, {path.parent for path in places})
            for task, (outcomes, audit) in zip(left, done, strict=True):
                for line in (line for outcome in outcomes for line in outcome.said):
                    log.info("%s", line)
                _publish(run, unit_of[task.name], outcomes, audit)
                audits.append(audit)
                n_written += len(outcomes)
                bar.update(task.n_rows)
        audit = merge_audits(audits)
        log.info("%s", audit.summary)
        name = short_name("_".join([kind.name, *sorted(kind.datasets)]))
        run.publish(_described(temporary / f"audit_{name}.csv", audit))
    if n_written:
        log.info("%s", kind.summary(n_written))
    return [where for task in tasks for where in _places(run, unit_of[task.name])]


def _places(run: Run, unit: UnitOfWork) -> list[str]:
    """Return where the outputs of a task that is done are."""
    return [str(path) for path in unit.files] or [
        run.address(path) for path in units.result_of(unit)["published"]
    ]


def _unit(run: Run, config: PredictConfig, task: Task) -> UnitOfWork:
    """Return the unit that a task does."""
    stated = config.model_dump(mode="json", by_alias=True)
    configuration = {k: v for k, v in stated.items() if k not in _OF_NO_ROW}
    return UnitOfWork(
        name=task.name,
        key=f"{config.kind} {run.run_id} {task.name} {config.output_path}",
        step="utils.stages.prediction",
        inputs=[task.scorer.recipe.to_json(), [output.source.inputs for output in task.outputs]],
        configuration=configuration,
        files=[path for output in task.outputs for path in output.lasting],
    )


_OF_NO_ROW = {"engine", "chunk_size", "sample_names", "run_id", "experiment_id", "year"}
"""Keys that the outputs of one task do not follow from."""


def _recalled(run: Run, config: PredictConfig, unit: UnitOfWork) -> LeakAudit | None:
    """Return the audit of a task that is done, its files and publications intact; else None."""
    known = units.recall(unit, config.force)
    if known is None:
        return None
    for path in known["published"]:
        manifest = run.manifest(manifest_of(path))
        if manifest is None or manifest.about.get("unit") != unit.fingerprint:
            log.info("%s: done again, the run has it no more, or another", unit.name)
            return None
        try:
            run.artifact(path, unit.name)
        except RunError as error:
            log.info("%s: done again: %s", unit.name, error)
            return None
    return LeakAudit("prediction", tuple(ModelAudit(**model) for model in known["audit"]))


def _publish(run: Run, unit: UnitOfWork, outcomes: Sequence[Outcome], audit: LeakAudit) -> None:
    """Publish the outputs of a task in the run, and remember that it is done.

    Raises RunError where another command has put its own in the place of one since it was written.
    """
    passed = audit.passed if audit.verdict != "compared nothing" else None
    published: list[str] = []
    for outcome in outcomes:
        for path, written in zip(outcome.files.values(), outcome.written, strict=True):
            if _size_and_time(path) != written:
                raise RunError(
                    f"{path} was replaced by another command before run {run.run_id} had it: give "
                    "each run an output_path of its own, and run this command again"
                )
        named = {f"pred/{name}": path for name, path in outcome.files.items()}
        said = {**outcome.entry, "audit_passed": passed, "unit": unit.fingerprint}
        run.publish(named, said)
        published += list(named)
    models = [{name: int(count) for name, count in vars(m).items()} for m in audit.models]
    units.record(unit, {"published": published, "audit": models})


def write(task: Task) -> tuple[list[Outcome], LeakAudit]:
    """Score and write the outputs of a task; only when all are proved do they have their names.

    Raises RunError where the audit finds an event that its own model was trained on.
    """
    audits: list[LeakAudit] = []
    with ExitStack() as until_all_are_proved:
        outcomes = [
            until_all_are_proved.enter_context(
                output.written(task.scorer, _scored(task.scorer, output.source, audits))
            )
            for output in task.outputs
        ]
        audit = merge_audits(audits)
        if not audit.passed:
            raise RunError(f"{task}: {audit.summary}: nothing of it is written")
    # Other samples may take hours before these are published: what lies there then must be these.
    stamps = [list(map(_size_and_time, outcome.files.values())) for outcome in outcomes]
    return [replace(o, written=s) for o, s in zip(outcomes, stamps, strict=True)], audit


def _size_and_time(path: Path) -> tuple[int, int]:
    """Return size and time of the file that opening gives: on a shared disk `stat` may be late."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _scored(scorer: Scorer, source: RowSource, audits: list[LeakAudit]) -> Iterator[Scored]:
    """Yield rows with their scores, made ahead of what is done with them; collect their audits."""
    of_source = source.within(scorer.memory).rows(scorer.models.rule)
    for scored, audit in ahead(_score(scorer, rows) for rows in of_source):
        audits.append(audit)
        yield scored


def _score(scorer: Scorer, rows: InputRows) -> tuple[Scored, LeakAudit]:
    scores = scorer.scores(rows)
    return Scored(rows, scores, scorer.shifted_scores(rows, scores)), scorer.audit(rows)


def _described(table: Path, audit: LeakAudit) -> dict[str, Path]:
    """Write the audit of all rows of a prediction to a table, and return it as an artifact."""
    rows = audit.to_rows()
    with writing(table), table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {f"pred/{table.name}": table}
