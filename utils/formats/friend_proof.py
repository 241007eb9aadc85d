"""Does a friend tree belong to its input? Compared entry by entry, in constant memory.

The proof trusts nothing but the two files: identity columns are compared bit by bit, and folds are
computed anew from the input's columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.columns.arrays import Array
from utils.columns.folds import fold_of
from utils.columns.variations import rows_at_once
from utils.formats import ntuples
from utils.formats.friends import (
    BranchNames,
    Friend,
    fold_rule,
    iterate,
    iterate_tree,
    open_friend,
    stated_names,
    stated_suffixes,
)
from utils.schema import Location, ProofError, given_location, nearest
from utils.system.threads import ahead

CHECKS = ("length", "identity", "fold", "scores")
"""length: as many entries. identity: identity and copied columns, bit by bit. fold: computed anew.
scores: each row is filler throughout, or a distribution whose largest value pred_class names."""

CHUNK_ENTRIES = 50_000


@dataclass(frozen=True)
class Proof:
    """A friend tree that was proved against its input.

    `n_scored` entries have scores, the others fillers. `identity` are the compared columns. `notes`
    are remarks that do not contradict the proof. `deviation` is the largest difference of a stored
    score from the recomputed one, None where nothing was recomputed, and `derived` are the columns
    that are no branches of the input: bit by bit what a run computes, or not compared. `shifts` are
    the suffixes under which there are scores too, proved as the nominal ones are.
    """

    input_path: Location
    friend_path: Location
    n_entries: int
    n_scored: int
    identity: tuple[str, ...]
    n_splits: int
    notes: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    run_id: str | None = None
    deviation: float | None = None
    shifts: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The proof in one line."""
        if self.identity:
            order = f"in the same order ({', '.join(self.identity)} equal bit by bit)"
        else:
            order = "of the same numbers (events are identified by these, not by columns)"
        parts = [
            f"{self.n_entries} entries {order}",
            f"all in their fold of {self.n_splits}",
            f"{self.n_scored} scored",
        ]
        parts += [f"and under {', '.join(self.shifts)}"] if self.shifts else []
        derived = ", ".join(self.derived)
        if self.deviation is not None:
            parts.append(f"scores those of run {self.run_id} within {self.deviation:.1g}")
            parts += [f"{derived} as it computes them, bit by bit"] if derived else []
        elif derived:
            parts.append(f"{derived} not compared (--scores RUN_ID does: derived columns)")
        return (
            f"proved: {self.friend_path.name} is a friend of {self.input_path.name}: "
            + "; ".join(parts)
        )


def prove_alignment(
    input_path: str | Location,
    friend_path: str | Location,
    *,
    tree: str | None = None,
    input_tree: str | None = None,
    friend_name: str | None = None,
    checks: Sequence[str] = CHECKS,
    chunk_entries: int = CHUNK_ENTRIES,
) -> Proof:
    """Prove that row i of the friend tree is entry i of the input tree, for every i.

    Compared are the identity columns and those copied columns that are branches of the input.
    `tree` names the friend tree and `input_tree` the input's; by default the only friend tree of
    the file, and the tree it was made from. `friend_name` stands for the file's name in errors.
    Raises ProofError with the first entry that is wrong and its values, InputError for files,
    trees or branches that are missing or unreadable.
    """
    friend = open_friend(friend_path, tree)
    name = input_tree or friend.metadata["input"]["tree"]
    source = ntuples.open_tree(given_location(input_path), name)
    return _prove(friend, source, friend_name, checks, chunk_entries)


def _prove(
    friend: Friend,
    source: ntuples.TreeInfo,
    friend_name: str | None,
    checks: Sequence[str],
    chunk_entries: int,
) -> Proof:
    input_path, rule = source.path, fold_rule(friend.metadata)
    identity = tuple(friend.metadata["identity"])
    known = {*source.branches, *source.unreadable, *source.shared}
    misc = friend.metadata["misc"]
    copied = [name for name in misc if name in known]
    # A friend's word on what identifies events is not taken for the columns of its folds.
    folding = [name for name in rule.columns if name in friend.branches]
    compared = tuple(dict.fromkeys([*identity, *folding, *copied]))
    names, shifts = stated_names(friend.metadata), stated_suffixes(friend.metadata)
    of_shifts = [names.shifted(suffix) for suffix in shifts]
    own = [name for of in (names, *of_shifts) for name in (of.pred_class, *of.probabilities)]
    _check_branches(friend, source, compared, [names.fold, *own])
    where = f"{friend_name or friend.path.name} is not a friend of {input_path.name}"
    if "length" in checks and friend.n_entries != source.n_entries:
        raise ProofError(
            f"{where}: it has {friend.n_entries} entries, the input {source.n_entries}"
        )
    notes = _fingerprint_notes(friend, source)
    if notes and not identity:
        raise ProofError(f"{where}: it has no identity columns to compare, and {notes[0]}")
    distinct = _Neighbours()
    n_scored = 0
    wanted = list(dict.fromkeys([*compared, *rule.columns]))
    n_rows = rows_at_once(chunk_entries, len(shifts))
    theirs = iterate_tree(source, wanted, n_rows)
    of_choice = [n.pred_class_proba for n in (names, *of_shifts)]
    stored = [*compared, names.fold, *own, *(name for name in of_choice if name in friend.branches)]
    all_scored = not (friend.metadata["cut"] or "").strip()
    ours = iterate(friend.path, friend.tree, stored, n_rows)
    pairs = zip(ahead(theirs), ahead(ours), strict="length" in checks)
    for (rows, expected), (_, found) in pairs:
        wrong: list[tuple[int, str]] = []
        if "identity" in checks:
            wrong += [differing(name, expected[name], found[name]) for name in compared]
        if "fold" in checks:
            fold = fold_of(rule, expected, rows.numbers)
            stated = found[names.fold]
            origin = "by the input's identity"
            wrong.append(differing(names.fold, fold[: len(stated)], stated, origin))
        if "scores" in checks:
            wrong += [_inconsistent(found, of, all_scored) for of in (names, *of_shifts)]
        contradictions = [(row, text) for row, text in wrong if text]
        if contradictions:
            row, text = min(contradictions, key=lambda found: found[0])
            raise ProofError(f"{where}: entry {rows.start + row}: {text}")
        distinct.add({name: expected[name] for name in identity})
        n_scored += int(np.count_nonzero(found[names.pred_class] >= 0))
    notes += distinct.notes(identity)
    derived = tuple(name for name in misc if name not in source.branches)
    return Proof(
        *(input_path, friend.path, friend.n_entries, n_scored, compared),
        *(rule.n_splits, tuple(notes), derived),
        shifts=tuple(shifts),
    )


