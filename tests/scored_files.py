"""Files of made-up scores as a prediction writes them, and the recipe of their run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from utils.formats.tables import METADATA
from utils.schema import (
    PHYSICS_WEIGHT,
    TARGET,
    ClassInfo,
    FoldRule,
    Recipe,
)


def recipe(policy: str) -> Recipe:
    nothing: dict[str, Any] = {}
    return Recipe(
        analysis=nothing, training={"negative_weights": policy}, classes=(), features=(),
        pipeline=nothing, fold=FoldRule("entry", (), 2), weight="weight", objective="multiclass",
        models=(), samples=(), files=(), skims=nothing, audit=(), audit_passed=True,
    )  # fmt: skip


PROCESSES = ("common", "rare", "signed")


def selected(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Return 2,000 events of class a, 4 of a rare process and 500 with signs of class b."""
    process = np.repeat([0, 1, 2], [2000, 4, 500])
    weight = np.where(process == 2, np.where(rng.random(2504) < 0.2, -1.0, 1.0), 3.0)
    return {
        "targets": {TARGET: (process > 0).astype(np.int32)},
        "weights": {PHYSICS_WEIGHT: weight * rng.uniform(0.5, 1.5, 2504)},
        "provenance": {"process": process},
    }


def rows_of(groups: dict[str, dict[str, Any]], rows: Any) -> dict[str, dict[str, Any]]:
    return {g: {n: v[rows] for n, v in columns.items()} for g, columns in groups.items()}


def write_scored(path: Path, piece: dict[str, dict[str, Any]], **description: Any) -> None:
    process = piece["provenance"]["process"].astype(np.int32)
    proba = np.random.default_rng(5).dirichlet([1, 1], len(process))
    columns = {
        **{f"pred_class_{i}_proba": proba[:, i] for i in range(2)},
        **piece["targets"],
        "process": pa.DictionaryArray.from_arrays(pa.array(process), pa.array(PROCESSES)),
        f"weights/{PHYSICS_WEIGHT}": piece["weights"][PHYSICS_WEIGHT],
        **piece.get("features", {}),
    }
    made = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(description).encode()})
    pyarrow.parquet.write_table(made, path)


def weighted_recipe() -> Recipe:
    classes = (ClassInfo(name="a"), ClassInfo(name="b"))
    return replace(recipe("keep"), classes=classes, analysis={"weight": "w"})
