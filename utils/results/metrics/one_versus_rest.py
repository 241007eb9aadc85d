"""Curves of one class against all others together: ROC and precision-recall, with their bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.estimates import BAND, Estimate, limits, ratio
from utils.results.events import EvaluationTable, View
from utils.results.metrics import curves
from utils.results.metrics.bootstrap import Sums
from utils.results.metrics.scores import ExactAreas, Scores
from utils.system.threads import each

Made = TypeVar("Made")

Curve = tuple[Floats, Floats, Floats]
"""x, y and threshold of the points of a curve."""


@dataclass(frozen=True, eq=False)
class RocCurve:
    """ROC curve of one class against all others, thinned to within 1e-3 of the full curve.

    fpr, tpr, threshold (p,): from the strictest threshold (+inf, at 0, 0) to the loosest (at 1, 1);
    with negative weights neither is monotone. tpr_low, tpr_high (p,): band at fixed fpr, NaN where
    there is none. area: of the full curve (pair sum where weights are negative).
    """

    view: View
    class_id: int
    fpr: Floats
    tpr: Floats
    threshold: Floats
    tpr_low: Floats
    tpr_high: Floats
    area: Estimate


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Precision (purity) against recall (efficiency) of one class, thinned like a ROC curve.

    recall, precision, threshold (p,): recall ascending from its first step. precision_low,
    precision_high (p,): band at fixed recall. area: average precision. prevalence: precision of a
    classifier that guesses.
    """

    view: View
    class_id: int
    recall: Floats
    precision: Floats
    threshold: Floats
    precision_low: Floats
    precision_high: Floats
    area: Estimate
    prevalence: float


@dataclass(frozen=True, eq=False)
class ClassCurves:
    """One class's ROC and precision-recall curve; None where undefined or not wanted."""

    class_id: int
    roc: Curve | None
    precision_recall: Curve | None


@dataclass(frozen=True, eq=False)
class Ranked:
    """One class's scores in order: sums of events and of physics weights, and histogram bins."""

    class_id: int
    ranking: curves.Ranking
    events: curves.Passed
    physics: curves.Passed | None
    codes: NDArray[np.int32]

    def curves(self, view: View, *, precision: bool) -> ClassCurves:
        """Return the full curves under a view's weights, which are those of events but in physics.

        precision: whether that curve is wanted; with negative weights it is undefined.
        """
        passed = self.events if view != "physics" or self.physics is None else self.physics
        fpr, tpr = curves.roc_points(passed)
        if not (np.isfinite(fpr[-1]) and np.isfinite(tpr[-1])):
            return ClassCurves(self.class_id, None, None)
        threshold = self.ranking.threshold
        roc = (fpr, tpr, np.concatenate([[np.inf], threshold]))
        if not precision:
            return ClassCurves(self.class_id, roc, None)
        points = curves.precision_recall_points(
            curves.Passed(tpr, fpr) if view == "balanced" else passed
        )
        return ClassCurves(self.class_id, roc, (*points, threshold))


def rank_classes(table: EvaluationTable, n_threads: int = 1) -> list[Ranked]:
    """Return the scores of the table, sorted, in order of their classes; it is all labelled."""

    def one(c: int) -> Ranked:
        ranking, positive = curves.rank(table.proba[:, c]), table.target == c
        events = curves.cumulate(ranking, positive, None)
        weighted = (
            None if table.weight is None else curves.cumulate(ranking, positive, table.weight)
        )
        return Ranked(c, ranking, events, weighted, curves.bin_codes(ranking, events))

    return each(one, table.score_classes, n_threads)


def full_areas(full: Sequence[ClassCurves]) -> ExactAreas:
    """Return the areas under full curves (see `Ranked.curves`)."""
    nothing = float("nan")
    return ExactAreas(
        np.array([curves.area(*c.roc[:2]) if c.roc else nothing for c in full]),
        np.array(
            [
                curves.average_precision(*c.precision_recall[:2]) if c.precision_recall else nothing
                for c in full
            ]
        ),
    )


def make_curves(
    ranked: Sequence[Ranked], view: View, signed: bool, n_threads: int = 1
) -> tuple[list[ClassCurves], ExactAreas]:
    """Return the curves of each class, thinned for drawing, and the areas of the full ones.

    signed: the physics weights have negative ones, so that precision is undefined in that view.
    """

    def one(ranks: Ranked) -> tuple[ClassCurves, ExactAreas]:
        full = ranks.curves(view, precision=not (view == "physics" and signed))
        return _thinned(full), full_areas([full])

    made = each(one, ranked, n_threads)
    areas = [area for _, area in made]
    return [curve for curve, _ in made], ExactAreas(
        np.concatenate([a.roc_auc for a in areas]),
        np.concatenate([a.average_precision for a in areas]),
    )


