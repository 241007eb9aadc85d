"""Parts of this framework that a benchmark measures by themselves; each prints JSON.

python -m benchmarks.ours forest --analysis A.yaml
python -m benchmarks.ours loops --analysis A.yaml --against validation both nothing
python -m benchmarks.ours first --model MODEL.txt
python -m benchmarks.ours training --analysis A.yaml --add model_param.num_iterations=10
python -m benchmarks.ours figures --run RUN_ID --table NAME --output FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "depth 3": {"max_depth": 3},
    "31 leaves": {"num_leaves": 31, "max_depth": -1},
}
N_ITERATIONS = 200
SHOWN = ("densities", "scores", "confusion", "roc", "precision_recall")
"""Sections of an evaluation with the textbook's numbers and figures."""

N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
TURNS = 2

N_TRAINED, N_COMPARED, N_SCORED = 60_000, 20_000, 200_000


def forest(analysis_file: Path) -> dict[str, Any]:
    """Compare the compiled forest with Booster.predict, both in one thread, then in two."""
    import lightgbm as lgb
    import yaml

    from benchmarks.textbook import read_skim
    from utils.models.forest import compile_forest

    analysis = yaml.safe_load(analysis_file.read_text())
    events = read_skim(Path(analysis["skim_path"]) / "training" / "train.h5")
    X = np.ascontiguousarray(events[analysis["training_features"]].to_numpy(np.float32))
    y = events["target"].to_numpy()
    scored = np.resize(X, (N_SCORED, X.shape[1]))
    results: dict[str, Any] = {}
    for name, parameters in CONFIGURATIONS.items():
        settings = {
            "objective": "multiclass",
            "num_class": len(analysis["class_to_info"]),
            "learning_rate": 0.03,
            "verbosity": -1,
            "seed": 1357,
            **parameters,
        }
        data = lgb.Dataset(X[:N_TRAINED].copy(), y[:N_TRAINED].copy())
        booster = lgb.train(settings, data, N_ITERATIONS)
        text = booster.model_to_string()
        (analysis_file.parent / f"model_{name.replace(' ', '_')}.txt").write_text(text)
        compiled = compile_forest(text)
        for kind in ("float32", "float64"):
            features = scored.astype(kind)
            some = features[:N_COMPARED].copy()
            compiled.raw_scores(some)
            theirs, ours, two = [], [], []
            for _ in range(5):
                predict = partial(booster.predict, some, raw_score=True, num_threads=1)
                seconds, expected = _timed(predict)
                theirs.append(seconds / N_COMPARED)
                seconds, found = _timed(partial(compiled.raw_scores, features))
                ours.append(seconds / N_SCORED)
                seconds, again = _timed(partial(compiled.raw_scores, features, n_threads=2))
                two.append(seconds / N_SCORED)
            results[f"{name}, {kind}"] = {
                "lightgbm": statistics.median(theirs),
                "one thread": statistics.median(ours),
                "two threads": statistics.median(two),
                "equal": _same(expected, found[:N_COMPARED]) and _same(found, again),
            }
    return results


