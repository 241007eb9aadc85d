"""Event identity -> fold: exact folds, their checks, and the audit that no event leaked.

numpy only. Everything here works on whole columns and says what is wrong in terms of them. An
event's fold is a function of its identity alone, so it is the same in every file, process and run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from utils.schema import ConfigError, FoldRule, InputError, nearest

Array = NDArray[Any]
UInt64 = NDArray[np.uint64]
Int32 = NDArray[np.int32]
Bool = NDArray[np.bool_]

MAX_RELATIVE_STD = 0.05
"""Spread of the fold sizes, relative to their mean, up to which no fold rule is refused."""

MAX_PULL = 3.0
"""The same spread, in standard deviations beyond chance; only beyond both is a rule refused."""

WARN_INDEPENDENCE = 4.0
"""Gaussian standard deviations of the fold x process chi-square beyond which a warning is due."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FLOAT_DIGITS = {2: 11, 4: 24, 8: 53}


# --- folds ---------------------------------------------------------------------------------------


def fold_of(rule: FoldRule, columns: Mapping[str, Array], entry: Array | None = None) -> Int32:
    """Return the fold of every event, `(n,)`, each in 0 .. n_splits-1.

    `columns` holds at least the columns of the rule, `(n,)` each. Integers are exact over the whole
    range of 64 bits, signed or unsigned; -1 is in fold n_splits-1. `entry` are the entry numbers in
    the input tree, which the rule `entry` needs.

    Raises InputError for a column that is missing, no number, boolean, or a float column with
    values that are no integers below 2^24 (float32) or 2^53 (float64), telling how many.
    """
    if rule.kind == "entry":
        if entry is None:
            raise InputError("fold rule 'entry' needs the entry numbers of the input tree")
        number = as_integers(np.asarray(entry), "entry number")
    elif rule.kind == "hash":
        number = hash64({name: _column(columns, name) for name in rule.columns})
    else:
        if len(rule.columns) != 1:
            raise ConfigError(
                f"fold rule 'modulo' takes one column, not {len(rule.columns)}: 'hash' takes any"
            )
        name = rule.columns[0]
        number = as_integers(_column(columns, name), name)
    fold: Int32 = np.remainder(number, number.dtype.type(rule.n_splits)).astype(np.int32)
    return fold


def as_integers(column: Array, name: str) -> Array:
    """Return `column` as int64 (signed and float input) or uint64 (unsigned), values unchanged.

    Raises InputError where that is impossible; see `fold_of`.
    """
    kind, size = column.dtype.kind, column.dtype.itemsize
    if column.ndim != 1:
        raise InputError(
            f"column '{name}' has {column.ndim} dimensions: an identity needs one number"
        )
    if kind == "i":
        return column.astype(np.int64)
    if kind == "u":
        return column.astype(np.uint64)
    if kind != "f" or size not in _FLOAT_DIGITS:
        raise InputError(
            f"column '{name}' is of type {column.dtype}, which identifies no event: name an "
            "integer column"
        )
    digits = _FLOAT_DIGITS[size]
    # NaN and infinities fail the comparison, so the cast below sees exact integers only.
    good = (np.abs(column) < 2.0**digits) & (np.trunc(column) == column)
    failing = int(column.size - np.count_nonzero(good))
    if failing:
        first = int(np.argmin(good))
        raise InputError(
            f"column '{name}' is {column.dtype} and {failing} of its {column.size} values are not "
            f"integers below 2^{digits} (first: {column[first]} in row {first}), so folds would "
            "not be exact: store it as an integer or choose another column"
        )
    return column.astype(np.int64)


