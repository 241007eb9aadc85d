"""Tables of scored events: written for evaluation, logged to the run.

Parquet holds everything an evaluation can use; CSV the scores alone, for people and other tools.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils import folds, identities, inference
from utils.expressions import parse
from utils.files import complete
from utils.prediction_tasks import TRAINED_ON, Scorer
from utils.processing import FeaturePipeline
from utils.schema import COMPUTED_COLUMNS, TARGET, InputError, RunError, nearest
from utils.skims import Skim
from utils.tables import FEATURE_PREFIX, INFOLD_PREFIX, METADATA, WEIGHT_PREFIX

Array = NDArray[Any]
Columns = dict[str, Array]

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
    audit: folds.LeakAudit


def write_table(task: TableTask) -> TableResult:
    """Score a skim chunk by chunk into CSV and Parquet.

    Raises RunError where the audit finds an event that its own model was trained on.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    csv_path, parquet_path = (task.folder / f"{task.name}{s}" for s in (".csv", ".parquet"))
    audits = []
    description = json.dumps(_description(task)).encode()
    with ExitStack() as stack:
        csv_part = stack.enter_context(complete(csv_path))
        parquet_part = stack.enter_context(complete(parquet_path))
        writers: tuple[Any, Any] | None = None
        for start, stop in [*task.skim.chunks(CHUNK_ROWS)] or [(0, 0)]:
            columns, n_public, audit = _scored(task, start, stop)
            audits.append(audit)
            table = pa.table({name: _arrow(values) for name, values in columns.items()})
            table = table.replace_schema_metadata({METADATA: description})
            public = table.select(range(n_public))
            if writers is None:
                writers = (
                    stack.enter_context(pyarrow.csv.CSVWriter(str(csv_part), public.schema)),
                    stack.enter_context(
                        pyarrow.parquet.ParquetWriter(
                            parquet_part,
                            table.schema,
                            compression="zstd",
                            # For texts only: numbers that hardly repeat get larger and slower.
                            use_dictionary=[n for n, v in columns.items() if isinstance(v, tuple)],
                        )
                    ),
                )
            writers[0].write_table(public)
            writers[1].write_table(table)
        audit = folds.merge_audits(audits)
        if not audit.passed:
            raise RunError(f"table {task.name}: {audit.summary}: it is not logged")
    return TableResult(task.name, csv_path, parquet_path, task.skim.n_rows, audit)


def _arrow(values: Any) -> Any:
    """Return a column as Arrow's, of numbers or of (codes, names).

    From buffers, where that is possible: without a copy, and without pandas, which `pa.array` would
    import to look at what it is given.
    """
    import pyarrow as pa

    if isinstance(values, tuple):
        codes, names = values
        encoded = [name.encode() for name in names]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
        texts = pa.Array.from_buffers(
            pa.string(), len(names), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        )
        return pa.DictionaryArray.from_arrays(_arrow(codes.astype(np.int32)), texts)
    if values.dtype.kind not in "iuf":
        return pa.array(values)
    plain = np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(plain.dtype)
    return pa.Array.from_buffers(kind, len(plain), [None, pa.py_buffer(plain)])


def _description(task: TableTask) -> dict[str, Any]:
    meta = task.skim.metadata
    return {
        "run_id": task.scorer.run_id,
        "dataset": task.name,
        "fraction": meta["fraction"],
        "process_fractions": meta.get("process_fractions"),
        "n_splits": task.scorer.models.rule.n_splits,
        "classes": [c["name"] for c in task.scorer.recipe.classes],
        "models": task.scorer.models.fingerprints,
        "skim_kind": meta["kind"],
        "features_left_out": _features_left_out(task),
    }


def _features_left_out(task: TableTask) -> str:
    pipeline = task.skim.metadata["pipeline"]
    if pipeline["components"] is None:
        return ""
    return "PCA was applied, and its components can't be turned back into features"


def _scored(task: TableTask, start: int, stop: int) -> tuple[dict[str, Any], int, folds.LeakAudit]:
    """Return the columns of a range of rows, how many of them go into the CSV, and the audit."""
    skim, scorer = task.skim, task.scorer
    models, rule = scorer.models, scorer.models.rule
    groups = ("targets", "weights", "misc_features", "identity", "provenance")
    read = skim.read({g: list(skim.groups[g]) for g in groups}, start, stop)
    fold = identities.folds_of_rows(rule, read["identity"], read["provenance"])
    meta = skim.metadata
    identity = identities.of_rows(
        rule, read["identity"], read["provenance"], meta["samples"], meta["files"]
    )
    audit = folds.audit_prediction(scorer.trained, identity, fold)
    matrix = skim.matrix(models.features, start, stop)
    proba = inference.score(models, matrix, fold, task.n_threads)
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
        columns[TRAINED_ON] = folds.trained_on(scorer.trained[0], identity)
    n_public = len(columns)
    columns["process"] = (read["provenance"]["process"], list(meta["processes"]))
    names = [c["name"] for c in scorer.recipe.classes]
    columns["class"] = (np.where(target < 0, len(names), target), [*names, ""])
    columns |= {WEIGHT_PREFIX + n: values for n, values in read["weights"].items()}
    known = {**read["identity"], **read["misc_features"], **read["weights"]}
    trained = parse(scorer.recipe.weight)
    if trained.names <= known.keys():  # prediction skims may lack what training weighs by
        columns[WEIGHT_PREFIX + scorer.recipe.weight] = np.asarray(
            trained.evaluate(known, stop - start), np.float64
        )
    if meta.get("dataset") == "train":
        learnt = [folds.trained_on(t, identity) for t in scorer.trained]
        infold = inference.score_in_fold(models, matrix, learnt, task.n_threads)
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
