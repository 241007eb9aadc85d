"""Evaluations of made-up scores, every section filled: what figures and pages are tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from utils.results.evaluation import Evaluation, evaluate
from utils.results.events import EvaluationTable, score_classes, signal_class
from utils.results.metrics.importance import Importance, LearningCurve, LearningCurves, ShapSummary
from utils.results.metrics.shifted_events import AlternativeScores, ShiftedScores, VariedTable
from utils.results.metrics.variations import Variations, vary
from utils.results.options import EvaluationOptions
from utils.schema import ClassInfo


def make_table(
    names: tuple[str, ...], n: int, dataset: str, seed: int = 7, avoid: int | None = None
) -> EvaluationTable:
    rng = np.random.default_rng(seed)
    k = len(names)
    target = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), target] += 1.5
    if avoid is not None:
        logits[:, avoid] = -20
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    infold = proba if dataset == "train" else None
    return EvaluationTable(
        classes=tuple(ClassInfo(name=name) for name in names),
        proba=proba,
        target=target,
        fold=rng.integers(0, 2, n),
        weight=rng.uniform(0.5, 1.5, n),
        features={"m_sv": rng.gamma(4, 25, n), "njets": rng.integers(0, 6, n)},
        infold_proba=infold,
        dataset=dataset,
        fraction=0.1,
        n_folds=2,
    )


def make_evaluation(
    names: tuple[str, ...] = ("signal", "background", "other"),
    n: int = 400,
    avoid: int | None = None,
) -> Evaluation:
    train, test = (make_table(names, n, d, avoid=avoid) for d in ("train", "test"))
    k = len(names)
    features = ("m_sv", "njets")
    scores = score_classes(k, signal_class(names, names[:1]))
    values = np.linspace(-1, 1, len(scores) * 2 * 40).reshape(len(scores), 2, 40)
    iteration = np.arange(5)
    curves = tuple(
        LearningCurve(fold, iteration, 1.0 / (1 + iteration), iteration, 0.9 / (1 + iteration), 4)
        for fold in range(2)
    )
    options = EvaluationOptions(
        n_bootstrap=5,
        n_permutations=5,
        signal_classes=names[:1],
        luminosity=59.8,
        profile_features=("m_sv",),
    )
    return evaluate(
        test,
        options,
        train=train,
        test=test,
        learning_curves=LearningCurves("multi_logloss", curves),
        importances=[Importance("gain", features, np.array([[0.7, 0.3], [0.6, 0.4]]), "Share")],
        shap=ShapSummary(scores, features, values, values[0], np.abs(values).mean(axis=2)),
        variations=make_variations(test, options),
    )


def make_variations(table: EvaluationTable, options: EvaluationOptions) -> Variations:
    """Return effects of one variation of each kind on made-up scores."""
    n = len(table.target)
    rng = np.random.default_rng(5)
    moved = [
        np.roll(table.proba, 1, axis=0) * 0.1 + table.proba * 0.9,
        table.proba ** (1 + 0.1 * rng.normal(size=(n, 1))),
    ]
    moved = [p / p.sum(axis=1, keepdims=True) for p in moved]
    moved[1][rng.random(n) < 0.05] = np.nan
    features = {"m_sv": 1.03 * table.features["m_sv"]}
    shifts = [
        ShiftedScores("tauES", "Up", "branches", moved[0], features=features),
        ShiftedScores("tauES", "Down", "branches", moved[1], features=features),
        ShiftedScores("btag", "Up", "weight", factor=rng.uniform(0.9, 1.2, n)),
    ]
    other = AlternativeScores("tune", "Up", table.target == 0, [table.of(table.target == 0)])
    selected = rng.random(n) < 0.95
    k = len(table.classes)
    flat = np.full((n, k), 1.0 / k)
    return vary(
        VariedTable(table, selected, shifts, [other]),
        options,
        lambda of, fold: (1 - of["m_sv"] / 2000)[:, None] * flat[: len(fold)],
    )


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Return where two results are not the same, bit for bit."""
    if type(one) is not type(other):
        return [f"{where}: {type(one).__name__} and {type(other).__name__}"]
    if isinstance(one, float):
        return [] if repr(one) == repr(other) else [where]
    if isinstance(one, (np.ndarray, np.generic)):
        a, b = np.asarray(one), np.asarray(other)
        same = (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        return [] if same else [where]
    if is_dataclass(one):
        one, other = ({f.name: getattr(v, f.name) for f in fields(v)} for v in (one, other))
    if isinstance(one, Mapping):
        if list(one) != list(other):
            return [f"{where}: {list(one)} and {list(other)}"]
        return [d for key in one for d in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, (tuple, list)):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)}"]
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}/{i}")]
    return [] if one == other else [where]
