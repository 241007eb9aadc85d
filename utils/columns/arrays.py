"""The array types that travel through the house, each defined once."""

from __future__ import annotations

from typing import Any

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
