"""The metrics of a training, LightGBM's by name and definition, for every kind of model.

So a curve of one kind can be laid beside that of another. All are averages or areas over weighted
events; weights may be negative, their sum is not 0.

multi_logloss, binary_logloss: mean of -log p of the true class, at most `kernels.LARGEST_LOSS`.
multi_error: share of events where another class is at least as probable as the true one.
binary_error: share of events whose class is not the one that has more than half.
auc: area under the ROC curve, ties half; 1 where one class has no weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.columns.arrays import Array, Floats

Values = dict[str, float]
"""Metrics by name."""

LARGER_IS_BETTER = frozenset({"auc", "auc_mu", "average_precision", "map", "ndcg"})
"""Of all metrics of LightGBM, those that are best at their largest."""

METRICS = {
    "multiclass": ("multi_logloss", "multi_error"),
    "binary": ("binary_logloss", "binary_error", "auc"),
}
"""The metrics of each objective; its default stands first."""

LOSS = {"multi_logloss": 0, "binary_logloss": 0, "multi_error": 1, "binary_error": 1}
"""Which of the kernels' sums a metric is the average of."""


def metric_values(names: Sequence[str], outputs: Floats, target: Array, weight: Floats) -> Values:
    """Return metrics by name, of the raw scores `outputs` `(n_outputs, n)` of a model.

    One output means two classes, of which 1 has the probability 1 / (1 + exp(-score)); several
    become probabilities by softmax. `target` and `weight` are `(n,)`.
    """
    from utils.models.forest import kernels

    sums = kernels.losses(
        np.ascontiguousarray(outputs, np.float64),
        np.ascontiguousarray(target, np.int32),
        np.ascontiguousarray(weight, np.float64),
    )
    total = weight.sum()
    return {
        name: float(sums[LOSS[name]] / total) if name in LOSS else auc(outputs[0], target, weight)
        for name in names
    }


def auc(score: Floats, target: Array, weight: Floats) -> float:
    """Return the area under the ROC curve of class 1 against class 0."""
    from utils.models.forest import kernels

    positive = np.where(target > 0, weight, 0.0)
    return float(kernels.area(np.argsort(-score), score, positive, weight - positive))
