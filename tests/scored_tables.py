"""Tables of scores of Gaussian classes, whose right numbers are known or easily counted."""

from __future__ import annotations

import dataclasses

import numpy as np

from utils.results.events import EvaluationTable
from utils.results.options import EvaluationOptions
from utils.schema import ClassInfo

FAST = EvaluationOptions(n_bootstrap=40, n_permutations=40)


def scored_table(n=2000, k=3, seed=1, weight="positive", features=True, infold=False, **changes):
    """Return seeded softmax scores of k Gaussian classes, weights, two folds and features."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, k, n).astype(np.int32)
    z = rng.normal(size=(n, k))
    z[np.arange(n), target] += 1.2
    columns = {
        "m_vis": rng.normal(100, 20, n) + 10 * target,
        "njets": rng.integers(0, 5, n),
        "missing": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
    }
    table = EvaluationTable(
        classes=tuple(ClassInfo(name=f"class {c}") for c in range(k)),
        proba=softmax(z),
        target=target,
        fold=(np.arange(n) % 2).astype(np.int32),
        weight={
            "positive": rng.exponential(size=n) * (1 + target),
            "signed": rng.normal(1, 0.8, n),
            None: None,
        }[weight],
        features=columns if features else {},
        infold_proba=softmax(z + 0.3 * (np.arange(k) == target[:, None])) if infold else None,
        n_folds=2,
    )
    return dataclasses.replace(table, **changes)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


TWO_CLASSES = (ClassInfo(name="background"), ClassInfo(name="signal"))


def two_gaussians(rng, n=600, d=1.0, n_folds=1, weight=False, noise=0.0):
    """Return two Gaussians a distance d apart, scored by the right probability."""
    target = (rng.random(n) < 0.5).astype(np.int32)
    x = rng.normal(size=n) + d * target
    x = x + noise * rng.normal(size=n)
    p = 1 / (1 + np.exp(-(d * x - d**2 / 2)))
    return EvaluationTable(
        classes=TWO_CLASSES,
        proba=np.stack([1 - p, p], axis=1),
        target=target,
        fold=(np.arange(n) % n_folds).astype(np.int32),
        weight=rng.normal(1, 0.5, n) if weight else None,
        n_folds=n_folds,
    )


THREE_CLASSES = tuple(ClassInfo(name=name) for name in ("tt", "higgs", "ztt"))


def remembering(seed, n=3000, memory=0.0, strength=1.2, dataset="train", n_folds=2, target=None):
    """Return a table whose in-fold scores know the true class better by `memory`."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 3, n).astype(np.int32)
    target = drawn if target is None else np.asarray(target, np.int32)
    truth = np.arange(3) == target[:, None]
    z = rng.normal(size=(n, 3)) + strength * truth
    infold = softmax(z + memory * truth + 0.1 * rng.normal(size=(n, 3)))
    return EvaluationTable(
        classes=THREE_CLASSES,
        proba=softmax(z + 0.1 * rng.normal(size=(n, 3))),
        target=target,
        fold=(np.arange(n) % n_folds).astype(np.int32),
        infold_proba=infold if dataset == "train" else None,
        dataset=dataset,
        n_folds=n_folds,
    )
