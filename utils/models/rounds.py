"""Following the rounds of a LightGBM training by the forest's kernels.

LightGBM spends half of a training on evaluating its validation set after each round. Here it only
trains: after a block of rounds the new trees are parsed from its text and added, round by round, to
the raw scores of all training and validation rows, which gives each round's metrics; from those
follows, by LightGBM's rule, whether and where the training stops. A block ends before a round
that could be the last one, so that hardly any round is trained in vain.

The metrics of a round are those of the model up to that round, and agree with LightGBM's own to
1e-12 relative. (LightGBM's own training metrics miss values that it loses where it bundles features
that almost never are there together.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Mask
from utils.models.forest import compile_forest
from utils.models.forest.arrays import (
    BLOCK,
    MAX_LEAVES,
    ParsedTree,
    Thresholds,
    Trees,
    compile_trees,
)
from utils.models.interface import Settings
from utils.models.metrics import LOSS, METRICS, Values, auc
from utils.models.stopping import EarlyStopping
from utils.system.threads import each

SHORTEST, LONGEST = 4, 20
"""Rounds in a block: fewer cost more than rounds in vain, more would be shown late."""

WORTHWHILE = 10_000_000
"""Rounds times rows times classes from which on the kernels are worth the time to load them."""

TASK_BYTES = 1 << 19
"""Ranks of events in one unit of work of a thread."""

HISTORY_BYTES = 1 << 28
"""Raw scores kept of a block of rounds, where a metric needs those of all events at once."""


def why_not(settings: Settings, metrics: Sequence[str], n_rows: int) -> str | None:
    """Return why a training is left to LightGBM's own loop, None if it is not.

    `metrics` are those of its `n_rows` validation rows.
    """
    given = {name: str(value).lower() for name, value in settings.own.items()}
    try:
        depth, leaves = int(given.get("max_depth", -1)), int(given.get("num_leaves", 31))
    except ValueError:
        return "parameters that it may refuse"
    leaves = min(leaves, 2**depth) if 0 < depth < 31 else leaves
    if leaves > MAX_LEAVES:
        return f"trees of {leaves} leaves"
    for name in metrics:
        if name not in METRICS[settings.objective]:
            return f"metric {name}"
    for name, alike in _ALIKE.items():
        if given.get(name, alike[0]) not in alike:
            return f"{name} {given[name]}"
    work = settings.num_iterations * n_rows * int(given.get("num_class", 1))
    return "little to evaluate" if work < WORTHWHILE else None


_ALIKE = {
    "boosting": ("gbdt", "goss"),  # dart changes earlier trees, rf averages them
    "linear_tree": ("false", "0"),
    "boost_from_average": ("true", "1"),  # else what it gives a class without a split counts twice
    "multi_error_top_k": ("1",),
    "early_stopping_min_delta": ("0.0", "0"),
    "device_type": ("cpu",),
    "num_machines": ("1",),
}
"""Values of parameters, the default first, with which trees, metrics and stopping are as here."""


def load_kernels() -> None:
    """Import numba and load the kernels, or compile them where there is no machine code yet."""
    nothing = np.empty(0, np.int64)
    columns, trees = compile_trees([ParsedTree(nothing, np.empty(0), nothing, [], [], [0.0], [])])
    one = np.ones(1, bool)
    Rows(np.zeros((1, 1), np.float32), one, one, one, 1).add(trees, columns, 1.0, (), 1)


class Rows:
    """Rows that are evaluated, with their raw scores up to some round, in blocks of events."""

    def __init__(
        self,
        matrix: NDArray[np.float32],
        chosen: Mask,
        target: Array,
        weight: Array,
        n_outputs: int,
    ) -> None:
        self.matrix, self.rows = matrix, np.flatnonzero(chosen)
        # LightGBM keeps weights as float32, and sums losses as float64.
        self.target = target[self.rows]
        self.weight = weight[self.rows].astype(np.float32).astype(np.float64)
        self.total = self.weight.sum()
        n_blocks = -(-len(self.rows) // BLOCK)
        self.scores = np.zeros((n_blocks, n_outputs, BLOCK))
        self.blocks = _in_blocks(self.target, np.int32), _in_blocks(self.weight, np.float64)

    def add(
        self,
        trees: Trees,
        columns: Mapping[str, Thresholds],
        sigmoid: float,
        metrics: Sequence[str],
        n_threads: int,
    ) -> list[Values]:
        """Add trees to the raw scores; return the metrics after each of their iterations."""
        from utils.models.forest import kernels

        thresholds = columns[self.matrix.dtype.name]
        n_blocks, n_outputs, _ = self.scores.shape
        n_iterations = (len(trees.tree_start) - 1) // n_outputs
        sums = np.empty((n_blocks, n_iterations, 2))
        ranked = any(name not in LOSS for name in metrics)
        history = np.empty((n_blocks, n_iterations if ranked else 0, BLOCK))
        step = max(1, TASK_BYTES // (BLOCK * max(1, len(thresholds.feature))))

        def task(first: int) -> None:
            part = slice(first, first + step)
            rows = self.rows[first * BLOCK : (first + step) * BLOCK]
            codes = kernels.encode(np.ascontiguousarray(self.matrix[rows]), thresholds)
            target, weight = (of_block[part] for of_block in self.blocks)
            kernels.advance(
                codes, trees, sigmoid, target, weight, self.scores[part], sums[part], history[part]
            )

        each(task, range(0, n_blocks, step), n_threads)

        def values(i: int) -> Values:
            means = sums[:, i].sum(axis=0) / self.total
            return {
                name: float(means[LOSS[name]])
                if name in LOSS
                else auc(history[:, i].reshape(-1)[: len(self.rows)], self.target, self.weight)
                for name in metrics
            }

        return each(values, range(n_iterations), n_threads if ranked else 1)


def _in_blocks(values: Array, kind: type[np.generic]) -> Array:
    """Return values `(n,)` as `(n_blocks, BLOCK)`, filled up with zeros."""
    found = np.zeros(-(-len(values) // BLOCK) * BLOCK, kind)
    found[: len(values)] = values
    return found.reshape(-1, BLOCK)


class Rounds:
    """A callback of `lightgbm.train` that follows its rounds and ends it.

    `record` is told each round's number and its metrics on `train` and `validation` rows. Nothing
    else may evaluate the training or stop it.
    """

    order = 0
    before_iteration = False

    def __init__(
        self,
        train: Rows,
        validation: Rows,
        settings: Settings,
        metrics: Sequence[str],
        n_threads: int,
        record: Callable[[int, Values, Values], None],
    ) -> None:
        self._rows = train, validation
        self._metrics, self._n_threads = metrics, n_threads
        self._patience = settings.early_stopping_round
        self._stopping = EarlyStopping(metrics, self._patience, settings.first_metric_only)
        self._record = record
        self._longest = LONGEST
        if any(name not in LOSS for name in metrics):
            kept = 8 * max(len(train.rows), len(validation.rows))
            self._longest = min(LONGEST, max(1, HISTORY_BYTES // kept))
        self._n_trees: list[int] = []  # after each round of this block, for each output
        self._evaluated = 0  # rounds
        self._added = 0  # trees, for each output
        self._latest: tuple[Values, Values] = {}, {}
        self._until = self._block_end()

    def __call__(self, env: Any) -> None:
        """Take note of a round; at the end of a block, evaluate its rounds."""
        self._n_trees.append(env.model.current_iteration())
        if env.iteration + 1 < min(self._until, env.end_iteration):
            return
        for train, validation in self._values(env.model):
            self._evaluated += 1
            self._record(self._evaluated, train, validation)
            if self._patience:
                self._stop(validation, last=self._evaluated == env.end_iteration)
        self._n_trees.clear()
        self._until = self._block_end()

    def _values(self, booster: Any) -> Iterator[tuple[Values, Values]]:
        """Yield the metrics of each round of a block; one without a split has those before it."""
        new = self._n_trees[-1] - self._added
        found: list[tuple[Values, Values]] = []
        if new:
            text = booster.model_to_string(start_iteration=self._added, num_iteration=new)
            forest = compile_forest(text)
            if forest.trees is None:
                raise ValueError("LightGBM made trees that the forest can't express")
            settings = (
                forest.trees,
                forest.columns,
                forest.sigmoid,
                self._metrics,
                self._n_threads,
            )
            train, validation = (rows.add(*settings) for rows in self._rows)
            found = list(zip(train, validation, strict=True))
        for n_trees in self._n_trees:
            if n_trees > self._added:
                self._added = n_trees
                self._latest = found.pop(0)
            yield self._latest

    def _stop(self, validation: Values, last: bool) -> None:
        """End the training after this round, if it is to end: its trees are the best round's."""
        from utils.system.libraries.boosters import lightgbm

        self._stopping.improved(self._evaluated, validation)
        decider = self._stopping.decider(self._evaluated, last)
        if decider is not None:
            raise lightgbm.callback.EarlyStopException(self._stopping.best(decider) - 1, [])

    def _block_end(self) -> int:
        """Return the round that ends the next block: no round after it can be in vain."""
        length = self._longest
        if self._patience:
            length = min(length, max(SHORTEST, self._stopping.earliest() - self._evaluated))
        return self._evaluated + length
