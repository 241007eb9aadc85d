"""Multilayer perceptrons: scikit-learn trains them, epoch by epoch.

Features are standardised with the weighted mean and standard deviation of the training rows;
categorical ones are taken as the numbers they are. A missing value counts as the mean, and each
feature that has missing values among the training rows has an indicator beside it. One that has
none there, and is missing in an event scored later, counts as the mean all the same.

scikit-learn divides the gradient of a batch by the batch's sum of weights, so the larger
`batch_size`, the less the weights of events in other batches matter to an event's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats, Integers
from utils.models.interface import Curves, FoldResult, FoldTask, Settings, whole
from utils.models.metrics import METRICS, metric_values
from utils.models.network import (
    ACTIVATIONS,
    Inputs,
    Network,
    activate,
    open_network,
    refused,
)
from utils.models.stopping import EarlyStopping
from utils.schema import ConfigError, InputError, nearest
from utils.system.threads import each

TITLE = "Multilayer perceptron"
SUFFIX = ".json"
STEPS = "epochs"
PACKAGES: tuple[str, ...] = ("scikit-learn",)
FLAVOR: str | None = None

_DEFAULTS: dict[str, Any] = {
    "hidden_layer_sizes": [64, 64],
    "activation": "relu",
    "alpha": 1e-4,
    "solver": "adam",
    "learning_rate": 1e-3,
    "batch_size": 1024,
    "num_iterations": 30,
    "early_stopping_round": 0,
    "metric": None,
    "first_metric_only": False,
    "seed": None,
}
"""Every parameter, and what it is where `model_param` does not say."""

_BLOCK = 8192
"""Rows prepared, or evaluated while training, at once."""


def check_features(features: Sequence[str]) -> None:
    """Accept every name: the text of a model holds any."""


def settings(model_param: Mapping[str, Any], n_classes: int, seed: int) -> Settings:
    """Return what the configured `model_param` means; a value of None is as not given.

    hidden_layer_sizes: units of each hidden layer. activation: relu, tanh or logistic. alpha: L2
    penalty, divided by the rows of a batch. solver: adam or sgd. learning_rate: its step size.
    batch_size: rows in a step. num_iterations: epochs. The others are as for LightGBM.
    Raises ConfigError for parameters that a multilayer perceptron does not have or can't use.
    """
    given = {name: value for name, value in model_param.items() if value is not None}
    for name in given:
        if name not in _DEFAULTS:
            raise ConfigError(
                f"a multilayer perceptron has no parameter model_param.{name}; "
                f"{nearest(name, _DEFAULTS)}"
            )
    value = {**_DEFAULTS, "seed": seed, **given}
    objective = "binary" if n_classes == 2 else "multiclass"
    if not isinstance(value["first_metric_only"], bool):
        raise ConfigError(
            f"model_param.first_metric_only is {value['first_metric_only']}: true or false"
        )
    found_seed = whole(value["seed"], "seed", 0)
    if found_seed >= 2**32:
        raise ConfigError(f"model_param.seed is {found_seed}: it must be below 2^32")
    return Settings(
        objective=objective,
        num_iterations=whole(value["num_iterations"], "num_iterations", 1),
        early_stopping_round=whole(value["early_stopping_round"], "early_stopping_round", 0),
        first_metric_only=value["first_metric_only"],
        own={
            "n_classes": n_classes,
            "hidden_layer_sizes": _sizes(value["hidden_layer_sizes"]),
            "activation": _choice(value["activation"], "activation", ACTIVATIONS),
            "alpha": _number(value["alpha"], "alpha", zero=True),
            "solver": _choice(value["solver"], "solver", ("adam", "sgd")),
            "learning_rate": _number(value["learning_rate"], "learning_rate", zero=False),
            "batch_size": whole(value["batch_size"], "batch_size", 1),
            "metric": _metrics(value["metric"], objective),
            "seed": found_seed,
        },
    )


def _sizes(value: Any) -> list[int]:
    listed = value if isinstance(value, list | tuple) else [value]
    return [whole(size, "hidden_layer_sizes", 1) for size in listed]


def _choice(value: Any, name: str, known: Sequence[str]) -> str:
    if str(value) not in known:
        raise ConfigError(f"model_param.{name} is {value}; {nearest(str(value), known)}")
    return str(value)


def _number(value: Any, name: str, zero: bool) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (0 < number < float("inf") or (zero and number == 0)):
        least = "from 0 on" if zero else "above 0"
        raise ConfigError(f"model_param.{name} is {value}: a number {least} is needed")
    return number


def _metrics(value: Any, objective: str) -> list[str]:
    """Return the metrics in order; the shared defaults name the multiclass ones."""
    if value is None:
        return [METRICS[objective][0]]
    listed = value if isinstance(value, list | tuple) else str(value).split(",")
    found: dict[str, None] = {}
    for name in listed:
        own = str(name).strip().lower()
        if objective == "binary":
            own = own.replace("multi_", "binary_")
        if own in ("", "none", "null", "na"):
            continue
        if own not in METRICS[objective]:
            raise ConfigError(f"model_param.metric is {own}; {nearest(own, METRICS[objective])}")
        found[own] = None
    if not found:
        raise ConfigError("model_param.metric names none: early stopping and curves need one")
    return list(found)


def open_model(text: str) -> Network:
    """Return the network of a stored text. Raises RunError where it is damaged."""
    return open_network(text)


def contributions(text: str, X: NDArray[np.floating], n_threads: int = 1) -> None:
    """Return None: layers mix the features, so that none has a part of its own."""


class _OneBlasThread:
    """Keeps BLAS at one thread as long as any fold trains.

    More would not change much in speed for matrices this small, and bits in the order of sums. The
    limit is the process's: the first fold that comes sets it and the last one that goes lifts it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if self._inside == 0:
                self._limit = threadpool_limits(1, user_api="blas")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()


