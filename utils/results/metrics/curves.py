"""ROC and precision-recall curves with weights of either sign, exact and thinned for drawing.

Both follow from one sort of the scores. Events of equal score enter together. With negative
weights a ROC curve need not be monotone; the trapezoid area under it is still the pair sum
(Mann-Whitney) sum_ij w_i w_j [s_i > s_j] / (W_+ W_-), ties counted by half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.estimates import ratio
from utils.results.metrics.bootstrap import N_BINS

TOLERANCE = 1e-3
"""How far a drawn curve may be from the full one, in either coordinate."""

_CELL = 2e-4
_ASIDE = 1e-6
_LOG_POINTS_PER_DECADE = 20


@dataclass(frozen=True, eq=False)
class Ranking:
    """Events sorted by falling score. `order` (n,); `last` (u,): ends of groups of equal score."""

    order: NDArray[np.intp]
    last: NDArray[np.intp]
    threshold: Floats


def rank(score: Floats) -> Ranking:
    """Sort the events by falling `score` (n,), finite."""
    order = np.argsort(score)[::-1]
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return Ranking(order, last, ordered[last])


@dataclass(frozen=True, eq=False)
class Passed:
    """Sums of weights of events at or above each threshold, (u + 1,), from 0 to all.

    true: events of the class, false: all others.
    """

    true: Floats
    false: Floats

    def scaled(self) -> Passed:
        """Return both sides in units of their sums; NaN where a sum is not positive."""
        return Passed(ratio(self.true, self.true[-1]), ratio(self.false, self.false[-1]))


def cumulate(ranking: Ranking, positive: NDArray[np.bool_], weight: Floats | None) -> Passed:
    """Return the sums of `weight` (n,), of events where None, above each threshold."""
    is_true = positive[ranking.order]
    if weight is None:
        true = np.cumsum(is_true, dtype=np.int64)[ranking.last].astype(np.float64)
        false = ranking.last + 1.0 - true
    else:
        w = weight[ranking.order]
        true = np.cumsum(np.where(is_true, w, 0.0))[ranking.last]
        false = np.cumsum(np.where(is_true, 0.0, w))[ranking.last]
    start = np.zeros(1)
    return Passed(np.concatenate([start, true]), np.concatenate([start, false]))


def roc_points(passed: Passed) -> tuple[Floats, Floats]:
    """Return false- and true-positive rate at each threshold, (u + 1,) each, from (0, 0) to (1, 1).

    NaN where the positive or the negative sum of weights is not positive.
    """
    scaled = passed.scaled()
    return scaled.false, scaled.true


def area(x: Floats, y: Floats) -> float:
    """Return the trapezoid area under a curve of points in order."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


def precision_recall_points(passed: Passed) -> tuple[Floats, Floats]:
    """Return recall and precision at each threshold, (u,) each; weights not negative.

    Precision is NaN where nothing of weight is selected yet.
    """
    true, false = passed.true[1:], passed.false[1:]
    return ratio(true, true[-1]), ratio(true, true + false)


def average_precision(recall: Floats, precision: Floats) -> float:
    """Return sum_k (R_k - R_{k-1}) P_k, the area under the steps, as scikit-learn defines it."""
    gain = np.diff(recall, prepend=0.0)
    return float(np.sum(gain * np.where(gain > 0, precision, 0.0))) if len(recall) else float("nan")


def bin_codes(ranking: Ranking, passed: Passed) -> NDArray[np.int32]:
    """Return each event's bin (n,), 0 for the lowest scores, for a histogram of scores.

    Up to N_BINS different scores have a bin each. More share N_BINS bins by their ranks: half of
    the bins share the class and the rest evenly, a quarter each is log-spaced in the share of the
    rest above and of the class below, so that the ends of a ROC curve are resolved down to single
    events. Events of equal score share a bin; every bin has events.
    `passed` is without weights.
    """
    sizes = np.diff(ranking.last, prepend=-1)
    codes = np.empty(len(ranking.order), dtype=np.int32)
    if len(ranking.last) <= N_BINS:
        codes[ranking.order] = np.repeat(np.arange(len(sizes), dtype=np.int32)[::-1], sizes)
        return codes
    n_true, n_false = max(passed.true[-1], 1.0), max(passed.false[-1], 1.0)

    def position(group: NDArray[np.intp]) -> Floats:
        """Return N_BINS (highest scores) to 0 for groups of equal score; never rises."""
        true, false = passed.true[group + 1], passed.false[group + 1]
        mean = 1 - 0.5 * (true / n_true + false / n_false)
        top = 1 - np.log1p(passed.false[group]) / np.log1p(n_false)
        bottom = np.log1p(n_true - true) / np.log1p(n_true)
        return np.asarray(N_BINS * (0.5 * mean + 0.25 * top + 0.25 * bottom))

    # The first group below each whole number, all of them by one bisection.
    wanted = np.arange(1, N_BINS)
    low, high = np.zeros(N_BINS - 1, np.intp), np.full(N_BINS - 1, len(sizes))
    while np.any(low < high):
        middle = (low + high) // 2
        below = position(np.minimum(middle, len(sizes) - 1)) < wanted
        high = np.where(below & (low < high), middle, high)
        low = np.where(below | (low >= high), low, middle + 1)
    # Numbers of bins without events are closed up; along falling scores the bin falls.
    starts = np.unique(low)
    starts = starts[(starts > 0) & (starts < len(sizes))]
    ends = np.concatenate([ranking.last[starts - 1], ranking.last[-1:]])
    bins = np.arange(len(ends) - 1, -1, -1, dtype=np.int32)
    codes[ranking.order] = np.repeat(bins, np.diff(ends, prepend=-1))
    return codes