def hash64(columns: Mapping[str, Array]) -> UInt64:
    """Return a 64-bit mix of the columns' values, in their order, `(n,)`.

    The same on every platform and in every release, and independent of the columns' width: a
    value enters as its 64-bit two's complement. With h = 0, for each column's value v in turn
    (all modulo 2^64)::

        h = (h xor v) + 0x9E3779B97F4A7C15
        h = (h xor (h >> 30)) * 0xBF58476D1CE4E5B9
        h = (h xor (h >> 27)) * 0x94D049BB133111EB
        h =  h xor (h >> 31)

    For one column that is the first output of SplitMix64 seeded with v (Steele, Lea and Flood,
    OOPSLA 2014, doi:10.1145/2660193.2660195; constants of Vigna's splitmix64.c). Test vectors::

        (0)      e220a8397b1dcdaf      (1234567)         599ed017fb08fc85
        (-1)     e4d971771b652c20      (1, 1)            e9fd6049d65af21e
        (1, 2)   bcd9dbb49673066b      (1, 2^53 + 1)     ad05e649dd4d310b
        (2, 1)   e06dd043328bd285      (1, 2^64 - 1)     a562df66c82c649a

    Raises InputError for unusable columns, as `fold_of`, and ConfigError without columns.
    """
    if not columns:
        raise ConfigError("a hash needs at least one column: name the event's identity")
    state: UInt64 = np.zeros(1, dtype=np.uint64)
    for name, column in columns.items():
        state = (state ^ as_integers(np.asarray(column), name).view(np.uint64)) + _GOLDEN
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def _column(columns: Mapping[str, Array], name: str) -> Array:
    if name not in columns:
        raise InputError(f"fold column '{name}' is not there; {nearest(name, columns)}")
    return np.asarray(columns[name])


# --- checks on folds -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Balance:
    """Sizes of all folds, empty ones included, and how unequal they are.

    `relative_std` is their standard deviation over their mean. `pull` is how far that is beyond
    what drawing folds at random (a multinomial distribution) gives, in standard deviations: the
    chi-square of the sizes, for n_splits-1 degrees of freedom, as those of a Gaussian.
    """

    sizes: tuple[int, ...]
    relative_std: float
    pull: float

    @property
    def refused(self) -> bool:
        return self.relative_std > MAX_RELATIVE_STD and self.pull > MAX_PULL

    @property
    def empty(self) -> tuple[int, ...]:
        return tuple(i for i, size in enumerate(self.sizes) if size == 0)


def balance(fold: Array, n_splits: int) -> Balance:
    """Return how evenly events are spread over the folds; `fold` is `(n,)`."""
    sizes = np.bincount(fold, minlength=n_splits)
    n_events = int(sizes.sum())
    spread = float(np.std(sizes) / np.mean(sizes)) if n_events else 0.0
    # The chi-square of the sizes against equal ones is n_events times the squared relative spread.
    pull = gaussian_z(n_events * spread**2, n_splits - 1) if n_splits > 1 else 0.0
    return Balance(tuple(map(int, sizes)), spread, pull)


def check_balance(fold: Array, n_splits: int, rule: FoldRule | None = None) -> Balance:
    """Return the balance of the folds. Raises InputError with the numbers if they are uneven."""
    found = balance(fold, n_splits)
    if found.refused:
        source = f"'{', '.join(rule.columns) or 'entry number'}'" if rule else "the rule"
        raise InputError(
            f"folds by {source} have {', '.join(map(str, found.sizes))} events: their standard "
            f"deviation is {found.relative_std:.1%} of the mean (allowed {MAX_RELATIVE_STD:.0%}) "
            f"and {found.pull:.1f} standard deviations beyond chance (allowed {MAX_PULL:.0f}): use "
            "fold_rule: hash or another xtrain_split_feature"
        )
    return found


