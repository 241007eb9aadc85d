"""What is to be predicted: a run's models, and the samples, skims and files that fit them.

Everything is checked against the run's recipe here, before any work.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.expressions import expand
from utils.columns.folds import check_entry_rule
from utils.formats import ntuples
from utils.formats.friends import FOLD, PRED_CLASS
from utils.formats.skims import Skim, open_skim
from utils.models.scoring import FoldModels
from utils.schema import (
    COMPUTED_COLUMNS,
    AnalysisConfig,
    ConfigError,
    InputError,
    PredictConfig,
    PreprocessConfig,
    Recipe,
    RunError,
    Sample,
    load,
    nearest,
    project_path,
)
from utils.stages.preprocessing import reading

log = logging.getLogger(__name__)


TRAINED_ON = "trained_on"
"""Branch that flags rows the scoring model was trained on; only with one fold can there be any."""


@dataclass(frozen=True)
class Scorer:
    """A run as prediction needs it: models, recipe and what each model was trained on."""

    run_id: str
    models: FoldModels
    recipe: Recipe
    trained: tuple[NDArray[np.uint64], ...]

    @cached_property
    def analysis(self) -> AnalysisConfig:
        return preprocess_config(self.recipe)

    @property
    def probability_names(self) -> list[str]:
        return [f"pred_class_{i}_proba" for i in range(self.models.n_classes)]


def preprocess_config(recipe: Recipe) -> PreprocessConfig:
    """Return the configuration of the preprocessing that a run's training skim was made with."""
    return load(PreprocessConfig, recipe.analysis)


@dataclass(frozen=True)
class InputFile:
    """One input file of a sample and the friend tree to be made of it.

    `types` are those of the columns a friend copies, where a skim may have widened them because
    another file of the sample has other types.
    """

    path: Path
    tree: str
    fingerprint: Mapping[str, Any]
    types: Mapping[str, str]
    code: int
    output: Path


@dataclass(frozen=True)
class FriendTask:
    """A sample to be scored into friend trees, from its skim or straight from its ntuples."""

    sample: Sample
    config: PredictConfig
    scorer: Scorer
    skim: Skim | None
    plan: reading.Plan | None
    files: tuple[InputFile, ...]
    misc: tuple[str, ...]
    n_threads: int

    def __str__(self) -> str:
        return f"sample {self.sample.name}"

    @property
    def n_entries(self) -> int:
        return sum(int(f.fingerprint["n_entries"]) for f in self.files)


def friend_tasks(
    config: PredictConfig, scorer: Scorer, output_folder: Path, n_threads: int
) -> list[FriendTask]:
    """Return one task a sample, all checked against the run's recipe before any work.

    Raises ConfigError or InputError where a sample, skim or file is missing or does not fit.
    """
    if config.cut is not None and config.source == "skims":
        raise ConfigError(
            "cut is for source=ntuples: a skim holds what its own cut left, so preprocess the "
            "prediction samples with common_cut"
        )
    analysis = prediction_analysis(config, scorer.recipe)
    misc = _misc(config, analysis)
    tasks = []
    for sample in analysis.read_samples:
        skim = plan = None
        if config.source == "skims":
            skim = open_skim(skim_folder(config, analysis) / _named(config, sample.name))
            check_skim(skim, scorer)
            described = [
                (project_path(f["path"]), f["tree"], _without(f, "types"), f.get("types", {}))
                for f in skim.metadata["files"]
            ]
            stored = {**skim.groups["misc_features"], **skim.groups["identity"]}
            for name in misc:
                if name not in stored:
                    raise InputError(
                        f"misc_features: '{name}' is not in {skim.path}; {nearest(name, stored)}"
                    )
        else:
            plan = reading.plan(analysis, [sample], misc=misc, weighted=False)
            described = [(t.path, t.tree, ntuples.fingerprint(t), {}) for t in plan.trees]
        files = _files(config, sample, described, output_folder)
        for file in files:
            never = sample.never_trained
            if skim is not None:
                never = all(s["never_trained"] for s in skim.metadata["samples"])
            check_entry_rule(scorer.models.rule, scorer.recipe.files, file.fingerprint, never)
            if skim is not None and scorer.models.rule.kind == "entry":
                _check_same_file(file, skim)
        tasks.append(FriendTask(sample, config, scorer, skim, plan, files, misc, n_threads))
    groups = {s["group"] for s in scorer.recipe.samples}
    for task in tasks:
        if scorer.models.rule.n_splits == 1 and task.sample.group not in groups:
            log.info(
                "%s shares no events with a training sample (its group is %s): none of its rows "
                "counts as trained on",
                task.sample.name,
                task.sample.group,
            )
    outputs = [f.output for t in tasks for f in t.files]
    inputs = {f.path.resolve() for t in tasks for f in t.files}
    for output in outputs:
        if output.resolve() in inputs:
            raise ConfigError(
                f"the friend tree {output} would replace an input file: give another output_path "
                "or output_filename_template"
            )
        if outputs.count(output) > 1:
            raise InputError(f"two input files would both make {output}: rename one of them")
    return tasks


