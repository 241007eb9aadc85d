"""Poisson bootstrap: sums over events, repeated with each event drawn 0, 1, 2, ... times.

A replicate gives every event an independent Poisson(1) multiplicity, the limit of drawing n events
with replacement that also lets n fluctuate (G. Chamandy et al., 'Estimating uncertainty for massive
data streams', 2012). Metrics of binned scores and of cell counts follow from sums over events, so
all of them, in all views and for two runs at once, share the multiplicities and come out of one
pass over the events: a sparse matrix (which event enters which sum) times the multiplicities.
Replicates are drawn in groups, each by a generator of its own, so that threads share the work
without changing a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from utils.columns.arrays import Floats
from utils.system.threads import each

N_BINS = 4096
"""Most bins of a score's histogram; as many scores have a bin each and are exact."""

_BLOCK = 32_768
_SUB_BLOCK = 2048
_GROUP = 100
"""Replicates drawn by one generator: which of them weigh an event how depends on this number."""


@dataclass(frozen=True, eq=False)
class Term:
    """Sums to make: event i adds `value[i]` (1 where None) to sum number `row[i]` of `n_rows`."""

    row: NDArray[np.int32]
    value: Floats | None
    n_rows: int


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of all terms, last axis: 0 all events once, then each fold, then the replicates.

    exact: float64 sums over all events, (n_rows,) by name. columns: (n_rows, 1 + n_folds + R).
    """

    exact: Mapping[str, Floats]
    columns: Mapping[str, NDArray[np.float32]]
    n_folds: int


def _multiplicity_table() -> NDArray[np.float32]:
    """Return Poisson(1) multiplicities for 65,536 equally likely random numbers.

    Probabilities are right to 1e-5; more than 8 of one event do not occur.
    """
    probability = [math.exp(-1) / math.factorial(m) for m in range(8)]
    upper = np.rint(np.cumsum(probability) * 65_536).astype(np.int64)
    return np.searchsorted(upper, np.arange(65_536), side="right").astype(np.float32)


def poisson_sums(
    terms: Mapping[str, Term],
    n_replicates: int,
    seed: int | Sequence[int],
    fold: NDArray[np.integer] | None = None,
    n_folds: int = 0,
    n_threads: int = 1,
) -> Sums:
    """Return the sums of `terms` over all events, over each fold's and over Poisson replicates.

    All terms have the same n events in the same order. The multiplicities depend on `seed` and the
    event's position only: two calls with the same events are paired.
    """
    first = 1 + n_folds
    columns = {
        k: np.zeros((t.n_rows, first + n_replicates), dtype=np.float32) for k, t in terms.items()
    }
    exact: dict[str, Floats] = {}

    def add_exact(name: str) -> None:
        row, value, n_rows = terms[name].row, terms[name].value, terms[name].n_rows
        exact[name] = np.bincount(row, weights=value, minlength=n_rows).astype(np.float64)
        columns[name][:, 0] = exact[name]
        if fold is None or n_folds == 0:
            return
        known = fold >= 0
        cell = row[known] * np.int64(n_folds) + fold[known]
        value = None if value is None else value[known]
        sums = np.bincount(cell, weights=value, minlength=n_rows * n_folds)
        columns[name][:, 1:first] = sums.reshape(n_rows, n_folds)

    def add_group(group: int) -> None:
        start = group * _GROUP
        place = slice(first + start, first + min(start + _GROUP, n_replicates))
        for name, sums in _replicates(terms, [*np.atleast_1d(seed), group]).items():
            columns[name][:, place] = sums[:, : place.stop - place.start]

    each(add_exact, terms, n_threads)
    each(add_group, range(-(-n_replicates // _GROUP)), n_threads)
    return Sums(exact, columns, n_folds)


def _replicates(terms: Mapping[str, Term], seed: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """Return the sums (n_rows, _GROUP) of each term in the replicates drawn by `seed`."""
    sums = {k: np.zeros((t.n_rows, _GROUP), dtype=np.float32) for k, t in terms.items()}
    n = len(next(iter(terms.values())).row)
    table = _multiplicity_table()
    generator = np.random.SFC64(seed)
    times = np.empty((min(_BLOCK, n), _GROUP), dtype=np.float32)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        block = times[: stop - start]
        for i in range(0, stop - start, _SUB_BLOCK):
            part = block[i : i + _SUB_BLOCK]
            drawn = generator.random_raw(-(-part.size // 4)).view(np.uint16)[: part.size]
            np.take(table, drawn.reshape(part.shape), out=part, mode="clip")
        pointer = np.arange(stop - start + 1, dtype=np.int32)
        ones = np.ones(stop - start, dtype=np.float32)
        for name, term in terms.items():
            value = ones if term.value is None else term.value[start:stop].astype(np.float32)
            shape = (term.n_rows, stop - start)
            matrix = sparse.csc_array((value, term.row[start:stop], pointer), shape=shape)
            sums[name] += matrix @ block
    return sums
