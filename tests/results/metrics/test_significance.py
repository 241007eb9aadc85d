"""Expected significance against closed forms, toys and direct sums."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from scored_tables import TWO_CLASSES, remembering

from utils.results.evaluation import evaluate
from utils.results.events import EvaluationTable
from utils.results.metrics.significance import asimov, asimov_uncertain
from utils.results.options import EvaluationOptions

FAST = EvaluationOptions(n_bootstrap=100, n_permutations=99)


def test_asimov_closed_forms_and_limits():
    assert asimov(10.0, 100.0) == pytest.approx(math.sqrt(2 * (110 * math.log(1.1) - 10)))
    # s << b: s / sqrt(b); with uncertainty: s / sqrt(b + sigma^2).
    assert asimov(1e-3, 1e4) == pytest.approx(1e-5, rel=1e-3)
    assert asimov(1.0, 1e10) == pytest.approx(1e-5, rel=1e-6)
    assert asimov_uncertain(1.0, 1e6, 3e3) == pytest.approx(1 / math.sqrt(1e6 + 9e6), rel=1e-3)
    np.testing.assert_allclose(
        asimov_uncertain(np.array([5.0, 50.0]), 20.0, 1e-3), asimov([5.0, 50.0], 20.0), rtol=1e-4
    )
    assert asimov_uncertain(5.0, 20.0, 0.0) == asimov(5.0, 20.0)
    assert np.isnan(asimov(1.0, 0.0))
    assert np.isnan(asimov_uncertain(1.0, -2.0, 1.0))
    assert asimov(0.0, 10.0) == 0
    assert asimov(-2.0, 10.0) < 0


@pytest.mark.parametrize(("s", "b", "sigma"), [(10, 100, 20), (3, 2, 0.7), (0.1, 50, 5)])
def test_significance_with_uncertainty_equals_the_printed_formula(s, b, sigma):
    v = sigma**2
    expected = math.sqrt(
        2
        * (
            (s + b) * math.log((s + b) * (b + v) / (b**2 + (s + b) * v))
            - b**2 / v * math.log(1 + v * s / (b * (b + v)))
        )
    )
    assert asimov_uncertain(s, b, sigma) == pytest.approx(expected, rel=1e-6)


def test_asimov_is_the_median_of_toy_experiments():
    s, b = 12.0, 40.0
    n = stats.poisson(s + b).rvs(20_001, random_state=1)
    z = np.sqrt(2 * np.maximum(n * np.log(np.maximum(n, 1) / b) - (n - b), 0))
    assert asimov(s, b) == pytest.approx(np.median(z * np.sign(n - b)), abs=0.1)


def test_significance_scan_equals_direct_sums():
    table = remembering(21, n=4000, dataset="test")
    weight = np.random.default_rng(22).normal(1, 0.6, 4000)
    table = dataclasses.replace(table, weight=weight, fraction=0.5)
    options = dataclasses.replace(
        FAST, signal_classes=("higgs",), luminosity=60.0, background_uncertainty=0.2
    )
    found = evaluate(table, options).significance
    assert found.signal_classes == (1,)
    for scan in found.scans:
        for i in (0, 30, 60):
            chosen = table.proba.argmax(axis=1) == scan.category
            if i:
                chosen &= table.proba[:, scan.category] >= scan.threshold[i]
            signal = chosen & (table.target == 1)
            s, b = (2 * weight[part].sum() for part in (signal, chosen & ~signal))
            assert scan.signal[i] == pytest.approx(s)
            assert scan.background[i] == pytest.approx(b)
            assert scan.z[i] == pytest.approx(float(asimov(s, b)), nan_ok=True)
            b_error = 2 * np.sqrt((weight[chosen & ~signal] ** 2).sum())
            assert scan.background_error[i] == pytest.approx(b_error)
            sigma = math.hypot(b_error, 0.2 * b)
            expected = float(asimov_uncertain(s, b, sigma))
            assert scan.z_uncertain[i] == pytest.approx(expected, nan_ok=True)
    assert found.combined == pytest.approx(np.sqrt(np.sum(found.z**2)))
    assert found.scans[1].best is not None
    # First-order error against a numerical derivative in the signal.
    scan = found.scans[1]
    s, b, step = scan.signal[0], scan.background[0], 1e-3
    ds = float(asimov(s + step, b) - asimov(s - step, b)) / (2 * step)
    db = float(asimov(s, b + step) - asimov(s, b - step)) / (2 * step)
    expected = math.hypot(ds * scan.signal_error[0], db * scan.background_error[0])
    assert scan.z_error[0] == pytest.approx(expected, rel=1e-4)


def test_the_best_cut_never_stands_on_a_few_events():
    # Above 0.6 only three events of background are left, with all of the signal.
    p = np.concatenate([np.linspace(0.7, 1, 1000), np.linspace(0, 0.6, 997), [0.9, 0.92, 0.94]])
    table = EvaluationTable(
        classes=TWO_CLASSES,
        proba=np.stack([1 - p, p], axis=1),
        target=np.repeat([1, 0], 1000),
        fold=np.zeros(2000, int),
        weight=np.ones(2000),
    )
    options = dataclasses.replace(FAST, signal_classes=("signal",), luminosity=60.0)
    found = {
        least: evaluate(table, dataclasses.replace(options, min_background=least)).significance
        for least in (0.0, 10.0, 1e4)
    }
    scans = {least: of.scans[0] for least, of in found.items()}
    assert scans[0.0].threshold[scans[0.0].best] > 0.6
    best = scans[10.0]
    assert best.background[best.best] == 20  # the tightest cut below 0.6, of so many equal weights
    assert best.best == np.nanargmax(np.where(best.background >= 10, best.z_uncertain, np.nan))
    assert scans[1e4].best is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signal_classes": ()}, "names no class"),
        ({"luminosity": None}, "no luminosity"),
        ({"signal_classes": ("tt", "higgs", "ztt")}, "no background"),
        ({}, "need a physics weight"),
    ],
)
def test_significance_needs_signals_luminosity_and_weights(changes, reason):
    options = dataclasses.replace(FAST, signal_classes=("higgs",), luminosity=60.0)
    found = evaluate(
        remembering(23, n=100, dataset="test"), dataclasses.replace(options, **changes)
    )
    assert found.significance is None
    assert reason in found.gaps["significance"]
