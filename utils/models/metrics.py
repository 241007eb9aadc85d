"""The metrics of a training, LightGBM's by name and definition, for every kind of model.

So a curve of one kind can be laid beside that of another. All are averages or areas over weighted
events; weights may be negative, their sum is not 0.

multi_logloss, binary_logloss: mean of -log p of the true class, at most LARGEST_LOSS.
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

EPSILON = float(np.float32(1e-15))
LARGEST_LOSS = 34.538776397705078
"""The log loss of a probability of EPSILON or less: LightGBM's logarithm of it is a float32."""


def metric_values(names: Sequence[str], outputs: Floats, target: Array, weight: Floats) -> Values:
    """Return metrics by name, of the raw scores `outputs` `(n_outputs, n)` of a model.

    One output means two classes, of which 1 has the probability 1 / (1 + exp(-score)); several
    become probabilities by softmax. `target` and `weight` are `(n,)`. With numpy alone: for one
    set of scores at a time, loading the forest's kernels takes longer than they would save.
    """
    if len(outputs) == 1:
        p = 1 / (1 + np.exp(np.minimum(-outputs[0], 709.0)))
        wrong = (p > 0.5) != (target > 0)
        mine = np.where(target > 0, p, 1 - p)
    else:
        p = np.exp(outputs - outputs.max(axis=0))
        p /= p.sum(axis=0)
        mine = p[target, np.arange(len(target))]
        wrong = (p >= mine).sum(axis=0) > 1
    lost = np.where(mine > EPSILON, -np.log(np.maximum(mine, EPSILON)), LARGEST_LOSS)
    means = [float((weight * value).sum() / weight.sum()) for value in (lost, wrong)]
    return {
        name: means[LOSS[name]] if name in LOSS else auc(outputs[0], target, weight)
        for name in names
    }


def auc(score: Floats, target: Array, weight: Floats) -> float:
    """Return the area under the ROC curve of class 1 against class 0."""
    order = np.argsort(-score)
    falling, of_signal = score[order], target[order] > 0
    first = np.flatnonzero(np.append(True, falling[1:] != falling[:-1]))  # of each score
    here, against = (
        np.add.reduceat(np.where(mine, weight[order], 0.0), first)
        for mine in (of_signal, ~of_signal)
    )
    above, below = here.cumsum(), against.sum()
    if not above[-1] > 0 or below == 0:
        return 1.0
    return float((against * (above - 0.5 * here)).sum() / (above[-1] * below))
