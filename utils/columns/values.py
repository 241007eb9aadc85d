"""The values of columns: missing ones declared and replaced, clipping, the finite check.

A `columns` argument maps names to arrays (n,) of one chunk of events; no function changes its
arguments. `where` is the file (and part of it) that error texts name.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from utils.columns.arrays import Array, Mask
from utils.schema import ConfigError, InputError, Missing, nearest

# --- missing values and the finite check ---------------------------------------------------------


def missing_dtype(dtype: DTypeLike, missing: Missing | None) -> np.dtype[Any]:
    """Return the type a column has after `apply_missing`: integers that may become NaN are floats.

    The answer depends on the declaration only, so that all chunks of a column agree.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f" or missing is None or missing.refuse or not math.isnan(missing.replace):
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def apply_missing(
    columns: Mapping[str, Array], missing: Mapping[str, Missing], where: str = ""
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return (columns, count of declared missing cells per declared column).

    A declared value is rounded to the column's precision before it is compared: -9.9 is found in a
    float32 column that holds -9.9. NaN and infinities may be declared. Declared columns that are
    not in `columns` are passed over. Raises InputError where `refuse` meets a missing cell, or an
    integer column cannot hold the value that is to replace it.
    """
    result, counts = dict(columns), {}
    for name, declared in missing.items():
        if name not in columns:
            continue
        column = columns[name]
        is_missing = holds_missing(column, declared)
        counts[name] = int(np.count_nonzero(is_missing))
        if declared.refuse and counts[name]:
            values = " or ".join(f"{v:g}" for v in declared.values)
            raise InputError(
                f"{where or 'input'}: {counts[name]} of {len(column)} values of '{name}' are the "
                f"missing value {values}, which `missing` refuses: cut these events away or say "
                "what they become"
            )
        dtype = missing_dtype(column.dtype, declared)
        value = _replacement(name, declared, dtype)
        if counts[name] or dtype != column.dtype:
            result[name] = column.astype(dtype)
            result[name][is_missing] = value
    return result, counts


def count_not_finite(
    columns: Mapping[str, Array],
    names: Collection[str],
    missing: Mapping[str, Missing] | None = None,
    allow_nan: bool = False,
) -> dict[str, tuple[int, int]]:
    """Return {name: (NaN, infinite)} of those `names` that hold any undeclared such value.

    With `missing`, given raw columns, the cells declared there do not count.
    """
    found = {}
    for name in names:
        column = columns[name]
        if column.dtype.kind != "f" or np.isfinite(column).all():
            continue
        undeclared = ~np.isfinite(column)
        if missing and name in missing:
            undeclared &= ~holds_missing(column, missing[name])
        is_nan = np.isnan(column)
        n_nan = 0 if allow_nan else int(np.count_nonzero(undeclared & is_nan))
        n_inf = int(np.count_nonzero(undeclared & ~is_nan))
        if n_nan or n_inf:
            found[name] = (n_nan, n_inf)
    return found


def refuse_not_finite(found: Mapping[str, tuple[int, int]], where: str) -> None:
    """Raise InputError naming columns, counts and file, if `count_not_finite` found any."""
    if not found:
        return
    parts = [
        f"{name} ("
        + ", ".join(f"{n} {what}" for n, what in ((nan, "NaN"), (inf, "inf")) if n)
        + ")"
        for name, (nan, inf) in found.items()
    ]
    listed = ", ".join(parts[:12]) + (f" and {len(parts) - 12} more" if len(parts) > 12 else "")
    raise InputError(
        f"{where}: values that are not finite in {listed}: declare them under `missing` "
        "(`missing: .nan` for NaN) or cut these events away"
    )


def check_finite(
    columns: Mapping[str, Array], names: Collection[str], where: str, allow_nan: bool = False
) -> None:
    """Raise InputError where one of `names` holds an infinity, or a NaN that is not allowed.

    After `apply_missing` a NaN of the input cannot be told from a declared value: ask
    `count_not_finite` before it.
    """
    refuse_not_finite(count_not_finite(columns, names, allow_nan=allow_nan), where)


def holds_missing(column: Array, declared: Missing) -> Mask:
    """Return for each row, `(n,)`, whether it holds one of the declared missing values."""
    found = np.zeros(len(column), np.bool_)
    for value in declared.values:
        if column.dtype.kind == "f":
            with np.errstate(over="ignore"):
                rounded = column.dtype.type(value)
            if math.isnan(value):
                found |= np.isnan(column)
            elif np.isfinite(rounded) or math.isinf(value):
                found |= column == rounded
        elif float(value).is_integer():
            # As a Python integer, so that 64-bit columns are compared exactly.
            found |= column == int(value)
    return found


def _replacement(name: str, declared: Missing, dtype: np.dtype[Any]) -> float | int:
    if declared.refuse or dtype.kind == "f":
        return declared.replace
    value = declared.replace
    lowest, highest = _limits(dtype)
    if not (float(value).is_integer() and lowest <= value <= highest):
        raise InputError(
            f"missing: '{name}' is {dtype} and cannot hold {value:g}: choose a whole number "
            f"from {lowest} to {highest}, or nan"
        )
    return int(value)


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the lowest and highest finite value of a type; integers exactly."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


# --- clipping ------------------------------------------------------------------------------------


def clip_columns(
    columns: Mapping[str, Array], clip: Mapping[str, tuple[float | None, float | None]]
) -> dict[str, Array]:
    """Return the columns with those named in `clip` limited to (lowest, highest), types kept.

    None leaves a side open, NaN stays NaN. Raises ConfigError for a column that is not there and
    for limits that no value satisfies.
    """
    result = dict(columns)
    for name, (low, high) in clip.items():
        if name not in columns:
            raise ConfigError(f"clip names '{name}', which is not read; {nearest(name, columns)}")
        result[name] = _clipped(name, columns[name], low, high)
    return result


def _clipped(name: str, column: Array, low: float | None, high: float | None) -> Array:
    lowest, highest = _limits(column.dtype)
    lower = lowest if low is None else max(low, lowest)
    upper = highest if high is None else min(high, highest)
    if column.dtype.kind != "f" and lower <= upper:
        lower, upper = math.ceil(lower), math.floor(upper)
    if not lower <= upper:
        raise ConfigError(f"clip: no {column.dtype} value of '{name}' lies in [{low}, {high}]")
    kind, is_float = column.dtype.type, column.dtype.kind == "f"
    limits = [  # an open side lets infinities of its sign pass
        None if is_float and (given is None or math.isinf(given)) else kind(limit)
        for given, limit in ((low, lower), (high, upper))
    ]
    clipped: Array = np.clip(column, *limits)
    return clipped
