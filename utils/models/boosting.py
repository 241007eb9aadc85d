"""One LightGBM booster per fold, each blind to its own fold."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats, Mask
from utils.models import rounds
from utils.models.boosting_parameters import metrics_of, settings
from utils.models.forest import Forest, compile_forest
from utils.models.interface import Curves, FoldResult, FoldTask
from utils.models.metrics import Values
from utils.schema import ConfigError, InputError

log = logging.getLogger(__name__)

__all__ = [
    "FLAVOR",
    "PACKAGES",
    "STEPS",
    "SUFFIX",
    "TITLE",
    "check_features",
    "contributions",
    "open_model",
    "settings",
    "train_fold",
]

TITLE = "LightGBM"
SUFFIX = ".txt"
STEPS = "trees"
PACKAGES: tuple[str, ...] = ("lightgbm",)
FLAVOR: str | None = "lightgbm"


def check_features(features: Sequence[str]) -> None:
    """Raise ConfigError for names that a model's text can't hold, or can't tell apart."""
    told: dict[str, str] = {}
    for name in features:
        if not name.strip() or not name.isprintable() or set(name) & set(_NOT_IN_NAMES):
            plain = re.sub(r"\W+", "_", name).strip("_") or "first"
            raise ConfigError(
                f"LightGBM takes no feature named {name!r}: name it in derived_features, for "
                f"example '{plain}: {name}'"
            )
        first = told.setdefault(name.replace(" ", "_"), name)
        if first != name:
            raise ConfigError(
                f"LightGBM takes the features '{first}' and '{name}' for one, since it writes a "
                "blank as _: train on one of them, or name one in derived_features"
            )


_NOT_IN_NAMES = '[]{}":,'
"""What LightGBM refuses in the name of a feature, beside what ends a line."""


def train_fold(task: FoldTask) -> FoldResult:
    """Train one booster. Same data and settings give the same text for any number of threads.

    Raises InputError where the fold has no events to learn or to validate from, and where no tree
    could split them.
    """
    from utils.system.libraries.boosters import lightgbm

    begin = time.perf_counter()
    task.check_rows()
    n_train, n_validation = int(task.split.train.sum()), int(task.split.validation.sum())
    why_not = rounds.why_not(task.settings, metrics_of(task.settings), n_train + n_validation)
    if task.index == 0:
        by = f"LightGBM itself ({why_not})" if why_not else "the forest's kernels"
        log.info("Rounds are evaluated by %s", by)
    curves: Curves = {}
    train = _train_by_lightgbm if why_not else _train_by_rounds
    try:
        booster = train(task, curves)
    except lightgbm.basic.LightGBMError as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"LightGBM refuses model_param: {message}") from error
    best = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
    text = booster.model_to_string(num_iteration=best)
    _check_splits(task, text)
    return FoldResult(
        index=task.index,
        model=text,
        best_iteration=best,
        curves=curves,
        importances={
            "gain": tuple(booster.feature_importance("gain", iteration=best).tolist()),
            "splits": tuple(booster.feature_importance("split", iteration=best).tolist()),
        },
        n_train=n_train,
        n_validation=n_validation,
        seconds=time.perf_counter() - begin,
    )


def _check_splits(task: FoldTask, text: str) -> None:
    """Raise InputError where all trees are constant; tell where some are."""
    leaves = [int(n) for n in re.findall(r"^num_leaves=(\d+)$", text, re.MULTILINE)]
    constant = leaves.count(1)
    if 0 < constant < len(leaves):
        log.warning(
            "Warning: %d of %d trees of model %d have no split: nothing was left to learn there",
            *(constant, len(leaves), task.index),
        )
    if constant < len(leaves):
        return
    weight, own = task.weight[task.split.train], task.settings.own
    cause = (
        f"its {len(weight)} training events weigh {weight.sum():.3g} in all, and a leaf needs "
        f"min_sum_hessian_in_leaf {own.get('min_sum_hessian_in_leaf', 1e-3)}, min_data_in_leaf "
        f"{own.get('min_data_in_leaf', 20)} and a split min_gain_to_split "
        f"{own.get('min_gain_to_split', 0)}: scale the weights, or lower these in model_param"
    )
    matrix = task.load()[task.split.train]
    if (matrix == matrix[0]).all():
        cause = "every feature has one value in all training events: choose other features"
    raise InputError(f"model {task.index} learnt nothing, none of its trees has a split: {cause}")


def open_model(text: str) -> Forest:
    """Return the forest of a model text. Raises RunError where it is damaged."""
    return compile_forest(text)