def prediction_analysis(config: PredictConfig, recipe: Recipe) -> PreprocessConfig:
    """Return the run's analysis as the prediction path reads it, with the asked-for samples."""
    raw = dict(recipe.analysis)
    known = {
        name: item
        for item in raw.get("prediction_samples") or []
        for name in [
            str(item.get("sample", next(iter(item)))) if isinstance(item, Mapping) else str(item)
        ]
    }
    names = list(config.sample_names) or list(known)
    if not names and config.input_path:
        suffix = config.input_filename_template.split("{sample_name}")[-1]
        folder = project_path(config.input_path)
        names = sorted(p.name.removesuffix(suffix) for p in folder.glob(f"*{suffix}"))
    if not names:
        raise RunError("the run's analysis names no prediction samples: give sample_names=[...]")
    raw["input_samples"] = [known.get(name, name) for name in names]
    described = raw.get("samples") or {}
    raw["samples"] = {name: described[name] for name in names if name in described}
    raw["for_training"], raw["common_cut"], raw["chunk_size"] = False, config.cut, config.chunk_size
    raw["input_branches"] = None  # those of training samples
    if config.source == "ntuples":
        raw["input_path"] = config.input_path or raw["input_path"]
    return load(PreprocessConfig, raw)


def skim_folder(config: PredictConfig, analysis: PreprocessConfig) -> Path:
    """Return the folder of the prediction skims."""
    if config.input_path:
        return project_path(config.input_path)
    if not analysis.skim_path:
        raise InputError("input_path is not set, and the run does not know: name the skims' folder")
    return project_path(analysis.skim_path) / "prediction"


def check_skim(skim: Skim, scorer: Scorer) -> None:
    """Raise InputError where a skim was made with another pipeline, class list or features."""
    recipe, meta = scorer.recipe, skim.metadata
    mine, its = recipe.pipeline["fingerprint"], meta["pipeline"]["fingerprint"]
    if mine != its:
        raise InputError(
            f"{skim.path} was made with the feature pipeline {its[:12]}, run {scorer.run_id} with "
            f"{mine[:12]}: preprocess it again with the run's pipeline"
        )
    names, wanted = [c["name"] for c in meta["classes"]], [c.name for c in recipe.classes]
    if names and names != wanted:
        raise InputError(
            f"{skim.path} was made for the classes {', '.join(names)}, run {scorer.run_id} has "
            f"{', '.join(wanted)}"
        )
    identity = list(scorer.analysis.identity_columns)
    if meta["identity"] != identity:
        raise InputError(
            f"{skim.path} identifies events by {', '.join(meta['identity'])}, run {scorer.run_id} "
            f"by {', '.join(identity)}: the leak audit would compare nothing; preprocess it again "
            "with the run's identity"
        )
    _check_groups(skim, scorer)
    _check_definitions(skim, scorer)
    stored = {**skim.groups["cont_features"], **skim.groups["cat_features"]}
    for name in recipe.features:
        if name not in stored:
            raise InputError(
                f"{skim.path} has no feature '{name}' of run {scorer.run_id}; "
                f"{nearest(name, stored)}"
            )