@dataclass(frozen=True)
class Independence:
    """Chi-square test of the fold x group table; `group` is a process or a class.

    `z` is the chi-square in Gaussian standard deviations. `worst` is the group that contributes
    most, and `worst_sizes` its fold sizes.
    """

    what: str
    chi2: float
    dof: int
    z: float
    worst: str
    worst_sizes: tuple[int, ...]

    @property
    def warning(self) -> str | None:
        """A text for the user if folds depend on the group, else None."""
        if self.z <= WARN_INDEPENDENCE:
            return None
        sizes = ", ".join(map(str, self.worst_sizes))
        return (
            f"folds depend on the {self.what}: chi-square {self.chi2:.1f} for {self.dof} degrees "
            f"of freedom ({self.z:.1f} standard deviations), most of it from '{self.worst}' with "
            f"{sizes} events per fold; some generators number only even events: fold_rule: hash "
            "avoids it"
        )


def independence(
    fold: Array, group: Array, n_splits: int, names: Sequence[str] = (), what: str = "process"
) -> Independence:
    """Test whether folds are independent of `group`, codes 0 .. len(names)-1, `(n,)`.

    Groups with fewer than five expected events per fold are left out, as the chi-square
    approximation asks.
    """
    n_groups = max(len(names), int(group.max(initial=-1)) + 1)
    codes = group.astype(np.int64) * n_splits + fold
    table = np.bincount(codes, minlength=n_groups * n_splits).reshape(n_groups, n_splits)
    kept = np.flatnonzero(table.sum(axis=1) >= 5 * n_splits)
    used = table[kept].astype(np.float64)
    used = used[:, used.sum(axis=0) > 0]
    dof = (used.shape[0] - 1) * (used.shape[1] - 1)
    if dof < 1 or not len(kept):  # without any row and column, (-1) * (-1) is 1
        return Independence(what, 0.0, 0, 0.0, "", ())
    expected = np.outer(used.sum(axis=1), used.sum(axis=0)) / used.sum()
    parts = ((used - expected) ** 2 / expected).sum(axis=1)
    chi2 = float(parts.sum())
    worst = int(kept[np.argmax(parts)])
    name = str(names[worst]) if worst < len(names) else str(worst)
    return Independence(what, chi2, dof, gaussian_z(chi2, dof), name, tuple(map(int, table[worst])))


def gaussian_z(chi2: float, dof: int) -> float:
    """Return a chi-square as standard deviations of a Gaussian, one-sided.

    Wilson and Hilferty (1931): too small by 4 % at z = 4 for one degree of freedom, less for more.
    """
    width = 2.0 / (9.0 * dof)
    return float((np.cbrt(chi2 / dof) - (1.0 - width)) / math.sqrt(width))


def check_entry_rule(
    rule: FoldRule,
    trained: Sequence[Mapping[str, Any]],
    predicted: Mapping[str, Any],
    never_trained: bool,
) -> None:
    """Refuse entry-number folds for a file that is neither a training file nor never trained on.

    `trained` and `predicted` are file fingerprints (size, uuid, tree, n_entries; a new name is no
    new file). Entry numbers of a merged or re-made file name other events than those trained on.
    Raises InputError; other rules pass.
    """
    if rule.kind != "entry" or never_trained:
        return
    keys = ("size", "uuid", "tree", "n_entries")
    if not any(all(t.get(k) == predicted.get(k) for k in keys) for t in trained):
        name = predicted.get("name", "the input file")
        raise InputError(
            f"{name} (uuid {predicted.get('uuid')}) is none of the {len(trained)} files trained "
            "on, and folds are entry numbers, which mean nothing in a re-made or merged file: "
            "predict the original file, or set never_trained: true for its sample if it was never "
            "trained on"
        )


# --- identities and repeated events --------------------------------------------------------------


