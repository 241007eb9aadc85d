"""The two sides of a shift: the nominal and the shifted events of a table, with all their sums.

Each side has its own events, scores and weights, but the bootstrap draws for all rows of the table:
an event that takes part in both has the same multiplicity in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.columns.variations import Direction
from utils.results.events import UNLABELLED, EvaluationTable, View, made_ready, signal_class
from utils.results.histograms import fill
from utils.results.metrics.bootstrap import Sums, Term, poisson_sums
from utils.results.metrics.densities import score_edges
from utils.results.metrics.one_versus_rest import full_areas, rank_classes
from utils.results.metrics.scores import ViewMetrics, score_terms, view_metrics
from utils.results.options import EvaluationOptions
from utils.schema import InputError, VariationKind

ENOUGH = 20
"""Effective nominal events in a bin of scores, at least: a ratio of fewer tells nothing."""

_SEED = 6


@dataclass(frozen=True, eq=False)
class ShiftedScores:
    """What one direction of a variation makes of the rows of a table.

    proba (n, K): NaN where its own selection fails; None where the scores stay nominal. factor
    (n,): on the physics weight, None for 1. features: untransformed, (n,) each, those it changes.
    """

    variation: str
    direction: Direction
    kind: VariationKind
    proba: Floats | None = None
    factor: Floats | None = None
    features: Mapping[str, Array] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.variation}{self.direction}"


@dataclass(frozen=True, eq=False)
class AlternativeScores:
    """One direction of a variation that is a sample of its own, or several.

    replaced (n,): the rows of the nominal table in whose place its events stand. tables: these.
    """

    variation: str
    direction: Direction
    replaced: NDArray[np.bool_]
    tables: Sequence[EvaluationTable]

    @property
    def name(self) -> str:
        return f"{self.variation}{self.direction}"


@dataclass(frozen=True, eq=False)
class VariedTable:
    """A table with all of its rows, those that only a shift admits included.

    selected (n,): whether a row passes the nominal selection.
    """

    table: EvaluationTable
    selected: NDArray[np.bool_]
    shifts: Sequence[ShiftedScores] = ()
    alternatives: Sequence[AlternativeScores] = ()


@dataclass(frozen=True, eq=False)
class Side:
    """The nominal or the shifted events: their places among all rows, scores and sums.

    edges: of the bins of each score, by its class: those of the nominal side on both.
    """

    rows: NDArray[np.intp]
    table: EvaluationTable
    edges: Mapping[int, Floats]
    sums: Sums
    metrics: Mapping[View, ViewMetrics]


def nominal_side(varied: VariedTable, options: EvaluationOptions) -> Side:
    """Return the nominal events: selected ones of known class.

    Raises InputError where there are none, or columns are not of the same events.
    """
    _check_lengths(varied)
    return _side(varied.table, varied.selected & _known(varied.table), options)


def shifted_side(
    varied: VariedTable, shift: ShiftedScores, nominal: Side, options: EvaluationOptions
) -> Side:
    """Return the events as a shift has them; raises InputError where there are none."""
    edges = nominal.edges
    table, kept = varied.table, _known(varied.table)
    if table.weight is not None and shift.factor is not None:
        table = replace(table, weight=table.weight * np.asarray(shift.factor, dtype=np.float64))
    if shift.proba is None:
        return _side(table, kept & varied.selected, options, edges)
    moved = replace(table, proba=np.asarray(shift.proba, dtype=np.float64))
    return _side(moved, kept, options, edges)


def alternative_side(
    varied: VariedTable,
    alternative: AlternativeScores,
    nominal: Side,
    options: EvaluationOptions,
) -> Side:
    """Return the nominal events, those of an alternative sample in the place of its twin's."""
    whole, n = varied.table, len(varied.table.target)
    kept = varied.selected & _known(whole) & ~alternative.replaced
    both = _joined(whole, kept, alternative.tables)
    more = len(both.target) - int(kept.sum())
    rows = np.concatenate([np.flatnonzero(kept), n + np.arange(more)])
    return _side_of(both, rows, n + more, options, nominal.edges)


def _known(table: EvaluationTable) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = np.asarray(table.target) != UNLABELLED
    return known


def _side(
    table: EvaluationTable,
    kept: NDArray[np.bool_],
    options: EvaluationOptions,
    edges: Mapping[int, Floats] | None = None,
) -> Side:
    """Return the scored rows of `table` among those `kept` (n,)."""
    kept = kept & np.isfinite(table.proba).all(axis=1)
    ready, _ = made_ready(replace(table, features={}, infold_proba=None).of(kept))
    return _side_of(ready, np.flatnonzero(kept), len(kept), options, edges)


