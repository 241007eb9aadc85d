"""The physics numbers of an evaluation, made again from the columns of a logged table alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def physics_numbers(table: pd.DataFrame, slugs: Sequence[str]) -> dict[str, float]:
    """Return the numbers by their names below `{dataset}/physics/`.

    Weights may have either sign; then average precision is left out.
    """
    k = len(slugs)
    weight, target = table["scaled_weight"].to_numpy(), table["target"].to_numpy()
    proba = table[[f"pred_class_{i}_proba" for i in range(k)]].to_numpy(np.float64)
    category = proba.argmax(axis=1)
    of = np.eye(k)[target]
    total = weight.sum()
    loss = -np.log(proba[np.arange(len(target)), target])
    squares = (proba - of) ** 2
    found = {
        "accuracy": weight[category == target].sum() / total,
        "log_loss": np.sum(weight * loss) / total,
        "brier": np.sum(weight[:, None] * squares) / total,
    }
    yields = np.array(
        [np.bincount(category[target == c], weight[target == c], k) for c in range(k)]
    )
    areas = []
    for c, name in enumerate(slugs):
        mine = target == c
        areas.append(roc_auc(proba[:, c], mine, weight))
        found[f"roc_auc_{name}"] = areas[c]
        found[f"log_loss_{name}"] = np.average(loss[mine], weights=weight[mine])
        found[f"brier_{name}"] = np.sum(weight * squares[:, c]) / total
        if np.all(weight >= 0):
            found[f"pr_average_prec_{name}"] = average_precision(proba[:, c], mine, weight)
        for i, true in enumerate(slugs):
            found[f"cm_yield_{true}/{name}"] = yields[i, c]
            found[f"cm_normtrue_{true}/{name}"] = yields[i, c] / yields[i].sum()
            found[f"cm_normpred_{true}/{name}"] = yields[i, c] / yields[:, c].sum()
    return found | {"roc_auc_macro": float(np.mean(areas))}


def roc_auc(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    """Return sum w_i w_j [s_i > s_j] / (W_+ W_-), ties counted by half."""
    levels, place = np.unique(score, return_inverse=True)
    true = np.bincount(place[positive], weight[positive], len(levels))
    false = np.bincount(place[~positive], weight[~positive], len(levels))
    below = np.cumsum(false) - 0.5 * false
    return float(np.sum(true * below) / (true.sum() * false.sum()))


def average_precision(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    levels, place = np.unique(-score, return_inverse=True)
    true = np.bincount(place, weight * positive, len(levels))
    passed, every = np.cumsum(true), np.cumsum(np.bincount(place, weight, len(levels)))
    return float(np.sum(true * passed / every) / passed[-1])
