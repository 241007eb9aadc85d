"""What a model uses: containers filled from its own numbers or from a scoring function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.results.estimates import deviation, ratio
from utils.results.events import score_classes
from utils.results.metrics.scores import log_loss
from utils.schema import InputError

Score = Callable[[NDArray[Any], NDArray[Any]], Floats]
"""(matrix (n, F), fold (n,)) -> probabilities (n, K) of the model that left the fold out."""


@dataclass(frozen=True, eq=False)
class Importance:
    """Importance of each feature in each fold.

    kind: 'gain' (share of the total gain) or 'permutation' (increase of the class-balanced log-loss
    when the feature is shuffled on the left-out fold). values (n_folds, F), NaN for a fold without
    events. unit: axis title.
    """

    kind: Literal["gain", "permutation"]
    features: tuple[str, ...]
    values: Floats
    unit: str

    @property
    def mean(self) -> Floats:
        """Mean over folds, (F,)."""
        known = np.isfinite(self.values)
        return ratio(np.where(known, self.values, 0.0).sum(axis=0), known.sum(axis=0))

    @property
    def spread(self) -> Floats:
        """Standard deviation over folds (ddof 1), (F,); NaN for fewer than two folds."""
        return deviation(self.values.T)


@dataclass(frozen=True, eq=False)
class ShapSummary:
    """SHAP values (the models' own contributions, raw-score units) of sampled events.

    score_classes: S ids. values (S, F, s), feature_values (F, s) untransformed or as the model sees
    them, s events. mean_abs (S, F): mean |value|.
    """

    score_classes: tuple[int, ...]
    features: tuple[str, ...]
    values: NDArray[Any]
    feature_values: NDArray[Any]
    mean_abs: Floats


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """One fold's training: iteration, train and validation (p,) values; best: best iteration.

    train is empty where it was not recorded at the validation's iterations: then `train_iteration`
    says where it was.
    """

    fold: int
    iteration: Array
    validation: Floats
    train_iteration: Array
    train: Floats
    best: int


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """Learning curves of all folds; `metric` is the training's name of the quantity."""

    metric: str
    curves: tuple[LearningCurve, ...]


def gain_importance(features: Sequence[str], gains: NDArray[Any]) -> Importance:
    """Return each fold's share of the total gain, of `gains` (n_folds, F)."""
    gains = np.asarray(gains, dtype=np.float64)
    share = ratio(gains, gains.sum(axis=1, keepdims=True))
    return Importance("gain", tuple(features), share, "share of the total gain")


def permutation_importance(
    score: Score,
    matrix: NDArray[Any],
    target: NDArray[Any],
    fold: NDArray[Any],
    features: Sequence[str],
    *,
    n_folds: int,
    seed: int = 1357,
    max_rows: int = 50_000,
) -> Importance:
    """Return how much the class-balanced log-loss grows when a feature is shuffled, per fold.

    matrix (n, F) as the models take it, target (n,) and fold (n,): events of known class, each
    scored by the model that left its fold out. Values are shuffled within the fold, over at most
    `max_rows` events in all. NaN for a fold without events.
    """
    if matrix.shape[1] != len(features):
        raise InputError(
            f"permutation importance: {matrix.shape[1]} columns for {len(features)} features"
        )
    generator = np.random.default_rng([seed, 4])
    rows = np.flatnonzero(target >= 0)
    if len(rows) > max_rows:
        rows = np.sort(generator.choice(rows, max_rows, replace=False))
    matrix, target, fold = matrix[rows], target[rows], fold[rows]
    values = np.full((n_folds, len(features)), np.nan)
    for f in range(n_folds):
        mine = fold == f
        if not mine.any():
            continue
        x, y, of = matrix[mine], target[mine], fold[mine]
        sizes = np.bincount(y)
        weight = 1.0 / sizes[y]

        def loss(x: NDArray[Any], y: Any = y, of: Any = of, weight: Floats = weight) -> float:
            return float(np.average(log_loss(score(x, of), y), weights=weight))

        base = loss(x)
        for j in range(len(features)):
            shuffled = x.copy()
            shuffled[:, j] = generator.permutation(shuffled[:, j])
            values[f, j] = loss(shuffled) - base
    return Importance("permutation", tuple(features), values, "increase of the log-loss")


def shap_summary(
    features: Sequence[str], contributions: NDArray[Any], matrix: NDArray[Any], signal: int = 1
) -> ShapSummary:
    """Return the summary of sampled events' SHAP values.

    contributions (s, K, F): what each feature adds to the raw scores; a binary
    model's single output is (s, 1, F) and stands for class 1, class 0 having the opposite sign. Of
    two classes only `signal` is a score, whose logarithmic odds the contributions then add up to.
    matrix (s, F): the features' values.
    """
    contributions = np.asarray(contributions, dtype=np.float64)
    n_classes = max(contributions.shape[1], 2)
    if n_classes == 2:
        last, first = contributions[:, -1:], contributions[:, :-1].sum(axis=1, keepdims=True)
        contributions = (last - first) * (1 if signal == 1 else -1)
    if contributions.shape[2] != len(features) or matrix.shape != (
        contributions.shape[0],
        len(features),
    ):
        raise InputError(
            f"SHAP values of shape {contributions.shape} and a matrix of {matrix.shape} "
            f"do not belong to {len(features)} features"
        )
    values = np.moveaxis(contributions, 0, 2)
    n = max(values.shape[2], 1)
    return ShapSummary(
        score_classes(n_classes, signal),
        tuple(features),
        values.astype(np.float32),
        matrix.T,
        np.abs(values).sum(axis=2) / n,
    )
