"""The evaluation table made ready: fillers dropped, shapes checked, weights of each view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.containers import UNLABELLED, ClassCounts, EvaluationTable, View
from utils.schema import InputError

ROUNDING = 1e-6
"""How far from 0..1 a probability may be: float32 columns and printed digits are rounded."""


def made_ready(table: EvaluationTable) -> tuple[EvaluationTable, int]:
    """Return the table without rows that carry no score (NaN probabilities), and their number.

    Its physics weights are divided by the evaluated fraction of each event's process, so that they
    add up to expected events; its own fraction is 1 then, and nothing changes if it comes here
    again. Raises InputError where shapes disagree, a probability is outside 0..1, a target is not a
    class, or a physics weight is not finite.
    """
    proba = np.asarray(table.proba, dtype=np.float64)
    k = len(table.classes)
    if proba.ndim != 2 or proba.shape[1] != k or k < 2:
        raise InputError(
            f"dataset '{table.dataset}': probabilities have shape {proba.shape} for {k} classes: "
            "one column a class and at least two classes are needed"
        )
    _check_lengths(table, len(proba))
    keep = np.asarray(np.isfinite(proba).all(axis=1))
    table = _rows(replace(table, proba=proba), keep)
    _check_values(table, k)
    ready = replace(
        table,
        proba=np.clip(table.proba, 0.0, 1.0),
        weight=_expected(table),
        fraction=1.0,
        process_fractions={},
    )
    return ready, int((~keep).sum())


def _expected(table: EvaluationTable) -> Floats | None:
    """Return the physics weights divided by the evaluated fraction of each event's process."""
    where = f"dataset '{table.dataset}'"
    if not 0 < table.fraction <= 1:
        raise InputError(
            f"{where}: the evaluated fraction is {table.fraction}: it must be above 0 and at most 1"
        )
    if table.weight is None:
        return None
    weight = np.asarray(table.weight, dtype=np.float64)
    if not table.process_fractions:
        return weight / table.fraction
    if table.process is None:
        raise InputError(f"{where}: fractions of processes need the process of each event")
    codes, names = table.process
    fractions = np.ones(len(names))
    for code in np.unique(codes):
        value = table.process_fractions.get(names[code], float("nan"))
        if not 0 < value < np.inf:
            raise InputError(
                f"{where}: the evaluated fraction of process {names[code]} is {value}: "
                "it must be above 0"
            )
        fractions[code] = value
    return np.asarray(weight / fractions[codes])


def labelled(table: EvaluationTable) -> EvaluationTable:
    """Return the rows whose true class is known."""
    known = np.asarray(table.target) != UNLABELLED
    return table if known.all() else _rows(table, known)


def learnt(table: EvaluationTable) -> EvaluationTable:
    """Return the rows that some model trained on: those with an in-fold score, if there are any."""
    if table.infold_proba is None:
        return table
    known = np.asarray(np.isfinite(table.infold_proba).all(axis=1))
    return _rows(table, known)


def _rows(table: EvaluationTable, keep: NDArray[np.bool_]) -> EvaluationTable:
    if keep.all():
        return table

    def cut(values: NDArray[Any] | None) -> Any:
        return None if values is None else np.asarray(values)[keep]

    return replace(
        table,
        proba=cut(table.proba),
        target=cut(table.target),
        fold=cut(table.fold),
        weight=cut(table.weight),
        train_weight=cut(table.train_weight),
        infold_proba=cut(table.infold_proba),
        process=None if table.process is None else (cut(table.process[0]), table.process[1]),
        features={name: cut(values) for name, values in table.features.items()},
    )


def _check_lengths(table: EvaluationTable, n: int) -> None:
    columns: dict[str, Any] = {
        "target": table.target,
        "fold": table.fold,
        "weight": table.weight,
        "train_weight": table.train_weight,
        "infold_proba": table.infold_proba,
        "process": None if table.process is None else table.process[0],
        **table.features,
    }
    for name, values in columns.items():
        if values is not None and len(values) != n:
            raise InputError(
                f"dataset '{table.dataset}': {name} has {len(values)} rows, "
                f"the probabilities have {n}: they must be of the same events"
            )


def _check_values(table: EvaluationTable, k: int) -> None:
    where = f"dataset '{table.dataset}'"
    outside = int(np.sum((table.proba < -ROUNDING) | (table.proba > 1 + ROUNDING)))
    if outside:
        raise InputError(f"{where}: {outside} probabilities are outside 0..1")
    target = np.asarray(table.target)
    strange = np.unique(target[(target < UNLABELLED) | (target >= k)])
    if len(strange):
        raise InputError(f"{where}: target {strange[0]} is none of the {k} classes (or -1)")
    for name, weight in (("weight", table.weight), ("train_weight", table.train_weight)):
        bad = 0 if weight is None else int((~np.isfinite(weight)).sum())
        if bad:
            raise InputError(f"{where}: {name} is NaN or infinite in {bad} rows")


def class_balanced(target: NDArray[Any], k: int) -> Floats:
    """Return N / N_class for every event (n,), N of the events with a known class (target >= 0)."""
    count = np.bincount(target, minlength=k)
    per_class: Floats = len(target) / np.maximum(count, 1).astype(np.float64)
    return np.asarray(per_class[target])


def view_weights(table: EvaluationTable, view: View) -> Floats:
    """Return the weight of every labelled event in a view (n,)."""
    if view == "physics":
        if table.weight is None:
            raise InputError(f"dataset '{table.dataset}' has no physics weight")
        return np.asarray(table.weight, dtype=np.float64)
    if view == "balanced":
        return class_balanced(table.target, len(table.classes))
    return np.ones(len(table.target))


def trained_weights(table: EvaluationTable) -> Floats:
    """Return the weights the models were trained with; N / N_class where the table has none."""
    if table.train_weight is not None:
        return np.asarray(table.train_weight, dtype=np.float64)
    return class_balanced(table.target, len(table.classes))


def views_of(table: EvaluationTable) -> tuple[View, ...]:
    """Return the views the table supports."""
    return (
        ("balanced", "unweighted")
        if table.weight is None
        else ("balanced", "physics", "unweighted")
    )


def class_counts(table: EvaluationTable) -> tuple[ClassCounts, ...]:
    """Return the sizes of every class, then of the unlabelled events if there are any."""
    counts = []
    for class_id in [*range(len(table.classes)), UNLABELLED]:
        mine = np.asarray(table.target) == class_id
        n = int(mine.sum())
        if class_id == UNLABELLED and n == 0:
            continue
        if table.weight is None:
            counts.append(ClassCounts(class_id, n, float("nan"), 0.0, float(n)))
            continue
        w = np.asarray(table.weight, dtype=np.float64)[mine]
        squares = float(np.sum(w**2))
        counts.append(
            ClassCounts(
                class_id,
                n,
                float(w.sum()),
                float(np.mean(w < 0)) if n else 0.0,
                float(w.sum()) ** 2 / squares if squares > 0 else 0.0,
            )
        )
    return tuple(counts)
