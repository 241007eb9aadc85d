"""ROOT files in, columns out: only the branches needed, chunk by chunk, with entry numbers.

`open_tree` reads a file's directory and the map of its branches once. `stream` then reads ranges of
entries without going through the directory again: a basket (the compressed stretch of one branch)
is fetched, unpacked on a thread and checked against what the tree says it must hold, so that a
damaged or shortened file is an error and never a shorter or wrong column. What a basket cannot
hold in plain form (Double32, RNTuple, baskets inside the tree's own record) is left to uproot.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import uproot

from utils.expressions import Expression, check_index, expand, parse
from utils.schema import InputError, Sample, nearest, project_path

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


class Baskets(NamedTuple):
    """Where a branch's data lie: basket k holds the entries first[k] to first[k + 1]."""

    first: Integers
    seek: Integers
    size: Integers


class Source(NamedTuple):
    """How a column is read: its branch, its type in the file, and its baskets if they are plain."""

    branch: str
    stored: np.dtype[Any]
    leaf: str | None = None
    baskets: Baskets | None = None


@dataclass(frozen=True)
class TreeInfo:
    """A tree that was found and understood; small enough to be sent to another process.

    `branches` gives the type of each readable branch, with a shape for fixed-size arrays;
    `unreadable` says why the others are not. `size` is the file's, in bytes.
    """

    path: Path
    tree: str
    n_entries: int
    branches: Mapping[str, np.dtype[Any]]
    uuid: str
    size: int
    is_rntuple: bool
    unreadable: Mapping[str, str] = field(default_factory=dict, repr=False)
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)

    @property
    def where(self) -> str:
        """The tree and file as error messages name them."""
        return f"tree '{self.tree}' of {self.path}"


@dataclass(frozen=True)
class Rows:
    """Entries that passed a cut: their ascending numbers in the tree, and their columns.

    Columns keep the types of the input; derived ones are float64.
    """

    entry: Integers
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(self.entry)


@dataclass(frozen=True)
class Chunk:
    """The entries from `start` to `stop`: how many passed the common cut, and the rows per cut."""

    start: int
    stop: int
    n_common: int
    selections: tuple[Rows, ...]


def fingerprint(info: TreeInfo) -> dict[str, str | int]:
    """Return what tells this file from another one, as plain values."""
    return {
        "name": info.path.name,
        "size": info.size,
        "uuid": info.uuid,
        "tree": info.tree,
        "n_entries": info.n_entries,
    }


# --- finding files -------------------------------------------------------------------------------


def find_files(sample: Sample) -> tuple[Path, ...]:
    """Return the sample's files, sorted.

    An entry of `sample.files` is a path, a pattern (`*`, `?`, `[...]`) or a text file (`.txt`,
    `.list`) with one of these per line, `#` starting a comment. Raises InputError for an entry
    that leads to no file and for a file named twice.
    """
    found: list[Path] = []
    for entry in sample.files:
        path = project_path(entry)
        if path.suffix in (".txt", ".list"):
            lines = _read_lines(path, sample.name)
            for line in lines:
                found += _match(line, f"{path}, sample '{sample.name}'")
            if not lines:
                raise InputError(f"{path} (sample '{sample.name}') names no file")
        else:
            found += _match(entry, f"sample '{sample.name}'")
    doubled = sorted({str(p) for p in found if found.count(p) > 1})
    if doubled:
        raise InputError(
            f"sample '{sample.name}' names {doubled[0]} twice: its events would count twice"
        )
    return tuple(sorted(found))


def _read_lines(path: Path, sample: str) -> list[str]:
    if not path.is_file():
        raise InputError(f"{_no_such_file(path)} (list of files of sample '{sample}')")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable text file: {error}") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _match(entry: str, where: str) -> list[Path]:
    path = project_path(entry)
    if path.is_dir():
        raise InputError(f"{path} is a folder ({where}): write {path}/*.root for its files")
    if path.is_file():
        return [path]
    if not glob.has_magic(str(path)):
        raise InputError(f"{_no_such_file(path)} ({where})")
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    if not matches:
        raise InputError(f"no file matches {path} ({where})")
    return [match for match in matches if match.is_file()]


