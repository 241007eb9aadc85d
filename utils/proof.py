"""Prove a friend tree against its input, entry by entry, and its scores against a run.

    python -m utils.proof INPUT.root FRIEND.root [--scores RUN_ID]
    python -m utils.proof --show FRIEND.root

The proof trusts nothing but the two files: identity columns are compared bit by bit, folds are
computed anew from the INPUT's columns, in a stream of constant memory. It ends with status 0 and
one line, or with status 1 and the first entry that is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from utils.folds import fold_of
from utils.friends import (
    FOLD,
    PRED_CLASS,
    Friend,
    fold_rule,
    get_tree,
    iterate,
    open_friend,
    open_root,
)
from utils.schema import PipelineError, ProofError, nearest

log = logging.getLogger(__name__)

Array = NDArray[Any]
Scores = Callable[[int, int], NDArray[np.float64]]
"""Probabilities `(stop-start, n_classes)` of entries start .. stop-1, NaN where one was cut."""

CHECKS = ("length", "identity", "fold", "scores")
"""length: as many entries. identity: identity and copied columns, bit by bit. fold: computed anew.
scores: each row is filler throughout, or a distribution whose largest value pred_class names."""

CHUNK_ENTRIES = 200_000


@dataclass(frozen=True)
class Proof:
    """A friend tree that was proved against its input.

    `n_scored` entries have scores, the others fillers. `identity` are the compared columns. `notes`
    are remarks that do not contradict the proof. `deviation` is the largest difference of a stored
    score from the recomputed one, None where scores were not recomputed.
    """

    input_path: Path
    friend_path: Path
    n_entries: int
    n_scored: int
    identity: tuple[str, ...]
    n_splits: int
    notes: tuple[str, ...] = ()
    run_id: str | None = None
    deviation: float | None = None

    @property
    def summary(self) -> str:
        """The proof in one line."""
        compared = ", ".join(self.identity) or "no column"
        parts = [
            f"{self.n_entries} entries in the same order ({compared} equal bit by bit)",
            f"all in their fold of {self.n_splits}",
            f"{self.n_scored} scored",
        ]
        if self.deviation is not None:
            parts.append(f"scores those of run {self.run_id} within {self.deviation:.1e}")
        return (
            f"proved: {self.friend_path.name} is a friend of {self.input_path.name}: "
            + "; ".join(parts)
        )


def prove_alignment(
    input_path: str | Path,
    friend_path: str | Path,
    *,
    tree: str | None = None,
    input_tree: str | None = None,
    checks: Sequence[str] = CHECKS,
    chunk_entries: int = CHUNK_ENTRIES,
) -> Proof:
    """Prove that row i of the friend tree is entry i of the input tree, for every i.

    `tree` names the friend tree and `input_tree` the input's; by default the only friend tree of
    the file, and the tree it was made from. Raises ProofError with the first entry that is wrong
    and its values, InputError for files, trees or branches that are missing or unreadable.
    """
    friend, input_path = open_friend(friend_path, tree), Path(input_path)
    rule = fold_rule(friend.metadata)
    source = _open_input(input_path, input_tree or friend.metadata["input"]["tree"])
    identity = tuple(friend.metadata["identity"])
    compared = tuple(dict.fromkeys([*identity, *friend.metadata["misc"]]))
    probabilities = list(friend.metadata["probabilities"])
    _check_branches(friend, source, compared, [FOLD, PRED_CLASS, *probabilities])
    where = f"{friend.path.name} is not a friend of {input_path.name}"
    if "length" in checks and friend.n_entries != source.n_entries:
        raise ProofError(
            f"{where}: it has {friend.n_entries} entries, the input {source.n_entries}"
        )
    notes = _fingerprint_notes(friend, source)
    if notes and not identity:
        raise ProofError(f"{where}: it has no identity columns to compare, and {notes[0]}")
    distinct = _Neighbours()
    n_scored = 0
    theirs = iterate(
        input_path, source.tree, list(dict.fromkeys([*compared, *rule.columns])), chunk_entries
    )
    ours = iterate(
        friend.path, friend.tree, [*compared, FOLD, PRED_CLASS, *probabilities], chunk_entries
    )
    for (start, stop, expected), (_, _, found) in zip(theirs, ours, strict="length" in checks):
        wrong: list[tuple[int, str]] = []
        if "identity" in checks:
            wrong += [_differing(name, expected[name], found[name]) for name in compared]
        if "fold" in checks:
            fold = fold_of(rule, expected, np.arange(start, stop, dtype=np.int64))
            wrong.append(_differing(FOLD, fold[: len(found[FOLD])], found[FOLD]))
        if "scores" in checks:
            wrong.append(_inconsistent(found, probabilities))
        contradictions = [(row, text) for row, text in wrong if text]
        if contradictions:
            row, text = min(contradictions, key=lambda found: found[0])
            raise ProofError(f"{where}: entry {start + row}: {text}")
        distinct.add({name: expected[name] for name in identity})
        n_scored += int(np.count_nonzero(found[PRED_CLASS] >= 0))
    notes += distinct.notes(identity)
    return Proof(
        input_path, friend.path, friend.n_entries, n_scored, compared, rule.n_splits, tuple(notes)
    )


def prove_scores(
    friend_path: str | Path,
    score_entries: Scores,
    *,
    tree: str | None = None,
    chunk_entries: int = CHUNK_ENTRIES,
) -> float:
    """Compare every stored score with a recomputed one and return the largest difference.

    Equal means the same float32 within one unit in the last place (float64 branches: within 1e-14),
    the same `pred_class` unless two classes tie within that, and fillers in the same rows. Raises
    ProofError with the first entry that differs and its values.
    """
    friend = open_friend(friend_path, tree)
    names = list(friend.metadata["probabilities"])
    largest = 0.0
    for start, stop, found in iterate(
        friend.path, friend.tree, [*names, PRED_CLASS], chunk_entries
    ):
        stored = np.stack([found[name] for name in names], axis=1)
        expected = score_entries(start, stop)
        if expected.shape[1] != len(names):
            raise ProofError(
                f"{friend.path.name} has scores of {len(names)} classes, the run's models of "
                f"{expected.shape[1]}"
            )
        if len(expected) != len(stored):
            raise ProofError(
                f"{friend.path.name} has {friend.n_entries} entries, the input "
                f"{start + len(expected)}"
            )
        tolerance = _tolerance(stored)
        difference = np.abs(stored - expected.astype(stored.dtype)).astype(np.float64)
        removed = np.isnan(expected)
        bad = np.where(removed, ~np.isnan(stored), ~(difference <= tolerance))
        if bad.any():
            row, column = np.unravel_index(np.argmax(bad), bad.shape)
            raise ProofError(
                f"{friend.path.name} holds other scores: entry {start + int(row)}: "
                f"{names[int(column)]} is {stored[row, column]!s} and was recomputed as "
                f"{expected.astype(stored.dtype)[row, column]!s} ({int(bad.any(axis=1).sum())} of "
                f"entries {start} to {stop - 1} differ)"
            )
        _check_classes(friend, start, expected, found[PRED_CLASS])
        largest = max(largest, float(np.max(difference[~removed], initial=0.0)))
    return largest


def check_run(friend: Friend, run_id: str, models: Sequence[str]) -> None:
    """Raise ProofError unless the friend tree names this run and these model fingerprints."""
    made_by = friend.metadata["run_id"]
    if made_by != run_id:
        raise ProofError(f"{friend.path.name} was made by run {made_by}, not by run {run_id}")
    stated = list(friend.metadata["models"])
    if stated != list(models):
        place = next(
            (i for i, (a, b) in enumerate(zip(stated, models, strict=False)) if a != b),
            min(len(stated), len(models)),
        )
        raise ProofError(
            f"{friend.path.name} was made with other models: model {place} is "
            f"{_at(stated, place)} there and {_at(models, place)} in run {run_id}"
        )


# --- parts of the proof --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Input:
    path: Path
    tree: str
    n_entries: int
    branches: tuple[str, ...]
    fingerprint: Mapping[str, Any]


def _open_input(path: Path, tree: str) -> _Input:
    with open_root(path) as file:
        found = get_tree(file, tree, path)
        n_entries = int(found.num_entries)
        fingerprint = {
            "size": path.stat().st_size,
            "uuid": str(file.file.uuid),
            "n_entries": n_entries,
        }
        return _Input(path, tree, n_entries, tuple(found.keys()), fingerprint)


def _check_branches(
    friend: Friend, source: _Input, compared: Sequence[str], own: Sequence[str]
) -> None:
    for name in [*compared, *own]:
        if name not in friend.branches:
            raise ProofError(
                f"{friend.path.name} lacks its branch '{name}'; {nearest(name, friend.branches)}"
            )
    for name in [*compared, *fold_rule(friend.metadata).columns]:
        if name not in source.branches:
            raise ProofError(
                f"{friend.path.name} is not a friend of {source.path.name}: its column '{name}' is "
                f"no branch of tree '{source.tree}'; {nearest(name, source.branches)}"
            )


def _fingerprint_notes(friend: Friend, source: _Input) -> list[str]:
    stated = friend.metadata["input"]
    changed = [
        f"{key} {stated.get(key)}, now {now}"
        for key, now in source.fingerprint.items()
        if stated.get(key) != now
    ]
    if not changed:
        return []
    return [
        f"{source.path.name} is not the very file the friend was made from ({'; '.join(changed)}): "
        "re-made, re-compressed or merged"
    ]


def _differing(name: str, expected: Array, found: Array) -> tuple[int, str]:
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
    origin = "by the input's identity" if name == FOLD else "in the input"
    return row, f"'{name}' is {expected[row]!s} {origin} and {found[row]!s} in the friend"


def _inconsistent(found: Mapping[str, Array], names: Sequence[str]) -> tuple[int, str]:
    """Return the first row whose scores contradict each other, and how; else no text."""
    scores = np.stack([found[name] for name in names], axis=1).astype(np.float64)
    chosen = found[PRED_CLASS]
    scored = chosen >= 0
    # Rounding to float32 keeps the order, so the largest score before it is still the largest.
    place = np.clip(chosen, 0, len(names) - 1)[:, None]
    largest = np.take_along_axis(scores, place, axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        good = (np.abs(scores.sum(axis=1) - 1) < 1e-5) & (scores.min(axis=1) >= 0)
        good &= (largest == scores.max(axis=1)) & (chosen < len(names))
    good = np.where(scored, good, np.isnan(scores).all(axis=1) & (chosen == -1))
    if good.all():
        return len(good), ""
    row = int(np.argmin(good))
    values = ", ".join(str(found[name][row]) for name in names)
    return row, f"scores {values} with pred_class {chosen[row]!s} contradict each other"


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


def _tolerance(stored: Array) -> Array | float:
    if stored.dtype == np.float64:
        return 1e-14
    spacing: Array = np.spacing(np.abs(np.nan_to_num(stored))).astype(np.float64)
    return spacing


def _check_classes(
    friend: Friend, start: int, expected: NDArray[np.float64], chosen: Array
) -> None:
    scored = np.flatnonzero(~np.isnan(expected[:, 0]))
    best = expected[scored].max(axis=1)
    given = expected[scored, np.clip(chosen[scored], 0, expected.shape[1] - 1)]
    bad = (chosen[scored] < 0) | (chosen[scored] >= expected.shape[1]) | (best - given > 1e-14)
    if bad.any():
        row = int(scored[np.argmax(bad)])
        raise ProofError(
            f"{friend.path.name} holds another class: entry {start + row}: {PRED_CLASS} is "
            f"{chosen[row]!s} and was recomputed as {int(np.argmax(expected[row]))}"
        )


def _at(values: Sequence[str], place: int) -> str:
    return values[place] if place < len(values) else "absent"


# --- the command ---------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ProofError(f"{message}; usage: {' '.join(self.format_usage().split()[1:])}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 proved, 1 refuted or impossible."""
    parser = _Parser(
        prog="python -m utils.proof",
        description="Prove that a friend tree belongs to its input, entry by entry.",
    )
    parser.add_argument("input", nargs="?", metavar="INPUT.root", help="the input ntuple")
    parser.add_argument("friend", nargs="?", metavar="FRIEND.root", help="its friend tree")
    parser.add_argument("--scores", metavar="RUN_ID", help="recompute all scores from this run")
    parser.add_argument("--tree", metavar="NAME", help="the friend tree, if the file has several")
    parser.add_argument("--input-tree", metavar="NAME", help="the input tree, if it was renamed")
    parser.add_argument("--show", metavar="FRIEND.root", help="print what a friend was made from")
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        given = parser.parse_args(arguments)
        if given.show:
            shown = json.dumps(dict(open_friend(given.show, given.tree).metadata), indent=2)
            sys.stdout.write(shown + "\n")
            return 0
        if not (given.input and given.friend):
            parser.error("name INPUT.root and FRIEND.root")
        proof = prove_alignment(
            given.input, given.friend, tree=given.tree, input_tree=given.input_tree
        )
        for note in proof.notes:
            log.info("note: %s", note)
        sys.stdout.write(proof.summary + "\n")
    except PipelineError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
