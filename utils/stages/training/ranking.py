"""Numbers that runs are compared by, and the runs of a multirun, best first."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from utils.formats import runs
from utils.formats.runs import LoggedRun
from utils.models import FoldResult, kind, scoring
from utils.models.metrics import LARGER_IS_BETTER, LOSS, METRICS, metric_values
from utils.models.scoring import FoldModels
from utils.schema import TrainConfig
from utils.stages.training.training_set import TrainingSet

log = logging.getLogger(__name__)

OUT_OF_FOLD = "out_of_fold/"
"""Begins the name of a metric over all training events, each scored by the model of its fold."""


def run_name(config: TrainConfig) -> str:
    """Return what the run is called: as configured, else by its channel, year and kind of model."""
    if config.run_name:
        return config.run_name
    parts = (config.analysis_name, config.channel, config.year, config.model_kind)
    return " ".join(dict.fromkeys(part for part in parts if part))


def at_best(result: FoldResult) -> dict[str, float]:
    """Return the value of each curve at the model's best iteration (where there is one)."""
    return {
        name: dict(points).get(result.best_iteration, points[-1][1])
        for name, points in result.curves.items()
    }


def summary(
    config: TrainConfig, data: TrainingSet, results: Sequence[FoldResult], n_threads: int = 1
) -> dict[str, float]:
    """Return the numbers that runs are sorted by: means over folds, and out-of-fold metrics.

    `best/{curve}` is the mean over folds of the curve's value at the best iteration,
    `best_iteration` that of the best iterations. `out_of_fold/{metric}` is a chosen metric over all
    rows that were learnt from, each with its training weight (as the models are given it, float32)
    and scored by the model of its fold. Metrics of a library that `models/metrics.py` does not
    have are given as means only; with one fold there is nothing out of fold.
    """
    values = [at_best(result) for result in results]
    found = {f"best/{name}": float(np.mean([v[name] for v in values])) for name in values[0]}
    found["best_iteration"] = float(np.mean([r.best_iteration for r in results]))
    if len(results) > 1:
        of_fold = _out_of_fold(config, data, results, n_threads)
        found |= {f"{OUT_OF_FOLD}{name}": value for name, value in of_fold.items()}
    return found


def sorted_by(found: dict[str, float], results: Sequence[FoldResult]) -> str:
    """Return the name of the number that sorts runs: that of the first chosen metric."""
    first = chosen(results)[0]
    name = f"{OUT_OF_FOLD}{first}"
    return name if name in found else f"best/validation/{first}"


def chosen(results: Sequence[FoldResult]) -> list[str]:
    """Return the metrics that the trainings were told to evaluate, in order."""
    prefix = "validation/"
    return [n.removeprefix(prefix) for n in results[0].curves if n.startswith(prefix)]


def _out_of_fold(
    config: TrainConfig, data: TrainingSet, results: Sequence[FoldResult], n_threads: int
) -> dict[str, float]:
    weight = data.weight.astype(np.float32).astype(np.float64)
    names = chosen(results)
    if config.validation == "left_out" and all(name in LOSS for name in names):
        # Averages over the left-out folds, which are known: no row needs to be scored again.
        share = np.bincount(data.fold, weight, len(results)) / weight.sum()
        of_folds = [at_best(result) for result in results]
        return {
            name: float(
                sum(s * v[f"validation/{name}"] for s, v in zip(share, of_folds, strict=True))
            )
            for name in names
        }
    models = kind(config.model_kind)
    opened = FoldModels(
        tuple(models.open_model(r.model) for r in results), data.rule, data.features
    )
    matrix = data.skim.matrix(data.features)[data.rows]
    proba = scoring.score(opened, matrix, data.fold, n_threads)
    known = [name for name in names if name in METRICS[opened.models[0].objective]]
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(proba), np.log(np.finfo(np.float64).tiny)).T
    # The metrics take raw scores: those that give these probabilities.
    outputs = logs[1:] - logs[:1] if len(logs) == 2 else logs
    return metric_values(known, outputs, data.target, weight)


# --- the runs of a multirun ----------------------------------------------------------------------


def ranked(run_ids: Sequence[str]) -> list[str]:
    """Log a table of runs, the best first, and return their ids in that order."""
    found = runs.logged(run_ids)
    if not found:
        return []
    number = found[0].parameters["sorted_by"]
    metric = number.rsplit("/", 1)[-1]
    sign = -1 if metric in LARGER_IS_BETTER else 1
    found.sort(key=lambda run: sign * run.metrics.get(number, sign * np.inf))
    for line in _table(found, number, f"best/validation/{metric}"):
        log.info("%s", line)
    for what, values in (
        ("training weights", {run.parameters.get("training_weight") for run in found}),
        ("training events", {run.tags.get("data_fingerprint") for run in found}),
    ):
        if len(values) > 1:
            log.warning("Warning: these runs have different %s: %s means another", what, number)
    return [run.run_id for run in found]


def _table(found: Sequence[LoggedRun], number: str, mean: str) -> list[str]:
    """Return the lines of a table: names, the number that sorts, the mean over folds, ids."""
    titles = ("run", *dict.fromkeys([number, mean, "best_iteration"]), "run_id")
    rows = [
        [run.name, *(f"{run.metrics.get(n, np.nan):.6g}" for n in titles[1:-1]), run.run_id]
        for run in found
    ]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in (0, len(titles) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (titles, *rows)
    ]
