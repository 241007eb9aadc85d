"""A logged table of scored events -> what is evaluated, and what the table lacks.

Light on purpose: evaluating a table needs nothing of what made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.columns.arrays import Array
from utils.formats import tables
from utils.formats.tables import FEATURE_PREFIX, INFOLD_PREFIX, WEIGHT_PREFIX
from utils.schema import PHYSICS_WEIGHT, TARGET, Recipe, RunError, nearest

if TYPE_CHECKING:
    from utils.results.events import EvaluationTable


def read_table(path: Path, recipe: Recipe, dataset: str) -> tuple[EvaluationTable, dict[str, str]]:
    """Return a logged table, and what it lacks: section -> reason.

    Raises RunError where it is no table of this run's classes.
    """
    import pyarrow as pa

    from utils.results.events import EvaluationTable

    table, description = tables.read(path)
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
        return tables.numbers(table[name])

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
        classes=recipe.classes,
        proba=proba,
        target=column(TARGET).astype(np.int64),
        fold=column("fold").astype(np.int64) if "fold" in has else np.zeros(len(proba), np.int64),
        weight=column(weight).astype(np.float64) if has_weight else None,
        process=tables.texts(table["process"]) if "process" in has else None,
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


def has_features(names: Sequence[str]) -> list[str]:
    """Return the columns among `names` that hold untransformed features."""
    return [n for n in names if n.startswith(FEATURE_PREFIX)]