def _check_groups(skim: Skim, scorer: Scorer) -> None:
    """Raise InputError where a skim has a training sample's events under another name.

    The leak audit would compare nothing, and `never_trained` would lift the protection of folds.
    """
    trained = {s["name"]: s["group"] for s in scorer.recipe.samples}
    for sample in skim.metadata["samples"]:
        name, group = sample["name"], sample["group"]
        expected = trained.get(name, group)
        if group != expected:
            raise InputError(
                f"{skim.path} has sample {name} in the group {group}, run {scorer.run_id} was "
                f"trained on it in the group {expected}: preprocess it again with the run's"
            )
        if sample["never_trained"] and group in trained.values():
            raise InputError(
                f"{skim.path} declares sample {name} never_trained, but run {scorer.run_id} was "
                "trained on it (or its group): drop never_trained and preprocess it again"
            )


def _check_definitions(skim: Skim, scorer: Scorer) -> None:
    """Raise InputError where a feature means something else in a skim than in the run."""
    run, its = scorer.recipe.analysis, skim.metadata["config"]
    compared = [("missing", "missing", run["missing"], its["missing"])]
    for name in sorted({*run["cont_features"], *run["cat_features"]}):
        for key in ("derived_features", "clip", "feature_info"):
            values = [config[key].get(name) for config in (run, its)]
            if key == "feature_info":  # of which labels may change
                values = [(value or {}).get("missing") for value in values]
            elif key == "derived_features":
                values = [_meaning(config, name) for config in (run, its)]
            compared.append((key, name, values[0], values[1]))
    for key, name, mine, other in compared:
        if json.dumps(mine) != json.dumps(other):  # as text, in which NaN equals NaN
            raise InputError(
                f"{skim.path} was made with another `{key}` ('{name}') than the training skim of "
                f"run {scorer.run_id}: preprocess it again with the run's"
            )


def _meaning(config: Mapping[str, Any], name: str) -> list[str] | None:
    """Return what computes a derived feature, its definitions filled in; None for a branch."""
    if name not in config["derived_features"]:
        return None
    definitions = {**config["derived_features"], **config["cuts"]}
    return [str(step) for step in expand(definitions[name], definitions).program]


def _check_same_file(file: InputFile, skim: Skim) -> None:
    """Raise InputError where a skim's entry numbers mean other events in the file of today."""
    now = ntuples.fingerprint(ntuples.open_tree(file.path, file.tree))
    for key in ("uuid", "n_entries", "size"):
        if now[key] != file.fingerprint[key]:
            raise InputError(
                f"{file.path} is not the file {skim.path} was made from ({key} {now[key]}, then "
                f"{file.fingerprint[key]}): folds are entry numbers, so preprocess it again"
            )


def _misc(config: PredictConfig, analysis: AnalysisConfig) -> tuple[str, ...]:
    chosen = analysis.misc_features if config.misc_features is None else config.misc_features
    skipped = {*COMPUTED_COLUMNS, *analysis.identity_columns}
    misc = tuple(name for name in chosen if name not in skipped)
    for name in misc:
        if name in (FOLD, TRAINED_ON) or name.startswith(PRED_CLASS):
            raise ConfigError(
                f"misc_features: '{name}' is the name of a branch that predictions make: leave it "
                f"out, or give it another name in derived_features, for example 'old: {name}'"
            )
    return misc


def _without(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k != key}


def _named(config: PredictConfig, sample_name: str) -> str:
    return config.input_filename_template.format(sample_name=sample_name)


def _files(
    config: PredictConfig,
    sample: Sample,
    described: Sequence[tuple[Path, str, Mapping[str, Any], Mapping[str, str]]],
    folder: Path,
) -> tuple[InputFile, ...]:
    files = []
    for code, (path, tree, fingerprint, types) in enumerate(described):
        if config.orig_path is not None:
            name = path.name
            if config.orig_filename_template is not None and len(described) == 1:
                name = config.orig_filename_template.format(sample_name=sample.name)
            path = project_path(config.orig_path) / name
        stem = sample.name if len(described) == 1 else path.stem
        output = folder / config.output_filename_template.format(sample_name=stem)
        if not path.is_file():
            raise InputError(
                f"{path}, the input of sample {sample.name}, is not there: "
                "give its folder as orig_path=..."
            )
        files.append(InputFile(path, tree, fingerprint, types, code, output))
    return tuple(files)
