"""Event weights: class balance, CP weights, the policy on negative weights, and their summary.

All functions take `target` (n,), the class id of each event counted from 0, and return float64.
Physics weights may be negative unless a function says otherwise. `names` are class names in order
of their ids, for error texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.columns.arrays import Array, Floats, Mask
from utils.columns.expressions import parse
from utils.schema import ConfigError, InputError, nearest

NEGATIVE_POLICIES = ("error", "keep", "absolute", "drop", "rescale")
"""What may become of negative training weights; see `apply_negative_policy`."""


def class_imbalance(target: Array) -> Floats:
    """Return N / N_c for each event (n,): N events in all, N_c in its class.

    Every class present then has the same sum of weights, N. Compute it for each output (train,
    test) by itself.
    """
    counts = _count(target)
    return _per_event(len(target) / np.maximum(counts, 1), target)


def class_imbalance_by_weight(
    weight: Array, target: Array, names: Sequence[str] | None = None
) -> Floats:
    """Return W / W_c for each event (n,): W the sum of all weights, W_c that of its class.

    Multiplied with the weights themselves it gives every class the same sum, W; sums are signed.
    Raises InputError where a class sum is not positive.
    """
    sums = _positive_sums(weight, target, names, "class balance by weight")
    return _per_event(_over(sums.sum(), sums), target)


def cp_weights(weight: Array, target: Array, names: Sequence[str] | None = None) -> Floats:
    """Return the CP weight |w| * W / W_c of each event (n,), with W and W_c as signed sums.

    `weight` and `target` are those of all selected events, before they are split. Raises
    InputError where a class sum is not positive.
    """
    sums = _positive_sums(weight, target, names, "w_cp")
    return np.abs(np.asarray(weight, np.float64)) * _per_event(_over(sums.sum(), sums), target)


@dataclass(frozen=True)
class TrainingWeight:
    """What events weigh in a training: an expression of columns, and what negative ones become.

    The one place where a training weight is computed, for models that learn and for tables that
    tell afterwards what they learnt from.
    """

    expression: str
    policy: str

    @property
    def columns(self) -> frozenset[str]:
        """The names of the columns that the weight is made from."""
        return parse(self.expression).names

    def raw(self, columns: Mapping[str, Array], n_rows: int) -> Floats:
        """Return the values `(n_rows,)` of the expression, before the policy."""
        return np.asarray(parse(self.expression).evaluate(columns, n_rows), np.float64)

    def learnt(
        self, raw: Array, target: Array, names: Sequence[str] | None = None
    ) -> tuple[Floats, Mask]:
        """Return (weights `(n,)`, mask `(n,)` of the events to learn from) after the policy.

        Raises InputError where the policy refuses these weights.
        """
        return apply_negative_policy(raw, target, self.policy, names)


def apply_negative_policy(
    weight: Array, target: Array, policy: str, names: Sequence[str] | None = None
) -> tuple[Floats, Mask]:
    """Return (weights (n,), mask (n,) of the events to keep) under a policy on negative weights.

    `error` refuses them, `keep` changes nothing, `absolute` takes their size, `drop` clears the
    mask where they are, `rescale` takes their size and scales each class back to its signed sum
    (which must be positive, else InputError).
    """
    if policy not in NEGATIVE_POLICIES:
        raise ConfigError(
            f"negative_weights: '{policy}' is not a policy; {nearest(policy, NEGATIVE_POLICIES)}"
        )
    weight = np.array(weight, np.float64)
    keep = np.ones(len(weight), np.bool_)
    negative = weight < 0
    if policy == "keep" or not negative.any():
        return weight, keep
    if policy == "error":
        counts = np.bincount(np.asarray(target)[negative], minlength=len(_count(target)))
        raise InputError(
            f"{int(negative.sum())} of {len(weight)} training weights are negative ("
            + ", ".join(f"{_name(c, names)}: {int(n)}" for c, n in enumerate(counts) if n)
            + "): choose negative_weights=keep, absolute, drop or rescale"
        )
    if policy == "drop":
        return weight, ~negative
    size = np.abs(weight)
    if policy == "absolute":
        return size, keep
    sums = _positive_sums(weight, target, names, "negative_weights=rescale")
    return size * _per_event(_over(sums, _sum(size, target)), target), keep


def check_weights(
    weight: Array,
    where: str,
    target: Array | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Refuse weights that are NaN or infinite, or zero for all events (of a class, with `target`).

    Raises InputError naming `where` and the counts.
    """
    weight = np.asarray(weight)
    if not np.isfinite(weight).all():
        n_nan = int(np.isnan(weight).sum())
        n_inf = int(np.isinf(weight).sum())
        raise InputError(
            f"{where}: {n_nan} weights are NaN and {n_inf} infinite, of {len(weight)}: "
            "mend the weight's expression or cut these events away"
        )
    if not len(weight):
        return
    if not weight.any():
        raise InputError(f"{where}: all {len(weight)} weights are zero: nothing could be learnt")
    if target is not None:
        counts = _count(target)
        used = np.bincount(np.asarray(target)[weight != 0], minlength=len(counts))
        for c in np.flatnonzero((counts > 0) & (used == 0)):
            raise InputError(
                f"{where}: all {int(counts[c])} weights of class {_name(c, names)} are zero: "
                "nothing could be learnt of it"
            )


