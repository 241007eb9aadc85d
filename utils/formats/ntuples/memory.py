"""Columns that are in memory already, which are read as those of a file's tree are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from utils.columns.arrays import Array, Integers
from utils.formats.ntuples.trees import TreeInfo
from utils.schema import InputError


@dataclass(frozen=True)
class ColumnsInfo(TreeInfo):
    """Given columns as a tree: `arrays` holds `(n_entries, ...)` of each of its branches."""

    arrays: Mapping[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def where(self) -> str:
        return "the given columns"


class ColumnsReader:
    """Gives rows of columns in memory, as `baskets.Reader` gives those of a file."""

    def __init__(self, info: ColumnsInfo) -> None:
        self._arrays = info.arrays

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Nothing was opened."""

    def prepare(self, names: Sequence[str], rows: Integers | range, span: range, stop: int) -> None:
        """Nothing has to come from anywhere."""

    def read(self, name: str, rows: Integers | range) -> Array:
        pick: Any = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        picked: Array = self._arrays[name][pick]
        return picked


def given_columns(given: Any) -> ColumnsInfo:
    """Return columns in memory as a tree.

    `given` is a pandas DataFrame, a mapping of names to arrays, an awkward array of records or a
    structured numpy array, with a row an event. Columns that hold no numbers, or not as many for
    each event, may be among them: only their use is refused. Raises InputError where `given` is
    none of these, is empty of columns, or has columns of different lengths.
    """
    arrays: dict[str, Array] = {}
    unreadable: dict[str, str] = {}
    lengths: dict[int, str] = {}
    for name, column in _named(given).items():
        values, why = _numbers(column)
        if values is None:
            unreadable[name] = why
            continue
        arrays[name] = values
        lengths.setdefault(len(values), name)
    if len(lengths) > 1:
        told = " and ".join(f"'{name}' {n}" for n, name in lengths.items())
        raise InputError(f"the given columns have different lengths: {told}")
    if not arrays:
        raise InputError("the given columns hold no numbers: give features and identity by name")
    [n_entries] = lengths
    return ColumnsInfo(
        path=Path("columns"),
        tree="columns",
        n_entries=n_entries,
        branches={n: np.dtype((a.dtype, a.shape[1:])) for n, a in arrays.items()},
        uuid="",
        size=0,
        is_rntuple=False,
        columns=(*arrays, *unreadable),
        unreadable=unreadable,
        arrays=arrays,
    )


def _named(given: Any) -> dict[str, Any]:
    """Return the columns of any accepted container by name."""
    if isinstance(given, np.ndarray) and given.dtype.names:
        return {name: given[name] for name in given.dtype.names}
    if isinstance(given, Mapping) or (hasattr(given, "columns") and hasattr(given, "loc")):
        return {str(name): given[name] for name in given}
    fields = getattr(given, "fields", None)  # awkward's
    if isinstance(fields, list) and fields:
        return {str(name): given[name] for name in fields}
    raise InputError(
        f"columns are given as {type(given).__name__}: give a DataFrame, a dict of arrays, or an "
        "awkward or structured array"
    )


def _numbers(column: Any) -> tuple[Array | None, str]:
    """Return a column as an array of numbers, else why it is none."""
    try:
        values = column.to_numpy() if hasattr(column, "to_numpy") else np.asanyarray(column)
    except (ValueError, TypeError) as error:  # awkward's jagged and numpy's ragged arrays
        return None, " ".join(str(error).split())[:80]
    if np.ma.isMaskedArray(values):
        if np.ma.getmaskarray(values).any():
            return None, "it has masked entries"
        values = values.data
    if values.ndim == 0 or values.dtype.kind not in "biuf":
        return None, str(values.dtype)
    return values.astype(values.dtype.newbyteorder("="), copy=False), ""
