"""A file's directory and the map of a tree's branches, read once.

What comes out says where every basket (the compressed stretch of one branch) lies, so that nobody
has to go through the directory again, in this process or another.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from utils.columns.arrays import Array, Integers
from utils.columns.variations import ComputedBranch
from utils.formats.ntuples.files import no_such_file
from utils.formats.ntuples.names import ColumnNames, names_of, refusal, tell_apart
from utils.schema import InputError, Location, Url, location, nearest
from utils.system.libraries.rootfiles import open_root, uproot
from utils.system.opening import open_bytes
from utils.system.ranges import ByteFile, Range


class Baskets(NamedTuple):
    """Where a branch's data lie: basket k holds the entries first[k] to first[k + 1]."""

    first: Integers
    seek: Integers
    size: Integers
    inside: tuple[Array, ...] = ()  # the last baskets, where the tree's own record holds them


class Source(NamedTuple):
    """How a column is read: its branch, its type in the file, and its baskets if they are plain."""

    branch: str
    stored: np.dtype[Any]
    leaf: str | None = None
    baskets: Baskets | None = None


@dataclass(frozen=True)
class TreeInfo:
    """A tree that was found and understood; small enough to be sent to another process.

    `branches` gives the type of each readable column by each of its names, with a shape for
    fixed-size arrays; `unreadable` says why the others are not. `columns` has one name of each
    column, and `shared` the names that several have. `size` is the file's, in bytes. `computed` are
    branches that the tree does not hold: they are made from its own (`with_computed`).
    """

    path: Location
    tree: str
    n_entries: int
    branches: Mapping[str, np.dtype[Any]]
    uuid: str
    size: int
    is_rntuple: bool
    columns: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict, repr=False)
    shared: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict, repr=False)
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)
    computed: Mapping[str, ComputedBranch] = field(default_factory=dict, repr=False)

    def with_computed(self, computed: Mapping[str, ComputedBranch]) -> TreeInfo:
        """Return the tree with further branches, which are read as if it held them."""
        types = {name: made.dtype for name, made in computed.items()}
        return replace(
            self, branches={**self.branches, **types}, computed={**self.computed, **computed}
        )

    @property
    def where(self) -> str:
        """The tree and file as error messages name them."""
        return f"tree '{self.tree}' of {self.path}"

    def why_not(self, name: str, used: str = "", known: Iterable[str] = ()) -> str:
        """Return the line that says why `name` is no readable column.

        `used` says where the name was met, `known` are further names that it may be meant for.
        """
        if name in self.shared:
            return refusal(name, self.shared[name], self.where) + used
        if name in self.unreadable:
            return (
                f"branch '{name}' of {self.where} holds no numbers of a fixed count per entry "
                f"({self.unreadable[name]}) and cannot be used"
            )
        names = [*self.branches, *self.unreadable, *known]
        close = nearest(name, names)
        if not close.startswith("nearest"):
            close = nearest(name, [*self.columns, *known])
        return f"branch '{name}'{used} is not in {self.where}; {close}"


def fingerprint(info: TreeInfo) -> dict[str, str | int]:
    """Return what tells this file from another one, as plain values."""
    return {
        "name": info.path.name,
        "size": info.size,
        "uuid": info.uuid,
        "tree": info.tree,
        "n_entries": info.n_entries,
    }


def open_tree(path: str | Location, tree: str) -> TreeInfo:
    """Return what is known about the tree (or RNTuple) named `tree`; the highest cycle counts.

    Raises InputError, naming the file and the cause, if anything is missing or damaged.
    """
    path = location(path)
    with open_input(path) as file:
        try:
            with open_root(file) as root:
                _check_kind(root, tree, path)
                return _describe(root[tree], path, tree, file.size, str(root.file.uuid))
        except InputError:
            raise
        except Exception as error:
            hint = "; re-compress it: hadd -f505 NEW.root OLD.root" if _is_old(file) else ""
            raise InputError(
                f"{path}: tree '{tree}' cannot be opened: {cause(error)}{hint}"
            ) from error


def _check_kind(file: Any, tree: str, path: Location) -> None:
    try:
        kind = file.classname_of(tree)
        problem = f"is a {kind}, no tree,"
    except KeyError:
        kind, problem = "", "is not there"
    if not _is_tree(kind):
        kinds = file.classnames(recursive=True, cycle=False)
        trees = [name for name, kind in kinds.items() if _is_tree(kind)]
        hint = nearest(tree, trees) if trees else "the file holds no tree"
        raise InputError(f"tree '{tree}' {problem} in {path}; {hint}")


def _is_tree(kind: str) -> bool:
    return kind in ("TTree", "TNtuple", "TNtupleD", "TChain") or kind.endswith("RNTuple")


def open_input(path: Location) -> ByteFile:
    """Open an input; raise InputError if it is no ROOT file or shorter than it says."""
    if not isinstance(path, Url):
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a ROOT file")
        if not path.is_file():
            raise InputError(no_such_file(path))
    file = open_bytes(path)
    try:
        [head] = file.read([Range(0, 20)])
        if len(head) < 20 or bytes(head[:4]) != b"root":
            raise InputError(f"{path} is not a ROOT file" + (": it is empty" * (not file.size)))
        (version,) = struct.unpack_from(">i", head, 4)
        (end,) = struct.unpack_from(">i" if version < 1_000_000 else ">q", head, 12)
        if file.size < end:
            raise InputError(
                f"{path} is cut short: it holds {file.size} of {end} bytes; copy it again"
            )
    except BaseException:
        file.close()
        raise
    return file


