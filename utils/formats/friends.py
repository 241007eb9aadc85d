"""Friend trees: one row per entry of the input tree, in its order, written and read.

A friend is a TTree in a file of its own; `TTree::AddFriend` joins it to its input by entry number.
Row i is entry i: nothing is searched or sorted by a key. A TObjString `<tree>_metadata` beside the
tree holds, as JSON, what it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from utils.columns.arrays import Array, RowRange
from utils.columns.variations import shifted_name
from utils.formats import ntuples
from utils.schema import (
    FILLER_CLASS,
    NOT_IN_BRANCHES,
    FoldRule,
    InputError,
    Location,
    given_location,
    nearest,
)
from utils.system.files import complete
from utils.system.libraries.rootfiles import open_root, uproot

FORMAT = "friend tree 1"
SUFFIX = "_metadata"

BASKET_ENTRIES = 100_000
"""Entries per basket, at most: rows appended in smaller pieces are collected up to this many."""

BASKET_BYTES = 8_000_000
"""Bytes of one basket of all branches, at most: with shifts there may be hundreds of branches."""


# --- names ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BranchNames:
    """What the branches are called that a friend tree adds to its input's.

    `probabilities` are those of the classes, in class order. With one fold `trained_on` flags the
    rows that the model was trained on.
    """

    probabilities: tuple[str, ...]
    fold: str = "fold"
    pred_class: str = "pred_class"
    pred_class_proba: str = "pred_class_proba"
    trained_on: str = "trained_on"

    @property
    def own(self) -> dict[str, str]:
        """The names of all but the probabilities, as metadata hold them."""
        return {f.name: getattr(self, f.name) for f in fields(self)[1:]}

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.own.values(), *self.probabilities)

    @property
    def of_scores(self) -> tuple[str, ...]:
        """Those that each shift has again."""
        return (self.pred_class, self.pred_class_proba, *self.probabilities)

    def shifted(self, suffix: str) -> BranchNames:
        """Return the names under a shift."""
        return replace(
            self,
            probabilities=tuple(shifted_name(name, suffix) for name in self.probabilities),
            pred_class=shifted_name(self.pred_class, suffix),
            pred_class_proba=shifted_name(self.pred_class_proba, suffix),
        )


def branch_names(n_classes: int, prefix: str = "") -> BranchNames:
    """Return the names for so many classes, each with `prefix` before it."""
    own = {key: prefix + name for key, name in BranchNames(()).own.items()}
    return BranchNames(tuple(f"{prefix}pred_class_{i}_proba" for i in range(n_classes)), **own)


def stated_names(metadata: Mapping[str, Any]) -> BranchNames:
    """Return the names that a friend tree's metadata state; the first friend trees stated none."""
    return BranchNames(tuple(metadata["probabilities"]), **metadata.get("branches", {}))


def stated_suffixes(metadata: Mapping[str, Any]) -> list[str]:
    """Return the suffixes of the shifts under which a friend tree has scores."""
    return [shift["suffix"] for shift in metadata.get("shifts", [])]


def friend_stems(sample: str, files: Sequence[Location]) -> list[str]:
    """Return what `{sample_name}` stands for in the name of the friend tree of each file.

    That of a sample's only file is the sample's name. Of several it is the file's name; where files
    in different folders have the same, it stands behind the sample's name (unless it starts so)
    and as much of the folder as tells them apart.
    """
    if len(files) == 1:
        return [sample]
    stems = [path.stem for path in files]
    if len(set(stems)) == len(stems):
        return stems
    for depth in range(2, max(len(path.parts) for path in files)):
        if len(set(stems)) == len(stems):
            break
        stems = ["_".join([*path.parts[-depth:-1], path.stem]) for path in files]
    return [stem if stem.startswith(sample) else f"{sample}_{stem}" for stem in stems]


# --- rows ----------------------------------------------------------------------------------------