def group_code(name: str) -> int:
    """Return a stable 64-bit code of a sample (or group of samples that share events) by name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def file_code(fingerprint: Mapping[str, Any]) -> int:
    """Return a stable code of a file: with entry-number folds an identity is (file, entry)."""
    return group_code(f"{fingerprint['uuid']}/{fingerprint['tree']}/{fingerprint['n_entries']}")


def identity_hash(group: Array | int, columns: Mapping[str, Array]) -> UInt64:
    """Return a 64-bit hash of every event's identity, `(n,)`: its group and identity columns.

    `group` is one `group_code` (or `file_code`), or one per event as uint64. Among 10^8 events a
    chance collision has a probability of 3e-4.
    """
    length = len(next(iter(columns.values()))) if columns else np.size(group)
    codes = np.broadcast_to(np.asarray(group, dtype=np.uint64), (length,))
    return hash64({"group": codes, **columns})


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
) -> tuple[Array, Bool, Duplicates]:
    """Return `part` with repeated events on one side, a mask of the rows to keep, and the counts.

    `identity` is `(n,)` from `identity_hash`; `part` is `(n,)` and says on which side of the split
    (fold; train or test) each row is. `keep_same_fold`: later occurrences go to their first one's
    side. `drop_later`: only the first occurrence is kept. `error`: raises InputError if an event
    would be on both sides. "First" is by row.
    """
    order = np.argsort(identity, kind="stable")
    ordered = identity[order]
    starts = np.ones(len(ordered), dtype=np.bool_)
    starts[1:] = ordered[1:] != ordered[:-1]
    first = np.empty_like(order)
    first[order] = order[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
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
    """

    model: int
    n_train: int
    n_predicted: int
    predicted_in_train: int
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

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the audit as rows of a table, one per model; a prediction validates nothing."""
        left_out = _OF_VALIDATION if self.stage == "prediction" else ()
        return [
            {
                **{name: count for name, count in vars(m).items() if name not in left_out},
                "passed": self._leaks(m) == 0,
            }
            for m in self.models
        ]

    @property
    def summary(self) -> str:
        """The audit in one line."""
        training = self.stage == "training"
        counts = ", ".join(
            f"model {m.model}: "
            + (f"{m.validation_in_train} validation and " if training else "")
            + f"{m.predicted_in_train} predicted rows among its {m.n_train} training rows"
            for m in self.models
        )
        return f"Leak audit of the {self.stage} {'passed' if self.passed else 'FAILED'}; {counts}"


_OF_VALIDATION = ("n_validation", "validation_in_train", "predicted_in_validation")


def trained_identities(identity: UInt64, rows: Array) -> UInt64:
    """Return the identities of `rows` (indices or mask), sorted and unique: 8 bytes an event."""
    return np.unique(identity[rows])


def trained_on(trained: UInt64, identity: UInt64) -> Bool:
    """Return which events, `(n,)`, are in `trained`, as `trained_identities` returned it."""
    if not len(trained):
        return np.zeros(len(identity), dtype=np.bool_)
    place = np.minimum(np.searchsorted(trained, identity), len(trained) - 1)
    found: Bool = trained[place] == identity
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
        learned = trained_identities(identity, train_rows)
        stopped = trained_identities(identity, validation_rows)
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


def audit_prediction(trained: Sequence[UInt64], identity: UInt64, fold: Array) -> LeakAudit:
    """Audit predicted rows: identities `(n,)` and folds `(n,)` against what model i trained on.

    `trained[i]` comes from `trained_identities`. Chunks are audited one by one and joined with
    `merge_audits`.
    """
    models = []
    for i, learned in enumerate(trained):
        predicted = identity[fold == i]
        found = int(trained_on(learned, predicted).sum())
        models.append(ModelAudit(i, len(learned), len(predicted), found))
    return LeakAudit("prediction", tuple(models))


def merge_audits(audits: Sequence[LeakAudit]) -> LeakAudit:
    """Return the audit of all rows of several predictions (chunks, samples) by the same models."""
    merged = [
        ModelAudit(
            model=same[0].model,
            n_train=same[0].n_train,
            n_predicted=sum(m.n_predicted for m in same),
            predicted_in_train=sum(m.predicted_in_train for m in same),
        )
        for same in zip(*(a.models for a in audits), strict=True)
    ]
    return LeakAudit("prediction", tuple(merged))
