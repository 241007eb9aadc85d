"""Events that occur more than once, and the audit that none leaked into its own model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from utils.columns.arrays import Array, Mask, UInt64
from utils.schema import InputError

Policy = Literal["error", "keep_same_fold", "drop_later"]


@dataclass(frozen=True)
class Duplicates:
    """Events that occur more than once, and what was done about them.

    `identities` occur more than once, in `later_rows` rows beyond their first; `straddling` of
    them would sit on both sides of the split. `moved` and `dropped` count rows.
    """

    n_rows: int
    identities: int
    later_rows: int
    straddling: int
    policy: Policy
    moved: int = 0
    dropped: int = 0

    @property
    def warning(self) -> str | None:
        """A text for the user if any event occurs more than once, else None."""
        if not self.identities:
            return None
        done = {
            "error": "none is on both sides of the split",
            "keep_same_fold": f"{self.moved} rows follow their first occurrence",
            "drop_later": f"{self.dropped} later rows are dropped",
        }[self.policy]
        return (
            f"{self.identities} events occur more than once ({self.later_rows} of {self.n_rows} "
            f"rows repeat an earlier one), {self.straddling} of them on both sides of a split; "
            f"duplicates: {self.policy}: {done}"
        )


def resolve_duplicates(
    identity: UInt64, part: Array, policy: Policy
) -> tuple[Array, Mask, Duplicates]:
    """Return `part` with repeated events on one side, a mask of the rows to keep, and the counts.

    `identity` is `(n,)` from `identity_hash`; `part` is `(n,)` and says on which side of the split
    (fold; train or test) each row is. `keep_same_fold`: later occurrences go to their first one's
    side. `drop_later`: only the first occurrence is kept. `error`: raises InputError if an event
    would be on both sides. "First" is by row.
    """
    _, firsts, place = np.unique(identity, return_index=True, return_inverse=True)
    first = firsts[place]
    later = first != np.arange(len(first))
    elsewhere = part != part[first]
    straddling = len(np.unique(identity[elsewhere]))
    identities = len(np.unique(identity[later]))
    counts = (len(identity), identities, int(later.sum()), straddling, policy)
    everything = np.ones(len(identity), dtype=np.bool_)
    if policy == "error" and straddling:
        row = int(np.argmax(elsewhere))
        raise InputError(
            f"{straddling} events are on both sides of the split (first: rows {first[row]} and "
            f"{row} are the same event): set duplicates: keep_same_fold or drop_later, or give "
            "samples that share no events different groups"
        )
    if policy == "keep_same_fold":
        return part[first], everything, Duplicates(*counts, moved=int(elsewhere.sum()))
    if policy == "drop_later":
        return part, ~later, Duplicates(*counts, dropped=int(later.sum()))
    return part, everything, Duplicates(*counts)


# --- the audit -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelAudit:
    """What one model was trained on, against what it was validated on and what it scores.

    Counts are rows; the overlaps are rows of the latter kind whose event is among the former.
    `n_not_compared` of the predicted rows are of samples that nothing was trained on.
    """

    model: int
    n_train: int
    n_predicted: int
    predicted_in_train: int
    n_not_compared: int = 0
    n_validation: int = 0
    validation_in_train: int = 0
    predicted_in_validation: int = 0


@dataclass(frozen=True)
class LeakAudit:
    """The leak audit of a training or a prediction: one row per model."""

    stage: Literal["training", "prediction"]
    models: tuple[ModelAudit, ...]

    @property
    def passed(self) -> bool:
        """No validation row was trained on, and with several models no predicted row either."""
        return not any(self._leaks(m) for m in self.models)

    def _leaks(self, model: ModelAudit) -> int:
        # A single model scores what it was trained on by design; such rows are flagged instead.
        predicted = model.predicted_in_train if len(self.models) > 1 else 0
        return model.validation_in_train + predicted

    @property
    def verdict(self) -> Literal["passed", "FAILED", "compared nothing"]:
        """What is said of the audit: that it passed only where it could compare any row."""
        if not self.passed:
            return "FAILED"
        compared = any(m.n_predicted > m.n_not_compared for m in self.models)
        return "passed" if compared or self.stage == "training" else "compared nothing"

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the audit as rows of a table, one per model; a prediction validates nothing.

        Where nothing could be compared `passed` is None.
        """
        left_out = _OF_VALIDATION if self.stage == "prediction" else ("n_not_compared",)
        return [
            {
                **{name: count for name, count in vars(m).items() if name not in left_out},
                "passed": self._leaks(m) == 0 if m.n_predicted > m.n_not_compared else None,
            }
            for m in self.models
        ]

    @property
    def summary(self) -> str:
        """The audit in one line."""
        training, n_predicted = self.stage == "training", sum(m.n_predicted for m in self.models)
        n_not_compared = sum(m.n_not_compared for m in self.models)
        rest = f"; {n_not_compared} of {n_predicted} predicted rows are of samples not trained on"
        counts = ", ".join(
            f"model {m.model}: "
            + (f"{m.validation_in_train} validation and " if training else "")
            + f"{m.predicted_in_train} predicted rows among its {m.n_train} training rows"
            for m in self.models
        )
        verdict = f"Leak audit of the {self.stage} {self.verdict}; {counts}"
        return verdict + rest * bool(n_not_compared)