def score_columns(
    probabilities: NDArray[np.float64], names: BranchNames, double_precision: bool = False
) -> dict[str, Array]:
    """Return the columns of scores: one per class, `pred_class` and `pred_class_proba`.

    `probabilities` is `(n, n_classes)`, NaN in rows without scores. `pred_class` (int32) is the
    most probable class before rounding to float32, the first of several, and -1 without scores.
    """
    # By class: numpy takes the largest of each of many rows of few values fifty times slower.
    stored = probabilities.T.astype(np.float64 if double_precision else np.float32, order="C")
    scored = ~np.isnan(probabilities[:, 0])
    chosen = np.where(scored, np.argmax(probabilities, axis=1), FILLER_CLASS)
    return {
        **dict(zip(names.probabilities, stored, strict=True)),
        names.pred_class: chosen.astype(np.int32),
        names.pred_class_proba: stored.max(axis=0),
    }


# --- writing -------------------------------------------------------------------------------------


def friend_metadata(
    *,
    input_file: Mapping[str, Any],
    run_id: str,
    models: Sequence[str],
    rule: FoldRule,
    identity: Sequence[str],
    names: BranchNames,
    misc: Sequence[str] = (),
    cut: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return what a friend tree says about its origin.

    `input_file` is the input's fingerprint (base name, size, UUID, tree, entries), `models` the
    fingerprints of the run's models in fold order, `identity` and `misc` the branches copied from
    the input, `names` the others. `more` is kept as it is.
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
        "probabilities": list(names.probabilities),
        "branches": names.own,
        "cut": cut,
        **more,
    }


def fold_rule(metadata: Mapping[str, Any]) -> FoldRule:
    """Return the fold rule that a friend tree's metadata state."""
    rule = metadata["fold_rule"]
    return FoldRule(rule["kind"], tuple(rule["columns"]), int(rule["n_splits"]))


COMPRESSIONS: Mapping[str, Any] = {
    **{"ZSTD": uproot.ZSTD(5), "ZLIB": uproot.ZLIB(1), "LZ4": uproot.LZ4(4)},
    **{"LZMA": uproot.LZMA(7), "none": None},
}
"""By the names that a configuration has for them; the levels are ROOT's own, but ZSTD's."""