def _side_of(
    table: EvaluationTable,
    rows: NDArray[np.intp],
    n: int,
    options: EvaluationOptions,
    edges: Mapping[int, Floats] | None,
) -> Side:
    """Return the events of `table`, at `rows` of n, with their metrics in all replicates.

    Without `edges`, bins are those in which these events are enough.
    """
    k = len(table.classes)
    table = replace(table, signal=signal_class(table.names, options.signal_classes))
    views: list[View] = ["balanced"] if table.weight is None else ["balanced", "physics"]
    if not len(rows):
        raise InputError(f"dataset '{table.dataset}': no event of known class is selected")
    if edges is None:
        edges = {c: _populated(table, c, options.density_bin) for c in table.score_classes}
    ranked = rank_classes(table, options.n_threads)
    codes = {one.class_id: one.codes for one in ranked}
    terms = score_terms(table.proba, table.target, codes, table.weight, brier=False)
    terms["density"] = Term(
        bins_of(table, edges), table.weight, sum(len(e) - 1 for e in edges.values())
    )
    areas = {view: full_areas([r.curves(view, precision=False) for r in ranked]) for view in views}
    spread = {name: _spread(term, rows, n) for name, term in terms.items()}
    seed = [options.seed, _SEED]
    sums = poisson_sums(spread, options.n_bootstrap, seed, n_threads=options.n_threads)
    metrics = {view: view_metrics(sums, k, view, areas[view], precision=False) for view in views}
    return Side(rows, table, edges, sums, metrics)


def _populated(table: EvaluationTable, class_id: int, default_bin: float) -> Floats:
    """Return bin edges of a score, merged from its upper end until a bin has ENOUGH events."""
    edges = score_edges(table, class_id, default_bin)
    mine = table.selected(class_id)
    weight = None if table.weight is None else table.weight[mine]
    filled = fill(table.proba[mine, class_id], edges, weight)
    kept, value, variance = [edges[-1]], 0.0, 0.0
    for low, more, of_more in zip(
        edges[-2::-1], filled.value[::-1], filled.variance[::-1], strict=True
    ):
        value, variance = value + more, variance + of_more
        if value > 0 and value**2 >= ENOUGH * variance:
            kept.append(low)
            value = variance = 0.0
    # What is left at the lower end joins the last bin.
    kept = [*kept[: max(len(kept) - 1, 1)], edges[0]]
    return np.array(kept[::-1])


def _spread(term: Term, rows: NDArray[np.intp], n: int) -> Term:
    """Return the term over all n rows, of which those not in `rows` add nothing."""
    if len(rows) == n:
        return term
    row, value = np.zeros(n, dtype=np.int32), np.zeros(n)
    row[rows] = term.row
    value[rows] = 1.0 if term.value is None else term.value
    return Term(row, value, term.n_rows)


def bins_of(table: EvaluationTable, edges: Mapping[int, Floats]) -> NDArray[np.int32]:
    """Return the bin of each event in the score it is shown in, those of all scores in a row."""
    bins = np.empty(len(table.proba), dtype=np.int32)
    first = 0
    for c, of in edges.items():
        mine = table.selected(c)
        inside = np.searchsorted(of, table.proba[mine, c], side="right") - 1
        bins[mine] = first + np.clip(inside, 0, len(of) - 2)
        first += len(of) - 1
    return bins


def _joined(
    whole: EvaluationTable, kept: NDArray[np.bool_], others: Sequence[EvaluationTable]
) -> EvaluationTable:
    """Return the rows `kept` and behind them the scored events of known class of `others`."""
    for other in others:
        if other.names != whole.names:
            raise InputError(f"dataset '{other.dataset}' has other classes than '{whole.dataset}'")
        if (other.weight is None) != (whole.weight is None):
            raise InputError(f"only one of '{other.dataset}' and '{whole.dataset}' has weights")
    chosen = [whole.of(kept), *(other.of(_known(other)) for other in others)]
    parts = [
        replace(
            made_ready(replace(table, features={}, infold_proba=None, train_weight=None))[0],
            process=None,
        )
        for table in chosen
    ]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("proba", "target", "fold", "weight")
        if getattr(parts[0], name) is not None
    }
    return replace(parts[0], **columns)


def _check_lengths(varied: VariedTable) -> None:
    n = len(varied.table.target)
    columns: dict[str, Any] = {"selected": varied.selected}
    for shift in varied.shifts:
        columns |= {f"proba of {shift.name}": shift.proba, f"factor of {shift.name}": shift.factor}
        columns |= {f"{name} of {shift.name}": v for name, v in shift.features.items()}
    columns |= {f"replaced of {a.name}": a.replaced for a in varied.alternatives}
    for name, values in columns.items():
        if values is not None and len(values) != n:
            raise InputError(
                f"dataset '{varied.table.dataset}': {name} has {len(values)} rows, the table {n}: "
                "they must be of the same events"
            )