def _no_such_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no file {path}, nor a folder {path.parent}"
    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"there is no file {path}" + (f"; nearest: '{close[0]}'" if close else "")


# --- opening a tree ------------------------------------------------------------------------------


def open_tree(path: str | Path, tree: str) -> TreeInfo:
    """Return what is known about the tree (or RNTuple) named `tree`; the highest cycle counts.

    Raises InputError, naming the file and the cause, if anything is missing or damaged.
    """
    path = project_path(path)
    size = _check_header(path)
    try:
        with uproot.open({str(path): None}, object_cache=None, array_cache=None) as file:
            kinds = file.classnames(recursive=True, cycle=False)
            trees = [name for name, kind in kinds.items() if _is_tree(kind)]
            name = tree.partition(";")[0].strip("/")
            if name not in trees:
                kind = f"is a {kinds[name]}, no tree" if name in kinds else "is not there"
                raise InputError(f"tree '{tree}' {kind} in {path}; {nearest(name, trees)}")
            return _describe(file[tree], path, tree, size, str(file.file.uuid))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: tree '{tree}' cannot be opened: {_cause(error)}") from error


def _is_tree(kind: str) -> bool:
    return kind in ("TTree", "TNtuple", "TNtupleD", "TChain") or kind.endswith("RNTuple")