def codes_between(ranking: Ranking, edges: Floats) -> NDArray[np.int32]:
    """Return how many of the ascending `edges` (m,) each event's score (n,) reaches."""
    rising = ranking.threshold[::-1]
    n_reaching = np.append(ranking.last[::-1] + 1, 0)[np.searchsorted(rising, edges)]
    codes = np.empty(len(ranking.order), dtype=np.int32)
    counts = np.diff(n_reaching[::-1], prepend=0, append=len(codes))
    codes[ranking.order] = np.repeat(np.arange(len(edges), -1, -1, dtype=np.int32), counts)
    return codes


def binned_auc(true: NDArray[np.floating], false: NDArray[np.floating]) -> Floats:
    """Return the pair-sum AUC of histograms (bins, columns) ascending in score, (columns,)."""
    true, false = true.astype(np.float64), false.astype(np.float64)
    below = np.cumsum(false, axis=0) - 0.5 * false
    n_true, n_false = true.sum(axis=0), false.sum(axis=0)
    pairs = (true * below).sum(axis=0)
    usable = (n_true > 0) & (n_false > 0)
    return np.where(usable, ratio(pairs, n_true * n_false), np.nan)


def binned_average_precision(true: NDArray[np.floating], every: NDArray[np.floating]) -> Floats:
    """Return the average precision of histograms (bins, columns) ascending in score."""
    true = true[::-1].astype(np.float64)
    passed, total = np.cumsum(true, axis=0), np.cumsum(every[::-1], axis=0, dtype=np.float64)
    precision = ratio(passed, total)
    share = ratio(true, passed[-1])
    return np.where(
        passed[-1] > 0, np.sum(np.where(true > 0, precision * share, 0.0), axis=0), np.nan
    )


def binned_curves(
    x: NDArray[np.floating], y: NDArray[np.floating], at: Floats, after: bool
) -> Floats:
    """Return y where x equals `at` (p,), for each column of two curves (b, columns): (p, columns).

    Where the curve is vertical, its end is taken with `after`, else its beginning. Where negative
    weights make x step back, its running maximum stands for it.
    """
    x = np.maximum.accumulate(x, axis=0)
    # A step aside, above the rounding of the sums, makes the choice on a vertical stretch.
    at = at + _ASIDE if after else at - _ASIDE
    found = np.empty((len(at), x.shape[1]))
    for column in range(x.shape[1]):
        found[:, column] = np.interp(at, x[:, column], y[:, column])
    return found


def thin(x: Floats, y: Floats, log_x: bool = False) -> NDArray[np.intp]:
    """Return indices of the points to draw so that the line is within TOLERANCE of the full curve.

    First every point is kept where the curve enters or leaves a cell of 2e-4, which bounds the
    error by a cell; then points are dropped as long as the line stays within the rest of the
    tolerance, vertically where x rises and perpendicularly otherwise (Douglas and Peucker 1973).
    With `log_x`, points at log-spaced x are kept besides, 20 a decade.
    """
    n = len(x)
    if n <= 2:
        return np.arange(n)
    cell_x, cell_y = np.floor(x / _CELL), np.floor(y / _CELL)
    entered = np.flatnonzero((np.diff(cell_x) != 0) | (np.diff(cell_y) != 0)) + 1
    fixed = np.array([0, n - 1])
    if log_x:
        decades = -np.log10(max(float(np.min(x[x > 0], initial=1.0)), 1e-9))
        wanted = np.logspace(-decades, 0, int(decades * _LOG_POINTS_PER_DECADE) + 2)
        fixed = np.union1d(fixed, np.searchsorted(np.maximum.accumulate(x), wanted).clip(0, n - 1))
    kept = np.unique(np.concatenate([fixed, entered, entered - 1]))
    nodes = np.searchsorted(kept, fixed)
    return kept[_few(x[kept], y[kept], TOLERANCE - 2 * _CELL, nodes)]


def _few(x: Floats, y: Floats, tolerance: float, fixed: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return indices of a line that is within `tolerance` of the polyline; all segments at once.

    `fixed`: indices of points that the line must go through, the ends among them.
    """
    n = len(x)
    rising = bool(np.all(np.diff(x) >= 0))
    keep = np.zeros(n, dtype=bool)
    keep[fixed] = True
    while True:
        nodes = np.flatnonzero(keep)
        segment = np.clip(np.searchsorted(nodes, np.arange(n), side="right") - 1, 0, len(nodes) - 2)
        a, b = nodes[segment], nodes[segment + 1]
        dx, dy = x[b] - x[a], y[b] - y[a]
        if rising:
            along = np.divide(x - x[a], dx, out=np.zeros(n), where=dx > 0)
        else:
            length = dx**2 + dy**2
            along = np.divide(
                (x - x[a]) * dx + (y - y[a]) * dy, length, out=np.zeros(n), where=length > 0
            ).clip(0, 1)
        far = np.abs(y - y[a] - along * dy)
        if rising:
            # On a vertical stretch of the full curve only leaving it sideways is an error.
            inside = (dx == 0) & (y >= np.minimum(y[a], y[b])) & (y <= np.maximum(y[a], y[b]))
            far[inside] = 0
        else:
            far = np.hypot(far, x - x[a] - along * dx)
        far[keep] = 0
        worst = np.maximum.reduceat(far, nodes[:-1])
        if not np.any(worst > tolerance):
            return nodes
        peak = (far == worst[segment]) & (worst[segment] > tolerance)
        # One new node per segment: the first of its farthest points.
        at = np.flatnonzero(peak)
        keep[at[np.unique(segment[at], return_index=True)[1]]] = True
