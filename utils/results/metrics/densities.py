"""Distributions of a category's probability for the events in it, per true class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.results.events import UNLABELLED, EvaluationTable, View, classes_present, places
from utils.results.histograms import Histogram, bins_for, fill


@dataclass(frozen=True, eq=False)
class ScoreDensities:
    """Distributions of a category's probability for the events in it, per true class.

    Of two classes: of the one score, for all events. edges (m+1,). true_classes: T class ids, those
    with events in the dataset (-1: unlabelled).
    density, density_error (T, m): normalised to unit area within the category, zero where the
    class has no event there. yields, yields_error (T, m): sums of weights (physics: divided by the
    evaluated fraction), for stacking. n (T,): events. Errors from the sums of squared weights.
    """

    view: View
    category: int
    edges: Floats
    true_classes: tuple[int, ...]
    density: Floats
    density_error: Floats
    yields: Floats
    yields_error: Floats
    n: Array


def score_edges(
    table: EvaluationTable,
    category: int,
    default_bin: float,
    sizes: NDArray[np.integer] | None = None,
) -> Floats:
    """Return bin edges of a category's probability, from the lowest possible to 1.

    That is about 1/K in its category; the one score of two classes begins at 0. sizes: how many
    events each histogram has, of which empty ones do not count. Where they are few, so are the bins
    (`bins_for`); the class's bin size is the finest.
    """
    width = table.classes[category].bin_size or default_bin
    lowest = 0.0 if table.binary else 1.0 / len(table.classes)
    m = max(int(np.ceil((1 - lowest) / width - 1e-9)), 1)
    if sizes is not None and np.any(sizes > 0) and (few := bins_for(sizes[sizes > 0], m)) < m:
        return np.linspace(lowest, 1.0, few + 1)
    edges = np.maximum(1 - width * np.arange(m, -1, -1), 0.0)
    # Widths that do not divide 1 must not leave an empty first bin below 0.
    return np.unique(edges)


def make_densities(
    table: EvaluationTable, views: Sequence[View], default_bin: float
) -> tuple[ScoreDensities, ...]:
    """Return one result per view and category; `table` may hold unlabelled events (class -1)."""
    target = np.asarray(table.target)
    present = classes_present(target)
    series = places(target, present)
    n_known = np.count_nonzero(target != UNLABELLED)
    balance = np.array(
        [n_known / np.count_nonzero(target == c) if c != UNLABELLED else 1.0 for c in present]
    )[:, None]
    made: dict[View, list[ScoreDensities]] = {view: [] for view in views}
    for c in table.score_classes:
        mine = np.flatnonzero(table.selected(c))
        edges = score_edges(table, c, default_bin, np.bincount(series[mine]))
        score, rows = table.proba[mine, c], (series[mine], len(present))
        counts = fill(score, edges, None, rows)
        for view in views:
            sums = counts
            if view == "physics" and table.weight is not None:
                sums = fill(score, edges, np.asarray(table.weight, float)[mine], rows)
            elif view == "balanced":
                sums = Histogram(counts.value * balance, counts.variance * balance**2)
            made[view].append(
                ScoreDensities(
                    view,
                    c,
                    edges,
                    present,
                    *sums.density(edges),
                    yields=sums.value,
                    yields_error=np.sqrt(sums.variance),
                    n=np.rint(counts.value.sum(axis=1)).astype(np.int64),
                )
            )
    return tuple(d for of_view in made.values() for d in of_view)
