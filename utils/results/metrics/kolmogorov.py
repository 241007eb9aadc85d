"""Kolmogorov-Smirnov tests between sets of scores, with p-values from permutations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from utils.columns.arrays import Floats
from utils.results.options import EvaluationOptions

_PERMUTATION_BLOCK = 100

_GRID = 1024
"""Bins of the scores in which permuted samples are compared."""

_PARTS: tuple[Literal["class", "rest"], ...] = ("class", "rest")

ScoreSet = Literal["in-fold", "out-of-fold", "test"]
"""Scores of trained-on events, of left-out events, and of the test set."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of one set, (n, K), with the true class of each event (n,)."""

    name: ScoreSet
    proba: Floats
    target: NDArray[np.integer]


def paired(first: ScoreSet, second: ScoreSet) -> bool:
    """Return whether two sets hold scores of the same events."""
    return "test" not in (first, second)


@dataclass(frozen=True)
class KsTest:
    """Kolmogorov-Smirnov distance between two samples and its permutation p-value.

    class_id: whose probability. of: 'class' for its own events, 'rest' for all others. distance:
    of all rows. p_value: the share of `n_arrangements`, the observed one and its permutations, that
    are as far apart, so at least 1/n_arrangements. n: rows of the two samples that it uses.
    """

    class_id: int
    of: Literal["class", "rest"]
    first: ScoreSet
    second: ScoreSet
    distance: float
    p_value: float
    n: tuple[int, int]
    n_arrangements: int

    @property
    def at_floor(self) -> bool:
        """Whether no permutation is as far apart as what was observed."""
        return self.p_value * self.n_arrangements < 1.5


def ks_tests(
    a: Scored, b: Scored, classes: Sequence[int], options: EvaluationOptions
) -> Iterator[KsTest]:
    """Yield one test per class whose probability is a score, and of class or rest.

    The same permutations serve all of them.

    The p-value's statistic is the distance on a grid of pooled quantiles, the same for observed and
    permuted scores, of the rows permuted; the distance reported is the full one of all rows.
    """
    generator = np.random.default_rng([options.seed, 3])
    rows_a, rows_b = _rows(generator, a, b, options.max_permuted_rows)
    n_a, k = len(rows_a), len(classes)
    targets = np.concatenate([a.target[rows_a], b.target[rows_b]])
    pooled = np.concatenate([a.proba[rows_a], b.proba[rows_b]])
    grids = [_grid(pooled[:, c], targets == c) for c in classes]
    exceeding = np.zeros((k, 2), dtype=np.int64)
    observed = np.zeros((k, 2))
    total = options.n_permutations + 1
    swapped = paired(a.name, b.name)
    for number, signs in enumerate(_signs(generator, n_a, targets, swapped, total)):
        for s, (c, grid) in enumerate(zip(classes, grids, strict=True)):
            for part, distance in enumerate(_distances(grid, signs, targets == c, n_a)):
                if number == 0:
                    observed[s, part] = distance[0]
                # Rounding must not make an equal distance smaller.
                exceeding[s, part] += np.sum(distance >= observed[s, part] * (1 - 1e-6))
    for s, c in enumerate(classes):
        for part, of in enumerate(_PARTS):
            first, second = (x.proba[(x.target == c) == (of == "class"), c] for x in (a, b))
            if min(len(first), len(second)) == 0:
                continue
            used = (targets == c) == (of == "class")
            sizes = (int(used[:n_a].sum()), int(used[n_a:].sum()))
            # The observed arrangement is one of those counted: p is at least 1/(permutations + 1).
            p = float(exceeding[s, part]) / total
            yield KsTest(c, of, a.name, b.name, ks_distance(first, second), p, sizes, total)


def ks_distance(first: Floats, second: Floats) -> float:
    """Return the largest difference of the two empirical distribution functions."""
    values = np.concatenate([first, second])
    below = [
        np.searchsorted(np.sort(part), values, side="right") / len(part) for part in (first, second)
    ]
    return float(np.abs(below[0] - below[1]).max())