def _is_old(file: ByteFile) -> bool:
    """Return whether a file is compressed as ROOT did long ago, which uproot does not unpack."""
    [head] = file.read([Range(0, 61)])
    small = bytes(head[4:8]) < (1_000_000).to_bytes(4, "big")
    (compression,) = struct.unpack_from(">i", head, 33 if small else 45)
    return bool(compression // 100 == 3)


def cause(error: BaseException) -> str:
    """Return what a library says of an error, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _describe(tree: Any, path: Location, name: str, size: int, uuid: str) -> TreeInfo:
    n_entries = int(tree.num_entries)
    if n_entries != tree.num_entries or n_entries < 0:
        raise InputError(f"tree '{name}' of {path} says it has {tree.num_entries} entries")
    is_rntuple = not isinstance(tree, uproot.TTree)
    found = list(_fields(tree) if is_rntuple else _branches(tree, n_entries))
    names = tell_apart([column.names for column in found])
    columns = {name: found[place].content for name, place in names.of.items()}
    sources = {name: content for name, content in columns.items() if isinstance(content, Source)}
    unreadable = {name: why for name, why in columns.items() if isinstance(why, str)}
    damaged = [f"'{k}', {why}" for k, why in unreadable.items() if why.startswith(_DAMAGED)]
    if damaged and not sources:
        raise InputError(f"tree '{name}' of {path}: no branch is intact (branch {damaged[0]})")
    return TreeInfo(
        path=path,
        tree=name,
        n_entries=n_entries,
        branches={key: _type_in_memory(source) for key, source in sources.items()},
        uuid=uuid,
        size=size,
        is_rntuple=is_rntuple,
        columns=names.columns,
        unreadable=unreadable,
        shared=names.shared,
        sources=sources,
    )


class _Column(NamedTuple):
    """A column under the names ROOT has for it: how it is read, or why it can't be."""

    names: ColumnNames
    content: Source | str


def _fields(ntuple: Any) -> Iterator[_Column]:
    for key in ntuple.keys(recursive=False):
        typename = str(ntuple[key].typename)
        stored = _rntuple_type(typename)
        yield _Column(ColumnNames((key,), key), typename if stored is None else Source(key, stored))


def _branches(
    branches: Any, n_entries: int, mother: str = "", above: str = ""
) -> Iterator[_Column]:
    """Yield the columns of a tree, or of the branches of a branch, in the tree's order."""
    for branch in branches.branches:
        name = str(branch.name)
        key = above + name
        try:
            inner = len(branch.branches)
        except Exception as error:
            yield _Column(names_of(name, mother, name, False), f"{_DAMAGED}, {cause(error)}")
            continue
        if inner:
            yield from _branches(branch, n_entries, mother or name, f"{key}/")
            continue
        content = _describe_branch(key, branch, n_entries)
        leaves = content.stored.names if isinstance(content, Source) else None
        for leaf in leaves or (None,):
            yield _Column(
                names_of(name, mother, leaf or _leaf(branch), leaf is not None),
                content if isinstance(content, str) else content._replace(leaf=leaf),
            )


def _leaf(branch: Any) -> str:
    """Return the name of a branch's only leaf; the branch's where that can't be read."""
    try:
        [leaf] = branch.member("fLeaves")
        return str(leaf.member("fName")).partition("[")[0]
    except Exception:
        return str(branch.name).partition("[")[0]


_DAMAGED = "damaged or unknown"

_RNTUPLE_TYPES = {
    "float": "f4", "double": "f8", "bool": "?", "char": "i1", "std::byte": "u1",
    **{f"std::{u}int{8 * n}_t": f"{u[:1] or 'i'}{n}" for u in ("", "u") for n in (1, 2, 4, 8)},
}  # fmt: skip


def _rntuple_type(typename: str) -> np.dtype[Any] | None:
    array = re.fullmatch(r"std::array<([\w:]+),\s*([0-9]+)>", typename)
    element = _RNTUPLE_TYPES.get(array[1] if array else typename)
    if element is None:
        return None
    return np.dtype((element, (int(array[2]),))) if array else np.dtype(element)


def _describe_branch(key: str, branch: Any, n_entries: int) -> Source | str:
    """Return how a branch is read, or why it can't be."""
    try:
        interpretation = branch.interpretation
        stored = _stored_type(interpretation)
        if stored is None:
            return str(branch.typename)
        first = np.asarray(branch.entry_offsets, dtype=np.int64)
        if first[-1] != n_entries:
            return f"{_DAMAGED}, {first[-1]} entries where the tree has {n_entries}"
        if not _is_plain(interpretation):
            return Source(key, stored)
        inside = tuple(np.array(b.data, dtype=np.uint8) for b in branch.embedded_baskets)
        n = len(first) - 1 - len(inside)
        seek, size = branch.member("fBasketSeek")[:n], branch.member("fBasketBytes")[:n]
        baskets = Baskets(first, seek.astype(np.int64), size.astype(np.int64), inside)
        return Source(key, stored, baskets=baskets)
    except Exception as error:
        return f"{_DAMAGED}, {cause(error)}"


def _stored_type(interpretation: Any) -> np.dtype[Any] | None:
    """Return the type of one entry in the file, or None unless it is a fixed set of numbers."""
    if _is_plain(interpretation):
        stored: np.dtype[Any] = np.dtype(interpretation.from_dtype)
        return stored
    element = {"AsDouble32": "f8", "AsFloat16": "f4"}.get(type(interpretation).__name__)
    return None if element is None else np.dtype((element, tuple(interpretation.to_dims)))


def _is_plain(interpretation: Any) -> bool:
    return type(interpretation) is uproot.interpretation.numerical.AsDtype


def _type_in_memory(source: Source) -> np.dtype[Any]:
    fields = source.stored.fields
    stored = source.stored if source.leaf is None or fields is None else fields[source.leaf][0]
    return np.dtype((stored.base.newbyteorder("="), stored.shape))
