"""A training skim -> folds, weights, rows of each model, and the trained models."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array
from utils.columns.audit import LeakAudit, audit_training, resolve_duplicates
from utils.columns.folds import check_balance, fold_of, independence
from utils.columns.identity import identity_of_rows
from utils.columns.roles import other_meaning
from utils.columns.splitting import train_test_rows
from utils.columns.weights import (
    WEIGHABLE,
    TrainingWeight,
    check_weights,
    summary_table,
    weight_summary,
)
from utils.formats.skims import SHIFTED, Skim, open_skim, origin
from utils.models import Split, kind, splits
from utils.schema import (
    SELECTED,
    TARGET,
    ClassInfo,
    ConfigError,
    FoldRule,
    InputError,
    PreprocessConfig,
    RunError,
    TrainConfig,
    classes_of_rows,
    load,
    nearest,
    project_path,
    skim_name,
)
from utils.stages.training.preprocessing_keys import check_preprocessing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """The rows of a training skim that are learnt from, `(n,)` each, and what they mean.

    `rows` are their row numbers in the skim, in order. `identity` is a hash of who each event is.
    """

    skim: Skim
    features: tuple[str, ...]
    classes: tuple[ClassInfo, ...]
    rule: FoldRule
    weight_name: str
    rows: Array
    target: NDArray[np.int32]
    weight: NDArray[np.float64]
    fold: NDArray[np.int32]
    identity: NDArray[np.uint64]
    process: Array

    @property
    def class_names(self) -> list[str]:
        return [c.name for c in self.classes]


def open_training_skim(config: TrainConfig) -> Skim:
    """Return the skim to train on.

    Raises InputError where it is no training skim, ConfigError for features that it does not
    have or that the kind of model does not take.
    """
    skim = open_skim(config.skim_file)
    if skim.metadata.get("kind") != "training":
        raise InputError(f"{skim.path} is no training skim: preprocess with for_training=true")
    if SELECTED in skim.groups.get(SHIFTED, {}):
        raise InputError(
            f"{skim.path} has rows that only variations admit, for tests of shifted scores: train "
            "on the train skim of its preprocessing"
        )
    check_preprocessing(config, skim)
    stored = [*skim.groups["cont_features"], *skim.groups["cat_features"]]
    features = features_of(config, skim)
    for name in features:
        if name not in stored:
            raise ConfigError(
                f"training feature '{name}' is not in {skim.path}; {nearest(name, stored)}"
            )
    kind(config.model_kind).check_features(features)
    if config.test_file:
        _check_test_skim(config, skim)
    else:
        _check_skim_beside(place_of_test_skim(config, skim), skim)
    return skim


def place_of_test_skim(config: TrainConfig, skim: Skim) -> Path:
    """Return where the test skim of a training is: `test_file`, else beside the training skim."""
    if config.test_file:
        return project_path(config.test_file)
    made = skim.metadata["config"]
    name = skim_name(made["output_filename_template"], made["output_samples"][1])
    return skim.path.with_name(name)


def _check_skim_beside(test: Path, skim: Skim) -> None:
    """Raise InputError where the test skim beside a training skim is of another preprocessing.

    One of them is replaced first: a preprocessing that was killed in between leaves such a pair.
    """
    if test.is_file() and origin(open_skim(test).metadata) != origin(skim.metadata):
        raise InputError(
            f"{test} and {skim.path} are of different preprocessings, of which one was ended: "
            "preprocess again"
        )


def _check_test_skim(config: TrainConfig, skim: Skim) -> None:
    """Raise InputError where the models could not be tested on `test_file`."""
    test = open_skim(project_path(config.test_file))
    for what, mine, its in (
        ("feature pipeline", *(s.metadata["pipeline"]["fingerprint"][:12] for s in (skim, test))),
        (
            "list of classes",
            *(", ".join(c["name"] for c in s.metadata["classes"]) for s in (skim, test)),
        ),
    ):
        if mine != its:
            raise InputError(
                f"test_file {test.path} was made with another {what} ({its}) than {skim.path} "
                f"({mine}): preprocess both alike"
            )
    made, tested = (load(PreprocessConfig, s.metadata["config"]) for s in (skim, test))
    other = other_meaning(made, tested, ())
    if other:
        raise InputError(
            f"test_file {test.path} was made with another {other} than {skim.path}: preprocess "
            "both alike"
        )


def features_of(config: TrainConfig, skim: Skim) -> tuple[str, ...]:
    """Return the training features in order; PCA's components replace the continuous ones."""
    pipeline = skim.metadata["pipeline"]
    inputs, outputs = pipeline["inputs"], pipeline["outputs"]
    wanted = config.features or (*outputs, *skim.groups["cat_features"])
    if inputs == outputs:
        return wanted
    kept = [name for name in wanted if name not in inputs]
    components = [] if any(name in outputs for name in kept) else outputs
    return (*components, *kept)


