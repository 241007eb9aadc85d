"""Skims: one HDF5 file of selected events, written in chunks and read by column role.

Each group of a skim reads back with `pandas.read_hdf(path, group)`: the file follows the layout
that pandas calls `fixed` (readable by pandas 2 and 3 alike), streamed with PyTables. Within a group
all columns of one type form one two-dimensional array, so nothing is widened or rounded.

A skim is data from anyone. PyTables unpickles the attributes of whatever it opens, so here it only
writes, files of its own; skims are read by h5py, which executes nothing, and only what is stored in
the file itself: no link, no other file that it names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from utils.columns.arrays import Array, Groups, RowRange
from utils.schema import InputError, PipelineError, SampleInfo, alternative_samples, nearest
from utils.system.files import complete, disk_of, has_no_space, is_full

GROUPS = (
    "cont_features",
    "cat_features",
    "misc_features",
    "targets",
    "weights",
    "identity",
    "provenance",
)
"""The groups of every skim, by the role of their columns."""

SHIFTED = "shifted"
"""The group of what variations change, in skims that were made with any: features as the others
are stored, selections and factors on the weight, named as `utils.columns.variations` says."""

FEATURE_GROUPS = ("cont_features", "cat_features")
"""The groups in which training looks for features."""

FORMAT = "skim-1"
"""Written to every skim's metadata; another value is refused on reading."""

CHUNK_ROWS = 16_384
"""Rows of one HDF5 chunk; appending and reading are fastest in multiples of it."""

PIECE_ROWS = 4 * CHUNK_ROWS
"""Rows put together or taken apart at once: their copies stay small, whatever is asked for."""

_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64"),
)
_METADATA = "metadata"

# Rows are written and read in order, each chunk once: PyTables would keep 16 MB of every array.
_CACHE_BYTES = 262_144

# Neither PyTables nor the HDF5 libraries may be entered by two threads at once.
_HDF5 = threading.RLock()


def _pytables() -> Any:
    """Return PyTables, which only writing needs.

    Without HDF5's locks, which some file systems do not have: a file under way has a name of its
    own, and one that is complete is never changed.
    """
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    import tables

    return tables


@dataclass(frozen=True)
class Block:
    """Groups of one type in one group, stored as one array (n_rows, n_columns)."""

    node: str
    dtype: np.dtype[Any]
    columns: tuple[str, ...]


