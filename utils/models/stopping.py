"""Metrics while training, and when to stop: the definitions and the rule are LightGBM's.

So a curve of one kind of model can be laid beside that of another, and early stopping means the
same for both. LightGBM computes its own; this is for kinds that do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from utils.columns.arrays import Array, Floats

EPSILON = float(np.float32(1e-15))
LARGEST_LOSS = 34.538776397705078
"""The log loss of a probability of EPSILON or less: LightGBM's logarithm of it is a float32."""

LARGER_IS_BETTER = frozenset({"auc"})

METRICS = {
    "multiclass": ("multi_logloss", "multi_error"),
    "binary": ("binary_logloss", "binary_error", "auc"),
}
"""The metrics of each objective; its default stands first."""


def metric_values(
    names: Sequence[str], outputs: Floats, probabilities: Floats, target: Array, weight: Floats
) -> dict[str, float]:
    """Return metrics by name.

    `outputs` are the raw scores `(n_outputs, n)`, `probabilities` are `(n_classes, n)`, `target`
    and `weight` `(n,)`; weights may be negative, their sum is not 0.

    logloss: weighted mean of -log p of the true class, at most LARGEST_LOSS. multi_error: weighted
    share of events where another class is at least as probable as the true one. binary_error: that
    of events whose p > 0.5 is not their class. auc: area under the ROC curve of the weighted
    events, ties half.
    """
    rows = np.arange(len(target))

    def mean(loss: Floats) -> float:
        return float(np.sum(loss * weight) / np.sum(weight))

    def logloss() -> float:
        p = probabilities[target, rows]
        return mean(np.where(p > EPSILON, -np.log(np.maximum(p, EPSILON)), LARGEST_LOSS))

    def multi_error() -> float:
        as_probable = probabilities >= probabilities[target, rows]
        return mean((as_probable.sum(axis=0) > 1).astype(np.float64))

    def binary_error() -> float:
        return mean(((probabilities[1] > 0.5) != (target > 0)).astype(np.float64))

    functions: dict[str, Callable[[], float]] = {
        "multi_logloss": logloss,
        "binary_logloss": logloss,
        "multi_error": multi_error,
        "binary_error": binary_error,
        "auc": lambda: _auc(outputs[0], target, weight),
    }
    return {name: functions[name]() for name in names}


def _auc(score: Floats, target: Array, weight: Floats) -> float:
    """Return the area under the ROC curve; 1 where there is only one class, as LightGBM has it."""
    order = np.argsort(-score, kind="stable")
    score, signal, weight = score[order], target[order] > 0, weight[order]
    starts = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))
    positive = np.add.reduceat(weight * signal, starts)
    negative = np.add.reduceat(weight * ~signal, starts)
    n_positive, n_negative = positive.sum(), negative.sum()
    if not signal.any() or signal.all():
        return 1.0
    above = np.cumsum(positive) - positive
    return float(np.sum(negative * (above + 0.5 * positive)) / (n_positive * n_negative))


class EarlyStopping:
    """Tells when validation metrics have not improved for `patience` iterations.

    The best value so far counts; only a strictly better one is an improvement. Each metric is
    looked at in turn, with `first_metric_only` the first one; the first to have waited long enough
    decides which iteration is the best. Where none has, it is the first metric's best iteration.
    """

    def __init__(self, metrics: Sequence[str], patience: int, first_metric_only: bool) -> None:
        self.metrics = list(metrics)
        self.patience = patience
        self._watched = self.metrics[:1] if first_metric_only else self.metrics
        self._best: dict[str, tuple[int, float]] = {}

    def improved(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Take the values of an iteration; return the metrics that are now at their best."""
        found = []
        for name in self.metrics:
            value = -values[name] if name in LARGER_IS_BETTER else values[name]
            if name not in self._best or value < self._best[name][1]:
                self._best[name] = (step, value)
                found.append(name)
        return found

    def decider(self, step: int, last: bool) -> str | None:
        """Return the metric whose best iteration is the model's, or None to go on."""
        for name in self._watched:
            if last or step - self._best[name][0] >= self.patience:
                return name
        return None
