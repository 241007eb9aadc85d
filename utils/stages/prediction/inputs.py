"""The samples that a run is applied to, and their files: where their entries are read from.

Everything is checked against the run's recipe here, before any work.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from utils.columns.arrays import RowRange
from utils.columns.folds import check_entry_rule
from utils.columns.roles import Roles, physics_weight, roles_of
from utils.columns.variations import alternative_of, rows_at_once, shifts_of
from utils.formats import ntuples
from utils.formats.friends import branch_names
from utils.formats.skims import Skim, open_skim
from utils.schema import (
    COMPUTED_COLUMNS,
    ConfigError,
    InputError,
    Location,
    PredictConfig,
    PreprocessConfig,
    RunError,
    Sample,
    Url,
    alternative_samples,
    is_url,
    joined,
    load,
    location,
    nearest,
    project_path,
    sample_name,
    skim_name,
)
from utils.stages.prediction.checks import (
    check_same_file,
    check_skim,
    check_trained_files,
    check_variations,
)
from utils.stages.prediction.rows import RowSource, SkimEntries
from utils.stages.prediction.scorer import Scorer
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.shifting import shifted_tree
from utils.system import servers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputFile:
    """One file of a sample, its fingerprint, and where its entries are read from.

    `shifts` are those under which there are scores, as a friend tree states them.
    """

    path: Location
    fingerprint: Mapping[str, Any]
    source: RowSource
    shifts: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class InputSample:
    """A sample to be scored: its files, the misc columns they give, and the cut on them.

    `alternative` says which sample a variation puts it in the place of, if one does.
    """

    name: str
    cut: str | None
    misc: tuple[str, ...]
    files: tuple[InputFile, ...]
    alternative: Mapping[str, str] = field(default_factory=dict)


def input_samples(config: PredictConfig, scorer: Scorer) -> list[InputSample]:
    """Return the samples that `config` asks for.

    Raises ConfigError or InputError where a sample, skim or file is missing or does not fit.
    """
    if config.cut is not None and config.source == "skims":
        raise ConfigError(
            "cut is for source=ntuples: a skim holds what its own cut left, so preprocess the "
            "prediction samples with common_cut"
        )
    analysis, rule = prediction_analysis(config, scorer), scorer.recipe.fold
    roles = roles_of(analysis, _misc(config, analysis))
    groups = {s["group"] for s in scorer.recipe.samples}
    found = []
    for sample in analysis.read_samples:
        if config.source == "skims":
            name = skim_name(config.input_filename_template, sample.name)
            skim = open_skim(skim_folder(config, analysis) / name)
            check_skim(skim, scorer, roles.misc)
            shifts = shifts_of(analysis, sample)
            check_variations(skim, shifts)
            never_trained = all(s["never_trained"] for s in skim.metadata["samples"])
            cut = skim.metadata["config"]["common_cut"]
            wanted = {shift.suffix for shift in shifts}
            files = _of_skim(config, scorer, sample.name, skim, roles, wanted)
        else:
            never_trained, cut = sample.never_trained, config.cut
            files = _ntuples(config, scorer, sample, roles, analysis)
            check_trained_files([f.fingerprint for f in files], {sample.group}, scorer)
        for file in files:
            check_entry_rule(rule, scorer.recipe.files, file.fingerprint, never_trained)
        if rule.n_splits == 1 and sample.group not in groups:
            log.info(
                "%s shares no events with a training sample (its group is %s): none of its rows "
                "counts as trained on",
                sample.name,
                sample.group,
            )
        alternative = alternative_of(analysis, sample.name)
        found.append(InputSample(sample.name, cut, roles.misc, files, alternative))
    return found


def _of_skim(
    config: PredictConfig,
    scorer: Scorer,
    sample: str,
    skim: Skim,
    roles: Roles,
    wanted: Set[str],
) -> tuple[InputFile, ...]:
    """Return the files that a sample's skim was made of, with the shifts that are wanted of it."""
    stored, described = skim.groups["misc_features"], skim.metadata["files"]
    for name in roles.misc:
        if name not in stored:
            raise InputError(
                f"misc_features: '{name}' is not in {skim.path}; {nearest(name, stored)}"
            )
    files = []
    shifts = tuple(
        {**_described(stored), "replaced": stored["replaced"].get(sample, {})}
        for stored in skim.metadata.get("shifts", [])
        if stored["suffix"] in wanted and (stored["features"] or stored["cut"])
    )
    paths = [location(stated["path"]) for stated in described]
    for code, (stated, path) in enumerate(zip(described, paths, strict=True)):
        if config.orig_path is not None:
            template = config.orig_filename_template if len(described) == 1 else None
            name = template.format(sample_name=sample) if template else _tail(path, paths)
            path = joined(config.orig_path, name)
        elif isinstance(path, Url) and not servers.is_known(path):
            raise InputError(
                f"{skim.path} names {path} as the input of sample {sample}, on a server that no "
                "preprocessing of this project read from: if you mean that, give its folder as "
                "orig_path=..."
            )
        if isinstance(path, Path) and not path.is_file():
            raise InputError(
                f"{path}, the input of sample {sample}, is not there: "
                "give its folder as orig_path=..."
            )
        if scorer.recipe.fold.kind == "entry":
            check_same_file(path, stated, skim)
        span, features = RowRange(0, int(stated["n_entries"])), scorer.models.features
        source = SkimEntries(
            *(span, features, skim, rows_at_once(config.chunk_size, len(shifts))),
            shifts=tuple(s["suffix"] for s in shifts),
            code=code,
            path=path,
            roles=roles,
        )
        fingerprint = {k: v for k, v in stated.items() if k not in ("types", "group")}
        files.append(InputFile(path, fingerprint, source, shifts))
    return tuple(files)


