"""Tables of scored events: what is written is read back, from either file, or neither is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from utils.formats import tables
from utils.schema import RunError

NAMES = ("ggH → ττ", "VBF", "never seen")


def columns(start: int, stop: int) -> dict[str, Any]:
    """Return columns of every kind a table has; the first three are public."""
    rng = np.random.default_rng(start)
    n = stop - start
    return {
        "pred_class_0_proba": rng.random(n).astype("f4"),
        "evt": np.arange(start, stop, dtype="u8") + np.uint64(2**64 - 1000),
        "process": (rng.integers(0, 2, n), NAMES),
        "feature/m_sv": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
        "fold": np.arange(start, stop, dtype="i4") % 2,
        "strided": np.arange(2 * n)[::2],
        "trained_on": rng.random(n) < 0.5,
    }


def write(folder: Path, *ranges: tuple[int, int], **description: Any) -> tuple[Path, Path]:
    csv, parquet = folder / "pred" / "test.csv", folder / "pred" / "test.parquet"
    with tables.write(csv, parquet, description) as writer:
        for start, stop in ranges:
            writer.append(columns(start, stop), 3)
    return csv, parquet


def test_rows_come_back_in_the_types_they_were_written_in(tmp_path: Path) -> None:
    ranges = ((0, 40), (40, 41), (41, 100))
    _, parquet = write(tmp_path, *ranges, fraction=0.25, process_fractions={"VBF": 0.5})
    table, description = tables.read(parquet)
    assert description == {"fraction": 0.25, "process_fractions": {"VBF": 0.5}}
    pieces = [columns(*r) for r in ranges]
    assert table.column_names == list(pieces[0])
    for name in table.column_names:
        if name == "process":
            codes, texts = tables.texts(table[name])
            expected = np.concatenate([piece[name][0] for piece in pieces])
            assert [texts[i] for i in codes] == [NAMES[i] for i in expected]
        else:
            expected = np.concatenate([piece[name] for piece in pieces])
            np.testing.assert_array_equal(tables.numbers(table[name]), expected, strict=True)


def test_the_csv_has_the_public_columns(tmp_path: Path) -> None:
    csv, parquet = write(tmp_path, (0, 30), (30, 50))
    whole, _ = tables.read(parquet)
    public, description = tables.read(csv)
    assert (public.column_names, description) == (whole.column_names[:3], {})
    read = pd.read_csv(csv)
    for name in ("pred_class_0_proba", "evt"):  # event numbers beyond 2^63 are intact
        expected = tables.numbers(whole[name])
        np.testing.assert_array_equal(read[name].to_numpy(expected.dtype), expected)
    codes, texts = tables.texts(public["process"])
    of_whole, names = tables.texts(whole["process"])
    assert [texts[i] for i in codes] == [names[i] for i in of_whole]


def test_only_what_is_needed_is_read(tmp_path: Path) -> None:
    for path in write(tmp_path, (0, 30), (30, 50), fraction=0.5):
        whole, description = tables.read(path)
        assert tables.names(path) == whole.column_names
        some, same = tables.read(path, lambda name: name in ("process", "evt", "absent"))
        assert (some.column_names, same) == (["evt", "process"], description)
        assert some.equals(whole.select(["evt", "process"]))


def test_an_error_leaves_neither_file_and_keeps_the_earlier_ones(tmp_path: Path) -> None:
    paths = write(tmp_path, (0, 10))
    before = [path.read_bytes() for path in paths]
    with pytest.raises(IndexError), tables.write(*paths, {}) as writer:
        list(map(writer.append, [columns(0, 5), {}], [3, 3]))  # no second chunk
    assert [path.read_bytes() for path in paths] == before
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)


@pytest.mark.parametrize("kept", [0, 4, 100])
def test_a_shortened_table_is_damaged(tmp_path: Path, kept: int) -> None:
    _, parquet = write(tmp_path, (0, 50))
    parquet.write_bytes(parquet.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"test\.parquet is damaged .*make it anew by predict\.py"):
        tables.read(parquet)
    with pytest.raises(RunError, match=r"test\.parquet is damaged"):
        tables.names(parquet)


def test_numbers_with_none_among_them_are_nan(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("x,n\n1.5,1\n,2\n")
    table, _ = tables.read(path)
    np.testing.assert_array_equal(tables.numbers(table["x"]), [1.5, np.nan])
    assert tables.numbers(table["n"]).tolist() == [1, 2]
