"""A training skim -> folds, weights, rows of each model, and the trained models."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils import folds, identities, processing, training, weights
from utils.engine import Engine, available_cores, progress
from utils.expressions import parse
from utils.schema import (
    TARGET,
    ConfigError,
    FoldRule,
    InputError,
    RunError,
    TrainConfig,
    nearest,
    project_path,
)
from utils.skims import Skim, open_skim
from utils.training import FoldResult, FoldTask, Parameters, Split

log = logging.getLogger(__name__)

Array = NDArray[Any]


@dataclass(frozen=True)
class TrainingSet:
    """The rows of a training skim that are learnt from, `(n,)` each, and what they mean.

    `rows` are their row numbers in the skim, in order. `identity` is a hash of who each event is.
    """

    skim: Skim
    features: tuple[str, ...]
    classes: tuple[dict[str, Any], ...]
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
        return [c["name"] for c in self.classes]


def open_training_skim(config: TrainConfig) -> Skim:
    """Return the skim to train on.

    Raises InputError where it is no training skim, ConfigError for features it does not have.
    """
    skim = open_skim(config.skim_file)
    if skim.metadata.get("kind") != "training":
        raise InputError(f"{skim.path} is no training skim: preprocess with for_training=true")
    stored = [*skim.groups["cont_features"], *skim.groups["cat_features"]]
    for name in features_of(config, skim):
        if name not in stored:
            raise ConfigError(
                f"training feature '{name}' is not in {skim.path}; {nearest(name, stored)}"
            )
        if set(name) & set('[]{}":,'):
            raise ConfigError(
                f"LightGBM takes no feature named '{name}': name it in derived_features, for "
                f"example 'first: {name}'"
            )
    if config.test_file:
        _check_test_skim(config, skim)
    return skim


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


def load(config: TrainConfig, skim: Skim) -> TrainingSet:
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
    names = [c["name"] for c in classes]
    name, weight = _weight(config, columns, skim)
    weights.check_weights(weight, f"training weight '{name}' of {skim.path}", target, names)
    fold = identities.folds_of_rows(rule, columns["identity"], columns["provenance"])
    identity = identities.of_rows(
        rule, columns["identity"], columns["provenance"], meta["samples"], meta["files"]
    )
    _log_weights(weight, target, fold, names)
    weight, positive = weights.apply_negative_policy(weight, target, config.negative_weights, names)
    part, kept, duplicates = folds.resolve_duplicates(identity, fold, config.duplicates)
    if duplicates.warning:
        log.warning("Warning: %s", duplicates.warning)
    rows = np.flatnonzero(positive & kept)
    data = TrainingSet(
        skim=skim,
        features=features_of(config, skim),
        classes=classes,
        rule=rule,
        weight_name=name,
        rows=rows,
        target=target[rows],
        weight=weight[rows],
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


def _classes(config: TrainConfig, skim: Skim, target: Array) -> tuple[dict[str, Any], ...]:
    stored = skim.metadata["classes"]
    mine = [{"id": i, **c.model_dump(mode="json")} for i, c in config.classes.items()]
    names, wanted = [c["name"] for c in stored], [c["name"] for c in mine]
    if mine and names != wanted:
        raise ConfigError(
            f"class_to_info names the classes {', '.join(wanted)}, but {skim.path} was made with "
            f"{', '.join(names)}: use the same list, or preprocess again"
        )
    present = np.bincount(target, minlength=len(stored))
    for c, count in zip(stored, present, strict=False):
        if count == 0:
            raise InputError(f"class {c['name']} has no events in {skim.path}")
    return tuple(mine or stored)


def _weight(
    config: TrainConfig, columns: Mapping[str, Mapping[str, Array]], skim: Skim
) -> tuple[str, NDArray[np.float64]]:
    """Return the name and values of the training weight: a column, or an expression of columns."""
    known = {**columns["identity"], **columns["misc_features"], **columns["weights"]}
    name = config.weight_name or "w_class_imbalance"
    expression = parse(name)
    for used in sorted(expression.names):
        if used not in known:
            raise ConfigError(
                f"weight_name '{name}' needs '{used}', which is not in {skim.path}; "
                f"{nearest(used, known)}: preprocess with this weight_name"
                + (" and compute_w_CP=true" if used == "w_cp" else "")
            )
    return name, np.asarray(expression.evaluate(known, skim.n_rows), np.float64)


def _log_weights(weight: Array, target: Array, fold: Array, names: list[str]) -> None:
    rows = weights.weight_summary(weight, target, fold, names)
    for line in weights.summary_table(rows).splitlines():
        log.info("%s", line)


def _check_folds(data: TrainingSet) -> None:
    n_splits = data.rule.n_splits
    if n_splits > 1:
        found = folds.check_balance(data.fold, n_splits, data.rule)
        log.info("Folds of %s events", ", ".join(map(str, found.sizes)))
        processes = data.skim.metadata["processes"]
        for group, names, what in (
            (data.process, processes, "process"),
            (data.target, data.class_names, "class"),
        ):
            warning = folds.independence(data.fold, group, n_splits, names, what).warning
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


def split(config: TrainConfig, data: TrainingSet) -> tuple[tuple[Split, ...], folds.LeakAudit]:
    """Return the rows each model learns and validates from, audited.

    Raises RunError where an event is on both sides.
    """
    inner = None
    n_splits = data.rule.n_splits
    if n_splits == 1 or config.validation == "inner":
        share = config.train_size if n_splits == 1 else 1 - config.validation_size
        _, left_out = processing.split(data.target, share, config.seed, data.process)
        part = np.zeros(len(data.target), np.int32)
        part[left_out] = 1
        # Repeated events validate where their first occurrence does.
        part, _, _ = folds.resolve_duplicates(data.identity, part, "keep_same_fold")
        inner = part == 1
    rows = training.splits(data.fold, n_splits, inner)
    audit = folds.audit_training(
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


@dataclass(frozen=True)
class _Matrix:
    """Loads the features of the rows that are learnt from, in whatever process asks."""

    skim: Skim
    features: tuple[str, ...]
    rows: Array

    def __call__(self) -> NDArray[np.float32]:
        matrix = self.skim.matrix(self.features)
        return matrix if len(self.rows) == len(matrix) else matrix[self.rows]


def settings_of(config: TrainConfig, data: TrainingSet) -> Parameters:
    """Return what LightGBM is told. Raises ConfigError for parameters it does not have."""
    return training.parameters(config.model_param, len(data.classes), config.seed)


def train(
    workers: Engine,
    config: TrainConfig,
    settings: Parameters,
    data: TrainingSet,
    rows: tuple[Split, ...],
) -> list[FoldResult]:
    """Train all folds side by side, the cores divided among them."""
    matrix: Callable[[], NDArray[np.float32]] = _Matrix(data.skim, data.features, data.rows)
    if workers.shares_memory:
        loaded = matrix()
        matrix = lambda: loaded  # noqa: E731
    every = config.train_metric_every or max(10, settings.num_iterations // 20)
    with _Watch(settings, len(rows)) as watch:
        tasks = [
            FoldTask(
                index=i,
                load=matrix,
                features=data.features,
                target=data.target,
                weight=data.weight,
                split=split,
                parameters=settings,
                n_threads=_threads(workers, i, len(rows)),
                n_binning_threads=available_cores() if workers.kind == "local" else 1,
                train_metric_every=every,
                watch=watch if workers.shares_memory else None,
            )
            for i, split in enumerate(rows)
        ]
        begin = time.perf_counter()
        results = []
        for result in workers.map(training.train_fold, tasks, threads=True):
            metric, points = next(iter(result.curves.items()))
            value = dict(points)[result.best_iteration]
            log.info(
                "Model %d: %d trees from %d events in %.1f s, %s %.5f at its best iteration",
                *(
                    result.index,
                    result.best_iteration,
                    result.n_train,
                    result.seconds,
                    metric,
                    value,
                ),
            )
            results.append(result)
    log.info("Trained %d models in %.1f s", len(results), time.perf_counter() - begin)
    return results


def _threads(workers: Engine, index: int, n_folds: int) -> int:
    """Return the threads of a fold: the cores, shared by the folds that train beside it.

    The last folds, where they are fewer than the workers, share all cores among themselves.
    """
    if workers.kind != "local":
        return 1
    beside = min(n_folds, workers.n_workers)
    last = n_folds % beside
    if index >= n_folds - last:
        beside = last
    return max(1, available_cores() // beside)


class _Watch:
    """Shows boosting rounds of all folds with the current metric, on a terminal only."""

    def __init__(self, settings: Parameters, n_folds: int) -> None:
        self.bar = progress(settings.num_iterations * n_folds, "rounds", "training")

    def __enter__(self) -> Callable[[int, int, str, float], None]:
        def show(index: int, step: int, name: str, value: float) -> None:
            self.bar.update(1)
            if sys.stderr.isatty():
                text = f"fold {index}, round {step}: {name} {value:.5f}"
                self.bar.set_postfix_str(text, refresh=False)

        return show

    def __exit__(self, *error: object) -> None:
        self.bar.close()
