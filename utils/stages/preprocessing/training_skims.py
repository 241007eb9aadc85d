"""The training path: all events read, weighted, split, and written as train and test skim."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.columns import weights
from utils.columns.arrays import Array, Groups
from utils.columns.audit import resolve_duplicates
from utils.columns.identity import identity_of_rows
from utils.columns.pipeline import FeaturePipeline, fit_pipeline
from utils.columns.splitting import train_test_rows
from utils.columns.variations import alternative_of
from utils.formats import ntuples
from utils.formats.pipelines import save_pipeline
from utils.formats.skims import SHIFTED, SkimWriter
from utils.models import kind
from utils.schema import (
    DEFAULT_KIND,
    PHYSICS_WEIGHT,
    PROJECT,
    SELECTED,
    TARGET,
    ConfigError,
    PipelineError,
    PreprocessConfig,
    project_path,
)
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.cut_flow import CutFlowRow, cut_flow
from utils.stages.preprocessing.reading import Plan, Selected
from utils.stages.preprocessing.repeating import (
    keep_rows,
    kept_folder,
    kept_rows,
    rows_unit,
)
from utils.stages.preprocessing.skim_content import (
    _class_names,
    _n_rows,
    _types,
    continuous,
    finished,
    metadata,
    sample_entry,
    save_configuration,
)
from utils.system import units
from utils.system.engine import Engine, progress
from utils.system.files import discard_abandoned
from utils.system.units import UnitOfWork

log = logging.getLogger(__name__)


UNIT_ENTRIES = 1_000_000
"""Entries of one file that are read as one unit of work: enough to keep a worker busy."""


def plan_training(config: PreprocessConfig) -> Plan:
    """Open and check every file of the training samples, before anything is read."""
    _tell_of_names(config)
    samples = [s for s in config.read_samples if s.role == "training"]
    plan = reading.plan(config, samples, unit_size=UNIT_ENTRIES)
    log.info("Reading %d entries of %d files", plan.n_entries, len(plan.trees))
    return plan


def _tell_of_names(config: PreprocessConfig) -> None:
    """Say now what training would refuse, unless it is of a kind that takes any name."""
    untransformed = config.cont_features if config.pca is None else []
    try:
        kind(DEFAULT_KIND).check_features(
            config.training_features or [*untransformed, *config.cat_features]
        )
    except ConfigError as error:
        log.warning("Warning: train.py will refuse these features: %s", error)


def are_done(config: PreprocessConfig, plans: Sequence[Plan], skims: UnitOfWork) -> bool:
    """Tell whether the skims are there and nothing changed that they follow from."""
    discard_abandoned(config.output_folder, kept_folder(config))
    done = units.recall(skims, config.force) is not None
    if done:
        _drop_rows(config, plans)
    return done


def record_done(config: PreprocessConfig, plans: Sequence[Plan], skims: UnitOfWork) -> None:
    """Remember that all skims are whole; the rows that were kept until then go.

    `skims` is the unit of before the reading: inputs that change meanwhile are to be read again.
    """
    units.record(skims, True)
    _drop_rows(config, plans)


@contextmanager
def refusals_leave_nothing(config: PreprocessConfig, plans: Sequence[Plan]) -> Iterator[None]:
    """Remove the rows that are kept for a repeated command where what was read is refused.

    Around the steps between reading and writing only: what these meet may pass (a server or the
    workers gone, a full disk), and samples that were read need not be read again.
    """
    try:
        yield
    except PipelineError:
        _drop_rows(config, plans)
        raise


def read_all(
    workers: Engine, config: PreprocessConfig, plan: Plan
) -> tuple[tuple[CutFlowRow, ...], Selected]:
    """Read all units of a plan; return the cut flow, and the selected events in input order.

    The rows of a sample are kept until the skims are whole: a command that is repeated before reads
    the other samples.
    """
    of_sample = [rows_unit(config, plan, code) for code in range(len(plan.samples))]
    parts: dict[int, list[Selected]] = {}
    for code, sample in enumerate(of_sample):
        if units.recall(sample, config.force) is not None:
            parts[code] = [kept_rows(sample.files[0])]
    left = [unit for unit in plan.units if unit.sample_code not in parts]
    left = reading.within(left, workers.memory)
    with progress(plan.n_entries, "events", "reading") as bar:
        # Threads: decompression and numpy release the interpreter lock, and worker processes would
        # spend more on starting and on passing events than they gain.
        done = workers.map(reading.read, left)
        for position, (unit, part) in enumerate(zip(left, done, strict=True)):
            code = unit.sample_code
            parts.setdefault(code, []).append(part)
            bar.update(part.n_read)
            bar.set_postfix_str(unit.info.path.name)
            if position + 1 == len(left) or left[position + 1].sample_code != code:
                parts[code] = [reading.join(parts[code])]
                keep_rows(of_sample[code].files[0], parts[code][0])
                units.record(of_sample[code], True)
    in_order = [(code, part) for code in sorted(parts) for part in parts[code]]
    return cut_flow(plan, in_order), reading.join([part for _, part in in_order])


def nominal_and_marked(groups: Groups) -> tuple[Groups, Groups]:
    """Return the events that the nominal cut keeps, and those that only a shift admits.

    All that follows is made of the former: the latter are there for shifted scores of a test.
    """
    nominal = groups.get(SHIFTED, {}).get(SELECTED)
    if nominal is None:
        return groups, _rows(groups, np.empty(0, np.int64))
    return _rows(groups, np.flatnonzero(nominal)), _rows(groups, np.flatnonzero(~nominal))


def _rows(groups: Groups, rows: Array) -> Groups:
    return {g: {n: c[rows] for n, c in columns.items()} for g, columns in groups.items()}


def _test_share(config: PreprocessConfig, marked: Groups) -> Groups:
    """Return the share of marked events that is tested."""
    target, process = marked["targets"][TARGET], marked["provenance"]["process"]
    _, rows = train_test_rows(target, config.train_size, config.seed, process)
    return _rows(marked, rows)


def with_marked(config: PreprocessConfig, events: Groups, marked: Groups) -> Groups:
    """Return events that are tested, and behind them marked ones, weighed as those of their class.

    Without shifts that admit events there are none to put there.
    """
    if SHIFTED not in events:
        return events
    weights = dict(marked["weights"])
    for name in events["weights"].keys() - weights.keys():
        weights[name] = _as_in(events, marked, name, config.class_balance == "weight")
    more = {**marked, "weights": weights}
    return {
        group: {n: np.concatenate([c, more[group][n]]) for n, c in columns.items()}
        for group, columns in events.items()
    }


def _as_in(test: Groups, marked: Groups, name: str, by_weight: bool) -> Array:
    """Return the weight `name` of marked events: that of their class in the test, by the factor.

    Of a class without a test event it is 0.
    """
    bases = []
    for groups in (test, marked):
        weight = groups["weights"][PHYSICS_WEIGHT]
        base = np.abs(weight) if name == "w_cp" else weight if by_weight else np.ones(len(weight))
        bases.append(base)
    result = np.zeros(len(bases[1]))
    its_target, target = test["targets"][TARGET], marked["targets"][TARGET]
    for class_id in np.unique(target):
        usable = np.flatnonzero((its_target == class_id) & (bases[0] != 0))
        if len(usable):
            factor = test["weights"][name][usable[0]] / bases[0][usable[0]]
            mine = target == class_id
            result[mine] = factor * bases[1][mine]
    return result


def with_weights(config: PreprocessConfig, groups: Groups) -> Groups:
    """Return `groups` with `w_cp` among the weights where it is asked for (before any split)."""
    if not config.compute_w_CP:
        return groups
    target = groups["targets"][TARGET]
    w_cp = weights.cp_weights(groups["weights"][PHYSICS_WEIGHT], target, _class_names(config))
    return {**groups, "weights": {**groups["weights"], "w_cp": w_cp}}


def split_skims(config: PreprocessConfig, plan: Plan, groups: Groups) -> tuple[Groups, Groups]:
    """Return the events of the train and of the test skim, in a seeded order.

    What shifts make of them is for the test alone: nobody trains on it. The same event on both
    sides would make the test no test: repeated events follow the policy `duplicates`.
    """
    target, process = groups["targets"][TARGET], groups["provenance"]["process"]
    train, test = train_test_rows(target, config.train_size, config.seed, process)
    part = np.zeros(len(target), np.int32)
    part[test] = 1
    identity = identity_of_rows(
        config.fold,
        groups["identity"],
        groups["provenance"],
        [sample_entry(s) for s in plan.samples],
        [ntuples.fingerprint(t) for t in plan.trees],
    )
    part, kept, repeated = resolve_duplicates(identity, part, config.duplicates)
    if repeated.warning:
        log.warning("Warning: %s", repeated.warning)
    order = np.concatenate([train, test])
    order = order[kept[order]]
    in_train = part[order] == 0
    learnt = {g: columns for g, columns in groups.items() if g != SHIFTED}
    return take(config, learnt, order[in_train]), take(config, groups, order[~in_train])


def take(config: PreprocessConfig, groups: Groups, rows: Array) -> Groups:
    """Return the given rows, with the class weights of these rows as one output."""
    taken = _rows(groups, rows)
    target = taken["targets"][TARGET]
    if config.class_balance == "weight":
        weight = taken["weights"][PHYSICS_WEIGHT]
        names = _class_names(config)
        balanced = weight * weights.class_imbalance_by_weight(weight, target, names)
    else:
        balanced = weights.class_imbalance(target)
    taken["weights"]["w_class_imbalance"] = balanced
    return taken


def fit(config: PreprocessConfig, train: Groups) -> FeaturePipeline:
    """Return the scaler and PCA of `config`, fitted to the train skim's events."""
    names = config.cont_features
    matrix = continuous(train, names)
    return fit_pipeline(matrix, names, config.scaler, config.pca, config.seed)


