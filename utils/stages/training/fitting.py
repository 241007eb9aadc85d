"""Training rows -> one model a fold, side by side, the cores divided among them."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array
from utils.formats.skims import Skim
from utils.models import FoldResult, FoldTask, Settings, Split, kind
from utils.schema import RunError, TrainConfig
from utils.stages.training.keeping import KeptTraining
from utils.stages.training.training_set import TrainingSet
from utils.system.engine import Engine, progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Matrix:
    """Loads the features of the rows that are learnt from, in whatever process asks."""

    skim: Skim
    features: tuple[str, ...]
    rows: Array

    def __call__(self) -> NDArray[np.float32]:
        matrix = self.skim.matrix(self.features)
        return matrix if len(self.rows) == len(matrix) else matrix[self.rows]


def settings_of(config: TrainConfig, data: TrainingSet) -> Settings:
    """Return what each model is told. Raises ConfigError for parameters its kind does not have."""
    return kind(config.model_kind).settings(config.model_param, len(data.classes), config.seed)


@contextmanager
def folds_training(
    workers: Engine,
    config: TrainConfig,
    settings: Settings,
    data: TrainingSet,
    rows: tuple[Split, ...],
    kept: KeptTraining,
) -> Iterator[Callable[[], list[FoldResult]]]:
    """Let all folds train; provide what waits for their results.

    Where this process's threads train they have begun, so that what the caller does meanwhile
    takes hardly any time. An error in the context ends them after the iteration they are in.
    """
    given = workers, config, settings, data, rows, kept
    if workers.kind != "local":  # to debug, or elsewhere, where nothing could end them
        yield lambda: train_folds(*given)
        return
    given_up = threading.Event()
    thread = ThreadPoolExecutor(1, "training")
    try:
        yield thread.submit(train_folds, *given, given_up).result
    except BaseException:
        given_up.set()
        raise
    finally:
        thread.shutdown(wait=False)


def train_folds(
    workers: Engine,
    config: TrainConfig,
    settings: Settings,
    data: TrainingSet,
    rows: tuple[Split, ...],
    kept: KeptTraining,
    given_up: threading.Event | None = None,
) -> list[FoldResult]:
    """Train all folds that are not kept already side by side, the cores divided among them.

    Raises RunError soon after somebody has `given_up`.
    """
    known = [kept.known(data.skim, index) for index in range(len(rows))]
    results = [result for result in known if result is not None]
    left = [(i, split) for i, split in enumerate(rows) if known[i] is None]
    if not left:
        return results
    matrix: Callable[[], NDArray[np.float32]] = _Matrix(data.skim, data.features, data.rows)
    if workers.shares_memory:
        loaded = matrix()
        matrix = lambda: loaded  # noqa: E731
    models = kind(config.model_kind)
    every = config.train_metric_every or 1
    with _Watch(settings.num_iterations, len(rows), models.STEPS, given_up) as watch:
        tasks = [
            FoldTask(
                index=i,
                load=matrix,
                features=data.features,
                target=data.target,
                weight=data.weight,
                split=split,
                settings=settings,
                n_threads=_threads(workers, position, len(left)),
                n_preparing_threads=workers.cores if workers.kind == "local" else 1,
                train_metric_every=every,
                watch=watch if workers.shares_memory else None,
            )
            for position, (i, split) in enumerate(left)
        ]
        # The last folds, which have more threads, begin when the others have ended.
        waves = [[*wave] for _, wave in groupby(tasks, lambda task: task.n_threads)]
        begin = time.perf_counter()
        for result in chain.from_iterable(workers.map(models.train_fold, w) for w in waves):
            metric, points = next(iter(result.curves.items()))
            value = dict(points)[result.best_iteration]
            log.info(
                "Model %d: %d %s from %d events in %.1f s, %s %.5f at its best iteration",
                *(
                    result.index,
                    result.best_iteration,
                    models.STEPS,
                    result.n_train,
                    result.seconds,
                    metric,
                    value,
                ),
            )
            kept.keep(data.skim, result)
            results.append(result)
    log.info("Trained %d models in %.1f s", len(tasks), time.perf_counter() - begin)
    return sorted(results, key=lambda result: result.index)


def _threads(workers: Engine, position: int, n_folds: int) -> int:
    """Return the threads of a fold, by its position: the cores, shared by those beside it.

    The last folds, where they are fewer than the workers, share all cores among themselves.
    """
    if workers.kind != "local":
        return 1
    beside = min(n_folds, workers.n_workers)
    last = n_folds % beside
    if position >= n_folds - last:
        beside = last
    return max(1, workers.cores // beside)


class _Watch:
    """Shows the iterations of all folds with the current metric, on a terminal only.

    It also ends them where somebody has `given_up`.
    """

    def __init__(
        self, n_iterations: int, n_folds: int, steps: str, given_up: threading.Event | None
    ) -> None:
        self.bar = progress(n_iterations * n_folds, steps, "training")
        self.given_up = given_up

    def __enter__(self) -> Callable[[int, int, str, float], None]:
        def show(index: int, step: int, name: str, value: float) -> None:
            if self.given_up is not None and self.given_up.is_set():
                raise RunError("the training was given up")
            self.bar.update(1)
            if sys.stderr.isatty():
                text = f"fold {index}, iteration {step}: {name} {value:.5f}"
                self.bar.set_postfix_str(text, refresh=False)

        return show

    def __exit__(self, *error: object) -> None:
        self.bar.close()