def _thinned(full: ClassCurves) -> ClassCurves:
    if full.roc is None:
        return full
    kept = curves.thin(full.roc[0], full.roc[1], log_x=True)
    roc = _picked(full.roc, kept)
    if full.precision_recall is None:
        return replace(full, roc=roc)
    points = full.precision_recall
    # Before the first event of weight there is no precision.
    seen = np.isfinite(points[1])
    if not seen.all():
        points = _picked(points, np.flatnonzero(seen))
    return ClassCurves(full.class_id, roc, _picked(points, curves.thin(points[0], points[1])))


def _picked(curve: Curve, rows: NDArray[np.intp]) -> Curve:
    x, y, threshold = curve
    return x[rows], y[rows], threshold[rows]


def make_rocs(
    drawn: Mapping[View, Sequence[ClassCurves]],
    scores: Sequence[Scores],
    sums: Sums,
    n_threads: int = 1,
) -> tuple[RocCurve, ...]:
    """Return the ROC curves of the views and classes that have one, with their bands."""
    made: list[RocCurve] = []

    def one(of: Scores, s: int) -> RocCurve | None:
        c, curve, area = drawn[of.view][s].class_id, drawn[of.view][s].roc, of.roc_auc[s]
        if curve is None:
            return None
        false, true = (_from_top(side) for side in _histograms(sums, c, of.view))
        low, high = _band(curve, area, false, true, sums.n_folds, after=True)
        return RocCurve(of.view, c, *curve, low, high, area)

    for of in scores:
        if of.view == "unweighted":
            # One class against the rest has the same ROC curve whatever the classes weigh.
            made += [replace(curve, view=of.view) for curve in made if curve.view == "balanced"]
        else:
            made += _of_scores(partial(one, of), len(of.roc_auc), n_threads)
    return tuple(made)


def make_precision_recalls(
    drawn: Mapping[View, Sequence[ClassCurves]],
    scores: Sequence[Scores],
    sums: Sums,
    n_threads: int = 1,
) -> tuple[PrecisionRecallCurve, ...]:
    """Return the precision-recall curves of the views and classes that have one, with bands."""

    def one(of: Scores, s: int) -> PrecisionRecallCurve | None:
        full, area = drawn[of.view][s], of.average_precision[s]
        c, curve = full.class_id, full.precision_recall
        if curve is None:
            return None
        false, true = (side.astype(np.float64) for side in _histograms(sums, c, of.view))
        if of.view == "balanced":
            false, true = ratio(false, false.sum(axis=0)), ratio(true, true.sum(axis=0))
        passed = np.cumsum(true[::-1], axis=0)
        purity = ratio(passed, np.cumsum((true + false)[::-1], axis=0))
        recall = ratio(passed, passed[-1])
        low, high = _band(curve, area, recall, purity, sums.n_folds, after=False)
        return PrecisionRecallCurve(of.view, c, *curve, low, high, area, of.prevalence[s])

    made = (_of_scores(partial(one, of), len(of.prevalence), n_threads) for of in scores)
    return tuple(curve for of_view in made for curve in of_view)


def _of_scores(one: Callable[[int], Made | None], n: int, n_threads: int) -> list[Made]:
    return [made for made in each(one, range(n), n_threads) if made is not None]


def _histograms(sums: Sums, c: int, view: View) -> list[NDArray[np.float32]]:
    """Return the binned scores (bins, columns) of all others and of class c."""
    kind = "physics" if view == "physics" else "unweighted"
    return np.split(sums.columns[f"histogram_{c}/{kind}"], 2)


def _from_top(histogram: NDArray[np.floating]) -> Floats:
    """Return the share of events at or above each bin, (bins + 1, columns), from 0 to 1."""
    total = np.cumsum(histogram[::-1], axis=0, dtype=np.float64)
    share = ratio(total, total[-1])
    return np.concatenate([np.zeros((1, histogram.shape[1])), share])


def _band(
    curve: Curve, area: Estimate, x: Floats, y: Floats, n_folds: int, *, after: bool
) -> tuple[Floats, Floats]:
    """Return the band around a drawn curve, from binned curves (bins, columns) x and y.

    NaN where the area under the curve has no interval. `after`: see `curves.binned_curves`.
    """
    at, drawn, _ = curve
    if not np.isfinite(area.low):
        nothing = np.full(len(at), np.nan)
        return nothing, nothing
    low, high = limits(curves.binned_curves(x, y, at, after), BAND, n_folds)
    below, above = min(0.0, float(drawn.min())), max(1.0, float(drawn.max()))
    return np.clip(drawn + low, below, above), np.clip(drawn + high, below, above)
