"""Figure data of performance: ROC and precision-recall curves, threshold scans, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.containers import (
    Calibration,
    Estimate,
    EvaluationTable,
    PrecisionRecallCurve,
    RocCurve,
    Scores,
    ThresholdScan,
    View,
)
from utils.results.metrics import curves
from utils.results.metrics.bootstrap import BAND, MIN_EVENTS, Sums, Term, estimate, limits, ratio
from utils.results.metrics.scores import ExactAreas, class_note
from utils.results.metrics.table import trained_weights
from utils.system.threads import each

DrawnCurve = tuple[Floats, Floats, Floats]
"""x, y and threshold of the points of a curve that are drawn."""


def one_versus_rest(positive: NDArray[np.bool_]) -> Floats:
    """Return N / N_c for events of the class and N / N_rest for all others, (n,)."""
    n = len(positive)
    n_class = int(positive.sum())
    return np.where(positive, n / max(n_class, 1), n / max(n - n_class, 1))


@dataclass(frozen=True, eq=False)
class Ranked:
    """One class's scores in order: sums of events and of physics weights, and histogram bins."""

    ranking: curves.Ranking
    events: curves.Passed
    physics: curves.Passed | None
    codes: NDArray[np.int32]


def rank_classes(table: EvaluationTable, n_threads: int = 1) -> list[Ranked]:
    """Sort the scores of every class; `table` is all labelled."""

    def one(c: int) -> Ranked:
        ranking, positive = curves.rank(table.proba[:, c]), table.target == c
        events = curves.cumulate(ranking, positive, None)
        weighted = (
            None if table.weight is None else curves.cumulate(ranking, positive, table.weight)
        )
        return Ranked(ranking, events, weighted, curves.bin_codes(ranking, events))

    return each(one, range(len(table.classes)), n_threads)


@dataclass(frozen=True, eq=False)
class ClassCurves:
    """One class's ROC and precision-recall curve (None where undefined), and the full areas."""

    roc: DrawnCurve | None
    precision_recall: DrawnCurve | None
    roc_auc: float
    average_precision: float


def make_curves(
    ranked: Sequence[Ranked], view: View, signed: bool, n_threads: int = 1
) -> tuple[list[ClassCurves], ExactAreas]:
    """Return the curves of each class, thinned for drawing, and the areas of the full ones.

    signed: the physics weights have negative ones, so that precision is undefined in that view.
    """
    made = each(lambda one: _class_curves(one, view, signed), ranked, n_threads)
    areas = ExactAreas(
        np.array([c.roc_auc for c in made]), np.array([c.average_precision for c in made])
    )
    return made, areas


def _class_curves(one: Ranked, view: View, signed: bool) -> ClassCurves:
    passed = one.physics if view == "physics" and one.physics is not None else one.events
    fpr, tpr = curves.roc_points(passed)
    if not (np.isfinite(fpr[-1]) and np.isfinite(tpr[-1])):
        return ClassCurves(None, None, float("nan"), float("nan"))
    threshold = one.ranking.threshold
    auc = curves.area(fpr, tpr)
    kept = curves.thin(fpr, tpr, log_x=True)
    roc = (fpr[kept], tpr[kept], np.concatenate([[np.inf], threshold])[kept])
    if view == "physics" and signed:
        return ClassCurves(roc, None, auc, float("nan"))
    recall, precision = curves.precision_recall_points(
        curves.Passed(tpr, fpr) if view == "balanced" else passed
    )
    average = curves.average_precision(recall, precision)
    # Before the first event of weight there is no precision.
    seen = np.isfinite(precision)
    if not seen.all():
        recall, precision, threshold = recall[seen], precision[seen], threshold[seen]
    kept = curves.thin(recall, precision)
    return ClassCurves(roc, (recall[kept], precision[kept], threshold[kept]), auc, average)


def make_rocs(
    drawn: Sequence[ClassCurves], scores: Scores, sums: Sums, n_threads: int = 1
) -> tuple[RocCurve, ...]:
    """Return the ROC curves of the classes that have one, with their bands."""
    kind = "physics" if scores.view == "physics" else "unweighted"

    def one(c: int) -> RocCurve | None:
        curve = drawn[c].roc
        if curve is None:
            return None
        x, y, threshold = curve
        low, high = np.full(len(x), np.nan), np.full(len(x), np.nan)
        if np.isfinite(scores.roc_auc[c].low):
            histogram = sums.columns[f"histogram_{c}/{kind}"]
            false, true = (_from_top(h) for h in np.split(histogram, 2))
            low, high = _band(false, true, x, y, sums.n_folds, after=True)
        return RocCurve(scores.view, c, x, y, threshold, low, high, scores.roc_auc[c])

    return tuple(r for r in each(one, range(len(drawn)), n_threads) if r is not None)