class SkimWriter:
    """Write a skim chunk by chunk; it appears under its final name only when complete.

    `groups` declares the columns and types of each group (groups that are not named have no
    columns), `metadata` what the file says about itself: anything JSON can hold. `metadata` stays
    open to changes until the file is finished. Leaving the `with` block by an exception, Ctrl-C
    included, removes everything written. Of two writers to one path the later to finish wins.
    """

    def __init__(
        self,
        path: str | Path,
        groups: Mapping[str, Mapping[str, npt.DTypeLike]],
        metadata: Mapping[str, Any],
    ) -> None:
        self.path = Path(path)
        self.metadata: dict[str, Any] = {**metadata, "format": FORMAT}
        self.n_rows = 0
        for group in groups:
            if group not in (*GROUPS, SHIFTED):
                raise InputError(f"{path}: a skim has no group '{group}'; {nearest(group, GROUPS)}")
        present = (*GROUPS, SHIFTED) if SHIFTED in groups else GROUPS
        self._columns = {g: _checked(path, g, groups.get(g, {})) for g in present}
        self._blocks = {g: _blocks(g, columns) for g, columns in self._columns.items()}
        json.dumps(self.metadata)
        self._file: Any = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack, _HDF5, _writing(self.path):
            partial = stack.enter_context(complete(self.path))
            self._file = _pytables().open_file(
                str(partial), mode="w", chunk_cache_size=_CACHE_BYTES
            )
            stack.push(lambda kind, *_: self._check_complete(partial) if kind is None else None)
            stack.push(self._close)
            self._create()
            self._open = stack.pop_all()
        return self

    def append(self, columns: Mapping[str, Mapping[str, Array]]) -> None:
        """Append rows: for each group the declared columns, all arrays (n,) of one length.

        A column may arrive in another type where no value can change (int16 for int32); what
        could change a value is an InputError, as is a missing or an undeclared column.
        """
        if self._file is None:
            raise RuntimeError(f"{self.path} is not open for writing")
        n = self._n_appended(columns)
        with _HDF5, _writing(self.path):
            index = np.arange(self.n_rows, self.n_rows + n, dtype=np.int64)
            self._file.get_node(f"/{GROUPS[0]}/axis1").append(index)
            for group, blocks in self._blocks.items():
                for block in blocks:
                    given, node = columns[group], self._file.get_node(block.node)
                    for start in range(0, n, PIECE_ROWS):
                        stop = min(start + PIECE_ROWS, n)
                        values = np.empty((stop - start, len(block.columns)), block.dtype)
                        for j, name in enumerate(block.columns):
                            values[:, j] = given[name][start:stop]
                        node.append(values)
        self.n_rows += n

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        with _HDF5, _writing(self.path), self._open:
            text = json.dumps(self.metadata).encode()
            self._file.create_array("/", _METADATA, np.frombuffer(text, np.uint8))
            self._file.flush()

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the file; after an error, that one is told and not what closing then meets."""
        file, self._file = self._file, None
        with _HDF5, contextlib.suppress(*([_pytables().HDF5ExtError] if kind else [])):
            file.close()

    def _check_complete(self, partial: Path) -> None:
        """Open the closed file again: on a full disk it is cut short, and closing says nothing."""
        with _HDF5, _writing(self.path), _pytables().open_file(str(partial), mode="r"):
            pass

    def _create(self) -> None:
        """Create every group in the layout pandas calls `fixed`, without rows."""
        file, tables = self._file, _pytables()
        # HDF5 then refuses to read a damaged chunk; it costs a few percent.
        checksum = tables.Filters(fletcher32=True)
        for group, columns in self._columns.items():
            blocks = self._blocks[group]
            node = file.create_group("/", group)
            _set(file, node, pandas_type="frame", encoding="UTF-8", errors="strict", ndim=2)
            _set(file, node, nblocks=len(blocks), axis0_variety="regular", axis1_variety="regular")
            _write_names(file, node, "axis0", tuple(columns))
            if group == GROUPS[0]:
                rows = file.create_earray(
                    node,
                    "axis1",
                    tables.Int64Atom(),
                    (0,),
                    chunkshape=(CHUNK_ROWS,),
                    filters=checksum,
                )
                _set(file, rows, kind="integer", transposed=True)
            else:
                # One row index for all groups: a hard link costs no space.
                file.create_hard_link(node, "axis1", f"/{GROUPS[0]}/axis1")
            for i, block in enumerate(blocks):
                values = file.create_earray(
                    node,
                    f"block{i}_values",
                    tables.Atom.from_dtype(block.dtype),
                    (0, len(block.columns)),
                    chunkshape=(CHUNK_ROWS, len(block.columns)),
                    filters=checksum,
                )
                _set(file, values, transposed=True)
                _write_names(file, node, f"block{i}_items", block.columns)
                _set(file, node, **{f"block{i}_items_variety": "regular"})

    def _n_appended(self, columns: Mapping[str, Mapping[str, Array]]) -> int:
        """Return the number of rows in `columns` after checking names, types and lengths."""
        lengths: dict[str, int] = {}
        for group in columns:
            if group not in (*GROUPS, SHIFTED):
                raise InputError(
                    f"{self.path}: a skim has no group '{group}'; {nearest(group, GROUPS)}"
                )
        for group, declared in self._columns.items():
            given = columns.get(group, {})
            for name in given:
                if name not in declared:
                    raise InputError(
                        f"{self.path}: column '{name}' was not declared in {group}; "
                        f"{nearest(name, declared)}"
                    )
            for name, dtype in declared.items():
                if name not in given:
                    raise InputError(f"{self.path}: column '{name}' of {group} was not given")
                array = given[name]
                if not np.can_cast(array.dtype, dtype, "safe"):
                    raise InputError(
                        f"{self.path}: column '{name}' of {group} is {dtype}, but a part of the "
                        f"input has it as {array.dtype}, which {dtype} cannot hold"
                    )
                if array.ndim != 1:
                    raise InputError(
                        f"{self.path}: column '{name}' of {group} has {array.ndim} dimensions; "
                        "a skim holds one value per event: name one element of it"
                    )
                lengths[f"{group}/{name}"] = len(array)
        if len(set(lengths.values())) > 1:
            shortest = min(lengths, key=lengths.__getitem__)
            longest = max(lengths, key=lengths.__getitem__)
            raise InputError(
                f"{self.path}: columns differ in length: {shortest} has {lengths[shortest]} rows, "
                f"{longest} {lengths[longest]}"
            )
        return next(iter(lengths.values()), 0)


@dataclass(frozen=True)
class Skim:
    """A complete skim on disk: what it holds, and ways to read it.

    `groups` maps each group to its columns' types, in the order they were declared. `stamp` is the
    file's size and time: reading from a file that was replaced meanwhile is an InputError.
    """

    path: Path
    n_rows: int
    groups: dict[str, dict[str, np.dtype[Any]]]
    metadata: dict[str, Any]
    blocks: dict[str, tuple[Block, ...]]
    stamp: tuple[int, int]

    def read(
        self, columns: Mapping[str, Sequence[str]] | None = None, rows: RowRange | None = None
    ) -> Groups:
        """Return rows, by default all, of the named columns, each (n,) in its stored type.

        `columns` maps groups to names, all of them by default. Raises InputError for a name the
        skim does not hold.
        """
        rows = self._checked_range(rows)
        wanted = (
            {g: list(columns[g]) for g in columns}
            if columns is not None
            else {g: list(names) for g, names in self.groups.items()}
        )
        found: Groups = {g: {} for g in wanted}
        for group, names in wanted.items():
            for name in names:
                self._check(group, name)
                found[group][name] = np.empty(rows.size, self.groups[group][name])
        with _reading(self.path, self.stamp) as file:
            for group, arrays in found.items():
                for block in self.blocks[group]:
                    places = [(j, arrays[c]) for j, c in enumerate(block.columns) if c in arrays]
                    for piece, values in _pieces(file, block, rows if places else RowRange(0, 0)):
                        for j, array in places:
                            array[piece] = values[:, j]
        return found

    def matrix(self, names: Sequence[str], rows: RowRange | None = None) -> Array:
        """Return the named features of rows, by default all, as float32 (n, len(names)), C order.

        Features are looked for in `cont_features`, then `cat_features`. Raises InputError for a
        feature that neither holds, or whose values exceed float32.
        """
        rows = self._checked_range(rows)
        group_of = {n: g for g in reversed(FEATURE_GROUPS) for n in self.groups[g]}
        for name in names:
            if name not in group_of:
                raise InputError(f"{self.path} has no feature '{name}'; {nearest(name, group_of)}")
        out = np.empty((rows.size, len(names)), np.float32)
        with _reading(self.path, self.stamp) as file:
            for group in FEATURE_GROUPS:
                for block in self.blocks[group]:
                    of_block = {c: j for j, c in enumerate(block.columns) if group_of[c] == group}
                    to = [i for i, name in enumerate(names) if name in of_block]
                    if not to:
                        continue
                    if list(names) == list(block.columns) and block.dtype == np.float32:
                        _read_rows(_stored(file, block.node), rows, out)
                        continue
                    source = [of_block[names[i]] for i in to]
                    for piece, values in _pieces(file, block, rows):
                        try:
                            with np.errstate(over="raise"):
                                out[piece, _as_slice(to)] = values[:, _as_slice(source)]
                        except FloatingPointError:
                            raise InputError(
                                f"{self.path}: features of type {block.dtype} exceed what float32 "
                                f"holds (3.4e38): {_largest(block, values, source)}; clip them"
                            ) from None
        return out

    def _checked_range(self, rows: RowRange | None) -> RowRange:
        rows = rows or RowRange(0, self.n_rows)
        if not 0 <= rows.start <= rows.stop <= self.n_rows:
            raise InputError(
                f"{self.path} has {self.n_rows} rows: it has no rows {rows.start} to {rows.stop}"
            )
        return rows

    def _check(self, group: str, name: str) -> None:
        if group not in self.groups:
            raise InputError(f"{self.path} has no group '{group}'; {nearest(group, self.groups)}")
        if name not in self.groups[group]:
            raise InputError(
                f"{self.path} has no column '{name}' in {group}; "
                f"{nearest(name, self.groups[group])}"
            )


def origin(metadata: Mapping[str, Any]) -> str:
    """Return a short hash of the inputs and the configuration that a skim's rows follow from.

    The train and the test skim of one preprocessing have the same; where things are, how they are
    drawn and what is trained on them does not matter.
    """
    made = row_keys(metadata["config"])
    files = [{k: v for k, v in f.items() if k not in _NOT_OF_FILES} for f in metadata["files"]]
    text = json.dumps([files, made], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def row_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a configuration, as a skim stores it, the rows of a training skim follow from.

    Of classes that is the name, of `feature_info` the missing values.
    """
    made = {k: v for k, v in config.items() if k not in _NOT_IN_ROWS}
    if any("cross_section" in str(config.get(key)) for key in _DESCRIBING):
        made["reference_luminosity"] = config.get("reference_luminosity")
    made["class_to_info"] = {i: c["name"] for i, c in made["class_to_info"].items()}
    declared = {n: f["missing"] for n, f in made["feature_info"].items()}
    made["feature_info"] = {n: missing for n, missing in declared.items() if missing is not None}
    described = made["samples"]
    for key in {"training_samples", "input_samples"} & made.keys():
        made[key] = [_without_tags(e) for e in made[key] if not _is_labelled(e, described)]
    alternatives = alternative_samples(config.get("variations") or {})
    made["samples"] = {
        name: _without_tags(said)
        for name, said in described.items()
        if not (name in alternatives or _only_tagged(said) or said.get("role") == "test")
    }
    return made


