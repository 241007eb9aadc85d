"""How many events survived which cut: the table of every sample and process."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.schema import (
    InputError,
)
from utils.stages.preprocessing.reading import Plan, Selected
from utils.system.files import complete

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CutFlowRow:
    """Events of one process of one sample: read, after the common cut, after its own cut."""

    sample: str
    process: str
    n_read: int
    n_common: int
    n_selected: int


def cut_flow(plan: Plan, parts: Sequence[tuple[int, Selected]]) -> tuple[CutFlowRow, ...]:
    """Return how many events survived which cut, for each sample and process.

    `parts` are (code of the sample, what was selected of it).
    """
    rows = []
    for code, sample in enumerate(plan.samples):
        mine = [part for of, part in parts if of == code]
        for position, process in enumerate(sample.processes):
            rows.append(
                CutFlowRow(
                    sample.name,
                    process.name,
                    sum(p.n_read for p in mine),
                    sum(p.n_common for p in mine),
                    sum(p.n_selected[position] for p in mine),
                )
            )
    return tuple(rows)


def log_cut_flow(rows: Sequence[CutFlowRow], path: Path) -> None:
    """Log the cut flow as a table and save it as CSV."""
    width = max(len(r.sample) for r in rows)
    inner = max(len(r.process) for r in rows)
    log.info(
        "%-*s  %-*s %12s %12s %12s", width, "sample", inner, "process", "read", "common", "selected"
    )
    for r in rows:
        log.info(
            "%-*s  %-*s %12d %12d %12d",
            *(width, r.sample, inner, r.process, r.n_read, r.n_common, r.n_selected),
        )
    with complete(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "process", "n_read", "n_common", "n_selected"])
        writer.writerows(vars(r).values() for r in rows)


def refuse_empty(rows: Sequence[CutFlowRow]) -> None:
    """Raise InputError where a training process has no events."""
    for r in rows:
        if r.n_selected == 0:
            raise InputError(
                f"process {r.process} of sample {r.sample} has no events: of {r.n_read} read, "
                f"{r.n_common} pass the common cut and none its own cut: loosen them, or drop the "
                "process"
            )


def log_missing(selected: Selected) -> None:
    """Log how many cells of which feature hold a declared missing value."""
    found = {name: count for name, count in selected.n_missing.items() if count}
    if found:
        n_rows = selected.n_rows
        listed = ", ".join(f"{name} {count / n_rows:.1%}" for name, count in found.items())
        log.info("Declared missing values, of %d selected events: %s", n_rows, listed)