def make_precision_recalls(
    drawn: Sequence[ClassCurves], scores: Scores, sums: Sums, n_threads: int = 1
) -> tuple[PrecisionRecallCurve, ...]:
    """Return the precision-recall curves of the classes that have one, with their bands."""
    kind = "physics" if scores.view == "physics" else "unweighted"

    def one(c: int) -> PrecisionRecallCurve | None:
        curve = drawn[c].precision_recall
        if curve is None:
            return None
        x, y, threshold = curve
        low, high = np.full(len(x), np.nan), np.full(len(x), np.nan)
        if np.isfinite(scores.average_precision[c].low):
            histogram = sums.columns[f"histogram_{c}/{kind}"].astype(np.float64)
            false, true = np.split(histogram, 2)
            if scores.view == "balanced":
                false, true = ratio(false, false.sum(axis=0)), ratio(true, true.sum(axis=0))
            passed = np.cumsum(true[::-1], axis=0)
            purity = ratio(passed, np.cumsum((true + false)[::-1], axis=0))
            low, high = _band(ratio(passed, passed[-1]), purity, x, y, sums.n_folds, after=False)
        area, prevalence = scores.average_precision[c], scores.prevalence[c]
        return PrecisionRecallCurve(scores.view, c, x, y, threshold, low, high, area, prevalence)

    return tuple(p for p in each(one, range(len(drawn)), n_threads) if p is not None)


def _from_top(histogram: NDArray[Any]) -> Floats:
    """Return the share of events at or above each bin, (bins + 1, columns), from 0 to 1."""
    total = np.cumsum(histogram[::-1], axis=0, dtype=np.float64)
    share = ratio(total, total[-1])
    return np.concatenate([np.zeros((1, histogram.shape[1])), share])


def _band(
    x: Floats, y: Floats, at: Floats, drawn: Floats, n_folds: int, after: bool
) -> tuple[Floats, Floats]:
    """Return the band around the `drawn` values at `at`, from binned curves (bins, columns)."""
    low, high = limits(curves.binned_curves(x, y, at, after), BAND, n_folds)
    below, above = min(0.0, float(drawn.min())), max(1.0, float(drawn.max()))
    return np.clip(drawn + low, below, above), np.clip(drawn + high, below, above)


THRESHOLDS = np.linspace(0.0, 1.0, 201)


def make_threshold_scan(
    code: NDArray[np.integer],
    positive: NDArray[np.bool_],
    weight: Floats,
    view: View,
    class_id: int,
) -> ThresholdScan:
    """Return efficiency and purity of `score >= threshold`; errors by first-order propagation.

    code (n,): see `threshold_codes`. With S_p, S the selected and total sums of weights of the
    class and V sums of squared weights, var(S_p / S) = ((1 - e)^2 V_selected + e^2 V_rejected) /
    S^2, and likewise for the purity.
    """
    m = len(THRESHOLDS)
    row = code + m * positive

    def above(values: Floats) -> tuple[Floats, Floats]:
        sums = np.bincount(row, weights=values, minlength=2 * m).reshape(2, m)
        rest, signal = np.cumsum(sums[:, ::-1], axis=1)[:, ::-1]
        return signal, rest

    signal, rest = above(weight)
    signal_squares, rest_squares = above(weight**2)
    efficiency = ratio(signal, signal[0])
    variance = (1 - efficiency) ** 2 * signal_squares + efficiency**2 * (
        signal_squares[0] - signal_squares
    )
    n_selected = np.cumsum(np.bincount(code, minlength=m)[::-1])[::-1]
    purity = np.where(n_selected >= MIN_EVENTS, ratio(signal, signal + rest), np.nan)
    spread = (1 - purity) ** 2 * signal_squares + purity**2 * rest_squares
    return ThresholdScan(
        view=view,
        class_id=class_id,
        threshold=THRESHOLDS,
        efficiency=efficiency,
        efficiency_error=ratio(np.sqrt(np.maximum(variance, 0)), signal[0]),
        purity=purity,
        purity_error=ratio(np.sqrt(spread), signal + rest),
        background_efficiency=ratio(rest, rest[0]),
    )


