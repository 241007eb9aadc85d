"""Friend trees: one row per entry of the input tree, in its order, written and read.

A friend is a TTree in a file of its own; `TTree::AddFriend` joins it to its input by entry number.
Row i is entry i: nothing is searched or sorted by a key. A TObjString `<tree>_metadata` beside the
tree holds, as JSON, what it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from utils.columns.arrays import Array, RowRange
from utils.schema import FILLER_CLASS, FoldRule, InputError, nearest
from utils.system.files import complete
from utils.system.libraries.rootfiles import uproot

FORMAT = "friend tree 1"
FOLD = "fold"
PRED_CLASS = "pred_class"
PRED_CLASS_PROBA = "pred_class_proba"
SUFFIX = "_metadata"

BASKET_ENTRIES = 100_000
"""Entries per basket: rows appended in smaller pieces are collected up to this many."""


# --- rows ----------------------------------------------------------------------------------------


def score_columns(
    probabilities: NDArray[np.float64], names: Sequence[str], double_precision: bool = False
) -> dict[str, Array]:
    """Return the columns of scores: one per class, `pred_class` and `pred_class_proba`.

    `probabilities` is `(n, n_classes)`, NaN in rows without scores, and `names` are the branches of
    the classes. `pred_class` (int32) is the most probable class before rounding to float32, the
    first of several, and -1 without scores.
    """
    stored = probabilities.astype(np.float64 if double_precision else np.float32)
    scored = ~np.isnan(probabilities[:, 0])
    chosen = np.where(scored, np.argmax(probabilities, axis=1), FILLER_CLASS).astype(np.int32)
    columns: dict[str, Array] = {name: stored[:, i].copy() for i, name in enumerate(names)}
    return {**columns, PRED_CLASS: chosen, PRED_CLASS_PROBA: stored.max(axis=1)}


# --- writing -------------------------------------------------------------------------------------


def friend_metadata(
    *,
    input_file: Mapping[str, Any],
    run_id: str,
    models: Sequence[str],
    rule: FoldRule,
    identity: Sequence[str],
    probabilities: Sequence[str],
    misc: Sequence[str] = (),
    cut: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return what a friend tree says about its origin.

    `input_file` is the input's fingerprint (base name, size, UUID, tree, entries), `models` the
    fingerprints of the run's models in fold order, `identity` and `misc` the branches copied from
    the input, `probabilities` the branches of the classes in class order. `more` is kept as it is.
    """
    return {
        "format": FORMAT,
        "input": dict(input_file),
        "run_id": run_id,
        "models": list(models),
        "fold_rule": {
            "kind": rule.kind,
            "columns": list(rule.columns),
            "n_splits": rule.n_splits,
        },
        "identity": list(identity),
        "misc": list(misc),
        "probabilities": list(probabilities),
        "cut": cut,
        **more,
    }


def fold_rule(metadata: Mapping[str, Any]) -> FoldRule:
    """Return the fold rule that a friend tree's metadata state."""
    rule = metadata["fold_rule"]
    return FoldRule(rule["kind"], tuple(rule["columns"]), int(rule["n_splits"]))