def _without_tags(sample: Any) -> Any:
    return {k: v for k, v in sample.items() if k != "tags"} if isinstance(sample, dict) else sample


def _is_labelled(entry: Any, described: Mapping[str, Any]) -> bool:
    """Return whether an entry of the training samples is one that is never trained on."""
    if not isinstance(entry, dict):
        return False
    name = entry.get("sample", next(iter(entry)))
    said = {**described.get(str(name), {}), **entry}
    return bool(said.get("role") == "test")


def _only_tagged(described: Mapping[str, Any]) -> bool:
    """Return whether nothing is said of a sample but its tags, by which variations go."""
    return "tags" in described and _without_tags(described) == SampleInfo().model_dump(mode="json")


_DESCRIBING = ("samples", "training_samples", "input_samples")
"""Keys under which a sample may have a cross-section: then the luminosity is in its weights."""

_NOT_OF_FILES = ("path", "types", "group")
"""What a skim says of a file beyond its fingerprint."""

_NOT_IN_ROWS = frozenset(
    {"engine", "data_root", "input_path", "skim_path", "output_path", "chunk_size", "variations"}
    | {"experiment_text", "luminosity", "reference_luminosity", "center_of_mass_energy"}
    | {"signal_classes", "background_uncertainty"}
    | {"profile_features", "training_features", "model_param", "n_splits", "weight_name"}
    | {"negative_weights", "validation", "validation_size", "prediction_samples"}
)
"""Keys of a configuration that change no row of a training skim."""