def _check_header(path: Path) -> int:
    """Return the file's size; raise InputError if it is no ROOT file or shorter than it says."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a ROOT file")
    if not path.is_file():
        raise InputError(_no_such_file(path))
    try:
        with path.open("rb") as stream:
            head = stream.read(20)
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if len(head) < 20 or not head.startswith(b"root"):
        raise InputError(f"{path} is not a ROOT file" + (": it is empty" if not size else ""))
    (version,) = struct.unpack_from(">i", head, 4)
    (end,) = struct.unpack_from(">i" if version < 1_000_000 else ">q", head, 12)
    if size < end:
        raise InputError(f"{path} is cut short: it holds {size} of {end} bytes; copy it again")
    return size


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _describe(tree: Any, path: Path, name: str, size: int, uuid: str) -> TreeInfo:
    n_entries = int(tree.num_entries)
    if n_entries != tree.num_entries or n_entries < 0:
        raise InputError(f"tree '{name}' of {path} says it has {tree.num_entries} entries")
    is_rntuple = not isinstance(tree, uproot.TTree)
    sources: dict[str, Source] = {}
    unreadable: dict[str, str] = {}
    if is_rntuple:
        for key in tree.keys(recursive=False):  # noqa: SIM118
            typename = str(tree[key].typename)
            stored = _rntuple_type(typename)
            if stored is None:
                unreadable[key] = typename
            else:
                sources[key] = Source(key, stored)
    else:
        for key, branch in tree.iteritems(recursive=True):
            _describe_branch(key, branch, n_entries, sources, unreadable)
    return TreeInfo(
        path=path,
        tree=name,
        n_entries=n_entries,
        branches={key: _type_in_memory(source) for key, source in sources.items()},
        uuid=uuid,
        size=size,
        is_rntuple=is_rntuple,
        unreadable={k: v for k, v in unreadable.items() if k not in sources},
        sources=sources,
    )


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


def _describe_branch(
    key: str,
    branch: Any,
    n_entries: int,
    sources: dict[str, Source],
    unreadable: dict[str, str],
) -> None:
    """Enter a branch under its name (without the `[n]` that split classes put behind it)."""
    name = str(branch.name).partition("[")[0]
    try:
        if len(branch.branches):
            return
        interpretation = branch.interpretation
        stored = _stored_type(interpretation)
        if stored is None:
            unreadable.setdefault(name, str(branch.typename))
            return
        first = np.asarray(branch.entry_offsets, dtype=np.int64)
        if first[-1] != n_entries:
            unreadable.setdefault(name, f"{first[-1]} entries where the tree has {n_entries}")
            return
        baskets = None
        if _is_plain(interpretation) and not branch.embedded_baskets:
            n = len(first) - 1
            seek, size = branch.member("fBasketSeek")[:n], branch.member("fBasketBytes")[:n]
            baskets = Baskets(first, seek.astype(np.int64), size.astype(np.int64))
    except Exception as error:
        unreadable.setdefault(name, f"damaged or unknown, {_cause(error)}")
        return
    for leaf in stored.names or (None,):
        column = name if leaf is None else f"{name}.{leaf}"
        sources.setdefault(column, Source(key, stored, leaf, baskets))


def _stored_type(interpretation: Any) -> np.dtype[Any] | None:
    """Return the type of one entry in the file, or None unless it is a fixed set of numbers."""
    if _is_plain(interpretation):
        return np.dtype(interpretation.from_dtype)
    for kind, element in (("AsDouble32", "f8"), ("AsFloat16", "f4")):
        if type(interpretation).__name__ == kind:
            return np.dtype((element, tuple(interpretation.to_dims)))
    return None


def _is_plain(interpretation: Any) -> bool:
    return type(interpretation) is uproot.interpretation.numerical.AsDtype


def _type_in_memory(source: Source) -> np.dtype[Any]:
    fields = source.stored.fields
    stored = source.stored if source.leaf is None or fields is None else fields[source.leaf][0]
    return np.dtype((stored.base.newbyteorder("="), stored.shape))


# --- reading -------------------------------------------------------------------------------------


def stream(
    info: TreeInfo,
    *,
    columns: Sequence[Sequence[str]] | Sequence[str],
    cuts: Sequence[str | None],
    common_cut: str | None = None,
    definitions: Mapping[str, str] | None = None,
    start: int = 0,
    stop: int | None = None,
    chunk_entries: int = 200_000,
    n_threads: int | None = None,
) -> Iterator[Chunk]:
    """Read the entries from `start` to `stop` once and yield, chunk by chunk, the rows of each cut.

    `columns` names what the rows of every cut carry, or gives one list per cut: branches, elements
    of fixed-size branches (`jet_pt[0]`) and keys of `definitions` (derived features and named
    cuts, usable in cuts too). A cut that is None keeps what the common cut keeps. The branches of
    cuts are read first, the others only for rows that survive. The next chunk is read while the
    caller works on this one.

    Everything is checked before anything is read. Raises InputError for a branch that is missing,
    jagged or not a number, naming it, the file and the nearest branch, or (while reading) for
    damaged data; ConfigError for a cut outside the language.
    """
    plan = _plan(info, columns, cuts, common_cut, definitions or {})
    stop = info.n_entries if stop is None else min(stop, info.n_entries)
    starts = range(max(start, 0), stop, max(chunk_entries, 1))
    threads = n_threads or len(os.sched_getaffinity(0))
    return _chunks(info, plan, starts, stop, threads)


class _Plan(NamedTuple):
    columns: list[list[str]]
    common: Expression | None
    cuts: list[Expression | None]
    derived: dict[str, Expression]  # computed on rows that survive
    elements: dict[str, tuple[str, tuple[int, ...]]]  # column -> branch, element of it

    def branches_of(self, column: str) -> frozenset[str]:
        if column in self.derived:
            return self.derived[column].names
        return frozenset((self.elements.get(column, (column,))[0],))


def _plan(
    info: TreeInfo,
    columns: Sequence[Sequence[str]] | Sequence[str],
    cuts: Sequence[str | None],
    common_cut: str | None,
    definitions: Mapping[str, str],
) -> _Plan:
    per_cut = [
        [str(c) for c in columns] if all(isinstance(c, str) for c in columns) else list(columns[i])
        for i in range(len(cuts))
    ]
    derived: dict[str, Expression] = {}
    elements: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in dict.fromkeys(name for names in per_cut for name in names):
        if name in definitions:
            derived[name] = _checked(info, name, definitions)
        elif name.endswith("]") and name not in info.branches:
            [step] = _checked(info, name, {}).program
            elements[name] = (step.name, step.element)
        else:
            _check_branch(info, name, (), name, definitions)
    return _Plan(
        columns=per_cut,
        common=_cut(info, common_cut, definitions),
        cuts=[_cut(info, cut, definitions) for cut in cuts],
        derived=derived,
        elements=elements,
    )


def _cut(info: TreeInfo, cut: str | None, definitions: Mapping[str, str]) -> Expression | None:
    return None if cut is None or not cut.strip() else _checked(info, cut, definitions)


def _checked(info: TreeInfo, text: str, definitions: Mapping[str, str]) -> Expression:
    """Return the expression after making sure that the tree has all it names."""
    expression = expand(text, definitions) if definitions else parse(text)
    for name in sorted(expression.defined):
        if name in info.branches:
            raise InputError(
                f"'{name}' is defined in the configuration and also a branch of {info.where}: "
                "rename the definition"
            )
    for step in expression.program:
        if step.kind == "column":
            _check_branch(info, step.name, step.element, text, definitions)
    return expression


def _check_branch(
    info: TreeInfo, name: str, element: tuple[int, ...], text: str, definitions: Mapping[str, str]
) -> None:
    if name in info.branches:
        try:
            check_index(name, info.branches[name].shape, element, text)
        except InputError as error:
            raise InputError(f"{error} ({info.where})") from None
    elif name in info.unreadable:
        raise InputError(
            f"branch '{name}' of {info.where} holds no numbers of a fixed count per entry "
            f"({info.unreadable[name]}) and cannot be used"
        )
    else:
        known = [*info.branches, *info.unreadable, *definitions]
        used = (
            ""
            if text == name
            else f" (used in '{text if len(text) < 160 else text[:157] + '...'}')"
        )
        raise InputError(f"branch '{name}'{used} is not in {info.where}; {nearest(name, known)}")


def _chunks(info: TreeInfo, plan: _Plan, starts: range, stop: int, threads: int) -> Iterator[Chunk]:
    if not starts:
        return
    with (
        _Reader(info) as reader,
        ThreadPoolExecutor(threads, "unpack") as pool,
        ThreadPoolExecutor(1, "ahead") as ahead,
    ):

        def read(first: int) -> Chunk:
            return _read_chunk(plan, first, min(first + starts.step, stop), read_columns)

        def read_columns(names: Sequence[str], rows: Integers | range) -> dict[str, Array]:
            return dict(
                zip(names, pool.map(lambda name: reader.read(name, rows), names), strict=True)
            )

        pending = ahead.submit(read, starts[0])
        for following in [*starts[1:], None]:
            chunk = pending.result()
            if following is not None:
                pending = ahead.submit(read, following)
            yield chunk


ReadColumns = Callable[[Sequence[str], Integers | range], dict[str, Array]]


def _read_chunk(plan: _Plan, start: int, stop: int, read: ReadColumns) -> Chunk:
    rows: Integers | range = range(start, stop)
    have: dict[str, Array] = {}

    def fetch(names: Iterator[str]) -> None:
        missing = sorted(set(names) - set(have))
        have.update(read(missing, rows))

    def keep_only(mask: npt.NDArray[np.bool_]) -> None:
        nonlocal rows, have
        if not mask.all():
            rows = np.asarray(rows, dtype=np.int64)[mask]
            have = {name: column[mask] for name, column in have.items()}

    if plan.common is not None:
        fetch(iter(plan.common.names))
        keep_only(plan.common.mask(have, len(rows)))
    n_common = len(rows)
    fetch(name for cut in plan.cuts if cut is not None for name in cut.names)
    masks = [None if cut is None else cut.mask(have, n_common) for cut in plan.cuts]
    passing = [mask for mask in masks if mask is not None]
    if len(passing) == len(masks) and masks:
        some = np.logical_or.reduce(passing)
        masks = [mask[some] for mask in passing]
        keep_only(some)
    wanted = list(dict.fromkeys(name for names in plan.columns for name in names))
    fetch(branch for name in wanted for branch in plan.branches_of(name))
    values: dict[str, Array] = {}
    for name in wanted:
        if name in plan.derived:
            values[name] = plan.derived[name].evaluate(have, len(rows))
        elif name in plan.elements:
            branch, element = plan.elements[name]
            values[name] = np.ascontiguousarray(have[branch][(..., *element)])  # type: ignore[arg-type]
        else:
            values[name] = have[name]
    entry = np.asarray(rows, dtype=np.int64)
    selections = []
    for names, mask in zip(plan.columns, masks, strict=True):
        pick: Any = slice(None) if mask is None or mask.all() else mask
        selections.append(Rows(entry[pick], {name: values[name][pick] for name in names}))
    return Chunk(start, stop, n_common, tuple(selections))


# --- baskets -------------------------------------------------------------------------------------

_KEY = struct.Struct(">ihiIhh")  # bytes, version, bytes unpacked, date, length of the key, cycle
_BASKET = struct.Struct(">Hiiii")  # version, buffer size, offset size, entries, end of the data
_UNPACK = {
    b"ZL": uproot.ZLIB(1).decompress,
    b"XZ": uproot.LZMA(1).decompress,
    b"L4": uproot.LZ4(1).decompress,
    b"ZS": uproot.ZSTD(1).decompress,
}
_CHECKSUM = 8  # bytes of it in front of each LZ4 block


class _Reader:
    """An open file from which columns are read; each column by one thread at a time."""

    def __init__(self, info: TreeInfo) -> None:
        self.info = info
        self.last: dict[str, tuple[int, Array]] = {}  # a basket may reach into the next chunk
        self.lock = threading.Lock()
        self.slow: Any = None

    def __enter__(self) -> _Reader:
        if _check_header(self.info.path) != self.info.size:
            raise InputError(f"{self.info.path} changed while it was being read")
        self.file = os.open(self.info.path, os.O_RDONLY)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)
        if self.slow is not None:
            self.slow.close()

    def read(self, name: str, rows: Integers | range) -> Array:
        """Return the column at the ascending entries `rows`, shape (n,) or (n, size)."""
        source = self.info.sources[name]
        try:
            if source.baskets is None:
                return self._read_slowly(name, source, rows)
            return self._read_baskets(name, source, source.baskets, rows)
        except InputError:
            raise
        except Exception as error:
            raise self._damaged(name, rows, _cause(error)) from error

    def _damaged(self, name: str, rows: Integers | range, cause: str) -> InputError:
        at = f", entries {rows[0]} to {rows[-1]}" if len(rows) else ""
        return InputError(f"branch '{name}' of {self.info.where} cannot be read{at}: {cause}")

    def _read_baskets(
        self, name: str, source: Source, baskets: Baskets, rows: Integers | range
    ) -> Array:
        kind = self.info.branches[name]
        column = np.empty((len(rows), *kind.shape), dtype=kind.base)
        if not len(rows):
            return column
        first = baskets.first
        k = int(np.searchsorted(first, rows[0], side="right")) - 1
        filled = 0
        while filled < len(rows):
            low, high = int(first[k]), int(first[k + 1])
            if isinstance(rows, range):
                until = min(len(rows), high - rows.start)
                inside: Any = slice(rows[filled] - low, rows[until - 1] + 1 - low)
            else:
                until = int(np.searchsorted(rows, high))
                inside = rows[filled:until] - low
            if until > filled:
                data = self._basket(name, source, baskets, k)
                column[filled:until] = (
                    data[inside] if source.leaf is None else data[source.leaf][inside]
                )
                filled = until
            k += 1
        return column

    def _basket(self, name: str, source: Source, baskets: Baskets, k: int) -> Array:
        number, data = self.last.get(name, (-1, None))
        if number == k and data is not None:
            return data
        n = int(baskets.first[k + 1] - baskets.first[k])
        rows = range(int(baskets.first[k]), int(baskets.first[k + 1]))
        size = int(baskets.size[k])
        raw = os.pread(self.file, size, int(baskets.seek[k]))
        n_bytes, _, n_unpacked, _, key_length, _ = _KEY.unpack_from(raw)
        *_, n_held, end = _BASKET.unpack_from(raw, key_length - _BASKET.size - 1)
        wanted = n * source.stored.itemsize
        if len(raw) != size or n_bytes != size or n_held != n or end - key_length != wanted:
            raise self._damaged(
                name,
                rows,
                f"the file says {n} entries in {size} bytes, its basket {n_held} in {n_bytes}",
            )
        # Behind the data a basket may carry the offset of each entry, never more.
        if not wanted <= n_unpacked <= wanted + 4 * n + 64:
            raise self._damaged(name, rows, f"a basket of {wanted} bytes says it has {n_unpacked}")
        content: Any = memoryview(raw)[key_length:]
        if len(content) != n_unpacked:
            content = _unpack(content, n_unpacked)
        if len(content) < wanted:
            raise self._damaged(name, rows, f"a basket of {wanted} bytes holds {len(content)}")
        stored = source.stored
        if stored.base == np.bool_:  # whatever is not zero is true
            stored = np.dtype(("u1", stored.shape))
        data = np.frombuffer(content, dtype=stored, count=n)
        self.last[name] = (k, data)
        return data

    def _read_slowly(self, name: str, source: Source, rows: Integers | range) -> Array:
        kind = self.info.branches[name]
        if not len(rows):
            return np.empty((0, *kind.shape), dtype=kind.base)
        first, last = int(rows[0]), int(rows[-1])
        with self.lock:  # one uproot file, used by one thread at a time
            if self.slow is None:
                path = str(self.info.path)
                self.slow = uproot.open({path: None}, object_cache=None, array_cache=None)
                self.tree = self.slow[self.info.tree]
            column = self.tree[source.branch].array(
                entry_start=first, entry_stop=last + 1, library="np"
            )
        if source.leaf is not None:
            column = column[source.leaf]
        if len(column) != last + 1 - first:
            raise self._damaged(name, rows, f"it gives {len(column)} entries")
        column = np.asarray(column)
        if column.dtype == object or column.shape[1:] != kind.shape:
            raise self._damaged(name, rows, f"it gives {column.dtype}, shape {column.shape[1:]}")
        column = column.astype(kind.base, copy=False)
        return column if isinstance(rows, range) else column[np.asarray(rows) - first]


def _unpack(content: memoryview, n_unpacked: int) -> bytes | bytearray:
    """Return the data of compressed blocks, each behind a header of 9 bytes."""
    blocks = []
    while content:
        method = bytes(content[:2])
        packed = int.from_bytes(content[3:6], "little")
        unpacked = int.from_bytes(content[6:9], "little")
        if method not in _UNPACK or packed > len(content) - 9:
            raise ValueError(f"compressed block {method!r} of {packed} bytes is not understood")
        skip = _CHECKSUM if method == b"L4" else 0
        block = _UNPACK[method](content[9 + skip : 9 + packed], unpacked)
        if len(block) != unpacked:
            raise ValueError(f"a block of {unpacked} bytes unpacks to {len(block)}")
        blocks.append(block)
        content = content[9 + packed :]
    if sum(map(len, blocks)) != n_unpacked:
        raise ValueError(f"a basket of {n_unpacked} bytes unpacks to {sum(map(len, blocks))}")
    return bytes(blocks[0]) if len(blocks) == 1 else b"".join(map(bytes, blocks))