def contributions(text: str, X: NDArray[np.floating], n_threads: int = 1) -> Floats:
    """Return LightGBM's own contributions (SHAP values) `(n, n_outputs, n_features)`."""
    from utils.system.libraries.boosters import lightgbm, threads_beside

    booster = lightgbm.Booster(model_str=text)
    with threads_beside(n_threads) as number:
        found = booster.predict(X, pred_contrib=True, num_threads=number)
    values = np.asarray(found, np.float64)
    # The last value of each output is what it is without any feature.
    return values.reshape(len(X), -1, X.shape[1] + 1)[:, :, :-1]


def _train_by_rounds(task: FoldTask, curves: Curves) -> Any:
    """Return a booster that LightGBM trained only: the rounds are followed here."""
    told = task.settings
    n_outputs = int(told.own.get("num_class", 1))
    with ThreadPoolExecutor(1, "kernels") as beside:
        beside.submit(rounds.load_kernels)  # while LightGBM works; they are waited for when needed
        matrix = task.load()
        (dataset,) = _datasets(task, matrix, task.split.train)
        train, validation = (
            rounds.Rows(matrix, chosen, task.target, task.weight, n_outputs)
            for chosen in (task.split.train, task.split.validation)
        )
        follow = rounds.Rounds(
            train, validation, told, metrics_of(told), task.n_threads, _recorder(task, curves)
        )
        return _train(task, dataset, [follow])


def _train_by_lightgbm(task: FoldTask, curves: Curves) -> Any:
    """Return a booster that was evaluated and stopped by LightGBM.

    Evaluating the training rows in each round would cost a third of the time.
    """
    from utils.system.libraries.boosters import lightgbm

    told = task.settings
    record = _recorder(task, curves)

    def recorded(env: Any) -> None:
        step = env.iteration + 1
        due = step % task.train_metric_every == 0 or step in (1, env.end_iteration)
        record(
            step,
            _values(env.model.eval_train()) if due else {},
            _values(env.evaluation_result_list),
        )

    recorded.order = 0  # type: ignore[attr-defined]  # before early stopping, which ends the round
    callbacks: list[Callable[..., Any]] = [recorded]
    if told.early_stopping_round > 0:
        stop = lightgbm.early_stopping(
            told.early_stopping_round,
            told.first_metric_only,
            verbose=False,
            min_delta=float(told.own.get("early_stopping_min_delta", 0.0)),
        )
        callbacks.append(stop)
    train, validation = _datasets(task, task.load(), task.split.train, task.split.validation)
    return _train(task, train, callbacks, valid_sets=[validation], valid_names=["validation"])


def _train(task: FoldTask, dataset: Any, callbacks: list[Callable[..., Any]], **more: Any) -> Any:
    """Return a booster that LightGBM trained while nothing gave it another number of threads."""
    from utils.system.libraries.boosters import lightgbm, threads_of_its_own

    with threads_of_its_own(task.n_threads):
        return lightgbm.train(
            {**task.settings.own, "num_threads": task.n_threads},
            dataset,
            num_boost_round=task.settings.num_iterations,
            callbacks=callbacks,
            **more,
        )


_BINNING = threading.Lock()


def _datasets(task: FoldTask, matrix: NDArray[np.float32], *parts: Mask) -> list[Any]:
    """Return the rows of each part, binned as those of the first one."""
    from utils.system.libraries.boosters import lightgbm, threads_beside

    sets: list[Any] = []
    # Two copies of the matrix at a time are one too many.
    with _BINNING, threads_beside(task.n_preparing_threads) as n_threads:
        for rows in parts:
            dataset = lightgbm.Dataset(
                matrix[rows],
                task.target[rows],
                weight=task.weight[rows],
                feature_name=list(task.features),
                reference=sets[0] if sets else None,
                params={**task.settings.own, "num_threads": n_threads},
                free_raw_data=True,
            )
            sets.append(dataset.construct())
    return sets


def _recorder(task: FoldTask, curves: Curves) -> Callable[[int, Values, Values], None]:
    """Return what keeps the metrics of a round on training and validation rows, and shows them."""

    def record(step: int, train: Values, validation: Values) -> None:
        for rows, values in (("validation", validation), ("train", train)):
            for name, value in values.items():
                curves.setdefault(f"{rows}/{name}", []).append((step, value))
        if task.watch is not None and validation:
            name, value = next(iter(validation.items()))
            task.watch(task.index, step, name, value)

    return record


def _values(results: Sequence[Any]) -> Values:
    return {str(r[1]): float(r[2]) for r in results}
