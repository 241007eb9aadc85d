"""Selected events -> skims: weights, split, feature pipeline, and the files they end in."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils import folds, identities, ntuples, processing, selection, weights
from utils.engine import Engine, progress
from utils.files import complete
from utils.processing import FeaturePipeline
from utils.schema import (
    COMPUTED_COLUMNS,
    PHYSICS_WEIGHT,
    PROJECT,
    TARGET,
    AnalysisConfig,
    ClassInfo,
    ConfigError,
    InputError,
    PreprocessConfig,
    Sample,
    portable,
    project_path,
)
from utils.selection import Columns, Plan, Selected, Unit
from utils.skims import SkimWriter

log = logging.getLogger(__name__)

Array = NDArray[Any]
Groups = dict[str, Columns]

UNIT_ENTRIES = 1_000_000
"""Entries of one file that are read as one unit of work: enough to keep a worker busy."""


@dataclass(frozen=True)
class CutFlowRow:
    """Events of one process of one sample: read, after the common cut, after its own cut."""

    sample: str
    process: str
    n_read: int
    n_common: int
    n_selected: int


def cut_flow(plan: Plan, parts: Sequence[tuple[Unit, Selected]]) -> tuple[CutFlowRow, ...]:
    """Return how many events survived which cut, for each sample and process."""
    rows = []
    for code, sample in enumerate(plan.samples):
        mine = [part for unit, part in parts if unit.sample_code == code]
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
    with complete(path) as partial, partial.open("w", newline="") as file:
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


def read_all(workers: Engine, plan: Plan) -> tuple[tuple[CutFlowRow, ...], Selected]:
    """Read all units of a plan; return the cut flow, and the selected events in input order."""
    parts = []
    with progress(plan.n_entries, "events", "reading") as bar:
        # Threads: decompression and numpy release the interpreter lock, and worker processes would
        # spend more on starting and on passing events than they gain.
        done = workers.map(selection.read, plan.units, threads=True)
        for unit, part in zip(plan.units, done, strict=True):
            parts.append((unit, part))
            bar.update(part.n_read)
            bar.set_postfix_str(unit.info.path.name)
    return cut_flow(plan, parts), selection.join([part for _, part in parts])


def with_weights(config: PreprocessConfig, groups: Groups) -> Groups:
    """Return `groups` with `w_cp` among the weights where it is asked for (before any split)."""
    if not config.compute_w_CP:
        return groups
    target = groups["targets"][TARGET]
    w_cp = weights.cp_weights(groups["weights"][PHYSICS_WEIGHT], target, _class_names(config))
    return {**groups, "weights": {**groups["weights"], "w_cp": w_cp}}


def split(config: PreprocessConfig, plan: Plan, groups: Groups) -> tuple[Groups, Groups]:
    """Return the events of the train and of the test skim, in a seeded order.

    The same event on both sides would make the test no test: repeated events follow the policy
    `duplicates`.
    """
    target, process = groups["targets"][TARGET], groups["provenance"]["process"]
    train, test = processing.split(target, config.train_size, config.seed, process)
    part = np.zeros(len(target), np.int32)
    part[test] = 1
    identity = identities.of_rows(
        config.fold,
        groups["identity"],
        groups["provenance"],
        [sample_entry(s) for s in plan.samples],
        [ntuples.fingerprint(t) for t in plan.trees],
    )
    part, kept, repeated = folds.resolve_duplicates(identity, part, config.duplicates)
    if repeated.warning:
        log.warning("Warning: %s", repeated.warning)
    order = np.concatenate([train, test])
    order = order[kept[order]]
    in_train = part[order] == 0
    return take(config, groups, order[in_train]), take(config, groups, order[~in_train])


def take(config: PreprocessConfig, groups: Groups, rows: Array) -> Groups:
    """Return the given rows, with the class weights of these rows as one output."""
    taken = {g: {n: c[rows] for n, c in columns.items()} for g, columns in groups.items()}
    target = taken["targets"][TARGET]
    if config.class_balance == "weight":
        weight = taken["weights"][PHYSICS_WEIGHT]
        names = _class_names(config)
        balanced = weight * weights.class_imbalance_by_weight(weight, target, names)
    else:
        balanced = weights.class_imbalance(target)
    taken["weights"]["w_class_imbalance"] = balanced
    return taken


def continuous(groups: Groups, names: Sequence[str]) -> NDArray[np.float32]:
    """Return continuous features as a matrix `(n_events, n_features)`, stored by columns."""
    columns = groups["cont_features"]
    n_rows = len(groups["targets"][TARGET])
    matrix = np.empty((n_rows, len(names)), np.float32, order="F")
    for position, name in enumerate(names):
        matrix[:, position] = columns[name]
    return matrix


def finished(config: PreprocessConfig, groups: Groups, pipeline: FeaturePipeline) -> Groups:
    """Return the columns as a skim stores them: features transformed, computed columns in place."""
    transformed = pipeline.transform(continuous(groups, pipeline.inputs))
    computed = {**groups["targets"], **groups["weights"]}
    known = {
        **groups["misc_features"],
        **{n: computed[n] for n in COMPUTED_COLUMNS if n in computed},
    }
    misc = [n for n in config.misc_features if n in known]
    return {
        **groups,
        "cont_features": {n: transformed[:, i] for i, n in enumerate(pipeline.outputs)},
        "misc_features": {n: known[n] for n in misc},
    }


def write_training_skims(
    config: PreprocessConfig, plan: Plan, pieces: Sequence[Groups], pipeline: FeaturePipeline
) -> None:
    """Write the train and the test skim, the pipeline and the configuration beside them."""
    n_all = sum(_n_rows(piece) for piece in pieces)
    shares = process_fractions(plan.processes, pieces)
    for name, dataset, piece, share in zip(
        config.output_samples, ("train", "test"), pieces, shares, strict=True
    ):
        meta = metadata(config, plan, pipeline, dataset, _n_rows(piece) / n_all, share)
        path = config.skim_file(name)
        write(path, finished(config, piece, pipeline), meta)
        log.info("Wrote %d events to %s", _n_rows(piece), path)
    pipeline.save(config.pipe_file)
    save_configuration(config)
    log.info("Feature pipeline %s: %s", pipeline.fingerprint[:12], config.pipe_file)


def process_fractions(processes: Sequence[str], pieces: Sequence[Groups]) -> list[dict[str, float]]:
    """Return, for each piece of the selected events, the share of each process that is in it.

    Of the sum of absolute physics weights, which no cancellation makes small; of events where all
    weights are zero. The split keeps an event of every process on either side, so that a rare one
    has a share of its own.
    """
    codes = [piece["provenance"]["process"] for piece in pieces]
    n = np.stack([np.bincount(c, minlength=len(processes)) for c in codes])
    sums = np.stack(
        [
            np.bincount(c, np.abs(piece["weights"][PHYSICS_WEIGHT]), len(processes))
            for c, piece in zip(codes, pieces, strict=True)
        ]
    )
    counted = np.where(sums.sum(axis=0) > 0, sums, n)
    shares = counted / np.maximum(counted.sum(axis=0), np.finfo(np.float64).tiny)
    return [dict(zip(processes, map(float, share), strict=True)) for share in shares]


def next_command(config: PreprocessConfig) -> str:
    """Return the training command for the skims of `config`."""
    skim = config.skim_file(config.output_samples[0])
    if not config.skim_path or skim != project_path(config.skim_path) / "training" / "train.h5":
        return f"python train.py train_file={skim}, with the features and classes of this file"
    known = (PROJECT / "configs" / "analysis" / f"{config.analysis_name}.yaml").is_file()
    analysis = config.analysis_name if known else "<this analysis file>"
    return f"python train.py analysis={analysis}" + (f" year={config.year}" if config.year else "")


def save_configuration(config: PreprocessConfig) -> None:
    """Save the resolved configuration beside the skims."""
    kind = "training" if config.for_training else "prediction"
    path = config.output_folder / f"config_{kind}.json"
    with complete(path) as partial:
        # By json, which keeps NaN as such; pydantic would write null.
        partial.write_text(json.dumps(config.model_dump(mode="json", by_alias=True), indent=1))


def check_pipeline(config: PreprocessConfig, pipeline: FeaturePipeline) -> None:
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
    """Write one skim a sample and return the cut flow of all."""
    flows: dict[Path, tuple[CutFlowRow, ...]] = {}
    # The largest sample first: begun last, it would be worked on alone at the end.
    largest_first = sorted(tasks, key=lambda task: task.plan.n_entries, reverse=True)
    with progress(sum(t.plan.n_entries for t in tasks), "events", "writing skims") as bar:
        done = workers.map(write_prediction_skim, largest_first, threads=True)
        for task, flow in zip(largest_first, done, strict=True):
            flows[task.path] = flow
            bar.update(task.plan.n_entries)
            bar.set_postfix_str(task.plan.samples[0].name)
    return tuple(row for task in tasks for row in flows[task.path])


def write(path: Path, groups: Groups, metadata: Mapping[str, Any]) -> None:
    """Write one skim from columns that are all in memory."""
    with SkimWriter(path, _types(groups), metadata) as writer:
        writer.append(groups)


def metadata(
    config: PreprocessConfig,
    plan: Plan,
    pipeline: FeaturePipeline,
    dataset: str,
    fraction: float,
    of_process: Mapping[str, float],
) -> dict[str, Any]:
    """Return what a skim says about itself: configuration, classes, pipeline, inputs."""
    return {
        "kind": "training" if config.for_training else "prediction",
        "dataset": dataset,
        "config": config.model_dump(mode="json", by_alias=True),
        "classes": class_list(config, plan),
        "features": {"cont": list(pipeline.outputs), "cat": list(config.cat_features)},
        "pipeline": pipeline.to_json(),
        "samples": [sample_entry(s) for s in plan.samples],
        "processes": list(plan.processes),
        "files": [_file_entry(config, t) for t in plan.trees],
        "n_entries": [t.n_entries for t in plan.trees],
        "identity": list(config.identity_columns),
        "fraction": fraction,
        "process_fractions": dict(of_process),
    }


def _file_entry(config: PreprocessConfig, tree: ntuples.TreeInfo) -> dict[str, Any]:
    """Return what a skim remembers of a file: also the types that joining several may widen."""
    copied = [*config.identity_columns, *config.misc_features]
    types = {n: str(tree.branches[n]) for n in copied if n in tree.branches}
    return {**ntuples.fingerprint(tree), "path": portable(tree.path), "types": types}


def class_list(config: PreprocessConfig, plan: Plan) -> list[dict[str, Any]]:
    """Return the classes in order of ids; where the file names none, processes name them."""
    classes = dict(config.classes)
    if not classes and config.for_training:
        names: dict[int, dict[str, None]] = {}
        for sample in plan.samples:
            for process in sample.processes:
                names.setdefault(process.class_id, {})[process.name] = None
        if sorted(names) != list(range(len(names))):
            raise ConfigError(f"processes have the classes {sorted(names)}: number them 0 to n-1")
        classes = {i: ClassInfo(name="+".join(names[i])) for i in sorted(names)}
    return [{"id": i, **c.model_dump(mode="json")} for i, c in classes.items()]


def sample_entry(sample: Sample) -> dict[str, Any]:
    """Return what a skim, and later a run, remembers of a sample."""
    return {
        "name": sample.name,
        "group": sample.group,
        "never_trained": sample.never_trained,
        "factor": sample.factor,
        "weight": sample.weight,
        "tree": sample.tree,
        "processes": [vars(p) for p in sample.processes],
    }


@dataclass(frozen=True)
class PredictionTask:
    """One sample of the prediction path: its units become one skim."""

    config: PreprocessConfig
    plan: Plan
    pipeline: FeaturePipeline
    path: Path

    def __str__(self) -> str:
        return f"sample {self.plan.samples[0].name}"


def write_prediction_skim(task: PredictionTask) -> tuple[CutFlowRow, ...]:
    """Stream one sample from its ntuples to its skim, in input order; return its cut flow."""
    sample = task.plan.samples[0]
    whole = dict.fromkeys(task.plan.processes, 1.0)
    meta = metadata(task.config, task.plan, task.pipeline, sample.name, 1.0, whole)
    types = _types(finished(task.config, selection.empty(task.plan).groups, task.pipeline))
    counts: list[tuple[Unit, Selected]] = []
    with SkimWriter(task.path, types, meta) as writer:
        for unit in task.plan.units:
            for part in selection.stream(unit):
                writer.append(finished(task.config, part.groups, task.pipeline))
                counts.append((unit, replace(part, groups={})))
    return cut_flow(task.plan, counts)


def _n_rows(groups: Groups) -> int:
    return len(groups["targets"][TARGET])


def _class_names(config: AnalysisConfig) -> list[str] | None:
    return [c.name for c in config.classes.values()] or None


def _types(groups: Groups) -> dict[str, dict[str, np.dtype[Any]]]:
    return {g: {n: c.dtype for n, c in columns.items()} for g, columns in groups.items()}
