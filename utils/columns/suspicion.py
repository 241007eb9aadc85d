"""Columns that look as if they told the class by themselves, or nothing at all.

Found by their names, and by their values in groups of events (classes, or files of one process
each). A suspicion is no proof: it is told, with its reason, and the user decides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from utils.columns.arrays import Array

MAX_CODES = 20
"""A whole number with more values than these in a group is no label."""

_LABELS = ("class", "classid", "label", "labels", "target", "truth", "issignal", "issig", "isbkg")
_OUTPUTS = (
    *("bdt", "bdtg", "gbdt", "dnn", "bnn", "nn", "mva", "xgb", "xgboost", "lgbm"),
    *("classifier", "disc", "discriminant"),
    *("score", "scores", "pred", "prediction", "proba"),
)


def words(name: str) -> list[str]:
    """Return the words of a name, in lower case: `classID`, `DNN_score` and `bdtScore` have two."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [part.lower() for part in parts]


def by_name(name: str) -> str | None:
    """Return what a column seems to be by its name: a label, or a classifier's output."""
    found = words(name)
    joined = "".join(found)
    if set(found) & set(_LABELS) or joined in _LABELS:
        return "a label by its name: gives the class away"
    if set(found) & set(_OUTPUTS):
        return "another classifier's output by its name: may know the class, or the events"
    return None


def codes(values: Array) -> frozenset[float] | None:
    """Return the different values of a whole-number column, None where it is no code of few."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not len(finite) or (values.dtype.kind == "f" and np.any(finite != np.trunc(finite))):
        return None
    different = np.unique(finite)
    return frozenset(map(float, different)) if len(different) <= MAX_CODES else None


def separates(groups: Sequence[frozenset[float] | None]) -> bool:
    """Tell whether no value of a column is in two of its groups, of which there are several."""
    if len(groups) < 2 or any(not group for group in groups):
        return False
    known = [group for group in groups if group]
    return len(frozenset().union(*known)) == sum(map(len, known))


def digest(values: Array) -> bytes:
    """Return what two columns have in common if they are equal, value by value, NaN included."""
    as_numbers = np.ascontiguousarray(values, np.float64) + 0.0  # -0 is 0
    as_numbers[np.isnan(as_numbers)] = np.nan
    return hashlib.blake2b(as_numbers.tobytes(), digest_size=16).digest()


def equal_columns(digests: Mapping[str, object]) -> dict[str, str]:
    """Return, for each column that equals an earlier one, the name of that."""
    first: dict[object, str] = {}
    return {n: first[d] for n, d in digests.items() if first.setdefault(d, n) != n}


def suspicious(columns: Mapping[str, Array], group: Array) -> dict[str, str]:
    """Return which of some features `(n,)` are suspicious, and why; `group` `(n,)` are classes."""
    which = [group == g for g in np.unique(group)]
    same = equal_columns({name: digest(values) for name, values in columns.items()})
    found = {}
    for name, values in columns.items():
        reason = _reason(values, which) or by_name(name)
        if name in same and reason is None:
            reason = f"equal to {same[name]} in every event"
        if reason is not None:
            found[name] = reason
    return found


def _reason(values: Array, which: Sequence[Array]) -> str | None:
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if not len(known):
        return "never measured"
    if np.all(known == known[0]):
        return f"constant: {float(known[0]):g}"
    of_class = [values[mine] for mine in which]
    if separates([codes(v) for v in of_class]):
        return "no value of it is in two classes: gives the class away"
    ranges = sorted((np.nanmin(v), np.nanmax(v)) for v in of_class if not np.isnan(v).all())
    apart = all(a[1] < b[0] for a, b in pairwise(ranges))
    if len(ranges) > 1 and len(ranges) == len(of_class) and apart:
        return "ranges of the classes do not overlap: gives the class away"
    return None