# --- parts of the proof --------------------------------------------------------------------------


def _check_branches(
    friend: Friend, source: ntuples.TreeInfo, compared: Sequence[str], own: Sequence[str]
) -> None:
    where = f"{friend.path.name} is not a friend of {source.path.name}"
    for name in [*compared, *own]:
        if name not in friend.branches:
            raise ProofError(
                f"{friend.path.name} lacks its branch '{name}'; {nearest(name, friend.branches)}"
            )
    for name in [*compared, *fold_rule(friend.metadata).columns]:
        if name not in source.branches:
            raise ProofError(f"{where}: {source.why_not(name)}")
        shape = source.branches[name].shape
        if shape:
            n_values = int(np.prod(shape))
            raise ProofError(
                f"{where}: '{name}' has {n_values} values in the input and one in the friend"
            )


def _fingerprint_notes(friend: Friend, source: ntuples.TreeInfo) -> list[str]:
    stated, now = friend.metadata["input"], ntuples.fingerprint(source)
    changed = [
        f"{key} {stated.get(key)}, now {now[key]}"
        for key in ("size", "uuid", "n_entries")
        if stated.get(key) != now[key]
    ]
    if not changed:
        return []
    return [
        f"{source.path.name} is not the very file the friend was made from ({'; '.join(changed)}): "
        "re-made, re-compressed or merged"
    ]


def differing(
    name: str, expected: Array, found: Array, origin: str = "in the input"
) -> tuple[int, str]:
    """Return the first row where two columns differ in a bit, and its values; else no text."""
    if expected.dtype != found.dtype:
        return 0, f"'{name}' is {expected.dtype} in the input and {found.dtype} in the friend"
    n_rows = min(len(expected), len(found))
    bits = f"u{expected.dtype.itemsize}"
    differ = np.ascontiguousarray(expected[:n_rows]).view(bits) != np.ascontiguousarray(
        found[:n_rows]
    ).view(bits)
    if not differ.any():
        return n_rows, ""
    row = int(np.argmax(differ))
    return row, f"'{name}' is {expected[row]!s} {origin} and {found[row]!s} in the friend"


def _inconsistent(
    found: Mapping[str, Array], names: BranchNames, all_scored: bool
) -> tuple[int, str]:
    """Return the first row whose scores contradict each other, and how; else no text.

    With `all_scored`, where no cut is stated, a filler is a contradiction too.
    """
    scores = np.stack([found[name] for name in names.probabilities]).astype(np.float64)  # by class
    chosen = found[names.pred_class]
    scored = chosen >= 0
    # Rounding to float32 keeps the order, so the largest score before it is still the largest.
    place = np.clip(chosen, 0, len(names.probabilities) - 1)[None]
    of_chosen, largest = np.take_along_axis(scores, place, axis=0)[0], scores.max(axis=0)
    with np.errstate(invalid="ignore"):
        good = (np.abs(scores.sum(axis=0) - 1) < 1e-5) & (scores.min(axis=0) >= 0)
        good &= (of_chosen == largest) & (chosen < len(names.probabilities))
    good = np.where(scored, good, np.isnan(scores).all(axis=0) & (chosen == -1))
    if names.pred_class_proba in found:
        best = found[names.pred_class_proba]
        good &= np.where(scored, best == largest, np.isnan(best))
    if good.all() and all_scored and not scored.all():
        row = int(np.argmin(scored))
        which = f"it holds no scores in {names.pred_class}"
        return row, f"{which}, but the friend tree states no cut that removed it"
    if good.all():
        return len(good), ""
    row = int(np.argmin(good))
    values = ", ".join(str(found[name][row]) for name in names.probabilities)
    with_class = f"{names.pred_class} {chosen[row]!s}"
    if names.pred_class_proba in found:
        with_class += f" of {found[names.pred_class_proba][row]!s}"
    return row, f"scores {values} with {with_class} contradict each other"


class _Neighbours:
    """Counts neighbouring entries of equal identity: a proof can't tell those apart."""

    def __init__(self) -> None:
        self.equal = self.pairs = 0
        self.last: dict[str, Array] = {}

    def add(self, columns: Mapping[str, Array]) -> None:
        if not columns:
            return
        joined = {n: np.concatenate([self.last.get(n, c[:0]), c]) for n, c in columns.items()}
        same = np.logical_and.reduce([c[1:] == c[:-1] for c in joined.values()])
        self.equal += int(np.count_nonzero(same))
        self.pairs += same.size
        self.last = {name: values[-1:] for name, values in columns.items()}

    def notes(self, names: Sequence[str]) -> list[str]:
        if self.equal <= 0.01 * self.pairs:
            return []
        return [
            f"{', '.join(names)} do not differ in {self.equal} of {self.pairs} pairs of "
            "neighbouring entries: the proof does not exclude an exchange of those"
        ]