@dataclass(frozen=True)
class WeightRow:
    """Weights of one class, in one fold or (`fold` None) in all.

    `negative_fraction` is the share of events with a negative weight; `effective_n`, the number of
    unweighted events with the same relative uncertainty of the sum, is (sum w)^2 / sum w^2.
    """

    class_name: str
    fold: int | None
    n: int
    sum_of_weights: float
    negative_fraction: float
    effective_n: float


def weight_summary(
    weight: Array, target: Array, fold: Array | None, names: Sequence[str]
) -> tuple[WeightRow, ...]:
    """Return a row for each class over all folds, each followed by one for each of its folds.

    `fold` (n,) counts from 0; None gives the rows over all folds only. Classes without events are
    in the summary too.
    """
    n_folds = int(fold.max()) + 1 if fold is not None and len(fold) else 0
    rows = []
    totals = _sums(weight, target, len(names))
    cells = (
        _sums(weight, target.astype(np.int64) * n_folds + fold, len(names) * n_folds)
        if fold is not None and n_folds
        else ()
    )
    for c, name in enumerate(names):
        rows.append(_row(str(name), None, *totals[c]))
        rows += [_row(str(name), k, *cells[c * n_folds + k]) for k in range(n_folds)]
    return tuple(rows)


def summary_table(rows: Iterable[WeightRow]) -> str:
    """Return a summary as lines of text in columns, for the log."""
    head = ("class", "fold", "events", "sum of weights", "negative", "effective events")
    lines = [head] + [
        (
            row.class_name,
            "all" if row.fold is None else str(row.fold),
            str(row.n),
            f"{row.sum_of_weights:.6g}",
            f"{100 * row.negative_fraction:.1f} %",
            f"{row.effective_n:.1f}",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


# --- sums by class -------------------------------------------------------------------------------


def _count(target: Array) -> npt.NDArray[np.int64]:
    target = np.asarray(target)
    if target.size and target.min() < 0:
        raise InputError(
            f"{int((target < 0).sum())} of {target.size} events have no class (target below 0): "
            "class weights need training data"
        )
    return np.bincount(target).astype(np.int64)


def _sum(weight: Array, target: Array) -> Floats:
    # An empty bincount is of integers, whatever the weights are.
    return np.bincount(target, weights=np.asarray(weight, np.float64)).astype(np.float64)


def _positive_sums(weight: Array, target: Array, names: Sequence[str] | None, what: str) -> Floats:
    """Return the signed sum of weights per class id, 0 where a class has no events."""
    counts, sums = _count(target), _sum(weight, target)
    for c in np.flatnonzero((counts > 0) & ~(sums > 0)):
        raise InputError(
            f"{what}: the weights of class {_name(c, names)} sum to {sums[c]:.6g} over "
            f"{int(counts[c])} events, which must be above 0"
        )
    return sums


def _over(numerator: Any, denominator: Floats) -> Floats:
    """Return the quotient where the denominator is positive, 1 elsewhere (classes not present)."""
    quotient = np.ones(len(denominator))
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def _per_event(by_class: Floats, target: Array) -> Floats:
    return by_class[target] if len(target) else np.empty(0)


def _sums(weight: Array, cell: Array, n_cells: int) -> list[tuple[int, int, float, float]]:
    """Return for each cell: events, events with negative weight, sum w and sum w^2."""
    weight = np.asarray(weight, np.float64)
    n = np.bincount(cell, minlength=n_cells)
    negative = np.bincount(cell[weight < 0], minlength=n_cells)
    first = np.bincount(cell, weights=weight, minlength=n_cells)
    second = np.bincount(cell, weights=weight * weight, minlength=n_cells)
    return list(zip(n.tolist(), negative.tolist(), first.tolist(), second.tolist(), strict=True))


def _row(
    name: str, fold: int | None, n: int, negative: int, first: float, second: float
) -> WeightRow:
    return WeightRow(
        name, fold, n, first, negative / n if n else 0.0, first**2 / second if second else 0.0
    )


def _name(class_id: int | np.integer[Any], names: Sequence[str] | None) -> str:
    index = int(class_id)
    return f"'{names[index]}'" if names and index < len(names) else str(index)
