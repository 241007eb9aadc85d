"""Event identity -> fold: exact folds and their checks.

numpy only. Everything here works on whole columns and says what is wrong in terms of them. An
event's fold is a function of its identity alone, so it is the same in every file, process and run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.columns.arrays import Array, Int32, UInt64
from utils.schema import ConfigError, FoldRule, InputError, nearest

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


def hash64(columns: Mapping[str, Array], group: UInt64 | None = None) -> UInt64:
    """Return a 64-bit mix of the columns' values, in their order, `(n,)`.

    With `group`, one value or `(n,)`, these are mixed in first, whatever the columns' names.

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
    values = [as_integers(np.asarray(c), name).view(np.uint64) for name, c in columns.items()]
    state: UInt64 = np.zeros(1, dtype=np.uint64)
    for value in values if group is None else [group, *values]:
        state = (state ^ value) + _GOLDEN
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


def balance(fold: Array, n_splits: int) -> Balance:
    """Return how evenly events are spread over the folds; `fold` is `(n,)`."""
    sizes = np.bincount(fold, minlength=n_splits)
    n_events = int(sizes.sum())
    spread = float(np.std(sizes) / np.mean(sizes)) if n_events else 0.0
    # The chi-square of the sizes against equal ones is n_events times the squared relative spread.
    pull = gaussian_z(n_events * spread**2, n_splits - 1) if n_splits > 1 else 0.0
    return Balance(tuple(map(int, sizes)), spread, pull)


def check_balance(fold: Array, rule: FoldRule) -> Balance:
    """Return the balance of the folds. Raises InputError with the numbers if they are uneven."""
    found = balance(fold, rule.n_splits)
    if found.refused:
        source = ", ".join(rule.columns) or "entry number"
        raise InputError(
            f"folds by '{source}' have {', '.join(map(str, found.sizes))} events: their standard "
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
    fold: Array, group: Array, n_splits: int, names: Sequence[str], what: str
) -> Independence:
    """Test whether folds are independent of `group`, codes 0 .. len(names)-1, `(n,)`.

    Groups with fewer than five expected events per fold are left out, as the chi-square
    approximation asks.
    """
    codes = group.astype(np.int64) * n_splits + fold
    table = np.bincount(codes, minlength=len(names) * n_splits).reshape(len(names), n_splits)
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
    sizes = tuple(map(int, table[worst]))
    return Independence(what, chi2, dof, gaussian_z(chi2, dof), names[worst], sizes)


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
