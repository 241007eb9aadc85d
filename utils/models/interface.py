"""What a kind of model is: it trains one fold, and its stored text gives probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats, Mask
from utils.schema import ConfigError, InputError, nearest

Point = tuple[int, float]
Curves = dict[str, list[Point]]

KINDS = {"lightgbm": "utils.models.boosting", "mlp": "utils.models.mlp"}
"""The module of each kind, imported when the kind is asked for: what they import is expensive."""


def kind(name: str) -> Kind:
    """Return the module of a kind of model. Raises ConfigError where there is none of that name."""
    if name not in KINDS:
        raise ConfigError(f"there is no model kind '{name}'; {nearest(name, KINDS)}")
    module: Any = import_module(KINDS[name])
    found: Kind = module
    return found


class Kind(Protocol):
    """What the module of a kind hands out.

    TITLE: what reports call it. SUFFIX: the ending of a stored model's file. STEPS: what its
    iterations are called, such as epochs. PACKAGES: the libraries that train it. FLAVOR: what
    MLflow calls such models where it takes their text, else None.
    """

    TITLE: str
    SUFFIX: str
    STEPS: str
    PACKAGES: tuple[str, ...]
    FLAVOR: str | None

    def check_features(self, features: Sequence[str], /) -> None:
        """Raise ConfigError for a feature whose name the kind can't store."""

    def settings(self, model_param: Mapping[str, Any], n_classes: int, seed: int, /) -> Settings:
        """Return what the configured `model_param` means; a value of None is as not given.

        `seed` is taken where `model_param` has none. Raises ConfigError, naming the nearest one,
        for a parameter that the kind does not have, and for a value it can't use.
        """

    def train_fold(self, task: FoldTask, /) -> FoldResult:
        """Train one model. Same data, settings and seed give the same text for any threads.

        Raises InputError where the fold has no events to learn or to validate from, or features
        that the kind can't use.
        """

    def open_model(self, text: str, /) -> Model:
        """Return the model of a stored text (`FoldResult.model`), of which nothing is executed.

        Raises RunError, in one line, where the text is damaged.
        """

    def contributions(
        self, text: str, X: NDArray[np.floating], n_threads: int = 1, /
    ) -> Floats | None:
        """Return what each feature adds to the raw scores of a stored text's model.

        `X` is `(n, n_features)`, the result `(n, n_outputs, n_features)`; None where models of this
        kind have no such thing.
        """


class Model(Protocol):
    """A stored model, ready to score.

    `objective` is what it was trained for, such as multiclass; `fingerprint` identifies it.
    """

    @property
    def feature_names(self) -> tuple[str, ...]: ...

    @property
    def n_classes(self) -> int: ...

    @property
    def objective(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def probabilities(self, X: NDArray[np.floating], n_threads: int = 1, /) -> Floats:
        """Return the class probabilities `(n, n_classes)` of features `X` `(n, n_features)`.

        `X` is float32 or float64, its columns in order of `feature_names`, in any memory layout. A
        row's probabilities are the same bits in any selection of rows, for any number of threads.
        Raises InputError for another shape or type, and for values the kind can't score.
        """


@dataclass(frozen=True)
class Settings:
    """What a kind understood of `model_param`: how long a fold trains, and `own`, the kind's own.

    With `early_stopping_round` > 0 a model is that of its best iteration: best validation metric
    so far, strict improvement, stopped after that many iterations without. Each metric counts, or
    with `first_metric_only` the first one.
    """

    objective: str
    num_iterations: int
    early_stopping_round: int
    first_metric_only: bool
    own: Mapping[str, Any]


@dataclass(frozen=True)
class Split:
    """Rows `(n,)` that a model learns from, and rows that decide when it stops."""

    train: Mask
    validation: Mask


def splits(fold: Array, n_splits: int, inner: Mask | None) -> tuple[Split, ...]:
    """Return the rows of each model: model i learns from no row of fold i.

    `inner` marks rows to validate on instead of the left-out fold; with one fold it is needed.
    """
    if n_splits == 1:
        if inner is None:
            raise ValueError("one model needs rows to validate on")
        return (Split(~inner, inner),)
    found = []
    for i in range(n_splits):
        others = fold != i
        found.append(
            Split(others, ~others) if inner is None else Split(others & ~inner, others & inner)
        )
    return tuple(found)


@dataclass(frozen=True)
class FoldTask:
    """All one fold needs: `load` returns its feature matrix `(n, n_features)`, float32.

    Folds in one process prepare their features one after another, each with at most
    `n_preparing_threads`, and then train side by side, each with `n_threads`. The training rows are
    evaluated every `train_metric_every` iterations, or each time where that costs little. `watch`
    is told fold, iteration, metric and value.
    """

    index: int
    load: Callable[[], NDArray[np.float32]]
    features: tuple[str, ...]
    target: Array
    weight: Array
    split: Split
    settings: Settings
    n_threads: int
    n_preparing_threads: int
    train_metric_every: int
    watch: Callable[[int, int, str, float], None] | None = None

    def __str__(self) -> str:
        return f"training of fold {self.index}"

    def check_rows(self) -> None:
        """Raise InputError where there are no events to learn or to validate from."""
        for name, rows in (("train on", self.split.train), ("validate on", self.split.validation)):
            if not rows.any():
                raise InputError(f"model {self.index} has no events to {name}: use fewer folds")


@dataclass(frozen=True)
class FoldResult:
    """A trained model as its text, up to its best iteration, and how it got there.

    curves: metric values by `train/<metric>` and `validation/<metric>`, as (iteration, value).
    importances: values in order of the features by what they measure, such as gain; none where
    the kind has none of its own.
    """

    index: int
    model: str
    best_iteration: int
    curves: Curves
    importances: Mapping[str, tuple[float, ...]]
    n_train: int
    n_validation: int
    seconds: float


def check_matrix(X: NDArray[np.floating], feature_names: Sequence[str]) -> None:
    """Raise InputError where `X` is no `(n, n_features)` of float32 or float64."""
    if X.ndim != 2 or X.shape[1] != len(feature_names):
        shape = " x ".join(map(str, X.shape))
        raise InputError(
            f"features have the shape {shape}, the model needs {len(feature_names)} "
            f"columns: {', '.join(feature_names[:12])}"
            + (" ..." if len(feature_names) > 12 else "")
        )
    if X.dtype not in (np.float32, np.float64):
        raise InputError(f"features are {X.dtype}, the model needs float32 or float64")


def whole(value: Any, name: str, least: int) -> int:
    """Return a parameter of `model_param` as a whole number. Raises ConfigError for another."""
    try:
        number = int(value)
        exact = number == float(value) and not isinstance(value, bool)
    except (TypeError, ValueError, OverflowError):
        number, exact = least, False
    if not exact or number < least:
        raise ConfigError(
            f"model_param.{name} is {value}: a whole number from {least} on is needed"
        )
    return number