_OF_VALIDATION = ("n_validation", "validation_in_train", "predicted_in_validation")


def unique_identities(identity: UInt64, rows: Array) -> UInt64:
    """Return the identities of `rows` (indices or mask), sorted and unique: 8 bytes an event."""
    return np.unique(identity[rows])


def trained_on(trained: UInt64, identity: UInt64) -> Mask:
    """Return which events, `(n,)`, are in `trained`, of `unique_identities`."""
    if not len(trained):
        return np.zeros(len(identity), dtype=np.bool_)
    place = np.minimum(np.searchsorted(trained, identity), len(trained) - 1)
    found: Mask = trained[place] == identity
    return found


def audit_training(
    identity: UInt64, fold: Array, train: Sequence[Array], validation: Sequence[Array]
) -> LeakAudit:
    """Audit a training: model i used rows `train[i]` and `validation[i]` and scores fold i.

    `identity` and `fold` are `(n,)` over all rows of the skim; `train[i]` and `validation[i]` are
    indices or masks of rows. With one model every row counts as predicted.
    """
    models = []
    for i, (train_rows, validation_rows) in enumerate(zip(train, validation, strict=True)):
        learned = unique_identities(identity, train_rows)
        stopped = unique_identities(identity, validation_rows)
        left_out, predicted = identity[validation_rows], identity[fold == i]
        models.append(
            ModelAudit(
                model=i,
                n_train=len(identity[train_rows]),
                n_validation=len(left_out),
                n_predicted=len(predicted),
                validation_in_train=int(trained_on(learned, left_out).sum()),
                predicted_in_train=int(trained_on(learned, predicted).sum()),
                predicted_in_validation=int(trained_on(stopped, predicted).sum()),
            )
        )
    return LeakAudit("training", tuple(models))


def audit_prediction(
    trained: Sequence[UInt64], identity: UInt64, fold: Array, known: Mask | None = None
) -> LeakAudit:
    """Audit predicted rows: identities `(n,)` and folds `(n,)` against what model i trained on.

    `trained[i]` comes from `unique_identities`; `known` `(n,)` are the rows of samples that were
    trained on, by default all: the others can't be compared. Chunks are audited one by one and
    joined with `merge_audits`.
    """
    models = []
    for i, learned in enumerate(trained):
        mine = fold == i
        found = int(trained_on(learned, identity[mine]).sum())
        n_not_compared = 0 if known is None else int(np.count_nonzero(mine & ~known))
        n_predicted = int(np.count_nonzero(mine))
        models.append(ModelAudit(i, len(learned), n_predicted, found, n_not_compared))
    return LeakAudit("prediction", tuple(models))


def merge_audits(audits: Sequence[LeakAudit]) -> LeakAudit:
    """Return the audit of all rows of several predictions (chunks, samples) by the same models."""
    merged = [
        ModelAudit(
            model=same[0].model,
            n_train=same[0].n_train,
            n_predicted=sum(m.n_predicted for m in same),
            predicted_in_train=sum(m.predicted_in_train for m in same),
            n_not_compared=sum(m.n_not_compared for m in same),
        )
        for same in zip(*(a.models for a in audits), strict=True)
    ]
    return LeakAudit("prediction", tuple(merged))
