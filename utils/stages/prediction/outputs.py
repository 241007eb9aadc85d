"""What a kind of output is, and how its tasks are written.

A kind is one module that implements this interface and one line of `publishing.OUTPUT_KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from utils.columns.arrays import Floats
from utils.columns.audit import LeakAudit, merge_audits
from utils.formats.runs import Run
from utils.schema import RunError
from utils.stages.prediction.rows import InputRows, RowSource
from utils.stages.prediction.scorer import Scorer
from utils.system.threads import ahead

Scored = tuple[InputRows, Floats]
"""A range of rows with their scores `(n, n_classes)`, NaN where a cut removed the row."""


@dataclass(frozen=True)
class Outcome:
    """A written output: files by their names in the run, its entry in the manifest, log lines."""

    files: Mapping[str, Path]
    entry: Mapping[str, Any]
    said: Sequence[str]


class Output(Protocol):
    """Something to be written of the rows of one source."""

    @property
    def source(self) -> RowSource: ...

    def written(self, scored: Iterable[Scored]) -> AbstractContextManager[Outcome]:
        """Write all rows and prove what was written; provide the outcome.

        The files get their names at the end of the block; after an error in it nothing is left.
        Raises ProofError where the output is not what it should be.
        """


@dataclass(frozen=True)
class Task:
    """Outputs that are complete together or absent: those of a sample, or one table."""

    name: str
    scorer: Scorer
    outputs: Sequence[Output]
    n_threads: int

    def __str__(self) -> str:
        return self.name

    @property
    def n_rows(self) -> int:
        return sum(output.source.span.size for output in self.outputs)


class OutputKind(Protocol):
    """A kind of output, made from a configuration and a run's models.

    `name` begins the names of its manifests and is the key of the entries in them; `datasets` are
    what was asked for.
    """

    name: str
    datasets: Sequence[str]

    def tasks(self, scratch: Path, n_threads: int, /) -> list[Task]:
        """Return what is to be written; `scratch` is for files that are for the run alone.

        Everything is checked against the run's recipe here, before any work.
        """

    def summary(self, n_outputs: int) -> str:
        """Return the last line of the log."""

    def next_commands(self, run: Run, prefix: str) -> Sequence[str]:
        """Return the commands that come next, ids filled in, to paste."""


def write(task: Task) -> tuple[list[Outcome], LeakAudit]:
    """Score and write the outputs of a task; only when all are proved do they have their names.

    Raises RunError where the audit finds an event that its own model was trained on.
    """
    audits: list[LeakAudit] = []
    with ExitStack() as until_all_are_proved:
        outcomes = [
            until_all_are_proved.enter_context(output.written(_scored(task, output, audits)))
            for output in task.outputs
        ]
        audit = merge_audits(audits)
        if not audit.passed:
            raise RunError(f"{task}: {audit.summary}: nothing of it is written")
    return outcomes, audit


def _scored(task: Task, output: Output, audits: list[LeakAudit]) -> Iterator[Scored]:
    """Yield an output's rows with their scores, made ahead, and append the audit of each range."""
    scorer = task.scorer
    for rows, scores, audit in ahead(
        (rows, scorer.scores(rows, task.n_threads), scorer.audit(rows))
        for rows in output.source.rows(scorer.models.rule)
    ):
        audits.append(audit)
        yield rows, scores