def _rows(
    generator: np.random.Generator, a: Scored, b: Scored, most: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return the rows of both sets that are permuted, `most` of a class in both together.

    Paired sets hold the same events. Within a class both sets keep their proportion.
    """
    of_a, of_b = [], []
    for c in range(a.proba.shape[1]):
        in_a, in_b = np.flatnonzero(a.target == c), np.flatnonzero(b.target == c)
        if paired(a.name, b.name):
            of_a.append(_sample(generator, in_a, most))
            continue
        n_a, n_b = _shares(len(in_a), len(in_b), most)
        of_a.append(_sample(generator, in_a, n_a))
        of_b.append(_sample(generator, in_b, n_b))
    rows = [np.sort(np.concatenate(found)) for found in (of_a, of_b or of_a)]
    return rows[0], rows[1]


def _shares(n_a: int, n_b: int, most: int) -> tuple[int, int]:
    """Return how many of `n_a` and `n_b` are taken so that they are `most` together."""
    if n_a + n_b <= most:
        return n_a, n_b
    share = most * n_a // (n_a + n_b)
    return max(share, 1), max(most - share, 1)


def _sample(
    generator: np.random.Generator, rows: NDArray[np.integer], most: int
) -> NDArray[np.integer]:
    return rows if len(rows) <= most else generator.choice(rows, most, replace=False)


def _grid(score: Floats, is_class: NDArray[np.bool_]) -> sparse.csr_array:
    """Return the matrix (2 _GRID, n) that sums over bins of pooled quantiles, class before rest."""
    code = np.empty(len(score), dtype=np.int64)
    for part, chosen in enumerate((is_class, ~is_class)):
        if chosen.any():
            inner = np.quantile(score[chosen], np.linspace(0, 1, _GRID + 1)[1:-1], method="lower")
            code[chosen] = np.searchsorted(inner, score[chosen], side="right") + part * _GRID
    ones = np.ones(len(score), dtype=np.float32)
    entries = (ones, (code, np.arange(len(score))))
    return sparse.csr_array(entries, shape=(2 * _GRID, len(score)))


def _signs(
    generator: np.random.Generator,
    n_a: int,
    targets: NDArray[np.integer],
    swapped: bool,
    total: int,
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks (n pooled, permutations) of +1, first set, and -1, second; first as observed.

    `swapped` scores are of the same events and change places; others are permuted within the true
    class, which keeps the number of events of each class in both sets.
    """
    observed = np.ones(len(targets), dtype=np.float32)
    observed[n_a:] = -1
    # Blocks of a size that memory takes: some 80 MB.
    size = int(np.clip(20_000_000 // max(len(targets), 1), 10, _PERMUTATION_BLOCK))
    of_class = [np.flatnonzero(targets == c) for c in np.unique(targets)]
    for start in range(0, total, size):
        signs = np.repeat(observed[:, None], min(size, total - start), axis=1)
        moved = signs if start else signs[:, 1:]
        if swapped:
            drawn = generator.integers(0, 2, size=(n_a, moved.shape[1]), dtype=np.int8)
            moved[:n_a] = 2 * drawn - 1
            moved[n_a:] = -moved[:n_a]
        else:
            for mine in of_class:
                rows = np.repeat(observed[mine].astype(np.int8)[None], moved.shape[1], axis=0)
                moved[mine] = generator.permuted(rows, axis=1, out=rows).T
        yield signs


def _distances(
    grid: sparse.csr_array, signs: NDArray[np.float32], is_class: NDArray[np.bool_], n_a: int
) -> Iterator[Floats]:
    """Yield the distances on the grid of the class's scores, then of the rest, (permutations,)."""
    sums = grid @ signs
    sizes = np.diff(grid.indptr)
    for part, chosen in enumerate((is_class, ~is_class)):
        first, second = int(chosen[:n_a].sum()), int(chosen[n_a:].sum())
        if min(first, second) == 0:
            yield np.zeros(signs.shape[1])
            continue
        rows = slice(part * _GRID, (part + 1) * _GRID)
        gap = np.cumsum(sums[rows], axis=0, dtype=np.float64)
        below = np.cumsum(sizes[rows])[:, None]
        # With d = (first) - (second) among the lowest n: first = (n + d)/2, second = (n - d)/2.
        gap = gap * (0.5 / first + 0.5 / second) + below * (0.5 / first - 0.5 / second)
        yield np.abs(gap).max(axis=0)
