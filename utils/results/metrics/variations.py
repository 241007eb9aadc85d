"""What systematic variations do to a classifier: its metrics, categories, yields and scores.

A shift is compared with the nominal scores event by event: both get the same bootstrap
multiplicities, so that what they share cancels, and events that a selection admits in one of them
only take part in that one. An alternative sample takes the place of the nominal one's events: these
two are independent, everything else is paired. A nominal number never sees a row that is not
`selected`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.columns.variations import Direction
from utils.results.estimates import (
    INTERVAL,
    MIN_EVENTS,
    NO_INTERVAL,
    Estimate,
    Estimates,
    class_notes,
    deviation,
    limits,
    ratio,
)
from utils.results.events import View
from utils.results.histograms import fill_cells
from utils.results.metrics.drivers import (
    Drivers,
    ScoreFeatures,
    class_average,
    find_drivers,
    moved_probability,
)
from utils.results.metrics.shifted_events import (
    Side,
    VariedTable,
    alternative_side,
    bins_of,
    nominal_side,
    shifted_side,
)
from utils.results.options import EvaluationOptions
from utils.schema import VariationKind

_ROUNDING = 1e-6
"""Relative changes of sums in single precision that say nothing."""


@dataclass(frozen=True)
class ChangedMetric:
    """A metric under a shift; `change` is shifted minus nominal.

    metric: 'roc_auc' (class_id given), 'roc_auc_macro' or 'log_loss'.
    """

    metric: str
    view: View
    class_id: int | None
    nominal: float
    shifted: float
    change: Estimate


@dataclass(frozen=True, eq=False)
class ChangedYields:
    """Yields of the categories, (K,) each, in expected events (events without physics weights).

    change: shifted minus nominal. relative: change divided by nominal, NaN unless that is positive.
    """

    nominal: Floats
    shifted: Floats
    change: Estimates
    relative: Estimates


@dataclass(frozen=True, eq=False)
class Migration:
    """Events by nominal category (row) and shifted one (column), (K + 1, K + 1).

    The last row and column are for events that the selection admits on the other side only. counts:
    events. yields: sums of physics weights (of 1 without), nominal ones where the event is nominal.
    """

    counts: Array
    yields: Floats

    @property
    def shares(self) -> Floats:
        """Yields divided by those of their row; NaN unless these are positive."""
        return ratio(self.yields, self.yields.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class ShiftedDensity:
    """Distribution of a category's probability for the events in it, nominal and shifted.

    Of two classes: of the one score, for all events. edges (m+1,): of bins with enough nominal
    events. nominal, nominal_error, shifted
    (m,): sums of weights as in `ChangedYields`, with the error from squared weights. ratio,
    ratio_error (m,): shifted over nominal, the error from the paired bootstrap; NaN where nominal
    is not positive.
    """

    category: int
    edges: Floats
    nominal: Floats
    nominal_error: Floats
    shifted: Floats
    ratio: Floats
    ratio_error: Floats


@dataclass(frozen=True, eq=False)
class ShiftEffect:
    """What one direction of a variation does.

    n: events that pass its selection. entered, left: how many pass in it only, and nominally only.
    moved: half the sum of |p_shifted - p_nominal| over the classes, the probability that goes from
    class to class, averaged over the events that pass both; switched: share of these that change
    category; both class-balanced, None where the scores are nominal or of other events. note: what
    to keep in mind.
    """

    variation: str
    direction: Direction
    kind: VariationKind
    n: int
    entered: int
    left: int
    metrics: tuple[ChangedMetric, ...]
    yields: ChangedYields
    migration: Migration | None
    densities: tuple[ShiftedDensity, ...]
    moved: float | None = None
    switched: float | None = None
    drivers: Drivers | None = None
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.variation}{self.direction}"

    @property
    def macro(self) -> Estimate:
        """Change of the class-balanced macro AUC."""
        return self.metrics[0].change


@dataclass(frozen=True, eq=False)
class Variations:
    """Effects of all shifts in the order they were declared in; `verdict` is one sentence."""

    dataset: str
    n_events: int
    yield_view: View
    shifts: tuple[ShiftEffect, ...]
    verdict: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.variation for s in self.shifts))

    def of(self, variation: str) -> tuple[ShiftEffect, ...]:
        """Return the directions of a variation."""
        return tuple(s for s in self.shifts if s.variation == variation)


# --- how it is made -------------------------------------------------------------------------------


def vary(
    varied: VariedTable, options: EvaluationOptions, score: ScoreFeatures | None = None
) -> Variations:
    """Return what each shift of a table changes, for its events of known class.

    score: makes scores from features, to find those that drive a shift; None leaves that out.
    Raises InputError where shapes disagree or nothing is left to compare.
    """
    table, n = varied.table, len(varied.table.target)
    nominal = nominal_side(varied, options)
    effects = []
    for shift in varied.shifts:
        shifted = shifted_side(varied, shift, nominal, options)
        effect = _effect(shift.variation, shift.direction, shift.kind, nominal, shifted)
        if shift.proba is not None:
            effect = _with_moves(effect, nominal, shifted, n)
            if score is not None and shift.features:
                both = _both(nominal, shifted, n)
                found = find_drivers(table, shift, both, score, options.seed)
                effect = replace(effect, drivers=found)
        effects.append(effect)
    for alternative in varied.alternatives:
        shifted = alternative_side(varied, alternative, nominal, options)
        effects.append(
            _effect(alternative.variation, alternative.direction, "samples", nominal, shifted)
        )
    view: View = "unweighted" if table.weight is None else "physics"
    verdict = _verdict(effects, nominal.table.names, nominal.table.area_name)
    return Variations(table.dataset, len(nominal.rows), view, tuple(effects), verdict)


def _effect(
    variation: str,
    direction: Direction,
    kind: VariationKind,
    nominal: Side,
    shifted: Side,
) -> ShiftEffect:
    return ShiftEffect(
        variation,
        direction,
        kind,
        n=len(shifted.rows),
        entered=len(np.setdiff1d(shifted.rows, nominal.rows, assume_unique=True)),
        left=len(np.setdiff1d(nominal.rows, shifted.rows, assume_unique=True)),
        metrics=tuple(_changed_metrics(nominal, shifted)),
        yields=_changed_yields(nominal, shifted),
        migration=None,
        densities=tuple(_densities(nominal, shifted)),
    )


def _changed_metrics(nominal: Side, shifted: Side) -> Iterator[ChangedMetric]:
    names = nominal.table.names
    both = [class_notes(side.table.target, names) for side in (nominal, shifted)]
    notes = [a or b for a, b in zip(*both, strict=True)]
    of_all = next((note for note in notes if note.endswith(NO_INTERVAL)), "")
    for view in nominal.metrics:
        of_classes = [] if nominal.table.binary else [*enumerate(nominal.table.score_classes)]
        rows: list[tuple[str, int | None, int | None]] = [
            ("roc_auc_macro", None, None),  # of two classes the one area
            ("log_loss", None, None),
            *(("roc_auc", s, c) for s, c in of_classes),
        ]
        for metric, s, c in rows:
            note = of_all if c is None else notes[c]
            before_of = nominal.metrics[view]
            after, before, change = shifted.metrics[view].minus(before_of, metric, s, note=note)
            yield ChangedMetric(metric, view, c, before, after, change)


def _changed_yields(nominal: Side, shifted: Side) -> ChangedYields:
    k = len(nominal.table.classes)
    kind = "cells/unweighted" if nominal.table.weight is None else "cells/physics"
    before, after = (s.sums.exact[kind].reshape(k, k).sum(axis=0) for s in (nominal, shifted))
    drawn = [
        s.sums.columns[kind].astype(np.float64).reshape(k, k, -1).sum(axis=0)
        for s in (nominal, shifted)
    ]
    counts = [np.bincount(s.table.category, minlength=k) for s in (nominal, shifted)]
    enough = np.minimum(*counts) >= MIN_EVENTS
    change = _estimates(after - before, drawn[1] - drawn[0], enough)
    relative = _estimates(ratio(after, before) - 1, ratio(drawn[1], drawn[0]) - 1, enough)
    return ChangedYields(before, after, change, relative)


def _estimates(value: Floats, columns: Floats, enough: NDArray[np.bool_]) -> Estimates:
    """Return numbers (m,) with the uncertainties that `columns` (m, 1 + R) show, where `enough`."""
    low, high = limits(columns, INTERVAL)
    found = (deviation(columns[:, 1:]), value + low, value + high)
    error, low, high = (np.where(enough, v, np.nan) for v in found)
    return Estimates(value, error, low, high, np.full(len(value), np.nan))


def _densities(nominal: Side, shifted: Side) -> Iterator[ShiftedDensity]:
    n_bins = nominal.sums.exact["density"].shape
    row = bins_of(nominal.table, nominal.edges)
    error = np.sqrt(fill_cells(row, n_bins, nominal.table.weight).variance)
    before, after = nominal.sums.exact["density"], shifted.sums.exact["density"]
    drawn = ratio(shifted.sums.columns["density"], nominal.sums.columns["density"])
    values = (before, error, after, ratio(after, before), deviation(drawn[:, 1:]))
    first = 0
    for category, edges in nominal.edges.items():
        mine = slice(first, first + len(edges) - 1)
        yield ShiftedDensity(category, edges, *(v[mine] for v in values))
        first = mine.stop


def _both(nominal: Side, shifted: Side, n: int) -> NDArray[np.bool_]:
    """Return which of the n rows are events of both sides."""
    inside = np.zeros((2, n), dtype=bool)
    inside[0, nominal.rows] = inside[1, shifted.rows] = True
    return np.asarray(inside.all(axis=0))


def _with_moves(effect: ShiftEffect, nominal: Side, shifted: Side, n: int) -> ShiftEffect:
    """Return the effect with the migration and how far the scores of the events move."""
    k = len(nominal.table.classes)
    category = np.full((2, n), k)
    weight = np.zeros(n)
    for i, of in ((1, shifted), (0, nominal)):  # what is nominal has its nominal weight
        category[i, of.rows] = of.table.category
        weight[of.rows] = 1.0 if of.table.weight is None else of.table.weight
    some = (category < k).any(axis=0)
    cell = (category[0] * (k + 1) + category[1])[some]
    counts = np.rint(fill_cells(cell, (k + 1, k + 1)).value).astype(np.int64)
    yields = fill_cells(cell, (k + 1, k + 1), weight[some]).value
    both = _both(nominal, shifted, n)
    before, after = (s.table.of(both[s.rows]) for s in (nominal, shifted))
    note = "" if len(before.target) else "no event passes both selections"
    moved = moved_probability(before.proba, after.proba, before.target)
    if moved == 0:
        note = "changes no score of these events"
    switched = class_average(before.category != after.category, before.target)
    return replace(
        effect, migration=Migration(counts, yields), moved=moved, switched=switched, note=note
    )


# --- the sentence ---------------------------------------------------------------------------------


def _verdict(effects: Sequence[ShiftEffect], names: Sequence[str], area: str) -> str:
    """Return which variation moves the classifier most, by the AUC (`area`) and its interval."""
    if not effects:
        return "No verdict: the table has no shift."
    scored = [e for e in effects if e.kind != "weight" and e.moved != 0]
    if not scored:
        return f"No variation changes a score.{_largest_yield(effects, names)}"
    sure = [e for e in scored if not e.macro.low <= 0 <= e.macro.high]
    sure = [e for e in sure if np.isfinite(e.macro.low)]
    if sure:
        most = max(sure, key=lambda e: abs(e.macro.value)).variation
        start = f"{most} moves the classifier most"
    else:
        most = max(scored, key=lambda e: (e.moved or 0.0, abs(e.macro.value))).variation
        start = (
            f"No variation moves the {area} beyond its 95 % interval; {most} moves the scores most"
        )
    mine = [e for e in effects if e.variation == most]
    parts = [f"{area} {', '.join(f'{_words(e.macro)} {e.direction.lower()}' for e in mine)}"]
    switched = [f"{100 * e.switched:.2g} % {e.direction.lower()}" for e in mine if e.switched]
    if switched:
        parts.append(f"events that change category {', '.join(switched)}")
    driven = [e.drivers for e in mine if e.drivers is not None and len(e.drivers.features) > 1]
    if driven:
        alone = np.sum([d.moved for d in driven], axis=0)
        parts.append(f"driven by {driven[0].features[int(np.argmax(alone))]}")
    return f"{start}: {'; '.join(parts)}.{_largest_yield(effects, names)}"


def _largest_yield(effects: Sequence[ShiftEffect], names: Sequence[str]) -> str:
    """Return the largest relative change of a yield beyond its interval as a sentence, or ''."""
    found = []
    for effect in effects:
        of = effect.yields.relative
        for name, value, low, high in zip(names, of.value, of.low, of.high, strict=True):
            if np.isfinite(low) and (low > _ROUNDING or high < -_ROUNDING):
                found.append((abs(float(value)), effect.name, name, float(low), float(high)))
    if not found:
        return ""
    size, shift, category, low, high = max(found)
    value = size if high > 0 else -size
    return (
        f" The yield of category {category} changes most, by {100 * value:+.1f} % "
        f"[{100 * low:+.1f}, {100 * high:+.1f}] ({shift})."
    )


def _words(e: Estimate) -> str:
    if not np.isfinite(e.value):
        return "undefined"
    if not np.isfinite(e.low):
        return f"{e.value:+.4f}"
    return f"{e.value:+.4f} [{e.low:+.4f}, {e.high:+.4f}]"
