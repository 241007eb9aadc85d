"""Curves of one class against the rest: bands, and areas of what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scored_tables import FAST, scored_table

from utils.results.evaluation import evaluate

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


# --- calibration --------------------------------------------------------------------------------
