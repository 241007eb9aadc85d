"""Curves, threshold scans and calibration against direct counting."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scored_tables import FAST, scored_table

from utils.results.metrics import (
    EvaluationTable,
    evaluate,
)
from utils.schema import ClassInfo

# --- curves -------------------------------------------------------------------------------------


def test_bands_hold_their_curves_and_shrink_with_the_sample():
    widths = []
    for n in (1000, 16_000):
        found = evaluate(scored_table(n=n, features=False), FAST)
        curve = next(c for c in found.roc if c.view == "physics")
        assert np.all(curve.tpr_low <= curve.tpr + 0.02)
        assert np.all(curve.tpr_high >= curve.tpr - 0.02)
        inside = (curve.fpr > 0.02) & (curve.fpr < 0.9)
        widths.append(np.mean((curve.tpr_high - curve.tpr_low)[inside]))
        pr = next(c for c in found.precision_recall if c.view == "balanced")
        middle = (pr.recall > 0.2) & (pr.recall < 0.9)
        assert np.all(pr.precision_low[middle] <= pr.precision_high[middle])
        assert np.all(np.diff(pr.recall) >= 0)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.5)


def test_roc_area_of_the_drawn_points_is_the_area_of_the_full_curve():
    for curve in evaluate(scored_table(n=20_000, features=False), FAST).roc:
        drawn = np.trapezoid(curve.tpr, curve.fpr)
        assert drawn == pytest.approx(curve.area.value, abs=1e-3)
        assert curve.threshold[0] == math.inf
        assert (curve.fpr[0], curve.tpr[0]) == (0, 0)
        assert (curve.fpr[-1], curve.tpr[-1]) == pytest.approx((1, 1))


def test_threshold_scan_equals_direct_counting():
    table = scored_table(weight="signed")
    for scan in evaluate(table, FAST).thresholds:
        if scan.view == "balanced":
            continue
        w = table.weight if scan.view == "physics" else np.ones(len(table.target))
        y, p = table.target == scan.class_id, table.proba[:, scan.class_id]
        for i in (0, 40, 90, 140):
            chosen = p >= scan.threshold[i]
            assert scan.efficiency[i] == pytest.approx(w[chosen & y].sum() / w[y].sum())
            assert scan.purity[i] == pytest.approx(w[chosen & y].sum() / w[chosen].sum())
            rejected = w[chosen & ~y].sum() / w[~y].sum()
            assert scan.background_efficiency[i] == pytest.approx(rejected)
        if scan.view == "unweighted":
            e, n = scan.efficiency, y.sum()
            np.testing.assert_allclose(scan.efficiency_error, np.sqrt(e * (1 - e) / n), atol=1e-12)


# --- calibration --------------------------------------------------------------------------------


def test_calibrated_scores_show_an_error_of_the_size_of_noise():
    rng = np.random.default_rng(5)
    n = 20_000
    p = rng.beta(2, 2, n)
    target = (rng.random(n) < p).astype(np.int32)
    table = EvaluationTable(
        classes=(ClassInfo(name="a"), ClassInfo(name="b")),
        proba=np.stack([1 - p, p], axis=1),
        target=target,
        fold=np.zeros(n, dtype=np.int32),
        train_weight=np.ones(n),
    )
    found = evaluate(table, FAST).calibration[1]
    assert found.error.value == pytest.approx(found.noise, rel=0.6)
    assert found.error.low < found.noise
    pull = (found.observed - found.predicted) / found.observed_error
    assert 0.5 < np.sqrt(np.mean(pull**2)) < 1.5
    assert found.n.sum() == n
    assert found.n.min() > 0.9 * n / 20

    wrong = dataclasses.replace(table, proba=np.stack([1 - p**2, p**2], axis=1))
    found = evaluate(wrong, FAST).calibration[1]
    truth = np.mean(p - p**2)
    assert found.error.value == pytest.approx(truth, abs=0.01)
    assert found.error.low <= truth <= found.error.high
    assert found.error.low > 5 * found.noise


def test_calibration_uses_the_weights_trained_with():
    # With 1:9 classes, scores right for balanced training are wrong for unweighted training.
    rng = np.random.default_rng(6)
    n = 20_000
    target = (rng.random(n) < 0.1).astype(np.int32)
    x = rng.normal(size=n) + target
    p = 1 / (1 + np.exp(-(x - 0.5)))
    table = EvaluationTable(
        classes=(ClassInfo(name="a"), ClassInfo(name="b")),
        proba=np.stack([1 - p, p], axis=1),
        target=target,
        fold=np.zeros(n, dtype=np.int32),
    )
    balanced = evaluate(table, FAST).calibration[1].error.value
    unweighted = evaluate(dataclasses.replace(table, train_weight=np.ones(n)), FAST)
    assert balanced < 0.03
    assert unweighted.calibration[1].error.value > 0.2