def load_training_set(config: TrainConfig, skim: Skim) -> TrainingSet:
    """Read everything but the features, apply the policies on weights and repeated events.

    Logs balance, independence and weights of the folds. Raises InputError where folds are too
    unequal, weights unusable, or a class is absent from what a model would learn from.
    """
    meta = skim.metadata
    rule = _rule(config, skim)
    columns = skim.read(
        {
            g: list(skim.groups[g])
            for g in ("targets", "weights", "misc_features", "identity", "provenance")
        }
    )
    target = columns["targets"][TARGET]
    classes = _classes(config, skim, target)
    names = [c.name for c in classes]
    weight = _training_weight(config, skim)
    raw = weight.raw(columns)
    check_weights(raw, f"training weight '{weight.expression}' of {skim.path}", target, names)
    fold = fold_of(rule, columns["identity"], columns["provenance"]["entry"])
    identity = identity_of_rows(
        rule, columns["identity"], columns["provenance"], meta["samples"], meta["files"]
    )
    for line in summary_table(weight_summary(raw, target, fold, names)).splitlines():
        log.info("%s", line)
    prepared, positive = weight.after_policy(raw, target, names)
    part, kept, duplicates = resolve_duplicates(identity, fold, config.duplicates)
    if duplicates.warning:
        log.warning("Warning: %s", duplicates.warning)
    rows = np.flatnonzero(positive & kept)
    data = TrainingSet(
        skim=skim,
        features=features_of(config, skim),
        classes=classes,
        rule=rule,
        weight_name=weight.expression,
        rows=rows,
        target=target[rows],
        weight=prepared[rows],
        fold=part[rows],
        identity=identity[rows],
        process=columns["provenance"]["process"][rows],
    )
    _check_folds(data)
    return data


def _rule(config: TrainConfig, skim: Skim) -> FoldRule:
    rule = config.fold
    stored = tuple(skim.groups["identity"])
    if rule.kind == "hash":
        rule = replace(rule, columns=stored)
    for name in rule.columns:
        if name not in stored:
            raise ConfigError(
                f"xtrain_split_feature '{name}' is no identity column of {skim.path}; "
                f"{nearest(name, stored)}: preprocess with it"
            )
    return rule


def _classes(config: TrainConfig, skim: Skim, target: Array) -> tuple[ClassInfo, ...]:
    stored = classes_of_rows(skim.metadata["classes"])
    mine = tuple(config.classes.values())
    names, wanted = [c.name for c in stored], [c.name for c in mine]
    if mine and names != wanted:
        raise ConfigError(
            f"class_to_info names the classes {', '.join(wanted)}, but {skim.path} was made with "
            f"{', '.join(names)}: use the same list, or preprocess again"
        )
    present = np.bincount(target, minlength=len(stored))
    for name, count in zip(names, present, strict=False):
        if count == 0:
            raise InputError(f"class {name} has no events in {skim.path}")
    return mine or stored


def _training_weight(config: TrainConfig, skim: Skim) -> TrainingWeight:
    """Return the training weight. Raises ConfigError where the skim lacks a column of it."""
    weight = TrainingWeight(config.weight_name or "w_class_imbalance", config.negative_weights)
    for used in weight.lacks(skim.groups):
        known = {n for g in WEIGHABLE for n in skim.groups[g]}
        raise ConfigError(
            f"weight_name '{weight.expression}' needs '{used}', which is not in {skim.path}; "
            f"{nearest(used, known)}: preprocess with this weight_name"
            + (" and compute_w_CP=true" if used == "w_cp" else "")
        )
    return weight


def _check_folds(data: TrainingSet) -> None:
    n_splits = data.rule.n_splits
    if n_splits > 1:
        found = check_balance(data.fold, data.rule)
        log.info("Folds of %s events", ", ".join(map(str, found.sizes)))
        processes = data.skim.metadata["processes"]
        for group, names, what in (
            (data.process, processes, "process"),
            (data.target, data.class_names, "class"),
        ):
            warning = independence(data.fold, group, n_splits, names, what).warning
            if warning:
                log.warning("Warning: %s", warning)
    for i in range(n_splits):
        learnt = data.target[data.fold != i] if n_splits > 1 else data.target
        seen = np.bincount(learnt, minlength=len(data.classes))
        for class_id in np.flatnonzero(seen == 0):
            why = f"all of its events are in fold {i}: use fewer folds, or fold_rule=hash"
            if not np.any(data.target == class_id):
                why = "negative_weights or duplicates dropped all of its events: choose others"
            raise InputError(
                f"model {i} would learn nothing of class {data.class_names[class_id]}: {why}"
            )


def split_rows(config: TrainConfig, data: TrainingSet) -> tuple[tuple[Split, ...], LeakAudit]:
    """Return the rows each model learns and validates from, audited.

    Raises RunError where an event is on both sides.
    """
    inner = None
    n_splits = data.rule.n_splits
    if n_splits == 1 or config.validation == "inner":
        share = config.train_size if n_splits == 1 else 1 - config.validation_size
        _, left_out = train_test_rows(data.target, share, config.seed, data.process)
        part = np.zeros(len(data.target), np.int32)
        part[left_out] = 1
        # Repeated events validate where their first occurrence does.
        part, _, _ = resolve_duplicates(data.identity, part, "keep_same_fold")
        inner = part == 1
    rows = splits(data.fold, n_splits, inner)
    audit = audit_training(
        data.identity, data.fold, [r.train for r in rows], [r.validation for r in rows]
    )
    log.info("%s", audit.summary)
    if inner is None:
        log.info(
            "Validation and predicted rows coincide: early stopping looks at the left-out folds "
            "(validation=inner keeps them apart)"
        )
    if not audit.passed:
        raise RunError(
            "the leak audit failed, nothing was trained: set duplicates=drop_later, or give "
            "samples that share no events different groups"
        )
    return rows, audit
