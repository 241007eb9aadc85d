"""One LightGBM booster per fold, each blind to its own fold."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats, Mask
from utils.models import rounds
from utils.models.forest import Forest, compile_forest
from utils.models.interface import Curves, FoldResult, FoldTask, Settings, whole
from utils.models.metrics import Values
from utils.schema import ConfigError, nearest

log = logging.getLogger(__name__)

TITLE = "LightGBM"
SUFFIX = ".txt"
STEPS = "trees"
PACKAGES: tuple[str, ...] = ("lightgbm",)
FLAVOR: str | None = "lightgbm"

_WITHOUT_EFFECT = ("verbosity", "metric_freq", "is_provide_training_metric")
"""Parameters of LightGBM's command line: the training logs and evaluates in its own way."""


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


def settings(model_param: Mapping[str, Any], n_classes: int, seed: int) -> Settings:
    """Return what LightGBM is told, from the configured `model_param` and the number of classes.

    Raises ConfigError for an objective that gives no class probabilities.
    """
    given = _by_main_name({k: value for k, value in model_param.items() if value is not None})
    objective = str(given.setdefault("objective", "binary" if n_classes == 2 else "multiclass"))
    # The scores of multiclassova do not sum to 1, so they are no probabilities of classes.
    allowed = ("binary", "multiclass")
    if objective not in allowed:
        raise ConfigError(
            f"model_param.objective '{objective}' gives no class probabilities; "
            f"{nearest(objective, allowed)}"
        )
    if objective == "binary" and n_classes != 2:
        raise ConfigError(f"model_param.objective is binary, but there are {n_classes} classes")
    declared = given.pop("num_class", None)
    if declared not in (None, n_classes, 1 if objective == "binary" else n_classes):
        raise ConfigError(
            f"model_param.num_class is {declared}, but there are {n_classes} classes: leave it out"
        )
    if objective != "binary":
        given["num_class"] = n_classes
        given.setdefault("metric", "multi_logloss")
    else:
        given["metric"] = _binary_metrics(given.get("metric", []))
    given.setdefault("seed", seed)
    # Neither the number of threads nor the turns they take may change a model.
    given.setdefault("deterministic", True)
    if not given.get("force_row_wise"):
        # Left alone, LightGBM times both ways and takes the faster: not the same model every time.
        given.setdefault("force_col_wise", True)
    if not [m for m in _listed(given.get("metric")) if m.lower() not in ("", "none", "null", "na")]:
        raise ConfigError("model_param.metric names none: early stopping and curves need one")
    return Settings(
        objective=objective,
        num_iterations=whole(given.pop("num_iterations", 100), "num_iterations", 1),
        early_stopping_round=whole(given.pop("early_stopping_round", 0), "early_stopping_round", 0),
        first_metric_only=bool(given.pop("first_metric_only", False)),
        own={**given, "verbosity": -1},
    )


def _listed(value: Any) -> list[str]:
    return ",".join([value] if isinstance(value, str) else map(str, value or [])).split(",")


def metrics_of(settings: Settings) -> list[str]:
    """Return the metrics in order, each once."""
    return list(dict.fromkeys(_listed(settings.own["metric"])))


def _by_main_name(model_param: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by LightGBM's main names; most have others, such as eta.

    Raises ConfigError for what LightGBM would silently ignore: a parameter it does not have, and
    one that is given twice, under two names.
    """
    from utils.system.libraries.boosters import parameter_names

    main_name = parameter_names()
    given: dict[str, Any] = {}
    told: dict[str, str] = {}
    for key, value in model_param.items():
        if key not in main_name:
            raise ConfigError(
                f"LightGBM has no parameter model_param.{key}; {nearest(key, main_name)}"
            )
        main = main_name[key]
        if main in given:
            raise ConfigError(
                f"model_param.{told[main]} and model_param.{key} are one parameter of LightGBM: "
                f"give it once, as model_param.{main}"
            )
        given[main], told[main] = value, key
    idle = [told[name] for name in _WITHOUT_EFFECT if given.pop(name, None) is not None]
    if idle:
        log.info("Without effect here: %s", ", ".join(f"model_param.{name}" for name in idle))
    return given


def _binary_metrics(metric: Any) -> list[str]:
    """Return the metrics of a two-class training; the shared defaults name the multiclass ones."""
    names = [metric] if isinstance(metric, str) else list(metric)
    return [str(n).replace("multi_", "binary_") for n in names] or ["binary_logloss"]


def train_fold(task: FoldTask) -> FoldResult:
    """Train one booster. Same data and settings give the same text for any number of threads.

    Raises InputError where the fold has no events to learn or to validate from.
    """
    from utils.system.libraries.boosters import lightgbm

    begin = time.perf_counter()
    task.check_rows()
    n_validation = int(task.split.validation.sum())
    why_not = rounds.why_not(task.settings, metrics_of(task.settings), n_validation)
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
    return FoldResult(
        index=task.index,
        model=booster.model_to_string(num_iteration=best),
        best_iteration=best,
        curves=curves,
        importances={
            "gain": tuple(booster.feature_importance("gain", iteration=best).tolist()),
            "splits": tuple(booster.feature_importance("split", iteration=best).tolist()),
        },
        n_train=int(task.split.train.sum()),
        n_validation=n_validation,
        seconds=time.perf_counter() - begin,
    )


def open_model(text: str) -> Forest:
    """Return the forest of a model text. Raises RunError where it is damaged."""
    return compile_forest(text)


def contributions(text: str, X: NDArray[np.floating]) -> Floats:
    """Return LightGBM's own contributions (SHAP values) `(n, n_outputs, n_features)`."""
    from utils.system.libraries.boosters import lightgbm

    values = np.asarray(lightgbm.Booster(model_str=text).predict(X, pred_contrib=True), np.float64)
    # The last value of each output is what it is without any feature.
    return values.reshape(len(X), -1, X.shape[1] + 1)[:, :, :-1]


def _train_by_rounds(task: FoldTask, curves: Curves) -> Any:
    """Return a booster that LightGBM trained only: the rounds are followed here."""
    from utils.system.libraries.boosters import lightgbm

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
        return lightgbm.train(
            {**told.own, "num_threads": task.n_threads},
            dataset,
            num_boost_round=told.num_iterations,
            callbacks=[follow],
        )


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
    return lightgbm.train(
        {**told.own, "num_threads": task.n_threads},
        train,
        num_boost_round=told.num_iterations,
        valid_sets=[validation],
        valid_names=["validation"],
        callbacks=callbacks,
    )


_BINNING = threading.Lock()


def _datasets(task: FoldTask, matrix: NDArray[np.float32], *parts: Mask) -> list[Any]:
    """Return the rows of each part, binned as those of the first one."""
    from utils.system.libraries.boosters import lightgbm

    sets: list[Any] = []
    with _BINNING:  # two copies of the matrix at a time are one too many
        for rows in parts:
            dataset = lightgbm.Dataset(
                matrix[rows],
                task.target[rows],
                weight=task.weight[rows],
                feature_name=list(task.features),
                reference=sets[0] if sets else None,
                params={**task.settings.own, "num_threads": task.n_preparing_threads},
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
