"""The array types that travel through the house, each defined once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]
Mask = NDArray[np.bool_]

Columns = dict[str, Array]
"""Columns `(n,)` of the same events, by name."""

Groups = dict[str, Columns]
"""Columns by the group of a skim they belong to, then by name."""


class RowRange(NamedTuple):
    """Rows of a skim, or entries of a tree: those from `start` to before `stop`."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def numbers(self) -> Integers:
        """The numbers of the rows, `(size,)`."""
        return np.arange(self.start, self.stop, dtype=np.int64)

    def chunks(self, size: int) -> Iterator[RowRange]:
        """Yield consecutive ranges of at most `size` rows that cover this one, one at least."""
        for start in range(self.start, max(self.stop, self.start + 1), size):
            yield RowRange(start, min(start + size, self.stop))
