"""Tables of scored events in a run: the names of their columns, and reading one.

Light on purpose: evaluating a table needs nothing of what made it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utils.schema import PHYSICS_WEIGHT, TARGET, Recipe, RunError, nearest

if TYPE_CHECKING:
    from utils.metrics import EvaluationTable

Array = NDArray[Any]

METADATA = b"htt-ml"
"""Key of the table's own description in the Parquet schema's metadata."""

FEATURE_PREFIX = "feature/"
INFOLD_PREFIX = "infold_class_"
WEIGHT_PREFIX = "weights/"


def read_table(path: Path, recipe: Recipe, dataset: str) -> tuple[EvaluationTable, dict[str, str]]:
    """Return a logged table, and what it lacks: section -> reason.

    Raises RunError where it is no table of this run's classes.
    """
    import pyarrow as pa

    from utils.metrics import EvaluationTable

    try:
        if path.suffix == ".csv":
            import pyarrow.csv

            table, description = pyarrow.csv.read_csv(path), {}
        else:
            import pyarrow.parquet

            # `read_table` would import what reads folders of files, and pandas.
            with pyarrow.parquet.ParquetFile(path) as file:
                table = file.read()
            description = json.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
    except (pa.ArrowException, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({' '.join(str(error).split())[:120]}): make it anew by predict.py"
        ) from None
    names = [f"pred_class_{i}_proba" for i in range(len(recipe.classes))]
    for name in [*names, TARGET]:
        if name not in table.column_names:
            raise RunError(
                f"{path.name} has no column '{name}'; {nearest(name, table.column_names)}"
            )
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise RunError(f"{path} is damaged: column '{name}' holds no numbers but {kind}")

    def column(name: str) -> Array:
        return _numbers(table[name])

    proba = np.stack([column(n).astype(np.float64) for n in names], axis=1)
    has = set(table.column_names)
    gaps: dict[str, str] = {}
    if path.suffix == ".csv":
        gaps["table"] = (
            "read from CSV, which has no features, processes, weights and in-fold scores"
        )
    if description.get("features_left_out"):
        gaps["features"] = description["features_left_out"]
    weight = WEIGHT_PREFIX + PHYSICS_WEIGHT
    weighted = any(s["weight"] is not None or s["factor"] != 1 for s in recipe.samples)
    has_weight = weight in has and (weighted or recipe.analysis.get("weight") is not None)
    fractions = description.get("process_fractions")
    if has_weight and fractions is None:
        gaps["yields"] = (
            "every process counts as evaluated by the same share, since the table does not know "
            "those of each: preprocess and predict again"
        )
    infold_names = [f"{INFOLD_PREFIX}{i}_proba" for i in range(len(names))]
    infold = None
    if infold_names[0] in has:
        infold = np.stack([column(n).astype(np.float64) for n in infold_names], axis=1)
    trained = WEIGHT_PREFIX + recipe.weight
    return EvaluationTable(
        classes=recipe.class_infos,
        proba=proba,
        target=column(TARGET).astype(np.int64),
        fold=column("fold").astype(np.int64) if "fold" in has else np.zeros(len(proba), np.int64),
        weight=column(weight).astype(np.float64) if has_weight else None,
        process=_process(table) if "process" in has else None,
        features={
            n.removeprefix(FEATURE_PREFIX): column(n) for n in has_features(table.column_names)
        },
        infold_proba=infold,
        dataset=dataset,
        fraction=float(description.get("fraction", 1.0)),
        process_fractions=fractions or {},
        n_folds=recipe.fold.n_splits,
        train_weight=column(trained) if trained in has else None,
    ), gaps


def _numbers(column: Any) -> Array:
    """Return an Arrow column as numpy's; what has no value is NaN."""
    if column.null_count or not column.num_chunks or column.type == "bool":
        values: Array = column.to_numpy()
        return values
    # `to_numpy` would import pandas, a third of a second.
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def has_features(names: Sequence[str]) -> list[str]:
    """Return the columns among `names` that hold untransformed features."""
    return [n for n in names if n.startswith(FEATURE_PREFIX)]


def _process(table: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    import pyarrow as pa

    encoded = table["process"].combine_chunks()
    if not isinstance(encoded, pa.DictionaryArray):
        encoded = encoded.dictionary_encode()
    return np.from_dlpack(encoded.indices).astype(np.int64), tuple(encoded.dictionary.to_pylist())
