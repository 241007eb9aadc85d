"""Parts of this framework that a benchmark measures by themselves; each prints JSON.

python -m benchmarks.ours forest --analysis A.yaml
python -m benchmarks.ours first --model MODEL.txt
python -m benchmarks.ours figures --run RUN_ID --table NAME --output FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
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


def figures(run_id: str, table_name: str, output: Path) -> dict[str, Any]:
    """Make the figures the textbook makes: densities, confusion matrices, ROC, precision-recall."""
    from utils.formats import runs
    from utils.results.evaluation import evaluate
    from utils.results.metrics.naming import class_slugs
    from utils.results.options import EvaluationOptions
    from utils.results.plotting import Style, confusion, densities, one_versus_rest
    from utils.results.report.skeleton import library, write_html
    from utils.stages.evaluation.numbers import load_table
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

    runs.client().log_artifact(run_id, str(table), "pred")
    return {"logged": table.name}


def main() -> None:
    """Run one measured part, started as the scripts start."""
    from utils.system.libraries.imports import spare_collections

    spare_collections()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="part", required=True)
    commands.add_parser("forest").add_argument("--analysis", type=Path, required=True)
    commands.add_parser("first").add_argument("--model", type=Path, required=True)
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
    elif options.part == "first":
        result = first(options.model)
    elif options.part == "log_table":
        result = log_table(options.run, options.file)
    else:
        result = figures(options.run, options.table, options.output)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
