"""`check=true`: what a training would do, told from its skim, without a run."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from utils.columns.suspicion import suspicious
from utils.formats import runs
from utils.models import FoldTask, Settings, Split, kind
from utils.schema import TrainConfig
from utils.stages.training.fitting import settings_of
from utils.stages.training.training_set import (
    TrainingSet,
    load_training_set,
    open_training_skim,
    split_rows,
)
from utils.system.engine import cores_of
from utils.system.places import check_space, duration

log = logging.getLogger(__name__)

SAMPLED = 20_000
"""Events whose features are looked at, and that a few iterations are timed with."""

TIMED = 5
"""Iterations that are timed."""


def check(config: TrainConfig) -> None:
    """Tell what the training would do. Raises what it would raise; no run and no store is made."""
    runs.check_store()
    skim = open_training_skim(config)
    data = load_training_set(config, skim)
    rows, _ = split_rows(config, data)
    settings = settings_of(config, data)
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.rows))[:SAMPLED])
    matrix = skim.matrix(data.features)[data.rows[chosen]]
    features = {name: matrix[:, i] for i, name in enumerate(data.features)}
    for name, why in suspicious(features, data.target[chosen]).items():
        log.warning("Warning: feature %s is suspicious: %s", name, why)
    log.info(
        "Would train %d models of up to %d %s from %d features",
        *(len(rows), settings.num_iterations, kind(config.model_kind).STEPS, len(features)),
    )
    log.info("Time: up to about %s, early stopping aside", _time(config, data, settings, matrix))
    # A text of each model, its copy as MLflow's model, and the identities it was trained on.
    needed = len(rows) * (len(data.rows) * 8 + settings.num_iterations * 20_000)
    folder = runs.artifact_folder()
    if folder is not None:
        log.info("Disk: %s, in %s", check_space(folder, needed, "the models"), folder)
    log.info("Checked; nothing was written")


def _time(
    config: TrainConfig,
    data: TrainingSet,
    settings: Settings,
    matrix: NDArray[np.float32],
) -> str:
    """Return the time to expect, by a few iterations on a sample of the events."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.rows))[:SAMPLED])
    half = np.arange(len(chosen)) % 2 == 0
    task = FoldTask(
        index=-1,  # of no fold
        load=lambda: matrix,
        features=data.features,
        target=data.target[chosen],
        weight=data.weight[chosen],
        split=Split(half, ~half),
        settings=replace(settings, num_iterations=TIMED, early_stopping_round=0),
        n_threads=1,
        n_preparing_threads=1,
        train_metric_every=TIMED,
    )
    seconds = kind(config.model_kind).train_fold(task).seconds
    scale = 2 * len(data.rows) / len(chosen) * settings.num_iterations / TIMED
    n_models = max(data.rule.n_splits, 1)
    cores = cores_of(config.engine)
    return duration(seconds * scale * math.ceil(n_models / cores))
