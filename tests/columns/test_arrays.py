"""Ranges of rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from utils.columns.arrays import RowRange


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 60))
def test_chunks_cover_every_row_once(start: int, size: int, chunk: int) -> None:
    rows = RowRange(start, start + size)
    parts = list(rows.chunks(chunk))
    assert [n for part in parts for n in part.numbers] == rows.numbers.tolist()
    assert all(part.size <= chunk for part in parts)
    # An empty range is one empty chunk: what is made of it has its columns at least.
    assert len(parts) == max(1, -(-size // chunk))
