"""The prediction path: each sample streamed into a skim of its own, in input order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from utils.columns.pipeline import FeaturePipeline
from utils.columns.variations import alternative_of
from utils.formats.pipelines import load_pipeline
from utils.formats.skims import SkimWriter
from utils.schema import (
    ConfigError,
    PreprocessConfig,
)
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.cut_flow import CutFlowRow, cut_flow
from utils.stages.preprocessing.reading import Plan, Selected
from utils.stages.preprocessing.repeating import prediction_unit
from utils.stages.preprocessing.skim_content import _types, finished, metadata
from utils.system import units
from utils.system.engine import Engine, progress
from utils.system.files import discard_abandoned
from utils.system.units import UnitOfWork


def prediction_tasks(config: PreprocessConfig) -> list[PredictionTask]:
    """Return one task a sample, with the pipeline that the training's preprocessing fitted.

    Raises InputError or ConfigError where the pipeline is missing or was fitted to other features.
    """
    pipeline = load_pipeline(config.pipe_file)
    _check_pipeline(config, pipeline)
    return [
        PredictionTask(
            config, reading.plan(config, [sample]), pipeline, config.skim_file(sample.name)
        )
        for sample in config.read_samples
    ]


def _check_pipeline(config: PreprocessConfig, pipeline: FeaturePipeline) -> None:
    """Raise ConfigError where the pipeline was fitted to other features than are configured."""
    if pipeline.inputs != tuple(config.cont_features):
        differing = sorted(set(pipeline.inputs) ^ set(config.cont_features)) or ["their order"]
        raise ConfigError(
            f"cont_features differ from those of {config.pipe_file} in {', '.join(differing)}: "
            "use the training's, or run the training's preprocessing again"
        )


def write_prediction_skims(
    workers: Engine, tasks: Sequence[PredictionTask]
) -> tuple[CutFlowRow, ...]:
    """Write one skim a sample, where it is not done already; return the cut flow of all."""
    flows: dict[Path, tuple[CutFlowRow, ...]] = {}
    discard_abandoned(*{task.path.parent for task in tasks})
    for task in tasks:
        known = units.recall(task.unit, task.config.force)
        if known is not None:
            flows[task.path] = tuple(CutFlowRow(*row) for row in known)
    # The largest sample first: begun last, it would be worked on alone at the end.
    largest_first = sorted(
        (task for task in tasks if task.path not in flows),
        key=lambda task: task.plan.n_entries,
        reverse=True,
    )
    with progress(sum(t.plan.n_entries for t in largest_first), "events", "writing skims") as bar:
        within = [task.within(workers.memory) for task in largest_first]
        folders = {task.path.parent for task in within}
        done = workers.map(write_prediction_skim, within, folders)
        for task, flow in zip(largest_first, done, strict=True):
            flows[task.path] = flow
            units.record(task.unit, [list(vars(row).values()) for row in flow])
            bar.update(task.plan.n_entries)
            bar.set_postfix_str(task.plan.samples[0].name)
    return tuple(row for task in tasks for row in flows[task.path])


@dataclass(frozen=True)
class PredictionTask:
    """One sample of the prediction path: its units become one skim."""

    config: PreprocessConfig
    plan: Plan
    pipeline: FeaturePipeline
    path: Path

    def __str__(self) -> str:
        return f"sample {self.plan.samples[0].name}"

    def within(self, memory: int | None) -> PredictionTask:
        """Return the task in chunks that fit into `memory` bytes."""
        units_within = tuple(reading.chunked_within(self.plan.units, memory))
        return replace(self, plan=replace(self.plan, units=units_within))

    @cached_property
    def unit(self) -> UnitOfWork:
        return prediction_unit(self.config, self.plan, self.pipeline, self.path)


def write_prediction_skim(task: PredictionTask) -> tuple[CutFlowRow, ...]:
    """Stream one sample from its ntuples to its skim, in input order; return its cut flow."""
    sample = task.plan.samples[0]
    whole = dict.fromkeys(task.plan.processes, 1.0)
    meta = metadata(task.config, task.plan, task.pipeline, sample.name, 1.0, whole)
    nothing = reading.empty(task.plan).groups
    types = _types(finished(task.config, nothing, task.pipeline, task.plan.shifts))
    if sample.stands_for:
        meta["alternative"] = alternative_of(task.config, sample.name)
    counts: list[tuple[int, Selected]] = []
    with SkimWriter(task.path, types, meta) as writer:
        for unit in task.plan.units:
            for part in reading.stream(unit):
                writer.append(finished(task.config, part.groups, task.pipeline, task.plan.shifts))
                counts.append((unit.sample_code, replace(part, groups={})))
    return cut_flow(task.plan, counts)