def threshold_codes(ranking: curves.Ranking) -> NDArray[np.integer]:
    """Return the number of the highest threshold that each score (n,) passes."""
    return curves.codes_between(ranking, THRESHOLDS) - 1


def calibration_terms(
    table: EvaluationTable, rankings: Sequence[curves.Ranking], n_bins: int
) -> tuple[dict[str, Term], list[tuple[Floats, NDArray[np.int32]]]]:
    """Return the sums that calibration needs, and per class the bin edges and bin of each event."""
    weight = trained_weights(table)
    n_bins = min(n_bins, max(len(table.target) // 100, 5))
    terms: dict[str, Term] = {}
    bins = []
    for c, ranking in enumerate(rankings):
        p = table.proba[:, c]
        lowest, highest = ranking.threshold[-1], ranking.threshold[0]
        share = np.linspace(0, 1, n_bins + 1)[1:-1]
        inner = np.unique(p[ranking.order[::-1][(share * (len(p) - 1)).astype(np.intp)]])
        inner = inner[inner > lowest]
        code = curves.codes_between(ranking, inner)
        edges = np.concatenate([[lowest], inner, [highest]])
        m = len(inner) + 1
        row = code + np.int32(m) * (table.target == c)
        terms[f"calibration_{c}"] = Term(row, weight, 2 * m)
        terms[f"calibration_p_{c}"] = Term(code, weight * p, m)
        bins.append((edges, code))
    return terms, bins


def make_calibration(
    table: EvaluationTable, sums: Sums, bins: Sequence[tuple[Floats, NDArray[np.int32]]]
) -> tuple[Calibration, ...]:
    """Return the reliability of each class's probability under the weights trained with."""
    weight = trained_weights(table)
    counts = np.bincount(table.target, minlength=len(table.classes))
    made = []
    for c, (edges, code) in enumerate(bins):
        m = len(edges) - 1

        def parts(columns: NDArray[Any], predicted: NDArray[Any], m: int = m) -> tuple[Floats, ...]:
            no, yes = np.asarray(columns[:m], float), np.asarray(columns[m:], float)
            total = no + yes
            return ratio(predicted, total), ratio(yes, total), ratio(total, total.sum(axis=0))

        predicted, observed, share = parts(
            sums.exact[f"calibration_{c}"], sums.exact[f"calibration_p_{c}"]
        )
        is_class = table.target == c
        total = np.bincount(code, weights=weight, minlength=m)
        residual = (is_class - observed[code]) ** 2 * weight**2
        spread = np.sqrt(np.bincount(code, weights=residual, minlength=m))
        # The scatter of y around a perfect p, for the error that chance alone would show.
        chance = np.sqrt(
            np.bincount(
                code,
                weights=weight**2 * table.proba[:, c] * (1 - table.proba[:, c]),
                minlength=m,
            )
        )
        rep_predicted, rep_observed, rep_share = parts(
            sums.columns[f"calibration_{c}"], sums.columns[f"calibration_p_{c}"]
        )
        note = class_note(int(counts[c]), len(table.target) - int(counts[c]), table.classes[c].name)
        value = _mean_gap(predicted, observed, share)
        reps = _mean_gap(rep_predicted, rep_observed, rep_share)
        error = (
            Estimate(float(value), note=note)
            if note
            else estimate(float(value), reps, sums.n_folds, basic=True, bounds=(0, 1))
        )
        made.append(
            Calibration(
                class_id=c,
                edges=edges,
                predicted=predicted,
                observed=observed,
                observed_error=ratio(
                    np.where((observed > 0) & (observed < 1), spread, chance), total
                ),
                n=np.bincount(code, minlength=m),
                error=error,
                noise=float(np.sqrt(2 / np.pi) * np.nansum(ratio(chance, np.full(m, total.sum())))),
            )
        )
    return tuple(made)


def _mean_gap(predicted: Floats, observed: Floats, share: Floats) -> Floats:
    """Return sum over bins of share * |observed - predicted|; empty bins have no share."""
    gap = np.where(np.isfinite(share) & (share > 0), share * np.abs(observed - predicted), 0.0)
    result = np.asarray(gap.sum(axis=0))
    return np.where(np.isfinite(share).any(axis=0), result, np.nan)
