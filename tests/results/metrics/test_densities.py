"""Score densities against plain histograms."""

from __future__ import annotations

import numpy as np
import pytest
from scored_tables import FAST, remembering, scored_table

from utils.results.evaluation import evaluate
from utils.results.metrics.densities import score_edges
from utils.results.metrics.overtraining import make_over_training
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
    table = scored_table(classes=classes)
    np.testing.assert_allclose(np.diff(evaluate(table, FAST).densities[0].edges), 0.1)
    np.testing.assert_allclose(np.diff(score_edges(table, 1, 0.025)), 0.025)


@pytest.mark.parametrize(("n", "bins"), [(100_000, 34), (1000, 20), (90, 10), (0, 34)])
def test_few_events_get_few_bins_and_the_bin_size_of_the_class_is_the_finest(n, bins):
    classes = (ClassInfo(name="a", bin_size=0.02), ClassInfo(name="b"), ClassInfo(name="c"))
    edges = score_edges(scored_table(classes=classes), 0, 0.025, np.array([n, n, n, 0]))
    assert len(edges) - 1 == bins  # 2 n^(1/3), from 10 to those 0.02 wide
    np.testing.assert_allclose(np.diff(edges), np.diff(edges)[0])
    assert edges[0] <= 1 / 3 + 1e-12 < edges[1]
    assert edges[-1] == 1


def test_over_training_has_the_bins_of_its_smallest_histogram():
    train, small = remembering(3), remembering(4, n=60, dataset="test")
    fine = make_over_training(train, None, FAST).densities
    coarse = make_over_training(train, small, FAST).densities
    for a, b in zip(fine, coarse, strict=True):
        assert len(b.edges) - 1 == 10 < len(a.edges) - 1
        for value, _ in (*b.of_class.values(), *b.of_rest.values()):
            assert np.sum(value * np.diff(b.edges)) == pytest.approx(1)
