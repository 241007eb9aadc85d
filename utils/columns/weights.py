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

from utils.columns.arrays import Array, Columns, Floats, Groups, Integers, Mask
from utils.columns.expressions import parse
from utils.schema import ConfigError, InputError, nearest

NEGATIVE_POLICIES = ("error", "keep", "absolute", "drop", "rescale")
"""What may become of negative training weights; see `apply_negative_policy`."""


def class_imbalance(target: Array) -> Floats:
    """Return N / N_c for each event (n,): N events in all, N_c in its class.

    Every class present then has the same sum of weights, N. Compute it for each output (train,
    test) by itself.
    """
    return _per_event(len(target), _count(target), target)


def class_imbalance_by_weight(weight: Array, target: Array, names: Sequence[str] = ()) -> Floats:
    """Return W / W_c for each event (n,): W the sum of all weights, W_c that of its class.

    Multiplied with the weights themselves it gives every class the same sum, W; sums are signed.
    Raises InputError where a class sum is not positive.
    """
    sums = _positive_sums(weight, target, names, "class balance by weight")
    return _per_event(sums.sum(), sums, target)


def cp_weights(weight: Array, target: Array, names: Sequence[str] = ()) -> Floats:
    """Return the CP weight |w| * W / W_c of each event (n,), with W and W_c as signed sums.

    `weight` and `target` are those of all selected events, before they are split. Raises
    InputError where a class sum is not positive.
    """
    sums = _positive_sums(weight, target, names, "w_cp")
    return np.abs(np.asarray(weight, np.float64)) * _per_event(sums.sum(), sums, target)


WEIGHABLE = ("identity", "misc_features", "weights")
"""Groups of a skim whose columns a training weight may name."""


@dataclass(frozen=True)
class TrainingWeight:
    """What events weigh in a training: an expression of columns, and what negative ones become.

    Computed here alone, for the models that learn and for the tables that are judged by it.
    """

    expression: str
    policy: str

    def lacks(self, groups: Mapping[str, Iterable[str]]) -> list[str]:
        """Return what the weight is made from and a skim's `groups` of columns do not hold."""
        known = {name for group in WEIGHABLE for name in groups[group]}
        return sorted(parse(self.expression).names - known)

    def raw(self, groups: Groups) -> Floats:
        """Return the values `(n,)` of the expression, before the policy, of a skim's rows."""
        columns: Columns = {n: c for group in WEIGHABLE for n, c in groups[group].items()}
        n_rows = len(next(iter(groups["targets"].values())))
        return np.asarray(parse(self.expression).evaluate(columns, n_rows), np.float64)

    def after_policy(self, raw: Array, target: Array, names: Sequence[str]) -> tuple[Floats, Mask]:
        """Return (weights `(n,)`, mask `(n,)` of the events that are learnt from).

        Raises InputError where the policy refuses these weights.
        """
        return apply_negative_policy(raw, target, self.policy, names)


def apply_negative_policy(
    weight: Array, target: Array, policy: str, names: Sequence[str] = ()
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
    return size * _per_event(sums, _sum(size, target), target), keep


def check_weights(weight: Array, where: str, target: Array, names: Sequence[str] = ()) -> None:
    """Refuse weights that are NaN or infinite, or zero for all events or all of a class.

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
    if len(weight) and not weight.any():
        raise InputError(f"{where}: all {len(weight)} weights are zero: nothing could be learnt")
    counts = _count(target)
    used = np.bincount(target[weight != 0], minlength=len(counts))
    for c in np.flatnonzero((counts > 0) & (used == 0)).tolist():
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
    weight: Array, target: Array, fold: Array, names: Sequence[str]
) -> tuple[WeightRow, ...]:
    """Return a row for each class over all folds, each followed by one for each of its folds.

    `fold` (n,) counts from 0. Classes without events are in the summary too.
    """
    rows = []
    for class_id, name in enumerate(names):
        of_class = np.flatnonzero(target == class_id)
        rows.append(_row(name, None, weight[of_class]))
        of_folds = [of_class[fold[of_class] == k] for k in range(int(fold.max(initial=-1)) + 1)]
        rows += [_row(name, k, weight[events]) for k, events in enumerate(of_folds)]
    return tuple(rows)


def _row(name: str, fold: int | None, weight: Array) -> WeightRow:
    weight = weight.astype(np.float64)
    n, total, squares = len(weight), float(weight.sum()), float((weight**2).sum())
    negative = np.count_nonzero(weight < 0) / n if n else 0.0
    return WeightRow(name, fold, n, total, negative, total**2 / squares if squares else 0.0)


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
    first, *others = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([name.ljust(first), *map(str.rjust, cells, others)]) for name, *cells in lines
    )


# --- sums by class -------------------------------------------------------------------------------


def _count(target: Array) -> Integers:
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


def _positive_sums(weight: Array, target: Array, names: Sequence[str], what: str) -> Floats:
    """Return the signed sum of weights per class id, 0 where a class has no events."""
    counts, sums = _count(target), _sum(weight, target)
    for c in np.flatnonzero((counts > 0) & ~(sums > 0)).tolist():
        raise InputError(
            f"{what}: the weights of class {_name(c, names)} sum to {sums[c]:.6g} over "
            f"{int(counts[c])} events, which must be above 0"
        )
    return sums


def _per_event(numerator: Any, by_class: Array, target: Array) -> Floats:
    """Return numerator / by_class for each event; 1 where its class has nothing above 0."""
    quotient = np.ones(len(by_class))
    np.divide(numerator, by_class, out=quotient, where=by_class > 0)
    return quotient[target]


def _name(class_id: int, names: Sequence[str]) -> str:
    return f"'{names[class_id]}'" if class_id < len(names) else str(class_id)
