"""What a training leaves in its run: parameters, curves, models and the recipe."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from utils.columns.arrays import RowRange
from utils.columns.audit import LeakAudit, unique_identities
from utils.formats.runs import RECIPE, NewRun, SkimEntry
from utils.formats.skims import FEATURE_GROUPS, Skim, open_skim, origin
from utils.models import FoldResult, Split, kind
from utils.schema import (
    LABELLED,
    PreprocessConfig,
    Recipe,
    RunError,
    TrainConfig,
    is_url,
    load,
    location,
    portable,
    project_path,
)
from utils.stages.training import ranking
from utils.stages.training.training_set import TrainingSet, place_of_test_skim
from utils.system.files import scratch

log = logging.getLogger(__name__)

PACKAGES = ("mlflow", "numpy", "pandas", "scikit-learn", "uproot")


def tags(config: TrainConfig, skim: Skim) -> dict[str, str]:
    """Return the tags that runs are found and grouped by in the UI."""
    made = skim.metadata["config"]
    return {
        "analysis": made.get("analysis_name") or config.analysis_name,
        "channel": made.get("channel") or config.channel,
        "year": made.get("year") or config.year,
        "data_fingerprint": origin(skim.metadata),
        "pipeline_fingerprint": skim.metadata["pipeline"]["fingerprint"][:16],
    }


def _parameters(config: TrainConfig, data: TrainingSet) -> dict[str, Any]:
    """Return the parameters of a run: what people compare runs by.

    Names that MLproject declares are left to it where it may leave them empty.
    """
    return {
        "analysis": config.analysis_name,
        "year": config.year,
        "skim": portable(config.skim_file),
        "n_splits": config.n_splits,
        "fold_rule": data.rule.kind,
        "xtrain_split_feature": ",".join(data.rule.columns),
        "training_weight": data.weight_name,
        "negative_weights": config.negative_weights,
        "validated_on": config.validation,
        "n_features": len(data.features),
        "n_events": len(data.target),
        "n_classes": len(data.classes),
        "seed": config.seed,
        "model_kind": config.model_kind,
        **{f"model_{key}": value for key, value in config.model_param.items()},
    }


def log_training(
    run: NewRun,
    config: TrainConfig,
    data: TrainingSet,
    rows: Sequence[Split],
    audit: LeakAudit,
    folds: Callable[[], Sequence[FoldResult]],
    n_threads: int = 1,
) -> None:
    """Log parameters, models, curves, importances, and last the recipe with a manifest.

    `folds` waits for the folds, which train meanwhile. A store that is lost then may be back when
    they are done, and else they are kept.
    """
    told = _parameters(config, data)
    try:
        run.log_parameters(told)  # for who looks at the run while it trains
    except RunError as error:
        log.warning("Warning: %s; the training goes on", error)
    results = folds()
    models = kind(config.model_kind)
    run.log_skims(_skims(config, data.skim))
    if models.FLAVOR is not None:  # before metrics: MLflow links those of a step 0 to every model
        example = data.skim.matrix(data.features, RowRange(0, min(5, data.skim.n_rows)))
        run.log_models(models.FLAVOR, [r.model for r in results], data.features, example)
    numbers = ranking.summary(config, data, results, n_threads)
    run.log_curves({**_curves(results), **{name: [(0, v)] for name, v in numbers.items()}})
    run.log_parameters({**told, "sorted_by": ranking.sorted_by(numbers, results)})
    with scratch() as folder:
        recipe = folder / "recipe"
        recipe.mkdir()
        for split, result in zip(rows, results, strict=True):
            (recipe / f"model_{result.index}{models.SUFFIX}").write_text(
                result.model, encoding="utf-8"
            )
            trained = unique_identities(data.identity, split.train)
            np.save(recipe / f"trained_{result.index}.npy", trained)
        _write_rows(recipe / "audit.csv", audit.to_rows())
        _write_rows(recipe / "importances.csv", _importances(data, results))
        (recipe / "curves.json").write_text(
            json.dumps({r.index: r.curves for r in results}), encoding="utf-8"
        )
        packages = sorted({*models.PACKAGES, *PACKAGES})
        (recipe / "environment.json").write_text(
            json.dumps({"python": platform.python_version(), **{p: version(p) for p in packages}}),
            encoding="utf-8",
        )
        (folder / RECIPE).write_text(
            make_recipe(config, data, audit, results).to_json(), encoding="utf-8"
        )
        run.publish(folder, {"models": [r.index for r in results]})


def make_recipe(
    config: TrainConfig,
    data: TrainingSet,
    audit: LeakAudit,
    results: Sequence[FoldResult],
) -> Recipe:
    """Return all that prediction and evaluation will need of this training."""
    meta = data.skim.metadata
    models = [kind(config.model_kind).open_model(r.model) for r in results]
    return Recipe(
        analysis=meta["config"],
        training=config.model_dump(mode="json", by_alias=True),
        classes=data.classes,
        features=data.features,
        pipeline=meta["pipeline"],
        fold=data.rule,
        weight=data.weight_name,
        objective=models[0].objective,
        models=tuple(
            {
                "index": r.index,
                "fingerprint": model.fingerprint,
                "best_iteration": r.best_iteration,
                "n_train": r.n_train,
                "n_validation": r.n_validation,
            }
            for r, model in zip(results, models, strict=True)
        ),
        samples=tuple(meta["samples"]),
        files=tuple(meta["files"]),
        skims={
            "train": portable(data.skim.path),
            "test": portable(place_of_test_skim(config, data.skim)),
            **_labelled_skim(data.skim),
            "origin": origin(meta),
            "test_origin": origin(
                open_skim(project_path(config.test_file)).metadata if config.test_file else meta
            ),
        },
        audit=tuple(audit.to_rows()),
        audit_passed=audit.passed,
    )


def _skims(config: TrainConfig, skim: Skim) -> list[SkimEntry]:
    """Return the skims of this training that are there: trained on, for tests, labelled."""
    places = {"training": skim.path, "testing": place_of_test_skim(config, skim)}
    if labelled := _labelled_skim(skim):
        places["evaluation"] = project_path(labelled[LABELLED])
    there = {use: open_skim(path) for use, path in places.items() if path.is_file()}
    return [
        SkimEntry(
            name=used.path.stem,
            context=use,
            digest=_digest(used, use),
            place=portable(used.path),
            n_rows=used.n_rows,
            n_columns=sum(len(used.groups[group]) for group in FEATURE_GROUPS),
        )
        for use, used in there.items()
    ]


def _labelled_skim(skim: Skim) -> dict[str, str]:
    """Return the place of the labelled skim beside the training skim, where there is one."""
    made = load(PreprocessConfig, skim.metadata["config"])
    if all(sample.role == "training" for sample in made.read_samples):
        return {}
    return {LABELLED: portable(skim.path.with_name(made.skim_file(LABELLED).name))}


def _digest(skim: Skim, use: str) -> str:
    """Return what tells this skim's rows from those of others of the same origin, and of others."""
    said = json.dumps([origin(skim.metadata), use, skim.n_rows])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _curves(results: Sequence[FoldResult]) -> dict[str, list[tuple[int, float]]]:
    """Return learning curves by fold, as metrics with steps, and where each is at its best."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for result in results:
        fold, best = f"fold_{result.index}", result.best_iteration
        curves |= {f"{fold}/{name}": points for name, points in result.curves.items()}
        values = ranking.at_best(result).items()
        curves |= {f"{fold}/best/{name}": [(best, value)] for name, value in values}
        curves[f"{fold}/best_iteration"] = [(0, float(best))]
    return curves


def _importances(data: TrainingSet, results: Sequence[FoldResult]) -> list[dict[str, Any]]:
    return [
        {"feature": name, "fold": r.index, **{k: v[i] for k, v in r.importances.items()}}
        for i, name in enumerate(data.features)
        for r in results
    ]


def _write_rows(path: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def places(config: TrainConfig) -> list[str]:
    """Return the folders and files that the training's configuration names."""
    skims = [str(Path(name).parent) for name in (config.train_file, config.test_file) if name]
    friends = [f"{config.skim_path}/../friends"] if config.skim_path else []
    return [config.input_path, config.skim_path, *friends, *skims, *_named_files(config)]


def _named_files(config: TrainConfig) -> list[str]:
    """Return the folders of the absolute paths and URLs among the files of samples."""
    files = [s.files for s in config.samples.values()]
    files += [
        item.get("files")
        for item in (*config.training_samples, *config.prediction_samples)
        if isinstance(item, Mapping)
    ]
    listed = [f for some in files for f in ([some] if isinstance(some, str) else some or [])]
    return [
        str(location(f).parent)
        for f in map(str, listed)
        if is_url(f) or Path(f).expanduser().is_absolute()
    ]


def next_commands(run: NewRun, prefix: str) -> list[str]:
    """Return the commands that come next, ids filled in, to paste."""
    ids = f"experiment_id={run.experiment_id} run_id={run.run_id}"
    return [
        f"Trained: run_id={run.run_id} experiment_id={run.experiment_id}",
        "Next:",
        f"  {prefix}python predict.py --config-name for_evaluation.yaml {ids}",
        f"  {prefix}python predict.py --config-name for_datacards.yaml {ids}",
        f"  {prefix}python evaluate.py {ids} dataset=test",
        f"  {prefix}mlflow ui",
    ]
