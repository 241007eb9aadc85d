"""Expected (Asimov) significance of counting events in a category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.estimates import ratio
from utils.results.events import EvaluationTable
from utils.results.histograms import fill, fill_cells
from utils.results.options import EvaluationOptions

_N_THRESHOLDS = 101


@dataclass(frozen=True, eq=False)
class SignificanceScan:
    """Asimov significance in one category against a cut on the category's probability.

    Of two classes: of all events, against a cut on the one score. All arrays (p,); thresholds
    ascending, the first keeps all. signal, background:
    yields in `luminosity`, with statistical errors. z: without background uncertainty,
    arXiv:1007.1727 eq. 97. z_uncertain: with the background's statistical and relative systematic
    uncertainty (Cowan, 'Discovery sensitivity for a counting experiment with background
    uncertainty', eq. 20). NaN where the background is not positive. z_error: statistical, of z.
    best: index of the highest z_uncertain of cuts that leave enough background, by its effective
    number of events (`EvaluationOptions.min_background`); None where there is none.
    """

    category: int
    threshold: Floats
    signal: Floats
    signal_error: Floats
    background: Floats
    background_error: Floats
    z: Floats
    z_error: Floats
    z_uncertain: Floats
    best: int | None


@dataclass(frozen=True, eq=False)
class Significance:
    """Expected significance of the signal classes together.

    scans: one per score. z, z_uncertain: each of them without a cut. combined,
    combined_uncertain: quadrature sum over all categories, NaN ones left out; of two classes these
    are the two sides of the score at 0.5.
    """

    signal_classes: tuple[int, ...]
    luminosity: float | None
    background_uncertainty: float
    min_background: float
    scans: tuple[SignificanceScan, ...]
    z: Floats
    z_uncertain: Floats
    combined: float
    combined_uncertain: float


def asimov(signal: Floats, background: Floats) -> Floats:
    """Return sqrt(2((s+b) ln(1+s/b) - s)), arXiv:1007.1727 eq. 97.

    NaN where b is not positive or s + b not; a negative s gives a negative value.
    """
    s, b = np.broadcast_arrays(np.asarray(signal, float), np.asarray(background, float))
    good = (b > 0) & (s + b > 0)
    s, b = np.where(good, s, 0.0), np.where(good, b, 1.0)
    square = 2 * ((s + b) * np.log1p(s / b) - s)
    # For a small s/b the difference above loses all digits: its series is s^2/b (1 - s/3b).
    series = s**2 / b * (1 - s / (3 * b))
    z = np.sqrt(np.maximum(np.where(np.abs(s) < 1e-5 * b, series, square), 0))
    return np.where(good, np.copysign(z, s), np.nan)


def asimov_uncertain(signal: Floats, background: Floats, sigma: Floats) -> Floats:
    """Return the significance with a background known to `sigma` (absolute).

    G. Cowan, 'Discovery sensitivity for a counting experiment with background uncertainty' (2012),
    eq. 20. NaN where b is not positive or s + b not; equal to `asimov` where sigma is 0.
    """
    s, b, sigma = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (signal, background, sigma))
    )
    known = sigma**2 < 1e-10 * b
    good = (b > 0) & (s + b > 0)
    s0, b0 = np.where(good, s, 0.0), np.where(good, b, 1.0)
    v = np.where(known | ~good, 1.0, sigma**2)
    n = s0 + b0
    # n ln(n (b+v) / (b^2 + n v)) = -n log1p(-s b / (n (b + v))), which keeps small differences.
    first = -n * np.log1p(-s0 * b0 / (n * (b0 + v)))
    second = b0**2 / v * np.log1p(v * s0 / (b0 * (b0 + v)))
    z = np.copysign(np.sqrt(np.maximum(2 * (first - second), 0)), s0)
    return np.where(good, np.where(known, asimov(s, b), z), np.nan)


def reason_against(table: EvaluationTable, options: EvaluationOptions) -> str:
    """Return why there is no significance of a table that is all labelled, '' if there is."""
    if not options.signal_classes:
        return "signal_classes names no class"
    if len(options.signal_classes) == len(table.classes):
        return "every class is a signal: there is no background"
    if options.luminosity is None:
        return "no luminosity is configured"
    if table.weight is None:
        return "yields need a physics weight"
    return "" if len(table.target) else "no event of known class"


def make_significance(table: EvaluationTable, options: EvaluationOptions) -> Significance:
    """Return the expected significance per category and against a cut on its probability.

    Yields are sums of physics weights; every class that is not a signal is background. `table` is
    all labelled, made ready and has a physics weight.
    """
    signals = tuple(c for c, name in enumerate(table.names) if name in options.signal_classes)
    is_signal = np.isin(table.target, signals)
    scans = tuple(_scan(table, c, is_signal, options) for c in table.score_classes)
    cells = fill_cells(
        2 * table.category + is_signal, (len(table.classes), 2), np.asarray(table.weight, float)
    )
    (b, s), (b_var, _) = cells.value.T, cells.variance.T
    of_all = asimov(s, b)
    of_all_uncertain = _known_to(s, b, b_var, options.background_uncertainty)
    return Significance(
        signal_classes=signals,
        luminosity=options.luminosity,
        background_uncertainty=options.background_uncertainty,
        min_background=options.min_background,
        scans=scans,
        z=np.array([scan.z[0] for scan in scans]),
        z_uncertain=np.array([scan.z_uncertain[0] for scan in scans]),
        combined=_quadrature(of_all),
        combined_uncertain=_quadrature(of_all_uncertain),
    )


def _scan(
    table: EvaluationTable, category: int, is_signal: NDArray[np.bool_], options: EvaluationOptions
) -> SignificanceScan:
    lowest = 0.0 if table.binary else 1 / len(table.classes)
    threshold = np.linspace(lowest, 1.0, _N_THRESHOLDS)
    mine = table.selected(category)
    # A score of a threshold's value, but for rounding, passes it.
    score, weight = table.proba[mine, category] + 1e-12, np.asarray(table.weight, float)[mine]
    edges = np.append(threshold, np.inf)
    above = fill(score, edges, weight, (is_signal[mine].astype(np.int32), 2)).above()
    (b, s), (b_var, s_var) = above.value, above.variance
    z = asimov(s, b)
    z_uncertain = _known_to(s, b, b_var, options.background_uncertainty)
    enough = np.nan_to_num(ratio(b**2, b_var)) >= options.min_background
    judged = np.where(enough, z_uncertain, np.nan)
    return SignificanceScan(
        category=category,
        threshold=threshold,
        signal=s,
        signal_error=np.sqrt(s_var),
        background=b,
        background_error=np.sqrt(b_var),
        z=z,
        z_error=_z_error(s, b, s_var, b_var, z),
        z_uncertain=z_uncertain,
        best=int(np.nanargmax(judged)) if np.isfinite(judged).any() else None,
    )


def _known_to(s: Floats, b: Floats, b_var: Floats, uncertainty: float) -> Floats:
    """Return the significance with the background's statistical and relative uncertainty."""
    return asimov_uncertain(s, b, np.sqrt(b_var + (uncertainty * b) ** 2))


def _quadrature(z: Floats) -> float:
    return float(np.sqrt(np.nansum(z**2))) if np.isfinite(z).any() else float("nan")


def _z_error(s: Floats, b: Floats, s_var: Floats, b_var: Floats, z: Floats) -> Floats:
    """Return the statistical error of z: dz/ds = ln(1+s/b)/z, dz/db = (ln(1+s/b) - s/b)/z."""
    usable = np.isfinite(z) & (z != 0)
    relative = np.where(usable, ratio(s, b), 0.0)
    log = np.log1p(relative)
    error = np.sqrt(log**2 * s_var + (log - relative) ** 2 * b_var)
    return ratio(error, np.where(usable, np.abs(z), 0.0))