def open_skim(path: str | Path) -> Skim:
    """Return what the skim at `path` holds, without reading its rows.

    Raises InputError where the file is missing, damaged, or not a skim.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"skim {path} does not exist; {_neighbours(path)}; make it by preprocess.py"
        )
    stamp = _stamp(path)
    with _reading(path, stamp) as file:
        if _METADATA not in file:
            raise InputError(f"{path} is an HDF5 file, but not a skim: make it by preprocess.py")
        metadata = json.loads(_stored(file, f"/{_METADATA}")[()].tobytes())
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
            raise InputError(f"{path} is not a skim of format {FORMAT}: make it by preprocess.py")
        n_rows = len(_stored(file, f"/{GROUPS[0]}/axis1"))
        present = (*GROUPS, SHIFTED) if SHIFTED in file else GROUPS
        blocks = {group: _read_blocks(file, group) for group in present}
        groups = {group: _read_columns(file, group, blocks[group]) for group in present}
        for block in (b for of_group in blocks.values() for b in of_group):
            shape = _stored(file, block.node).shape
            if shape != (n_rows, len(block.columns)):
                raise InputError(
                    f"{path} is damaged: {block.node} has the shape {shape} instead of "
                    f"({n_rows}, {len(block.columns)}); make it anew by preprocess.py"
                )
    return Skim(path, n_rows, groups, metadata, blocks, stamp)


# --- the layout ----------------------------------------------------------------------------------


def _checked(
    path: str | Path, group: str, columns: Mapping[str, npt.DTypeLike]
) -> dict[str, np.dtype[Any]]:
    """Return the declared columns with numpy types; refuse what the layout cannot hold."""
    checked = {}
    for name, given in columns.items():
        dtype = np.dtype(given)
        if dtype.name not in _DTYPES:
            raise InputError(f"{path}: column '{name}' of {group} is {dtype}, which no skim holds")
        if not name or "\0" in name or name != name.encode(errors="ignore").decode():
            raise InputError(f"{path}: {group} has a column named {name!r}: give it a name")
        checked[name] = dtype.newbyteorder("=")
    return checked


def _blocks(group: str, columns: Mapping[str, np.dtype[Any]]) -> tuple[Block, ...]:
    dtypes = dict.fromkeys(columns.values())
    return tuple(
        Block(f"/{group}/block{i}_values", dtype, tuple(c for c in columns if columns[c] == dtype))
        for i, dtype in enumerate(dtypes)
    )


def _set(file: Any, node: Any, **attributes: Any) -> None:
    for name, value in attributes.items():
        file.set_node_attr(node, name, value)


def _write_names(file: Any, group: Any, key: str, names: tuple[str, ...]) -> None:
    """Write column names as data, so that no character in them can matter to HDF5."""
    if names:
        node = file.create_array(group, key, np.array([n.encode() for n in names]))
        _set(file, node, kind="string", nan_rep="", transposed=True)
    else:
        atom = _pytables().Int64Atom()
        node = file.create_earray(group, key, atom, (0,), chunkshape=(1,))
        _set(file, node, kind="integer", transposed=True)


def _stored(file: Any, name: str) -> Any:
    """Return the array `name` of an open file, all of which is stored in that file itself.

    Raises InputError where the file leads elsewhere instead (links, arrays that are parts of other
    files) or declares more than it holds, which would fill the memory with nothing.
    """
    import h5py

    node = file
    for part in name.strip("/").split("/"):
        if not isinstance(node, h5py.Group) or part not in node:
            raise KeyError(name)
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise InputError(f"{file.filename} is not a skim: {name} is a link to elsewhere")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.shape is None or node.dtype.hasobject:
        raise InputError(f"{file.filename} is not a skim: {name} is no array of numbers")
    if node.is_virtual or node.external:
        raise InputError(f"{file.filename} is not a skim: {name} is stored in another file")
    if node.compression is None and node.nbytes > max(node.id.get_storage_size(), 1024):
        raise InputError(f"{file.filename} is damaged: {name} declares rows that are not stored")
    return node


def _type_of(node: Any) -> np.dtype[Any]:
    """Return the type of an array's values: PyTables stores truth values as fields of bits."""
    import h5py

    if node.id.get_type().get_class() == h5py.h5t.BITFIELD and node.dtype.itemsize == 1:
        return np.dtype(np.bool_)
    stored: np.dtype[Any] = node.dtype
    return stored.newbyteorder("=")


