"""A logged table of scored events -> what is evaluated, and what the table lacks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.columns.arrays import Array
from utils.columns.variations import shifted_name
from utils.formats import tables
from utils.formats.runs import Run
from utils.formats.tables import FEATURE_PREFIX, INFOLD_PREFIX, TRAINING_WEIGHT, WEIGHT_PREFIX
from utils.results.events import EvaluationTable, view_of_weights
from utils.schema import (
    PHYSICS_WEIGHT,
    SELECTED,
    TARGET,
    AnalysisConfig,
    Recipe,
    RunError,
    load,
    nearest,
)


def load_table(run: Run, recipe: Recipe, dataset: str) -> tuple[EvaluationTable, dict[str, str]]:
    """Return a table that predict.py logged (Parquet, else CSV), and what it lacks.

    Raises RunError naming the nearest table where there is none of that name.
    """
    name = dataset.removesuffix(".csv").removesuffix(".parquet")
    for suffix in (".csv",) if dataset.endswith(".csv") else (".parquet", ".csv"):
        path = f"pred/{name}{suffix}"
        if run.lists(path):
            return read_table(run.artifact(path, f"table {name}"), recipe, name)
    there = [p for p in run.artifacts("pred") if p.endswith((".parquet", ".csv"))]
    known = [Path(p).stem for p in there if "/audit_" not in p and run.lists(p)]
    hint = nearest(name, known)
    raise RunError(
        f"run {run.run_id} has no table '{name}'; {hint}: make it with "
        f"python predict.py --config-name for_evaluation.yaml run_id={run.run_id}"
    )


def other_table(run: Run, recipe: Recipe, dataset: str) -> EvaluationTable | None:
    """Return a table that an evaluation of another one looks at; None if it is not there."""
    if not run.lists(f"pred/{dataset}.parquet"):
        return None
    return load_table(run, recipe, dataset)[0]


def read_table(path: Path, recipe: Recipe, dataset: str) -> tuple[EvaluationTable, dict[str, str]]:
    """Return a logged table, and what it lacks: section -> reason.

    Rows that only a shift admits are left out. Raises RunError where it is no table of this run's
    classes.
    """
    table, description = tables.read(path, lambda name: _is_read(name, recipe))
    if (description.get("marked") or description.get("shifts")) and SELECTED in table.column_names:
        table = table.filter(table[SELECTED])  # the others are there for shifted scores alone
    return table_of(table, description, path, recipe, dataset)


def _is_read(name: str, recipe: Recipe) -> bool:
    """Return whether an evaluation looks at a column, but for what shifts make of it."""
    scores = [f"{i}_proba" for i in range(len(recipe.classes))]
    own = {TARGET, "fold", "process", WEIGHT_PREFIX + PHYSICS_WEIGHT, TRAINING_WEIGHT, SELECTED}
    own |= {f"{prefix}{score}" for prefix in ("pred_class_", INFOLD_PREFIX) for score in scores}
    return name in own or bool(has_features([name]))


def table_of(
    table: Any, description: Mapping[str, Any], path: Path, recipe: Recipe, dataset: str
) -> tuple[EvaluationTable, dict[str, str]]:
    """Return what was read from `path`, all rows of it, as `read_table` does."""
    import pyarrow as pa

    names = [f"pred_class_{i}_proba" for i in range(len(recipe.classes))]
    infold_names = [f"{INFOLD_PREFIX}{i}_proba" for i in range(len(names))]
    weight = WEIGHT_PREFIX + PHYSICS_WEIGHT
    for name in [*names, TARGET]:
        if name not in table.column_names:
            raise RunError(
                f"{path.name} has no column '{name}'; {nearest(name, tables.names(path))}"
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
    weighted = any(s["weight"] is not None or s["factor"] != 1 for s in recipe.samples)
    has_weight = weight in has and (weighted or recipe.analysis.get("weight") is not None)
    fractions = description.get("process_fractions")
    if has_weight and fractions is None:
        gaps["yields"] = (
            "every process counts as evaluated by the same share, since the table does not know "
            "those of each: preprocess and predict again"
        )
    infold = None
    if infold_names[0] in has:
        infold = np.stack([column(n).astype(np.float64) for n in infold_names], axis=1)
    features = [n.removeprefix(FEATURE_PREFIX) for n in has_features(table.column_names)]
    suffixes = [shift["suffix"] for shift in description.get("shifts", [])]
    shifted = {shifted_name(name, suffix) for name in features for suffix in suffixes}
    features = [name for name in features if name not in shifted]
    found = EvaluationTable(
        classes=recipe.classes,
        proba=proba,
        target=column(TARGET).astype(np.int64),
        fold=column("fold").astype(np.int64) if "fold" in has else np.zeros(len(proba), np.int64),
        weight=column(weight).astype(np.float64) if has_weight else None,
        process=tables.texts(table["process"]) if "process" in has else None,
        features={name: column(FEATURE_PREFIX + name) for name in features},
        missing=_missing(recipe, features),
        infold_proba=infold,
        dataset=dataset,
        fraction=float(description.get("fraction", 1.0)),
        process_fractions=fractions or {},
        n_folds=recipe.fold.n_splits,
        train_weight=column(TRAINING_WEIGHT) if TRAINING_WEIGHT in has else None,
    )
    return with_trained_view(found, gaps, recipe, description.get("weight_left_out", ""))


def with_trained_view(
    table: EvaluationTable, gaps: dict[str, str], recipe: Recipe, left_out: str
) -> tuple[EvaluationTable, dict[str, str]]:
    """Return the table with the view that its training weight is, if it is one.

    Where the table has no such weight (`left_out` says why) and it is not N/N_class, calibration
    is a gap, and no view is called the one trained with.
    """
    by_weight = recipe.analysis.get("class_balance") == "weight"
    plain = recipe.weight == "w_class_imbalance" and not by_weight
    if table.train_weight is None and plain:
        return table, gaps
    if table.train_weight is None:
        reason = left_out or f"the table has no {recipe.weight}"
        gaps = {**gaps, "calibration": f"it is judged under the weights trained with: {reason}"}
        return replace(table, trained_view=None), gaps
    return replace(table, trained_view=view_of_weights(table)), gaps


def has_features(names: Sequence[str]) -> list[str]:
    """Return the columns among `names` that hold untransformed features."""
    return [n for n in names if n.startswith(FEATURE_PREFIX)]


def _missing(recipe: Recipe, features: Sequence[str]) -> dict[str, float]:
    """Return what stands for a missing value in the features that declare one."""
    known = set(AnalysisConfig.model_fields)
    analysis = load(AnalysisConfig, {k: v for k, v in recipe.analysis.items() if k in known})
    declared = analysis.missing_values(features)
    return {name: m.replace for name, m in declared.items() if not math.isnan(m.replace)}
