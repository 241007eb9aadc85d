"""Histograms with variances, and means in bins: boost-histogram under the names used here.

Every axis has half-open bins `[a, b)`; what lies outside goes to the end bins. Sums are made in the
order of the events in float64, so that they are those of `np.bincount` bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boost_histogram as bh
import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats

Series = tuple[NDArray[np.integer] | int, int]
"""Number of the series of each event, (n,) or the same for all, and how many series there are."""

ALL: Series = (0, 1)


def bins_for(sizes: NDArray[np.integer], most: int) -> int:
    """Return 2 n^(1/3) (Rice), 10 to `most`, for the median n of the classes' `sizes`."""
    return int(np.clip(2 * np.cbrt(np.median(sizes)), min(10, most), most))


@dataclass(frozen=True, eq=False)
class Histogram:
    """Sums of weights and of squared weights, arrays of one shape; weights of either sign."""

    value: Floats
    variance: Floats

    def above(self) -> Histogram:
        """Return the sums over each bin and all higher ones, along the last axis."""
        value, variance = (
            np.cumsum(sums[..., ::-1], axis=-1)[..., ::-1] for sums in (self.value, self.variance)
        )
        return Histogram(value, variance)

    def density(self, edges: Floats) -> tuple[Floats, Floats]:
        """Return unit-area densities and errors, each row (last axis) for itself; 0 where empty.

        Bin sums are taken as independent of the total.
        """
        total = self.value.sum(axis=-1, keepdims=True)
        scale = np.divide(1.0, total, out=np.zeros(total.shape), where=total > 0)
        width = np.diff(edges)
        return self.value * scale / width, np.sqrt(self.variance) * scale / width


@dataclass(frozen=True, eq=False)
class Means:
    """Number of entries, mean and variance (ddof 1) of a quantity in each bin."""

    n: Floats
    mean: Floats
    variance: Floats


def fill(
    values: NDArray[Any], edges: Floats, weight: Floats | None = None, series: Series | None = None
) -> Histogram:
    """Return the histogram of `values` (n,), finite: (m,), or a row a series, (n_series, m)."""
    view = _filled(values, edges, series or ALL, bh.storage.Weight(), weight=weight)
    row = slice(None) if series else 0
    return Histogram(view.value[row], view.variance[row])


def fill_cells(
    cell: NDArray[np.integer], shape: tuple[int, ...], weight: Floats | None = None
) -> Histogram:
    """Return the sums in an array of `shape`, whose flat indices `cell` (n,) are."""
    axis = bh.axis.Integer(0, int(np.prod(shape)), underflow=False, overflow=False)
    view: Any = bh.Histogram(axis, storage=bh.storage.Weight()).fill(cell, weight=weight).view()
    return Histogram(view.value.reshape(shape), view.variance.reshape(shape))


def fill_means(values: NDArray[Any], edges: Floats, of: Floats, series: Series) -> Means:
    """Return the mean of `of` (n,) in the bins of `values`, a row a series, (n_series, m)."""
    view = _filled(values, edges, series, bh.storage.Mean(), sample=of)
    return Means(view.count, view.value, view.variance)


def _filled(
    values: NDArray[Any], edges: Floats, series: Series, storage: bh.storage.Storage, **more: Any
) -> Any:
    """Return the view (n_series, m) of a histogram whose end bins take what lies outside."""
    place, n_series = series
    inside = np.clip(values, edges[0], edges[-1])
    # The upper end belongs to the last bin.
    bins = [*edges[:-1], np.nextafter(edges[-1], np.inf)]
    histogram = bh.Histogram(
        bh.axis.Integer(0, n_series, underflow=False, overflow=False),
        bh.axis.Variable(bins, underflow=False, overflow=False),
        storage=storage,
    )
    return histogram.fill(place, inside, **more).view()
