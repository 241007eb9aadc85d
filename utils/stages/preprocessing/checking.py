"""`check=true`: what preprocessing would do, told from headers and a sample of the entries."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.columns.arrays import RowRange
from utils.columns.suspicion import suspicious
from utils.schema import PHYSICS_WEIGHT, TARGET, PreprocessConfig
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.cut_flow import cut_flow, refuse_empty
from utils.stages.preprocessing.labelled_skims import plan_labelled
from utils.stages.preprocessing.prediction_skims import prediction_tasks
from utils.stages.preprocessing.reading import Plan, Selected, Unit
from utils.stages.preprocessing.skim_content import class_list
from utils.stages.preprocessing.training_skims import nominal_and_marked, plan_training
from utils.system.engine import cores_of
from utils.system.places import check_space, check_writable, duration

log = logging.getLogger(__name__)

SAMPLED, LEAST = 200_000, 300
"""Entries that are read in all, and of each file at least: from its start, middle and end."""


@dataclass(frozen=True)
class Sampled:
    """What was read of a plan: parts with the unit that each stands for, and the processor time."""

    plan: Plan
    parts: Sequence[tuple[Unit, Selected]]
    seconds: float

    @property
    def n_read(self) -> int:
        return sum(part.n_read for _, part in self.parts)

    @property
    def whole(self) -> bool:
        """Whether everything was read, so that counts are exact."""
        return self.n_read == self.plan.n_entries

    @property
    def n_bytes(self) -> float:
        """The size of the skims to expect."""
        return sum(
            self.scale(part_unit.file_code) * column.nbytes
            for part_unit, part in self.parts
            for columns in part.groups.values()
            for column in columns.values()
        )

    def scale(self, file_code: int) -> float:
        """Return how many entries of a file each entry that was read of it stands for."""
        read = sum(part.n_read for unit, part in self.parts if unit.file_code == file_code)
        return self.plan.trees[file_code].n_entries / max(read, 1)


def check(config: PreprocessConfig) -> None:
    """Tell what the full command would find and write. Raises what it would raise, nothing is made.

    Every file is opened, and branches, types and cuts are checked by the code of the full command;
    entries from the start, middle and end of each file are read as it reads them.
    """
    check_writable(config.output_folder, "the folder of the skims")
    if config.for_training:
        plan = plan_training(config)
        labelled = plan_labelled(config, plan)
        sampled = [_sample(p) for p in (plan, labelled) if p is not None]
        class_list(config, sampled[0].plan)
    else:
        tasks = prediction_tasks(config)
        total = sum(task.plan.n_entries for task in tasks)
        sampled = [_sample(task.plan, total) for task in tasks]
    _tell_flow(sampled, config.for_training)
    if config.for_training:
        _tell_classes(config, sampled[0])
        _tell_suspicions(sampled[0])
    needed = sum(s.n_bytes for s in sampled)
    space = check_space(config.output_folder, needed, "the skims")
    entries = sum(s.plan.n_entries for s in sampled)
    rate = sum(s.seconds for s in sampled) / max(sum(s.n_read for s in sampled), 1)
    log.info("Disk: %s, in %s", space, config.output_folder)
    log.info("Time: about %s on %d cores", *_time(rate * entries, config))
    log.info("Checked; nothing was written")


def _time(seconds: float, config: PreprocessConfig) -> tuple[str, int]:
    cores = cores_of(config.engine)
    return duration(seconds / cores), cores


def _sample(plan: Plan, n_entries: int | None = None) -> Sampled:
    """Read some entries of each file of a plan, whose files hold `n_entries` with all others'."""
    begin = time.process_time()
    share = min(1.0, SAMPLED / max(n_entries or plan.n_entries, 1))
    parts = []
    for unit in _units(plan, share):
        part = reading.read(unit)
        parts.append((unit, replace(part, groups=nominal_and_marked(part.groups)[0])))
    return Sampled(plan, parts, time.process_time() - begin)


def _units(plan: Plan, share: float) -> Iterator[Unit]:
    """Yield units that hold a share of each file: all of it, or its start, middle and end."""
    first = {unit.file_code: unit for unit in reversed(plan.units)}
    for code, tree in enumerate(plan.trees):
        n = tree.n_entries
        wanted = max(LEAST, round(n * share))
        if wanted >= n:
            yield replace(first[code], entries=RowRange(0, n))
            continue
        third = max(wanted // 3, 1)
        for start in (0, (n - third) // 2, n - third):
            yield replace(first[code], entries=RowRange(start, start + third))


def _tell_flow(sampled: Sequence[Sampled], training: bool) -> None:
    """Log the cut flow to expect; a training process that has no events is refused or told."""
    rows = [
        (s, row)
        for s in sampled
        for row in cut_flow(s.plan, [(unit.sample_code, part) for unit, part in s.parts])
    ]
    inner = max(len(row.process) for _, row in rows)
    width = max(len(row.sample) for _, row in rows)
    exact = all(s.whole for s in sampled)
    log.info("%s", "All entries were read" if exact else "Expected, from a sample of the entries:")
    log.info(
        "%-*s  %-*s %12s %12s %12s %14s",
        *(width, "sample", inner, "process", "entries", "common", "selected", "yield"),
    )
    for s, row in rows:
        log.info(
            "%-*s  %-*s %12d %12.0f %12.0f %14.6g",
            *(width, row.sample, inner, row.process, *_expected(s, row.sample, row.process)),
        )
        if training and s.whole:
            refuse_empty([row])
        elif training and not row.n_selected:
            log.warning(
                "Warning: of %d entries that were read of sample %s none is selected as %s",
                *(row.n_read, row.sample, row.process),
            )


def _expected(s: Sampled, sample: str, process: str) -> tuple[int, float, float, float]:
    """Return entries, and expected events after cuts, and their sum of weights."""
    mine = [(u, p) for u, p in s.parts if u.sample.name == sample]
    codes = dict.fromkeys(u.file_code for u, _ in mine)
    entries = sum(s.plan.trees[code].n_entries for code in codes)
    number = s.plan.processes.index(process)
    common = selected = total = 0.0
    for unit, part in mine:
        scale = s.scale(unit.file_code)
        chosen = part.groups["provenance"]["process"] == number
        common += scale * part.n_common
        selected += scale * np.count_nonzero(chosen)
        total += scale * float(part.groups["weights"][PHYSICS_WEIGHT][chosen].sum())
    return entries, common, selected, total


def _tell_classes(config: PreprocessConfig, s: Sampled) -> None:
    names = [info.name for info in class_list(config, s.plan)]
    counts = np.zeros(max(len(names), 1))
    for unit, part in s.parts:
        target = part.groups["targets"][TARGET]
        counts += s.scale(unit.file_code) * np.bincount(target, minlength=len(counts))
    for name, count in zip(names, counts, strict=False):
        log.info("Class %s: about %.0f events", name, count)
        if not count:
            log.warning("Warning: no event of class %s was found", name)


def _tell_suspicions(s: Sampled) -> None:
    """Log features that look as if they told the class, or nothing."""
    events = reading.join([part for _, part in s.parts]).groups
    features = {**events["cont_features"], **events["cat_features"]}
    if not len(events["targets"][TARGET]):
        return
    for name, why in suspicious(features, events["targets"][TARGET]).items():
        log.warning("Warning: feature %s is suspicious: %s", name, why)