def _tail(path: Location, paths: Sequence[Location]) -> str:
    """Return a file's name, behind the folders below the common one where another has the name."""
    if [p.name for p in paths].count(path.name) == 1:
        return path.name
    folders = zip(*(p.parent.parts for p in paths), strict=False)
    n_common = len([*takewhile(lambda names: len(set(names)) == 1, folders)])
    return "/".join(path.parts[n_common:])


def _ntuples(
    config: PredictConfig,
    scorer: Scorer,
    sample: Sample,
    roles: Roles,
    analysis: PreprocessConfig,
) -> tuple[InputFile, ...]:
    """Return the files of a sample."""
    files = []
    shifts, weight = shifts_of(analysis, sample), sample.weight or physics_weight(analysis)
    for info in reading.open_files(sample):
        tree = shifted_tree(
            *(info, shifts, roles, config.cut, weight, analysis.missing_values, sample.name),
            reads_weight=False,
        )
        n_rows = rows_at_once(config.chunk_size, len(tree.shifts))
        entries = reading.Entries(info, roles, config.cut, n_rows, tree)
        source = scorer.ntuple_entries(entries, sample.group)
        stated = tuple(
            {**shift.shift.described, "replaced": dict(shift.replaced)}
            for shift in tree.shifts
            if shift.is_scored
        )
        files.append(InputFile(info.path, ntuples.fingerprint(info), source, stated))
    return tuple(files)


def _described(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a friend tree says of a shift, of what a skim does."""
    return {k: v for k, v in stored.items() if k not in ("features", "cut", "factor", "replaced")}


def prediction_analysis(config: PredictConfig, scorer: Scorer) -> PreprocessConfig:
    """Return the run's analysis as the prediction path reads it, with the asked-for samples."""
    raw = dict(scorer.recipe.analysis)
    known = {sample_name(item): item for item in raw.get("prediction_samples") or []}
    names = list(config.sample_names) or list(known)
    if not names and config.input_path and not is_url(config.input_path):
        template = config.input_filename_template
        before, _, after = skim_name(template, "{sample_name}").partition("{sample_name}")
        found = project_path(config.input_path).glob(f"{before}*{after}")
        names = sorted(p.name.removeprefix(before).removesuffix(after) for p in found)
    if not names:
        raise RunError("the run's analysis names no prediction samples: give sample_names=[...]")
    raw["input_samples"] = [known.get(name, name) for name in names]
    described = raw.get("samples") or {}
    listed = {*names, *known, *map(sample_name, raw.get("training_samples") or [])}
    listed |= alternative_samples(raw.get("variations") or {})
    raw["samples"] = {name: of for name, of in described.items() if name in listed}
    raw["for_training"], raw["common_cut"], raw["chunk_size"] = False, config.cut, config.chunk_size
    raw["input_branches"] = None  # those of training samples
    if config.source == "ntuples":
        raw["input_path"] = config.input_path or config.orig_path or raw["input_path"]
    return load(PreprocessConfig, raw)


def skim_folder(config: PredictConfig, analysis: PreprocessConfig) -> Path:
    """Return the folder of the prediction skims."""
    if config.input_path:
        return project_path(config.input_path)
    if not analysis.skim_path:
        raise InputError("input_path is not set, and the run does not know: name the skims' folder")
    return project_path(analysis.skim_path) / "prediction"


def _misc(config: PredictConfig, analysis: PreprocessConfig) -> tuple[str, ...]:
    chosen = analysis.misc_features if config.misc_features is None else config.misc_features
    skipped = {*COMPUTED_COLUMNS, *analysis.identity_columns}
    misc = tuple(name for name in chosen if name not in skipped)
    names = branch_names(0, config.output_branch_prefix or "")
    for name in (*analysis.identity_columns, *misc):
        if name in names.all or name.startswith(names.pred_class):
            raise ConfigError(
                f"'{name}' is the name of a branch that predictions make: identify events by "
                f"another, or rename a misc feature in derived_features, for example 'old: {name}'"
            )
    return misc
