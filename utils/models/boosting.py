"""One LightGBM booster per fold, each blind to its own fold."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.models.forest import Forest, compile_forest
from utils.models.interface import Curves, FoldResult, FoldTask, Settings, whole
from utils.schema import ConfigError, nearest

TITLE = "LightGBM"
SUFFIX = ".txt"
STEPS = "trees"
PACKAGES: tuple[str, ...] = ("lightgbm",)
FLAVOR: str | None = "lightgbm"

_WITHOUT_EFFECT = ("verbosity", "metric_freq", "is_provide_training_metric")
"""Parameters of LightGBM's command line: the training logs and evaluates in its own way."""

_ELSEWHERE = frozenset(
    {"machines", "machine_list_filename", "num_machines", "local_listen_port"}
    | {"config", "input_model", "output_model", "output_result", "convert_model"}
    | {"save_binary", "snapshot_freq", "parser_config_file"}
)
"""Parameters of LightGBM's command line: hosts to connect to, files to read and to write."""

log = logging.getLogger(__name__)


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
    if not [m for m in _listed(given.get("metric")) if m.lower() not in ("none", "null", "na")]:
        raise ConfigError("model_param.metric names none: early stopping and curves need one")
    return Settings(
        objective=objective,
        num_iterations=whole(given.pop("num_iterations", 100), "num_iterations", 1),
        early_stopping_round=whole(given.pop("early_stopping_round", 0), "early_stopping_round", 0),
        first_metric_only=bool(given.pop("first_metric_only", False)),
        own={**given, "verbosity": -1},
    )


def _listed(value: Any) -> list[str]:
    return value.split(",") if isinstance(value, str) else [str(v) for v in value or []]


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
        if main in _ELSEWHERE:
            raise ConfigError(f"model_param.{key} is for LightGBM's own program: leave it out")
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
    import time

    from utils.system.libraries.boosters import lightgbm

    begin = time.perf_counter()
    task.check_rows()
    train, validation = _datasets(task)
    curves: Curves = {}
    callbacks: list[Callable[..., Any]] = [_recorder(task, curves)]
    told = task.settings
    if told.early_stopping_round > 0:
        callbacks.append(
            lightgbm.early_stopping(
                told.early_stopping_round, told.first_metric_only, verbose=False
            )
        )
    try:
        booster = lightgbm.train(
            {**told.own, "num_threads": task.n_threads},
            train,
            num_boost_round=told.num_iterations,
            valid_sets=[validation],
            valid_names=["validation"],
            callbacks=callbacks,
        )
    except lightgbm.basic.LightGBMError as error:
        raise _refused(error) from error
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
        n_validation=int(task.split.validation.sum()),
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


def _refused(error: Exception) -> ConfigError:
    return ConfigError(f"LightGBM refuses model_param: {' '.join(str(error).split())}")


_BINNING = threading.Lock()


def _datasets(task: FoldTask) -> tuple[Any, Any]:
    """Return the binned training and validation sets of a fold."""
    from utils.system.libraries.boosters import lightgbm

    matrix = task.load()
    names = list(task.features)
    with _BINNING:  # two copies of the matrix at a time are one too many
        sets: list[Any] = []
        for rows in (task.split.train, task.split.validation):
            dataset = lightgbm.Dataset(
                matrix[rows],
                task.target[rows],
                weight=task.weight[rows],
                feature_name=names,
                reference=sets[0] if sets else None,
                params={**task.settings.own, "num_threads": task.n_preparing_threads},
                free_raw_data=True,
            )
            try:
                sets.append(dataset.construct())
            except lightgbm.basic.LightGBMError as error:
                raise _refused(error) from error
    return sets[0], sets[1]


def _recorder(task: FoldTask, curves: Curves) -> Callable[[Any], None]:
    """Return a callback that keeps validation metrics, and training metrics now and then.

    Evaluating the training set in each iteration would cost a third of the time.
    """

    def record(env: Any) -> None:
        step = env.iteration + 1
        for name, value in _values(env.evaluation_result_list):
            curves.setdefault(f"validation/{name}", []).append((step, value))
        due = step % task.train_metric_every == 0 or step in (1, env.end_iteration)
        if due:
            for name, value in _values(env.model.eval_train()):
                curves.setdefault(f"train/{name}", []).append((step, value))
        if task.watch is not None and env.evaluation_result_list:
            name, value = _values(env.evaluation_result_list)[0]
            task.watch(task.index, step, name, value)

    record.order = 0  # type: ignore[attr-defined]  # before early stopping, which ends the round
    return record


def _values(results: Sequence[Any]) -> list[tuple[str, float]]:
    return [(str(r[1]), float(r[2])) for r in results]