def _read_rows(node: Any, rows: RowRange, out: Array) -> None:
    """Fill `out`, `(n, n_columns)`, with rows of an array."""
    if rows.size:
        given = out.view(np.uint8) if out.dtype == np.bool_ else out
        node.read_direct(given, np.s_[rows.start : rows.stop])


def _read_names(file: Any, node: str) -> list[str]:
    return [bytes(name).decode() for name in _stored(file, node)[()].tolist()]


def _read_blocks(file: Any, group: str) -> tuple[Block, ...]:
    blocks: list[Block] = []
    while f"/{group}/block{len(blocks)}_values" in file:
        node = f"/{group}/block{len(blocks)}"
        dtype = _type_of(_stored(file, f"{node}_values"))
        blocks.append(Block(f"{node}_values", dtype, tuple(_read_names(file, f"{node}_items"))))
    return tuple(blocks)


def _read_columns(file: Any, group: str, blocks: Sequence[Block]) -> dict[str, np.dtype[Any]]:
    dtypes = {name: block.dtype for block in blocks for name in block.columns}
    return {name: dtypes[name] for name in _read_names(file, f"/{group}/axis0")}


def _pieces(file: Any, block: Block, rows: RowRange) -> Iterator[tuple[slice, Array]]:
    """Yield rows of a block in pieces that begin where HDF5 chunks begin.

    Each piece is overwritten by the next.
    """
    node = _stored(file, block.node)
    buffer = np.empty((min(PIECE_ROWS, rows.size), len(block.columns)), block.dtype)
    at = rows.start
    while at < rows.stop:
        end = min(at - at % CHUNK_ROWS + PIECE_ROWS, rows.stop)
        values = buffer[: end - at]
        _read_rows(node, RowRange(at, end), values)
        yield slice(at - rows.start, end - rows.start), values
        at = end


