"""Expected (Asimov) significance of counting events in a category."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.containers import (
    EvaluationOptions,
    EvaluationTable,
    Significance,
    SignificanceScan,
)
from utils.results.metrics.bootstrap import ratio

_N_THRESHOLDS = 101


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


def make_significance(table: EvaluationTable, options: EvaluationOptions) -> Significance:
    """Return the expected significance per category and against a cut on its probability.

    Yields are sums of physics weights; every class that is not a signal is background. `table` is
    all labelled, made ready and has a physics weight.
    """
    k = len(table.classes)
    names = [info.name for info in table.classes]
    signals = tuple(c for c, name in enumerate(names) if name in options.signal_classes)
    weight = np.asarray(table.weight, dtype=np.float64)
    is_signal = np.isin(table.target, signals)
    category = table.proba.argmax(axis=1)
    threshold = np.linspace(1 / k, 1.0, _N_THRESHOLDS)
    scans = []
    for c in range(k):
        mine = category == c
        score, w, sig = table.proba[mine, c], weight[mine], is_signal[mine]
        bins = np.searchsorted(threshold, score + 1e-12, side="right") - 1
        bins = np.clip(bins, 0, _N_THRESHOLDS - 1)

        def above(chosen: NDArray[Any], values: Floats, bins: NDArray[Any] = bins) -> Floats:
            sums = np.bincount(bins[chosen], weights=values[chosen], minlength=_N_THRESHOLDS)
            return np.cumsum(sums[::-1], dtype=np.float64)[::-1]

        s, b = above(sig, w), above(~sig, w)
        s_var, b_var = above(sig, w**2), above(~sig, w**2)
        z = asimov(s, b)
        systematic = options.background_uncertainty * b
        z_uncertain = asimov_uncertain(s, b, np.sqrt(b_var + systematic**2))
        scans.append(
            SignificanceScan(
                category=c,
                threshold=threshold,
                signal=s,
                signal_error=np.sqrt(s_var),
                background=b,
                background_error=np.sqrt(b_var),
                z=z,
                z_error=_z_error(s, b, s_var, b_var, z),
                z_uncertain=z_uncertain,
                best=int(np.nanargmax(z_uncertain)) if np.isfinite(z_uncertain).any() else None,
            )
        )
    z_all = np.array([scan.z[0] for scan in scans])
    z_uncertain_all = np.array([scan.z_uncertain[0] for scan in scans])
    return Significance(
        signal_classes=signals,
        luminosity=options.luminosity,
        background_uncertainty=options.background_uncertainty,
        scans=tuple(scans),
        z=z_all,
        z_uncertain=z_uncertain_all,
        combined=_quadrature(z_all),
        combined_uncertain=_quadrature(z_uncertain_all),
    )


def _quadrature(z: Floats) -> float:
    return float(np.sqrt(np.nansum(z**2))) if np.isfinite(z).any() else float("nan")


def _z_error(s: Floats, b: Floats, s_var: Floats, b_var: Floats, z: Floats) -> Floats:
    """Return the statistical error of z: dz/ds = ln(1+s/b)/z, dz/db = (ln(1+s/b) - s/b)/z."""
    usable = np.isfinite(z) & (z != 0)
    relative = np.where(usable, ratio(s, b), 0.0)
    log = np.log1p(relative)
    error = np.sqrt(log**2 * s_var + (log - relative) ** 2 * b_var)
    return ratio(error, np.where(usable, np.abs(z), 0.0))
