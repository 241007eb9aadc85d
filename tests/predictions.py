"""Predictions of a sample S by five models that differ, from its skim or its ntuple."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import uproot

from utils.columns.pipeline import FeaturePipeline
from utils.models import scoring
from utils.schema import (
    ClassInfo,
    FoldRule,
    PredictConfig,
    PreprocessConfig,
    Recipe,
    load,
)
from utils.stages.prediction import output_kind
from utils.stages.prediction.outputs import Task, write
from utils.stages.prediction.scorer import Scorer
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.prediction_skims import PredictionTask, write_prediction_skim

PIPELINE = FeaturePipeline(("x", "y"), ("x", "y"), mean=(0.5, -1.0), scale=(2.0, 0.25))
CLASSES = ("signal", "background", "other")


def analysis(folder: Path, **keys: Any) -> dict[str, Any]:
    config = load(
        PreprocessConfig,
        {
            "for_training": True,
            "input_path": str(folder),
            "input_tree_name": "events",
            "prediction_samples": ["S"],
            "skim_path": str(folder / "skims"),
            "cont_features": ["x", "y"],
            "cat_features": ["n"],
            "misc_features": ["x", "run"],
            "derived_features": {},
            **keys,
        },
    )
    return config.model_dump(mode="json", by_alias=True)


def scorer_of(
    folder: Path, boosters: tuple[lightgbm.Booster, ...], rule: FoldRule, **keys: Any
) -> Scorer:
    texts = [b.model_to_string() for b in boosters[: rule.n_splits]]
    features = ("x", "y", "n")
    models = scoring.open_models("lightgbm", texts, rule, features, "the test")
    recipe = Recipe(
        analysis=analysis(
            folder,
            n_splits=rule.n_splits,
            fold_rule=rule.kind,
            xtrain_split_feature="evt",
            **keys,
        ),
        training={},
        classes=tuple(ClassInfo(name=n) for n in CLASSES),
        features=features,
        pipeline=PIPELINE.to_json(),
        fold=rule,
        weight="w_class_imbalance",
        objective="multiclass",
        models=tuple({"index": i} for i in range(rule.n_splits)),
        samples=({"name": "T", "group": "T"},),
        files=(),
        skims={},
        audit=(),
        audit_passed=True,
    )
    nothing = np.empty(0, np.uint64)
    return Scorer("run", models, recipe, (nothing,) * rule.n_splits)


def write_tree(folder: Path, columns: Mapping[str, np.ndarray[Any, Any]], basket: int) -> Path:
    path = folder / "S.root"
    with uproot.recreate(path) as file:
        tree = file.mktree("events", {name: values.dtype for name, values in columns.items()})
        for start in range(0, len(columns["evt"]), basket):
            tree.extend({n: v[start : start + basket] for n, v in columns.items()})
    return path


def friend_of(folder: Path, scorer: Scorer, config: dict[str, Any]) -> dict[str, Any]:
    """Predict sample S into a friend tree and return its columns."""
    (path,) = friend_paths(friend_task(folder, scorer, config))
    with uproot.open(path) as file:
        columns: dict[str, Any] = file["pred"].arrays(library="np")
    return columns


def friend_task(folder: Path, scorer: Scorer, config: dict[str, Any]) -> Task:
    """Return what makes the friend trees of sample S, in `folder`/friends."""
    base = {"kind": "for_datacards", "run_id": "run", "sample_names": ["S"]}
    full = load(PredictConfig, {**base, "output_path": str(folder / "friends"), **config})
    (task,) = output_kind(full.kind)(full, scorer).tasks(folder)
    return task


def friend_paths(task: Task) -> list[Path]:
    """Write the friend trees of a sample and return their paths."""
    outcomes, _ = write(task)
    return [path for outcome in outcomes for path in outcome.files.values()]


def make_skim(folder: Path, scorer: Scorer, cut: str | None, chunk_size: int) -> None:
    raw = {**scorer.recipe.analysis, "for_training": False, "common_cut": cut}
    config = load(PreprocessConfig, {**raw, "input_samples": ["S"], "chunk_size": chunk_size})
    plan = reading.plan(config, config.read_samples)
    path = folder / "skims" / "prediction" / "S.h5"
    write_prediction_skim(PredictionTask(config, plan, PIPELINE, path))


MODULO = FoldRule("modulo", ("evt",), 2)