_ONE_BLAS_THREAD = _OneBlasThread()
_PREPARING = threading.Lock()


def train_fold(task: FoldTask) -> FoldResult:
    """Train one model: on one machine, same data, settings and seed give the same text.

    Raises InputError where the fold has no events to learn or to validate from, or infinite
    values among them, ConfigError for negative weights and where the training diverges.
    """
    from sklearn.neural_network import MLPClassifier  # before the limit, which needs its BLAS

    begin = time.perf_counter()
    task.check_rows()
    own = task.settings.own
    with _PREPARING:  # all cores prepare one fold at a time
        train, validation, inputs = _prepare(task)
    classifier = MLPClassifier(
        hidden_layer_sizes=tuple(own["hidden_layer_sizes"]),
        activation=own["activation"],
        solver=own["solver"],
        alpha=own["alpha"],
        batch_size=min(own["batch_size"], len(train.target)),
        learning_rate_init=own["learning_rate"],
        # An object, not a number: each epoch goes on in the stream, with an order of its own.
        random_state=np.random.RandomState(own["seed"]),
    )
    with _ONE_BLAS_THREAD:
        best, curves = _train(task, classifier, train, validation)
    step, weights, biases = best
    network = Network(
        feature_names=task.features,
        n_classes=own["n_classes"],
        objective=task.settings.objective,
        inputs=inputs,
        activation=own["activation"],
        weights=tuple(weights),
        biases=tuple(biases),
        parameters={**own, "num_iterations": task.settings.num_iterations, "best_iteration": step},
    )
    return FoldResult(
        index=task.index,
        model=network.text,
        best_iteration=step,
        curves=curves,
        importances={},
        n_train=int(task.split.train.sum()),
        n_validation=int(task.split.validation.sum()),
        seconds=time.perf_counter() - begin,
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Inputs `(n, n_inputs)`, target and weight `(n,)` of the rows learnt from or validated on."""

    inputs: Floats
    target: Integers
    weight: Floats


def _prepare(task: FoldTask) -> tuple[_Rows, _Rows, Inputs]:
    """Return the rows of a fold, and how their features became inputs."""
    weight = np.asarray(task.weight, np.float64)
    learnt = task.split.train
    if (weight[learnt] < 0).any():
        raise ConfigError(
            f"model {task.index} would learn from negative weights, which turn the steps of a "
            "multilayer perceptron round: set negative_weights to absolute, drop or rescale"
        )
    # A batch of events without weight would have no step.
    train, validation = np.flatnonzero(learnt & (weight > 0)), np.flatnonzero(task.split.validation)
    for name, rows in (("train on", train), ("validate on", validation)):
        if not weight[rows].sum() > 0:
            raise InputError(f"model {task.index} has no weight to {name}: use fewer folds")
    matrix = task.load()
    inputs = _inputs(task, matrix, train, weight[train])

    def prepared(rows: NDArray[np.intp]) -> _Rows:
        found = np.empty((len(rows), inputs.number))

        def fill(start: int) -> None:
            block = rows[start : start + _BLOCK]
            found[start : start + _BLOCK] = inputs.of(matrix[block], task.features).T

        each(fill, range(0, len(rows), _BLOCK), task.n_preparing_threads)
        own = weight[rows]
        return _Rows(found, np.asarray(task.target[rows], np.int64), own / own.mean())

    return prepared(train), prepared(validation), inputs


def _inputs(
    task: FoldTask, matrix: NDArray[np.float32], rows: NDArray[np.intp], weight: Floats
) -> Inputs:
    """Return mean and standard deviation of each feature, and which has missing values."""

    def column(j: int) -> tuple[float, float, bool]:
        values = matrix[rows, j].astype(np.float64)
        if np.isinf(values).any():
            raise refused(task.features[j])
        known = ~np.isnan(values)
        some_missing = not known.all()
        own = weight
        if some_missing:
            values, own = values[known], weight[known]
        if not len(values) or values.min() == values.max():
            return (float(values[0]) if len(values) else 0.0), 1.0, some_missing
        mean = float(np.sum(own * values) / np.sum(own))
        scale = float(np.sqrt(np.sum(own * (values - mean) ** 2) / np.sum(own)))
        # Where one value has all the weight but for rounding there is nothing to scale by.
        return mean, scale if scale > 0 else 1.0, some_missing

    found = each(column, range(len(task.features)), task.n_preparing_threads)
    return Inputs(
        mean=np.array([mean for mean, _, _ in found]),
        scale=np.array([scale for _, scale, _ in found]),
        indicators=tuple(j for j, (_, _, missing) in enumerate(found) if missing),
    )


_Kept = tuple[int, list[Floats], list[Floats]]
"""An epoch with its weights and biases."""


def _train(
    task: FoldTask, classifier: Any, train: _Rows, validation: _Rows
) -> tuple[_Kept, Curves]:
    """Return the best epoch, or without early stopping the last one, and the learning curves."""
    settings = task.settings
    metrics: list[str] = settings.own["metric"]
    patience = settings.early_stopping_round
    stopping = EarlyStopping(metrics, patience, settings.first_metric_only)
    curves: Curves = {}
    kept: dict[str, _Kept] = {}
    for step in range(1, settings.num_iterations + 1):
        last = step == settings.num_iterations
        _epoch(task, classifier, train)
        values = _evaluate(task, classifier, validation)
        _record(curves, "validation", step, values)
        if last or step == 1 or step % task.train_metric_every == 0:
            _record(curves, "train", step, _evaluate(task, classifier, train))
        if task.watch is not None:
            task.watch(task.index, step, metrics[0], values[metrics[0]])
        improved = stopping.improved(step, values)
        if patience and improved:
            kept |= dict.fromkeys(improved, _snapshot(step, classifier))
        decider = stopping.decider(step, last) if patience else None
        if decider is not None:
            return kept[decider], curves
    return _snapshot(settings.num_iterations, classifier), curves


def _epoch(task: FoldTask, classifier: Any, train: _Rows) -> None:
    try:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            classifier.partial_fit(
                train.inputs,
                train.target,
                sample_weight=train.weight,
                classes=np.arange(task.settings.own["n_classes"]),
            )
    except ValueError:
        if all(np.isfinite(w).all() for w in classifier.coefs_ + classifier.intercepts_):
            raise
        raise _diverges(task) from None


def _diverges(task: FoldTask) -> ConfigError:
    return ConfigError(
        f"the training of model {task.index} diverges: use a smaller model_param.learning_rate"
    )


def _snapshot(step: int, classifier: Any) -> _Kept:
    return step, [w.copy() for w in classifier.coefs_], [b.copy() for b in classifier.intercepts_]


def _evaluate(task: FoldTask, classifier: Any, rows: _Rows) -> dict[str, float]:
    """Return the metrics of the network as it is; faster than `Network`, equal but for rounding."""
    outputs = np.empty((len(classifier.intercepts_[-1]), len(rows.target)))

    def fill(start: int) -> None:
        values = rows.inputs[start : start + _BLOCK]
        layers = zip(classifier.coefs_, classifier.intercepts_, strict=True)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            for k, (weights, biases) in enumerate(layers):
                if k:
                    activate(values, classifier.activation)
                values = values @ weights + biases
        outputs[:, start : start + _BLOCK] = values.T

    each(fill, range(0, len(rows.target), _BLOCK), task.n_threads)
    if not np.isfinite(outputs).all():
        raise _diverges(task)
    return metric_values(task.settings.own["metric"], outputs, rows.target, rows.weight)


def _record(curves: Curves, rows: str, step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        curves.setdefault(f"{rows}/{name}", []).append((step, value))