def write_training_skims(
    config: PreprocessConfig,
    plan: Plan,
    pieces: Sequence[Groups],
    marked: Groups,
    pipeline: FeaturePipeline,
) -> None:
    """Write the train and the test skim, the pipeline and the configuration beside them.

    `marked` events, which only a shift admits, are split by the same share: those to be tested are
    the last of the test skim.
    """
    tested = _test_share(config, marked)
    n_all = sum(_n_rows(piece) for piece in pieces)
    shares = process_fractions(plan.processes, pieces)
    for name, dataset, piece, share in zip(
        config.output_samples, ("train", "test"), pieces, shares, strict=True
    ):
        shifts = plan.shifts if SHIFTED in piece else ()
        meta = metadata(
            *(config, replace(plan, shifts=shifts), pipeline, dataset),
            *(_n_rows(piece) / n_all, share),
        )
        path = config.skim_file(name)
        rows = with_marked(config, piece, tested)
        write(path, finished(config, rows, pipeline, shifts), meta)
        log.info("Wrote %d events to %s", _n_rows(piece), path)
        if _n_rows(rows) > _n_rows(piece):
            n_more = _n_rows(rows) - _n_rows(piece)
            log.info("  and, marked, %d that only variations admit", n_more)
    save_pipeline(pipeline, config.pipe_file)
    save_configuration(config)
    log.info("Feature pipeline %s: %s", pipeline.fingerprint[:12], config.pipe_file)


