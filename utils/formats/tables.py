"""Tables of scored events: one as CSV, for people, and one as Parquet, with all that is known.

The names of the columns that are not a user's own stand here. No table is read or written through
pandas, whose import takes longer than most tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Mask
from utils.schema import RunError
from utils.system.files import complete

METADATA = b"htt-ml"
"""Key of the table's own description in the Parquet schema's metadata."""

FEATURE_PREFIX = "feature/"
INFOLD_PREFIX = "infold_class_"
WEIGHT_PREFIX = "weights/"
TRAINING_WEIGHT = "training_weight"
"""What events weighed in the training, after its policy on negative weights."""
SCALED_WEIGHT = "scaled_weight"
"""The physics weight times (all / evaluated) of its process, as in the physics view."""


class TableWriter:
    """Appends rows to the CSV and the Parquet file of a table (see `write`)."""

    def __init__(self, csv: Path, parquet: Path, description: Mapping[str, Any]) -> None:
        self._csv, self._parquet = csv, parquet
        self._description = json.dumps(dict(description)).encode()
        self._stack = ExitStack()
        self._writers: tuple[Any, Any] | None = None

    def append(self, columns: Mapping[str, Any], n_public: int, rows: Mask | None = None) -> None:
        """Append rows: arrays `(n,)`, or (codes `(n,)`, names) for texts, by name.

        The first `n_public` columns go into the CSV as well, with all `rows` or those it marks.
        """
        import pyarrow as pa

        table = pa.table({name: _as_arrow(values) for name, values in columns.items()})
        table = table.replace_schema_metadata({METADATA: self._description})
        public = table.select(range(n_public))
        if rows is not None:
            public = public.filter(pa.array(rows))
        if self._writers is None:
            self._writers = self._open(table.schema, public.schema, columns)
        self._writers[0].write_table(public)
        self._writers[1].write_table(table)

    def _open(self, whole: Any, public: Any, columns: Mapping[str, Any]) -> tuple[Any, Any]:
        import pyarrow.csv
        import pyarrow.parquet

        return (
            self._stack.enter_context(pyarrow.csv.CSVWriter(str(self._csv), public)),
            self._stack.enter_context(
                pyarrow.parquet.ParquetWriter(
                    self._parquet,
                    whole,
                    compression="zstd",
                    # For texts only: numbers that hardly repeat get larger and slower.
                    use_dictionary=[n for n, v in columns.items() if isinstance(v, tuple)],
                )
            ),
        )


@contextmanager
def write(csv: Path, parquet: Path, description: Mapping[str, Any]) -> Iterator[TableWriter]:
    """Provide a writer of both files of a table, which are complete at the end or absent."""
    with complete(csv) as csv_part, complete(parquet) as parquet_part:
        writer = TableWriter(csv_part, parquet_part, description)
        with writer._stack:
            yield writer


def _as_arrow(values: Any) -> Any:
    """Return a column as Arrow's, of numbers or of (codes, names).

    From buffers, where that is possible: without a copy, and without pandas, which `pa.array` would
    import to look at what it is given.
    """
    import pyarrow as pa

    if isinstance(values, tuple):
        codes, names = values
        encoded = [name.encode() for name in names]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
        texts = pa.Array.from_buffers(
            pa.string(), len(names), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        )
        return pa.DictionaryArray.from_arrays(_as_arrow(codes.astype(np.int32)), texts)
    if values.dtype.kind not in "iuf":
        return pa.array(values)
    plain = np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(plain.dtype)
    return pa.Array.from_buffers(kind, len(plain), [None, pa.py_buffer(plain)])


def bound_threads(n_threads: int) -> None:
    """Let tables be read in at most `n_threads` threads of this process."""
    import pyarrow as pa

    pa.set_cpu_count(n_threads)


def read(path: Path, needed: Callable[[str], bool] = lambda _: True) -> tuple[Any, dict[str, Any]]:
    """Return a CSV or Parquet table as Arrow's, and what it says about itself (CSV: nothing).

    Only the columns that are `needed`, by their names, are read. Raises RunError where the table
    is damaged.
    """
    with _undamaged(path):
        columns = [name for name in names(path) if needed(name)]
        if path.suffix == ".csv":
            import pyarrow.csv

            convert = pyarrow.csv.ConvertOptions(include_columns=columns)
            return pyarrow.csv.read_csv(path, convert_options=convert), {}
        import pyarrow.parquet

        # `read_table` would import what reads folders of files, and pandas.
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read(columns)
        return table, json.loads((table.schema.metadata or {}).get(METADATA, b"{}"))


def names(path: Path) -> list[str]:
    """Return the names of a table's columns. Raises RunError where it is damaged."""
    with _undamaged(path):
        if path.suffix == ".csv":
            import pyarrow.csv

            with pyarrow.csv.open_csv(path) as reader:  # reads the beginning
                return list(reader.schema.names)
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            return list(file.schema_arrow.names)


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Raise RunError where reading a table fails."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError) as error:
        raise _damaged(path, error) from None


def describe(path: Path) -> dict[str, Any]:
    """Return what a Parquet table says about itself. Raises RunError where it is damaged."""
    import pyarrow.parquet

    with _undamaged(path):
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        described: dict[str, Any] = json.loads(metadata.get(METADATA, b"{}"))
    return described


def _damaged(path: Path, error: Exception) -> RunError:
    said = " ".join(str(error).split())[:120]
    return RunError(f"{path} is damaged ({said}): make it anew by predict.py")


def numbers(column: Any) -> Array:
    """Return an Arrow column as numpy's; what has no value is NaN."""
    if column.null_count or not column.num_chunks or column.type == "bool":
        values: Array = column.to_numpy()
        return values
    # `to_numpy` would import pandas, a third of a second.
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def texts(column: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return an Arrow column of texts as (codes `(n,)`, the texts they stand for)."""
    import pyarrow as pa

    encoded = column.combine_chunks()
    if not isinstance(encoded, pa.DictionaryArray):
        encoded = encoded.dictionary_encode()
    return np.from_dlpack(encoded.indices).astype(np.int64), tuple(encoded.dictionary.to_pylist())
