"""The scored events of one dataset: made ready, and weighed as each view wants it.

`n` events, `K` classes (= categories). A category is the set of events whose highest probability
is that class's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.columns.weights import class_imbalance
from utils.schema import ClassInfo, InputError

View = Literal["balanced", "physics", "unweighted"]
"""How events are weighted: all classes alike, as expected in data, or each event alike."""

VIEWS: tuple[View, ...] = ("balanced", "physics", "unweighted")

VIEW_LABELS: dict[View, str] = {
    "balanced": "class-balanced",
    "physics": "physics-weighted",
    "unweighted": "unweighted",
}

UNLABELLED = -1
"""Class id of events whose true class is unknown."""

ROUNDING = 1e-6
"""How far from 0..1 a probability may be: float32 columns and printed digits are rounded."""


@dataclass(frozen=True, eq=False)
class EvaluationTable:
    """The scored events of one dataset.

    classes: in order of their ids, K of them.
    proba (n, K): class probabilities of the model that did not train on the event; NaN in filler
        rows, which an evaluation drops and counts. A binary training gives (1-p, p).
    target (n,): true class id, -1 where unknown.
    fold (n,): fold of each event, i.e. which model scored it; -1 in filler rows.
    weight (n,): physics weight, negative ones allowed; None where the analysis has none.
    train_weight (n,): the weight trained with; None means N/N_class.
    trained_view: the view whose weights the models were trained with, None where it is another.
    process: (codes (n,), names) or None.
    features: untransformed features by name, (n,) each, as the models are given them.
    missing: what stands for a missing value, by feature; NaN does so in all of them.
    infold_proba (n, K): mean score of the models that trained on the event, NaN where none did;
        None outside training.
    dataset: its name, e.g. 'test'.
    fraction: the evaluated fraction of the sample; physics weights are divided by it.
    process_fractions: that of each process by name, in its place where given.
    n_folds: number of models.
    signal: of two classes the one whose probability is the score (see `signal_class`).
    """

    classes: tuple[ClassInfo, ...]
    proba: Floats
    target: Array
    fold: Array
    weight: Floats | None = None
    process: tuple[Array, tuple[str, ...]] | None = None
    features: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    infold_proba: Floats | None = None
    dataset: str = "test"
    fraction: float = 1.0
    process_fractions: Mapping[str, float] = field(default_factory=dict)
    n_folds: int = 1
    train_weight: Floats | None = None
    trained_view: View | None = "balanced"
    signal: int = 1

    @property
    def binary(self) -> bool:
        """Whether there are two classes: one score, from 0 to 1, tells them apart."""
        return len(self.classes) == 2

    @property
    def area_name(self) -> str:
        """What sentences call the mean of the areas of all scores, which may be one."""
        return "AUC" if self.binary else "macro AUC"

    @property
    def score_classes(self) -> tuple[int, ...]:
        """The classes whose probabilities are scores: all, but of two the signal alone."""
        return score_classes(len(self.classes), self.signal)

    def selected(self, class_id: int) -> NDArray[np.bool_]:
        """Return which events a class's score is shown for: its category; of two classes, all."""
        if self.binary:
            return np.ones(len(self.proba), np.bool_)
        return np.asarray(self.category == class_id)

    @property
    def names(self) -> list[str]:
        """Names of the classes."""
        return [info.name for info in self.classes]

    @property
    def category(self) -> NDArray[np.intp]:
        """The most probable class of each event, (n,)."""
        return np.asarray(self.proba.argmax(axis=1))

    @property
    def signed(self) -> bool:
        """Whether some physics weights are negative."""
        return self.weight is not None and bool(np.any(self.weight < 0))

    def of(self, kept: NDArray[np.bool_]) -> EvaluationTable:
        """Return the table of the rows in `kept` (n,)."""
        if kept.all():
            return self
        parts = {name: v if v is None else v[kept] for name, v in _columns(self).items()}
        changed: dict[str, Any] = {name: parts[name] for name in _COLUMNS}
        changed["features"] = {name: parts[name] for name in self.features}
        if self.process is not None:
            changed["process"] = (parts["process"], self.process[1])
        return replace(self, **changed)


_COLUMNS = ("proba", "target", "fold", "weight", "train_weight", "infold_proba")


def _columns(table: EvaluationTable) -> dict[str, Any]:
    """Return every column of a table by its name, None where there is none."""
    columns = {name: getattr(table, name) for name in _COLUMNS}
    columns |= {"process": table.process and table.process[0], **table.features}
    return {name: v if v is None else np.asarray(v) for name, v in columns.items()}


def score_classes(n_classes: int, signal: int) -> tuple[int, ...]:
    """Return the classes whose probabilities are scores: all, but of two the signal alone."""
    return (signal,) if n_classes == 2 else tuple(range(n_classes))