def _as_slice(indices: list[int]) -> slice | list[int]:
    """Return consecutive indices as a slice, which numpy copies several times faster."""
    first, last = indices[0], indices[-1]
    return slice(first, last + 1) if indices == list(range(first, last + 1)) else indices


def _largest(block: Block, values: Array, columns: Sequence[int]) -> str:
    limit = float(np.finfo(np.float32).max)
    return ", ".join(
        block.columns[j]
        for j in columns
        if np.any(np.isfinite(values[:, j]) & (np.abs(values[:, j]) > limit))
    )


# --- errors --------------------------------------------------------------------------------------


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    return nearest(path.name, (p.name for p in path.parent.glob("*.h5")))


def _cause(error: Exception) -> str:
    """Return what went wrong in one line, without HDF5's listing of its own calls."""
    text = str(error)
    if "unable to lock file" in text:
        return (
            "its file system has no file locks, which HDF5_USE_FILE_LOCKING asks for: unset that "
            "variable, no lock is needed here"
        )
    if "truncated file" in text:
        return "the file is truncated"
    if isinstance(error, KeyError):
        return "a part of it is missing"
    if isinstance(error, MemoryError):
        return "its rows do not fit in memory"
    if type(error).__name__ == "HDF5ExtError" or (
        isinstance(error, OSError) and "synchronously" in text  # as h5py names HDF5's own errors
    ):
        return "HDF5 fails (" + (text.strip().splitlines() or ["no reason given"])[-1].strip() + ")"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"its parts do not fit together ({type(error).__name__})"


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _reading(path: Path, stamp: tuple[int, int]) -> Iterator[Any]:
    """Open an HDF5 file for reading; whatever goes wrong inside names the file."""
    with _HDF5:
        try:
            with open(path, "rb") as raw:
                magic = raw.read(8)
            if magic != b"\x89HDF\r\n\x1a\n":
                raise InputError(f"{path} is not an HDF5 file: make it by preprocess.py")
            if _stamp(path) != stamp:
                raise InputError(f"{path} was replaced while it was being read: start again")
            import h5py

            # A complete skim is never changed, so nothing is locked.
            with h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES) as file:
                yield file
        except PipelineError:
            raise
        except Exception as error:
            raise InputError(
                f"skim {path} cannot be read: {_cause(error)}; make it anew by preprocess.py"
            ) from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, _pytables().HDF5ExtError) as error:
        # HDF5 does not say so, nor whether a file that was cut short is one for that reason.
        cause, of_system = _cause(error), isinstance(error, OSError) and error.errno is not None
        no_space = is_full(error) if of_system else has_no_space(path.parent)
        if no_space and "locks" not in cause:
            raise InputError(f"{path} cannot be written: {disk_of(path)} is full") from error
        asked = (
            "" if "locks" in cause else f"; is the folder writable, and {disk_of(path)} not full?"
        )
        raise InputError(f"{path} cannot be written: {cause}{asked}") from error
