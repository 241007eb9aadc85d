"""How far a shift moves scores, and which of the shifted features do so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.columns.weights import class_imbalance
from utils.results.events import EvaluationTable
from utils.results.metrics.shifted_events import ShiftedScores

ScoreFeatures = Callable[[Mapping[str, Array], Array], Floats]
"""(untransformed features by name, fold (n,)) -> probabilities (n, K)."""

MOST_DRIVEN = 20_000
"""Events scored again with one shifted feature at a time."""


@dataclass(frozen=True, eq=False)
class Drivers:
    """How far each shifted feature alone moves the scores, all others nominal.

    moved (F,): as `ShiftEffect.moved`, over at most MOST_DRIVEN events. together: of all of them.
    """

    features: tuple[str, ...]
    moved: Floats
    together: float


def moved_probability(before: Floats, after: Floats, target: Array) -> float:
    """Return the mean of half the sum over classes of |after - before|, which are (n, K)."""
    return class_average(0.5 * np.abs(after - before).sum(axis=1), target)


def class_average(values: NDArray[Any], target: Array) -> float:
    """Return the mean of `values` (n,) in which every class counts alike."""
    if not len(values):
        return float("nan")
    return float(np.average(values, weights=class_imbalance(np.asarray(target))))


def find_drivers(
    table: EvaluationTable,
    shift: ShiftedScores,
    both: NDArray[np.bool_],
    score: ScoreFeatures,
    seed: int,
) -> Drivers | None:
    """Return how far each shifted feature alone moves the scores of the events in `both` (n,)."""
    rows = np.flatnonzero(both)
    if len(rows) > MOST_DRIVEN:
        generator = np.random.default_rng([seed, 9])
        rows = np.sort(generator.choice(rows, MOST_DRIVEN, replace=False))
    if not len(rows):
        return None
    fold, target = np.asarray(table.fold)[rows], np.asarray(table.target)[rows]
    plain = {name: np.asarray(values)[rows] for name, values in table.features.items()}
    shifted = {name: np.asarray(values)[rows] for name, values in shift.features.items()}
    before = score(plain, fold)

    def moved(of: Mapping[str, Array]) -> float:
        return moved_probability(before, score({**plain, **of}, fold), target)

    alone = np.array([moved({name: values}) for name, values in shifted.items()])
    return Drivers(tuple(shifted), alone, moved(shifted))