def loops(analysis_file: Path, against: list[str]) -> dict[str, Any]:
    """Train the folds as train.py does, and with bare LightGBM, in turn, in this process.

    Bare LightGBM has the same parameters and evaluates in each round what `against` says. Times are
    processor seconds of all folds, which train side by side, with the making of datasets.
    """
    import lightgbm as lgb
    import yaml

    from benchmarks.textbook import read_skim
    from utils.models import FoldTask, boosting, rounds, splits
    from utils.system.threads import each

    analysis = yaml.safe_load(analysis_file.read_text())
    events = read_skim(Path(analysis["skim_path"]) / "training" / "train.h5")
    features = analysis["training_features"] or [
        *analysis["cont_features"],
        *analysis["cat_features"],
    ]
    matrix = np.ascontiguousarray(events[features].to_numpy(np.float32))
    target = events["target"].to_numpy()
    weight = events["w_class_imbalance"].to_numpy()
    n_splits = analysis["n_splits"]
    fold = (events[analysis["xtrain_split_feature"]] % n_splits).to_numpy()
    rows = splits(fold, n_splits, None)
    model_param = {k: v for k, v in analysis["model_param"].items() if k != "early_stopping_round"}
    settings = boosting.settings(model_param, len(analysis["class_to_info"]), 1357)
    n_threads = max(1, N_CORES // n_splits)

    def as_shipped(i: int) -> str:
        task = FoldTask(
            index=i,
            load=lambda: matrix,
            features=tuple(features),
            target=target,
            weight=weight,
            split=rows[i],
            settings=settings,
            n_threads=n_threads,
            n_preparing_threads=N_CORES,
            train_metric_every=10,
        )
        return boosting.train_fold(task).model

    def bare(evaluated: str, i: int) -> str:
        own = {**settings.own, "num_threads": n_threads}
        train, validation = (
            lgb.Dataset(
                matrix[chosen], target[chosen], weight=weight[chosen], feature_name=features
            )
            for chosen in (rows[i].train, rows[i].validation)
        )
        validation.reference = train
        sets = {"validation": [validation], "both": [train, validation], "nothing": None}
        booster = lgb.train(own, train, settings.num_iterations, valid_sets=sets[evaluated])
        return booster.model_to_string()

    sides: dict[str, Callable[[int], str]] = {"ours": as_shipped}
    sides |= {name: partial(bare, name) for name in against}
    load, _ = _processor(rounds.load_kernels)
    times: dict[str, list[float]] = {name: [] for name in sides}
    trees = set()
    for _ in range(TURNS):
        for name, side in sides.items():
            n_workers = min(N_CORES, n_splits)
            taken, models = _processor(partial(each, side, range(n_splits), n_workers))
            times[name].append(taken)
            trees.add(tuple(model.split("\nparameters:")[0] for model in models))
    return {
        "times": {name: statistics.median(taken) for name, taken in times.items()},
        "kernels": load,
        "same trees": len(trees) == 1,
    }


def _processor(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor seconds of this process's threads, and the result."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


def _same(a: Any, b: Any) -> bool:
    """Return whether two arrays of float64 agree in every bit."""
    return bool((np.ascontiguousarray(a).view(np.int64) == b.view(np.int64)).all())


def first(model: Path) -> dict[str, Any]:
    """Compile a model and score one event; the benchmark times the whole process."""
    from utils.models.forest import compile_forest

    compiled = compile_forest(model.read_text())
    scores = compiled.raw_scores(np.zeros((1, len(compiled.feature_names)), np.float32))
    return {"score": scores[0].tolist()}


def training(analysis_file: Path, added: str) -> dict[str, Any]:
    """Run train.py in this process; say how long it took, and how long it waited for MLflow."""
    from utils.formats import runs
    from utils.schema import PROJECT

    waited = 0.0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal waited
            taken, result = _timed(partial(function, *arguments, **named))
            waited += taken
            return result

        return run

    for owner, name in (
        (runs, "client"),
        *((runs.NewRun, name) for name in ("log_parameters", "log_models", "log_curves")),
    ):
        setattr(owner, name, counted(getattr(owner, name)))
    sys.argv = ["train.py", f"analysis={analysis_file}", "force=true", added]

    def script() -> None:
        try:
            runpy.run_path(str(PROJECT / "train.py"), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise

    taken, _ = _timed(script)
    return {"seconds": taken, "mlflow": waited}


def figures(run_id: str, table_name: str, output: Path) -> dict[str, Any]:
    """Make the figures the textbook makes: densities, confusion matrices, ROC, precision-recall."""
    from utils.formats import runs
    from utils.results.evaluation import evaluate
    from utils.results.metrics.naming import class_slugs
    from utils.results.options import EvaluationOptions
    from utils.results.plotting import Style, confusion, densities, one_versus_rest
    from utils.results.report.skeleton import library, write_html
    from utils.stages.evaluation.scored_events import load_table
    from utils.system.engine import available_cores

    run = runs.open_run(run_id)
    table, _ = load_table(run, run.recipe, table_name)
    options = EvaluationOptions(sections=SHOWN, n_threads=available_cores())
    result = evaluate(table, options)
    style = Style(table.classes)
    slugs = class_slugs([info.name for info in table.classes])
    makers = (
        one_versus_rest.roc(result, style),
        one_versus_rest.precision_recall(result, style),
        densities.score_densities(result, style, slugs),
        confusion.confusion(result, style),
    )
    output.mkdir(parents=True, exist_ok=True)
    extra = 0
    for maker in makers:
        for name, figure in maker:
            page = write_html(figure, output / f"{name}.html")
            extra += page.stat().st_size - len(library())
    return {"megabytes": extra / 1e6, "events": len(table.target)}


def log_table(run_id: str, table: Path) -> dict[str, Any]:
    """Log a table of scored events to a run, for `figures`."""
    from utils.formats import runs

    runs.open_run(run_id).publish({f"pred/{table.name}": table}, {"name": table.stem})
    return {"logged": table.name}


def main() -> None:
    """Run one measured part, started as the scripts start."""
    from utils.system.libraries.imports import spare_collections

    spare_collections()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="part", required=True)
    commands.add_parser("forest").add_argument("--analysis", type=Path, required=True)
    looped = commands.add_parser("loops")
    looped.add_argument("--analysis", type=Path, required=True)
    looped.add_argument("--against", nargs="+", choices=("validation", "both", "nothing"))
    commands.add_parser("first").add_argument("--model", type=Path, required=True)
    trained = commands.add_parser("training")
    trained.add_argument("--analysis", type=Path, required=True)
    trained.add_argument("--add", required=True)
    shown = commands.add_parser("figures")
    shown.add_argument("--run", required=True)
    shown.add_argument("--table", required=True)
    shown.add_argument("--output", type=Path, required=True)
    logged = commands.add_parser("log_table")
    logged.add_argument("--run", required=True)
    logged.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    if options.part == "forest":
        result = forest(options.analysis)
    elif options.part == "loops":
        result = loops(options.analysis, options.against)
    elif options.part == "first":
        result = first(options.model)
    elif options.part == "training":
        result = training(options.analysis, options.add)
    elif options.part == "log_table":
        result = log_table(options.run, options.file)
    else:
        result = figures(options.run, options.table, options.output)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