def signal_class(names: Sequence[str], signal_classes: Sequence[str]) -> int:
    """Return the class whose probability is the score of a binary problem.

    The one of the two that is called signal; class 1 where none is, or both are.
    """
    signals = [c for c, name in enumerate(names) if name in signal_classes]
    return signals[0] if len(signals) == 1 else 1


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Sizes of one true class (id -1: unlabelled).

    n: events. sum_weight: physics weights, in expected events; NaN without weights.
    negative_fraction: share of events with a negative weight. n_effective: (sum w)^2 / sum w^2.
    """

    class_id: int
    n: int
    sum_weight: float
    negative_fraction: float
    n_effective: float


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
    table = replace(table, proba=proba).of(keep)
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
    return table.of(known)


def with_infold_scores(table: EvaluationTable) -> EvaluationTable:
    """Return the rows that some model trained on: those with an in-fold score, if there are any."""
    if table.infold_proba is None:
        return table
    return table.of(np.asarray(np.isfinite(table.infold_proba).all(axis=1)))


def _check_lengths(table: EvaluationTable, n: int) -> None:
    for name, values in _columns(table).items():
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
    if np.max(table.fold, initial=-1) >= table.n_folds:
        raise InputError(
            f"{where}: fold {np.max(table.fold)} has no model: there are {table.n_folds}, and the "
            "first is 0"
        )
    target = np.asarray(table.target)
    strange = np.unique(target[(target < UNLABELLED) | (target >= k)])
    if len(strange):
        raise InputError(f"{where}: target {strange[0]} is none of the {k} classes (or -1)")
    for name, weight in (("weight", table.weight), ("train_weight", table.train_weight)):
        bad = 0 if weight is None else int((~np.isfinite(weight)).sum())
        if bad:
            raise InputError(f"{where}: {name} is NaN or infinite in {bad} rows")


def view_weights(table: EvaluationTable, view: View) -> Floats:
    """Return the weight of every event in a view (n,); unlabelled ones weigh 1 unless in physics.

    For all others together, one class against them, see `one_versus_rest`.
    """
    if view == "physics":
        if table.weight is None:
            raise InputError(f"dataset '{table.dataset}' has no physics weight")
        return np.asarray(table.weight, dtype=np.float64)
    weight = np.ones(len(table.target))
    if view == "balanced":
        known = np.asarray(table.target) != UNLABELLED
        weight[known] = class_imbalance(np.asarray(table.target)[known])
    return weight


def one_versus_rest(positive: NDArray[np.bool_]) -> Floats:
    """Return N / N_c for events of the class and N / N_rest for all others, (n,)."""
    return class_imbalance(positive.astype(np.int8))


def trained_weights(table: EvaluationTable) -> Floats:
    """Return the weights the models were trained with; N / N_class where the table has none."""
    if table.train_weight is not None:
        return np.asarray(table.train_weight, dtype=np.float64)
    return class_imbalance(table.target)


def view_of_weights(table: EvaluationTable) -> View | None:
    """Return the view that the training weights are, but for a factor; None if there is none."""
    known = labelled(made_ready(table)[0])
    trained = trained_weights(known)
    for view in views_of(known) if len(trained) else ():
        weight = view_weights(known, view)
        if np.allclose(trained * weight.sum(), weight * trained.sum(), rtol=1e-6):
            return view
    return None


def views_of(table: EvaluationTable) -> tuple[View, ...]:
    """Return the views the table supports."""
    return tuple(view for view in VIEWS if view != "physics" or table.weight is not None)


def classes_present(target: NDArray[Any]) -> tuple[int, ...]:
    """Return class ids with events, ascending, unlabelled (-1) last."""
    found = [int(c) for c in np.unique(target)]
    return tuple(sorted(found, key=lambda c: (c == UNLABELLED, c)))


def places(target: NDArray[Any], present: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the place of each event's class among those `present`, unlabelled ones last."""
    place = np.searchsorted([c for c in present if c != UNLABELLED], target)
    place[target == UNLABELLED] = len(present) - 1
    return place


def class_counts(table: EvaluationTable) -> tuple[ClassCounts, ...]:
    """Return the sizes of every class, then of the unlabelled events if there are any."""
    counts = []
    for class_id in [*range(len(table.classes)), UNLABELLED]:
        mine = np.asarray(table.target) == class_id
        n = int(mine.sum())
        if class_id == UNLABELLED and n == 0:
            continue
        w = np.ones(n) if table.weight is None else np.asarray(table.weight, float)[mine]
        total, squares = float(w.sum()), float(np.sum(w**2))
        counts.append(
            ClassCounts(
                class_id,
                n,
                sum_weight=float("nan") if table.weight is None else total,
                negative_fraction=float(np.mean(w < 0)) if n else 0.0,
                n_effective=total**2 / squares if squares > 0 else 0.0,
            )
        )
    return tuple(counts)