def _drop_rows(config: PreprocessConfig, plans: Sequence[Plan]) -> None:
    for plan in plans:
        for code in range(len(plan.samples)):
            units.forget(rows_unit(config, plan, code).key)
    shutil.rmtree(kept_folder(config), ignore_errors=True)


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


def plan_alternatives(config: PreprocessConfig) -> list[Plan]:
    """Open and check the files of each sample that a variation puts in place of a training one."""
    return [
        reading.plan(config, [sample], unit_size=UNIT_ENTRIES)
        for sample in config.alternative_samples
    ]


def write_alternative(
    config: PreprocessConfig,
    plan: Plan,
    selected: Selected,
    test: Groups,
    pipeline: FeaturePipeline,
) -> None:
    """Write the skim of an alternative sample, all of which is tested.

    Its events weigh as those of their class do in the test.
    """
    [sample] = plan.samples
    path, groups = config.skim_file(sample.name), selected.groups
    for name in test["weights"].keys() - groups["weights"].keys():
        weight = _as_in(test, groups, name, config.class_balance == "weight")
        groups = {**groups, "weights": {**groups["weights"], name: weight}}
    whole = dict.fromkeys(plan.processes, 1.0)
    meta = metadata(config, plan, pipeline, sample.name, 1.0, whole)
    meta["alternative"] = alternative_of(config, sample.name)
    write(path, finished(config, groups, pipeline), meta)
    log.info("Wrote %d events to %s, which stands for %s", _n_rows(groups), path, sample.stands_for)


def tell_next(config: PreprocessConfig, analysis: str | None, primary: Sequence[str]) -> None:
    """Log the training command for the skims of `config` (see `next_command`)."""
    log.info("Next: %s", next_command(config, analysis, primary))


def next_command(config: PreprocessConfig, analysis: str | None, primary: Sequence[str]) -> str:
    """Return the training command for the skims of `config`.

    `analysis` and `primary`, the options that name a file of the user's, are as the user gave them.
    """
    skim = config.skim_file(config.output_samples[0])
    known = (PROJECT / "configs" / "analysis" / f"{config.analysis_name}.yaml").is_file()
    usual = config.skim_path and skim == project_path(config.skim_path) / "training" / "train.h5"
    if not usual or (analysis is None and not known):
        named = [f"analysis={analysis}"] if analysis else primary
        return shlex.join(["python", "train.py", *named, f"train_file={skim}"])
    chosen = shlex.quote(analysis or config.analysis_name)
    return f"python train.py analysis={chosen}" + (f" year={config.year}" if config.year else "")


def write(path: Path, groups: Groups, metadata: Mapping[str, Any]) -> None:
    """Write one skim from columns that are all in memory."""
    with SkimWriter(path, _types(groups), metadata) as writer:
        writer.append(groups)