class FriendWriter:
    """Writes a friend tree in chunks; a context manager.

    The file appears under its name only when the block ends without an error; otherwise nothing
    is left. `branches` maps names to dtypes: bool, integers of 8 to 64 bits, float32, float64.
    `compression` is one of COMPRESSIONS. A writer that is given no rows makes a valid tree without
    entries.
    """

    def __init__(
        self,
        path: str | Path,
        tree_name: str,
        branches: Mapping[str, DTypeLike],
        metadata: Mapping[str, Any],
        compression: str = "ZSTD",
    ) -> None:
        self.path = Path(path)
        self._compression = COMPRESSIONS[compression]
        self.branches = {name: np.dtype(dtype) for name, dtype in branches.items()}
        for name, dtype in self.branches.items():
            check_branch(name, self.path.name, dtype)
        self.n_entries = 0
        self._tree_name = tree_name
        self._metadata = json.dumps(metadata, allow_nan=False)
        self._n_expected = int(metadata.get("input", {}).get("n_entries", 0))
        of_row = sum(dtype.itemsize for dtype in self.branches.values())
        self._basket_entries = min(BASKET_ENTRIES, BASKET_BYTES // of_row)
        self._waiting: list[dict[str, Array]] = []
        self._until_complete = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            partial = stack.enter_context(complete(self.path))
            self._file = uproot.recreate(partial, compression=self._compression)
            stack.push(self._close)
            # hadd complains about a tree whose room for baskets had to grow while it was written.
            n_baskets = self._n_expected // self._basket_entries + 3
            self._tree = self._file.mktree(
                self._tree_name, self.branches, initial_basket_capacity=max(10, n_baskets)
            )
            self._until_complete = stack.pop_all()
        return self

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the file; after an error, that one is told and not what closing then meets."""
        with suppress(*([OSError] if kind else [])):
            self._file.close()

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
        if sum(len(next(iter(w.values()))) for w in self._waiting) >= self._basket_entries:
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
            self._until_complete.__exit__(kind, error, trace)
            return
        with self._until_complete:
            if self._waiting:
                self._flush()
            self._file[self._tree_name + SUFFIX] = self._metadata


def check_branch(name: str, where: str, dtype: DTypeLike = np.float32) -> None:
    """Raise InputError where a friend tree can have no branch of this name and type."""
    if set(name) & set(NOT_IN_BRANCHES):
        raise InputError(
            f"'{name}' can't be a branch of {where}: ROOT would read it as something else; "
            f"give it a name in derived_features, for example 'first: {name}'"
        )
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype == np.float16:
        raise InputError(f"branch '{name}' of {where} cannot be written as {dtype}")


# --- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Friend:
    """A friend tree on disk: its branches with their dtypes, and its metadata."""

    path: Location
    tree: str
    n_entries: int
    branches: Mapping[str, np.dtype[Any]]
    metadata: Mapping[str, Any]


def open_friend(path: str | Location, tree: str | None = None) -> Friend:
    """Return the friend tree in `path`, named `tree` or the only one with metadata.

    Raises InputError if the file, the tree or its metadata are missing or unreadable.
    """
    path = given_location(path)
    tree, metadata = _read_metadata(path, tree)
    info = ntuples.open_tree(path, tree)
    return Friend(path, tree, info.n_entries, info.branches, metadata)


def _read_metadata(path: Location, tree: str | None) -> tuple[str, dict[str, Any]]:
    """Return the name of the friend tree in a file, and its metadata."""
    with ntuples.open_input(path) as file:
        try:
            with open_root(file) as root:
                keys = root.keys(recursive=True, cycle=False)
                named = [key.removesuffix(SUFFIX) for key in keys if key.endswith(SUFFIX)]
                tree = _chosen(named, tree, path)
                text = str(root[tree + SUFFIX])
        except InputError:
            raise
        except Exception as error:  # a file may be broken in more ways than uproot has exceptions
            raise InputError(f"{path} cannot be read: {ntuples.cause(error)}") from error
    where = f"'{tree}{SUFFIX}' of {path.name}"
    try:
        metadata = json.loads(text)
    except ValueError:
        raise InputError(f"{where} is not JSON") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{where} does not describe a '{FORMAT}'")
    _check_metadata(metadata, where)
    return tree, metadata


def _chosen(named: Sequence[str], tree: str | None, path: Location) -> str:
    if not named:
        raise InputError(
            f"{path.name} holds no '<tree>{SUFFIX}': it is no friend tree written by predict.py"
        )
    if tree is None and len(named) > 1:
        raise InputError(f"{path.name} holds {', '.join(named)}: choose one with --tree")
    if tree is not None and tree not in named:
        raise InputError(f"no friend tree '{tree}' in {path.name}; {nearest(tree, named)}")
    return tree or named[0]


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
        "branches": _are_branches(metadata.get("branches", {})),
        **{key: _are_texts(metadata.get(key)) for key in _TEXTS},
    }
    if not metadata.get("probabilities"):
        good["probabilities"] = False
    good["shifts"] = _are_shifts(metadata.get("shifts", []))
    for key, is_good in good.items():
        if not is_good:
            raise InputError(f"{where} is damaged: its '{key}' is missing or wrong; predict again")


def _are_branches(value: Any) -> bool:
    known = BranchNames(()).own
    return isinstance(value, dict) and set(value) <= set(known) and _are_texts([*value.values()])


def _are_shifts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(shift, dict)
        and _are_texts([shift.get(key) for key in ("variation", "direction", "kind", "suffix")])
        and shift["suffix"] == shift["variation"] + shift["direction"]
        and isinstance(shift.get("replaced"), dict)
        and _are_texts([*shift["replaced"].values()])
        for shift in value
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def iterate(
    path: str | Location, tree: str, names: Sequence[str], chunk_entries: int = 200_000
) -> Iterator[tuple[RowRange, dict[str, Array]]]:
    """Yield ranges of entries through a tree, friend or input, with columns as they are stored.

    At most `chunk_entries` entries are in memory, and the next ones being read. Raises InputError
    for what is missing or unreadable.
    """
    yield from iterate_tree(ntuples.open_tree(given_location(path), tree), names, chunk_entries)


def iterate_tree(
    info: ntuples.TreeInfo, names: Sequence[str], chunk_entries: int
) -> Iterator[tuple[RowRange, dict[str, Array]]]:
    """Yield what `iterate` does, through a tree that was opened."""
    for name in names:
        if name not in info.branches:
            raise InputError(info.why_not(name))
    for chunk in ntuples.stream(
        info, columns=list(names), cuts=[None], chunk_entries=chunk_entries, n_threads=1
    ):
        yield RowRange(chunk.start, chunk.stop), chunk.selections[0].columns
