"""Threshold scans against direct counting."""

from __future__ import annotations

import numpy as np
import pytest
from scored_tables import FAST, scored_table

from utils.results.evaluation import evaluate

# --- curves -------------------------------------------------------------------------------------


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
