"""Score densities against plain histograms."""

from __future__ import annotations

import numpy as np
import pytest
from scored_tables import FAST, scored_table

from utils.results.evaluation import evaluate
from utils.schema import ClassInfo


def test_densities_are_unit_area_histograms_of_the_category():
    table = scored_table()
    found = evaluate(table, FAST)
    category = table.proba.argmax(axis=1)
    assert len(found.densities) == 9
    for d in found.densities:
        assert d.edges[-1] == 1
        assert d.edges[0] <= 1 / 3
        for t, true in enumerate(d.true_classes):
            mine = (category == d.category) & (table.target == true)
            assert d.n[t] == mine.sum()
            assert np.sum(d.density[t] * np.diff(d.edges)) == pytest.approx(1)
            w = table.weight[mine] if d.view == "physics" else np.ones(mine.sum())
            if d.view == "balanced":
                w = w * len(category) / (table.target == true).sum()
            expected, _ = np.histogram(table.proba[mine, d.category], d.edges, weights=w)
            np.testing.assert_allclose(d.yields[t], expected, atol=1e-9)
            squares, _ = np.histogram(table.proba[mine, d.category], d.edges, weights=w**2)
            np.testing.assert_allclose(d.yields_error[t], np.sqrt(squares), atol=1e-9)


def test_the_bin_size_of_a_class_sets_its_density():
    classes = (ClassInfo(name="a", bin_size=0.1), ClassInfo(name="b"), ClassInfo(name="c"))
    found = evaluate(scored_table(classes=classes), FAST)
    np.testing.assert_allclose(np.diff(found.densities[0].edges), 0.1)
    np.testing.assert_allclose(np.diff(found.densities[1].edges), 0.025)
