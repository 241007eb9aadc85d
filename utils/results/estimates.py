"""Numbers with their uncertainties, and how these follow from bootstrap replicates.

Undefined numbers are NaN and a `note` says why. Statistical errors are one standard deviation;
`low` and `high` are the ends of a 95 % confidence interval. Columns of replicates are
`(..., 1 + n_folds + R)`: all events once, each fold, then R replicates (see `metrics.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats

MIN_EVENTS = 5
"""Fewest events of a class from which an interval is derived: below, resampling says nothing."""

INTERVAL = 0.95
BAND = 0.6827
"""Level of intervals, and of the pointwise bands around curves."""

NO_INTERVAL = "no interval"
UNBOUNDED = (-np.inf, np.inf)


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty from the Poisson bootstrap over events.

    value: from all events, exact (not binned). error: standard deviation. low, high: 95 %
    interval. folds: the value in each fold (NaN where undefined), n_folds of them or none.
    note: why something is NaN, or what to keep in mind; '' otherwise.
    """

    value: float
    error: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    folds: tuple[float, ...] = ()
    note: str = ""

    @property
    def fold_spread(self) -> float:
        """Standard deviation of the value over the folds (ddof 1); NaN for fewer than two."""
        return float(deviation(np.array(self.folds)))


@dataclass(frozen=True, eq=False)
class Estimates:
    """Numbers with their uncertainties, arrays of one shape; NaN where undefined.

    spread: standard deviation over the folds (ddof 1), NaN for fewer than two.
    """

    value: Floats
    error: Floats
    low: Floats
    high: Floats
    spread: Floats


def estimate(
    value: float,
    columns: NDArray[np.floating],
    n_folds: int = 0,
    note: str = "",
    basic: bool = False,
    bounds: tuple[float, float] = UNBOUNDED,
) -> Estimate:
    """Return `value` with the uncertainty that `columns` (1 + n_folds + R,) of the metric show.

    The interval is the percentile interval of the replicates, moved by the difference of the exact
    value and that of the binned scores (column 0). With `basic` the deviations are mirrored, which
    undoes an upward bias. Replicates in which the metric is undefined are left out; where that is
    more than half of them there is no interval, and the note says so. A `note` that there is no
    interval (see `class_note`) means that none is wanted.
    """
    columns = np.asarray(columns, dtype=np.float64)
    folds = tuple(float(v) for v in columns[1 : 1 + n_folds])
    if not np.isfinite(value):
        return Estimate(float("nan"), folds=folds, note=note or "undefined")
    if note.endswith(NO_INTERVAL):
        return Estimate(value, folds=folds, note=note)
    moved = columns[1 + n_folds :] - columns[0]
    moved = moved[np.isfinite(moved)]
    if 2 * len(moved) < len(columns) - 1 - n_folds or len(moved) < 2:
        return Estimate(
            value, folds=folds, note=note or "too few events for an interval: replicates lack some"
        )
    if basic:
        moved = -moved
    tail = 50 * (1 - INTERVAL)
    low, high = np.clip(value + np.percentile(moved, [tail, 100 - tail]), *bounds)
    if basic:
        low, high = min(low, value), max(high, value)
    return Estimate(value, float(moved.std(ddof=1)), float(low), float(high), folds, note)


def limits(columns: NDArray[np.floating], level: float, n_folds: int = 0) -> tuple[Floats, Floats]:
    """Return low and high ends of the deviations from column 0, last axis reduced.

    NaN replicates are left out; where they are more than half, the ends are NaN.
    """
    moved = np.sort(columns[..., 1 + n_folds :] - columns[..., :1], axis=-1)
    known = np.isfinite(moved).sum(axis=-1)
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        # Linear interpolation as np.nanpercentile does, which takes rows with NaN one by one.
        position = share * np.maximum(known - 1, 0)
        below = np.floor(position).astype(np.intp)
        above = np.minimum(below + 1, np.maximum(known - 1, 0))
        low, high = (
            np.take_along_axis(moved, index[..., None], axis=-1)[..., 0] for index in (below, above)
        )
        end = low + (position - below) * (high - low)
        ends.append(np.where(2 * known >= moved.shape[-1], end, np.nan))
    return ends[0], ends[1]


def ratio(top: NDArray[Any], bottom: NDArray[Any]) -> Floats:
    """Return top / bottom, NaN where bottom is not positive."""
    top, bottom = np.broadcast_arrays(
        np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    )
    result: Floats = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0)
    return result


def deviation(values: NDArray[Any]) -> Floats:
    """Return the standard deviation (ddof 1) of the defined values, last axis reduced."""
    known = np.isfinite(values)
    n = known.sum(axis=-1)
    mean = ratio(np.where(known, values, 0).sum(axis=-1), n)
    squares = np.where(known, (values - mean[..., None]) ** 2, 0).sum(axis=-1)
    return np.sqrt(ratio(squares, n - 1))


def class_note(n: int, n_rest: int, name: str) -> str:
    """Return why a class's one-versus-rest numbers are missing or have no interval, else ''."""
    if n == 0:
        return f"no event of class {name}"
    if n_rest == 0:
        return f"no event of another class than {name}"
    if min(n, n_rest) < MIN_EVENTS:
        few = f"class {name}" if n < MIN_EVENTS else f"classes other than {name}"
        return f"fewer than {MIN_EVENTS} events of {few}: {NO_INTERVAL}"
    return ""


def class_notes(target: NDArray[Any], names: Sequence[str]) -> list[str]:
    """Return the note of each class (see `class_note`) for events of known class (n,)."""
    counts = np.bincount(target, minlength=len(names))
    return [class_note(int(n), len(target) - int(n), s) for n, s in zip(counts, names, strict=True)]