class FriendWriter:
    """Writes a friend tree in chunks; a context manager.

    The file appears under its name only when the block ends without an error; otherwise nothing
    is left. `branches` maps names to dtypes: bool, integers of 8 to 64 bits, float32, float64. A
    writer that is given no rows makes a valid tree without entries.
    """

    def __init__(
        self,
        path: str | Path,
        tree_name: str,
        branches: Mapping[str, DTypeLike],
        metadata: Mapping[str, Any],
    ) -> None:
        self.path = Path(path)
        self.branches = {name: np.dtype(dtype) for name, dtype in branches.items()}
        for name, dtype in self.branches.items():
            _check_branch(name, dtype, self.path)
        self.n_entries = 0
        self._tree_name = tree_name
        self._metadata = json.dumps(metadata, allow_nan=False)
        self._n_expected = int(metadata.get("input", {}).get("n_entries", 0))
        self._waiting: list[dict[str, Array]] = []
        self._until_complete = ExitStack()

    def __enter__(self) -> Self:
        partial = self._until_complete.enter_context(complete(self.path))
        self._file = uproot.recreate(partial, compression=uproot.ZSTD(5))
        # hadd complains about a tree whose room for baskets had to grow while it was written.
        n_baskets = self._n_expected // BASKET_ENTRIES + 3
        self._tree = self._file.mktree(
            self._tree_name, self.branches, initial_basket_capacity=max(10, n_baskets)
        )
        return self

    def append(self, columns: Mapping[str, Array]) -> None:
        """Add the next rows, `(n,)` per branch, for all branches and exactly in their dtypes."""
        for name in self.branches:
            if name not in columns:
                raise InputError(f"no values for branch '{name}' of {self.path.name}")
        rows = {name: np.asarray(values) for name, values in columns.items()}
        lengths = {len(values) for values in rows.values()}
        if len(lengths) > 1:
            raise InputError(f"branches of {self.path.name} were given different numbers of rows")
        for name, values in rows.items():
            if name not in self.branches:
                raise InputError(
                    f"'{name}' is no branch of {self.path.name}; {nearest(name, self.branches)}"
                )
            if values.dtype != self.branches[name]:
                raise InputError(
                    f"branch '{name}' of {self.path.name} is {self.branches[name]} and was given "
                    f"{values.dtype} values"
                )
        self._waiting.append(rows)
        self.n_entries += lengths.pop()
        if sum(len(next(iter(w.values()))) for w in self._waiting) >= BASKET_ENTRIES:
            self._flush()

    def _flush(self) -> None:
        rows = {n: np.concatenate([w[n] for w in self._waiting]) for n in self.branches}
        self._waiting = []
        if len(next(iter(rows.values()))):
            self._tree.extend(rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._file.close()
            self._until_complete.__exit__(kind, error, trace)
            return
        with self._until_complete, self._file:
            if self._waiting:
                self._flush()
            self._file[self._tree_name + SUFFIX] = self._metadata


def _check_branch(name: str, dtype: np.dtype[Any], path: Path) -> None:
    if set(name) & set("[](){}:/ ,"):
        raise InputError(
            f"'{name}' can't be a branch of {path.name}: ROOT would read it as something else; "
            f"give it a name in derived_features, for example 'first: {name}'"
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype == np.float16:
        raise InputError(f"branch '{name}' of {path.name} cannot be written as {dtype}")


# --- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Friend:
    """A friend tree on disk: its branches with their dtypes, and its metadata."""

    path: Path
    tree: str
    n_entries: int
    branches: Mapping[str, np.dtype[Any]]
    metadata: Mapping[str, Any]


def open_friend(path: str | Path, tree: str | None = None) -> Friend:
    """Return the friend tree in `path`, named `tree` or the only one with metadata.

    Raises InputError if the file, the tree or its metadata are missing or unreadable.
    """
    path = Path(path)
    with open_root(path) as file:
        return find_friend(file, path, tree)[0]


def find_friend(file: Any, path: Path, tree: str | None) -> tuple[Friend, Any]:
    """Return the friend tree of an open file, described and as uproot has it."""
    named = [key.removesuffix(SUFFIX) for key in _names(file) if key.endswith(SUFFIX)]
    if not named:
        raise InputError(
            f"{path.name} holds no '<tree>{SUFFIX}': it is no friend tree written by predict.py"
        )
    if tree is None:
        if len(named) > 1:
            raise InputError(f"{path.name} holds {', '.join(named)}: choose one with --tree")
        tree = named[0]
    elif tree not in named:
        raise InputError(f"no friend tree '{tree}' in {path.name}; {nearest(tree, named)}")
    try:
        metadata = json.loads(str(file[tree + SUFFIX]))
    except ValueError:
        raise InputError(f"'{tree}{SUFFIX}' of {path.name} is not JSON") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"'{tree}{SUFFIX}' of {path.name} does not describe a '{FORMAT}'")
    _check_metadata(metadata, f"'{tree}{SUFFIX}' of {path.name}")
    found = get_tree(file, tree, path)
    return Friend(path, tree, int(found.num_entries), _dtypes(found), metadata), found


_TEXTS = ("identity", "misc", "probabilities", "models")


def _check_metadata(metadata: Mapping[str, Any], where: str) -> None:
    """Raise InputError where metadata lack what a proof needs, or hold something else."""
    source, rule = metadata.get("input"), metadata.get("fold_rule")
    good = {
        "input": isinstance(source, dict) and isinstance(source.get("tree"), str),
        "run_id": isinstance(metadata.get("run_id"), str),
        "cut": "cut" in metadata and isinstance(metadata["cut"], str | None),
        "fold_rule": isinstance(rule, dict)
        and rule.get("kind") in ("modulo", "hash", "entry")
        and _are_texts(rule.get("columns"))
        and isinstance(rule.get("n_splits"), int)
        and rule["n_splits"] >= 1,
        **{key: _are_texts(metadata.get(key)) for key in _TEXTS},
    }
    if not metadata.get("probabilities"):
        good["probabilities"] = False
    for key, is_good in good.items():
        if not is_good:
            raise InputError(f"{where} is damaged: its '{key}' is missing or wrong; predict again")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def iterate(
    path: str | Path, tree: str, names: Sequence[str], chunk_entries: int = 200_000
) -> Iterator[tuple[RowRange, dict[str, Array]]]:
    """Yield ranges of entries through a tree, friend or input, with columns as they are stored.

    At most `chunk_entries` entries are in memory. Raises InputError for what is missing or
    unreadable.
    """
    path = Path(path)
    with open_root(path) as file:
        yield from iterate_tree(get_tree(file, tree, path), path, names, chunk_entries)


def iterate_tree(
    found: Any, path: Path, names: Sequence[str], chunk_entries: int
) -> Iterator[tuple[RowRange, dict[str, Array]]]:
    """Yield what `iterate` does, through an open tree."""
    known = found.keys()
    for name in names:
        if name not in known:
            raise InputError(
                f"no branch '{name}' in tree '{found.name}' of {path.name}; {nearest(name, known)}"
            )
    n_entries = int(found.num_entries)
    if not names:
        yield from ((rows, {}) for rows in RowRange(0, n_entries).chunks(chunk_entries))
        return
    start = 0
    chunks = found.iterate(list(names), step_size=chunk_entries, library="np")
    while True:
        try:
            read = next(chunks, None)
            columns = {name: read[name] for name in names} if read is not None else None
        except Exception as error:  # uproot raises many kinds on a damaged basket
            raise InputError(
                f"tree '{found.name}' of {path.name} cannot be read: {_first_line(error)}"
            ) from error
        if columns is None:
            return
        stop = start + len(columns[names[0]])
        yield RowRange(start, stop), columns
        start = stop


def open_root(path: Path) -> Any:
    """Return the open ROOT file (a context manager), or raise InputError."""
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        return uproot.open(path, object_cache=None, array_cache=None)
    except Exception as error:  # a file may be broken in more ways than uproot has exceptions for
        raise InputError(f"{path} is no readable ROOT file: {_first_line(error)}") from error


def get_tree(file: Any, tree: str, path: Path) -> Any:
    """Return tree `tree` (TTree or RNTuple) of an open file, its highest cycle."""
    trees = tree_names(file)
    if tree not in trees:
        raise InputError(f"no tree '{tree}' in {path.name}; {nearest(tree, trees)}")
    try:
        return file[tree]
    except Exception as error:
        raise InputError(
            f"tree '{tree}' of {path.name} cannot be read: {_first_line(error)}"
        ) from error


def tree_names(file: Any) -> list[str]:
    """Return the names of all trees of an open file, without cycles."""
    kinds = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")
    classes = file.classnames(recursive=True, cycle=False)
    return [name for name, kind in classes.items() if kind in kinds]


def _names(file: Any) -> list[str]:
    return list(file.keys(recursive=True, cycle=False))


def _dtypes(tree: Any) -> dict[str, np.dtype[Any]]:
    return {
        branch.name: np.dtype(branch.interpretation.numpy_dtype).newbyteorder("=")
        for branch in tree.branches
    }


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no details'}"
