"""Tables of scored events: written for evaluation, logged to the run.

Parquet holds everything an evaluation can use; CSV the scores alone, for people and other tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.columns.arrays import Columns
from utils.columns.audit import LeakAudit, audit_prediction, merge_audits, trained_on
from utils.columns.expressions import parse
from utils.columns.folds import fold_of
from utils.columns.identity import identity_of_rows
from utils.columns.pipeline import FeaturePipeline
from utils.formats import tables
from utils.formats.skims import Skim
from utils.formats.tables import FEATURE_PREFIX, INFOLD_PREFIX, WEIGHT_PREFIX
from utils.models import scoring
from utils.schema import COMPUTED_COLUMNS, TARGET, InputError, RunError, nearest
from utils.stages.prediction.tasks import TRAINED_ON, Scorer

CHUNK_ROWS = 200_000
OWN = ("fold", TARGET, "pred_class", "pred_class_proba", TRAINED_ON, "process", "class")
"""Columns a table makes itself; a misc feature of that name would clash."""


@dataclass(frozen=True)
class TableTask:
    """A skim to be scored into `{name}.csv` and `{name}.parquet` in `folder`."""

    name: str
    skim: Skim
    scorer: Scorer
    misc: tuple[str, ...]
    folder: Path
    n_threads: int

    def __str__(self) -> str:
        return f"table {self.name}"


@dataclass(frozen=True)
class TableResult:
    """The files of a table, its number of events, and the audit of its rows."""

    name: str
    csv: Path
    parquet: Path
    n_events: int
    audit: LeakAudit


def write_table(task: TableTask) -> TableResult:
    """Score a skim chunk by chunk into CSV and Parquet.

    Raises RunError where the audit finds an event that its own model was trained on.
    """
    csv_path, parquet_path = (task.folder / f"{task.name}{s}" for s in (".csv", ".parquet"))
    audits = []
    with tables.write(csv_path, parquet_path, _description(task)) as writer:
        for start, stop in [*task.skim.chunks(CHUNK_ROWS)] or [(0, 0)]:
            columns, n_public, audit = _scored(task, start, stop)
            audits.append(audit)
            writer.append(columns, n_public)
        audit = merge_audits(audits)
        if not audit.passed:
            raise RunError(f"table {task.name}: {audit.summary}: it is not logged")
    return TableResult(task.name, csv_path, parquet_path, task.skim.n_rows, audit)


def _description(task: TableTask) -> dict[str, Any]:
    meta = task.skim.metadata
    return {
        "run_id": task.scorer.run_id,
        "dataset": task.name,
        "fraction": meta["fraction"],
        "process_fractions": meta.get("process_fractions"),
        "n_splits": task.scorer.models.rule.n_splits,
        "classes": [c.name for c in task.scorer.recipe.classes],
        "models": task.scorer.models.fingerprints,
        "skim_kind": meta["kind"],
        "features_left_out": _features_left_out(task),
    }


def _features_left_out(task: TableTask) -> str:
    pipeline = task.skim.metadata["pipeline"]
    if pipeline["components"] is None:
        return ""
    return "PCA was applied, and its components can't be turned back into features"


def _scored(task: TableTask, start: int, stop: int) -> tuple[dict[str, Any], int, LeakAudit]:
    """Return the columns of a range of rows, how many of them go into the CSV, and the audit."""
    skim, scorer = task.skim, task.scorer
    models, rule = scorer.models, scorer.models.rule
    groups = ("targets", "weights", "misc_features", "identity", "provenance")
    read = skim.read({g: list(skim.groups[g]) for g in groups}, start, stop)
    fold = fold_of(rule, read["identity"], read["provenance"]["entry"])
    meta = skim.metadata
    identity = identity_of_rows(
        rule, read["identity"], read["provenance"], meta["samples"], meta["files"]
    )
    audit = audit_prediction(scorer.trained, identity, fold)
    matrix = skim.matrix(models.features, start, stop)
    proba = scoring.score(models, matrix, fold, task.n_threads)
    target = read["targets"][TARGET]
    columns: dict[str, Any] = {**read["identity"]}
    columns |= {n: read["misc_features"][n] for n in task.misc if n not in columns}
    columns |= {"fold": fold, TARGET: target}
    columns |= {n: proba[:, i].astype(np.float32) for i, n in enumerate(scorer.probability_names)}
    columns["pred_class"] = np.argmax(proba, axis=1).astype(np.int32)
    columns["pred_class_proba"] = (
        proba.max(axis=1).astype(np.float32) if len(proba) else np.empty(0, np.float32)
    )
    if rule.n_splits == 1:
        columns[TRAINED_ON] = trained_on(scorer.trained[0], identity)
    n_public = len(columns)
    columns["process"] = (read["provenance"]["process"], list(meta["processes"]))
    names = [c.name for c in scorer.recipe.classes]
    columns["class"] = (np.where(target < 0, len(names), target), [*names, ""])
    columns |= {WEIGHT_PREFIX + n: values for n, values in read["weights"].items()}
    known = {**read["identity"], **read["misc_features"], **read["weights"]}
    trained = parse(scorer.recipe.weight)
    if trained.names <= known.keys():  # prediction skims may lack what training weighs by
        columns[WEIGHT_PREFIX + scorer.recipe.weight] = np.asarray(
            trained.evaluate(known, stop - start), np.float64
        )
    if meta.get("dataset") == "train":
        learnt = [trained_on(t, identity) for t in scorer.trained]
        infold = scoring.score_in_fold(models, matrix, learnt, task.n_threads)
        columns |= {
            f"{INFOLD_PREFIX}{i}_proba": infold[:, i].astype(np.float32)
            for i in range(infold.shape[1])
        }
    columns |= {FEATURE_PREFIX + n: v for n, v in _untransformed(skim, start, stop).items()}
    return columns, n_public, audit


def _untransformed(skim: Skim, start: int, stop: int) -> Columns:
    """Return the features as they were before the scaler; none of those that PCA mixed."""
    pipeline = FeaturePipeline.from_json(skim.metadata["pipeline"])
    cat = skim.read({"cat_features": list(skim.groups["cat_features"])}, start, stop)
    columns: Columns = dict(cat["cat_features"])
    if pipeline.components is not None:
        return columns
    values = skim.matrix(pipeline.outputs, start, stop).astype(np.float64)
    if pipeline.scale is not None:
        values *= pipeline.scale
    if pipeline.mean is not None:
        values += pipeline.mean
    return {
        **{n: values[:, i].astype(np.float32) for i, n in enumerate(pipeline.inputs)},
        **columns,
    }


def misc_of(chosen: Sequence[str], skim: Skim) -> tuple[str, ...]:
    """Return the misc features a table copies from a skim. Raises InputError for one not there."""
    stored = skim.groups["misc_features"]
    for name in chosen:
        if (
            name not in stored
            and name not in COMPUTED_COLUMNS
            and name not in skim.groups["identity"]
        ):
            raise InputError(
                f"misc_features: '{name}' is not in {skim.path}; {nearest(name, stored)}"
            )
    return tuple(n for n in chosen if n in stored and n not in OWN)
