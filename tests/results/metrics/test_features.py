"""Distributions of features, their correlations, and profiles of scores."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scored_tables import FAST, scored_table

from utils.results.evaluation import evaluate


def test_features_correlations_and_profiles():
    rng = np.random.default_rng(3)
    table = scored_table(n=4000)
    x = rng.normal(size=4000)
    features = {
        **table.features,
        "x": x + 1e6,  # far from zero: products must keep their digits
        "y": 0.6 * x + 0.8 * rng.normal(size=4000),
        "constant": np.full(4000, 7.0),
    }
    table = dataclasses.replace(table, features=features)
    options = dataclasses.replace(FAST, profile_features=("m_vis",))
    found = evaluate(table, options)
    by_name = {f.name: f for f in found.features}
    assert by_name["njets"].integer
    np.testing.assert_allclose(by_name["njets"].edges, np.arange(-0.5, 5))
    for c in range(3):
        mine = table.target == c
        expected = np.isnan(table.features["missing"][mine]).sum()
        assert by_name["missing"].n_missing[c] == expected
        jets = np.bincount(table.features["njets"][mine], weights=table.weight[mine], minlength=5)
        np.testing.assert_allclose(by_name["njets"].density[c], jets / jets.sum())
    assert np.sum(by_name["m_vis"].density[0] * np.diff(by_name["m_vis"].edges)) == pytest.approx(1)

    names = found.correlations.names
    i, j, m = names.index("x"), names.index("y"), names.index("missing")
    w = (4000 / np.bincount(table.target))[table.target]
    expected = np.cov(features["x"], features["y"], aweights=w)
    expected = expected[0, 1] / np.sqrt(expected[0, 0] * expected[1, 1])
    assert found.correlations.matrix[i, j] == pytest.approx(expected, abs=1e-9)
    mine = (table.target == 1) & np.isfinite(features["missing"])
    expected = np.corrcoef(features["missing"][mine], features["m_vis"][mine])[0, 1]
    at = found.correlations.per_class[1][m, names.index("m_vis")]
    assert at == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(found.correlations.matrix[i, i], 1)
    assert np.isnan(found.correlations.matrix[names.index("constant")]).all()

    profile = found.profiles[0]
    mine = (table.target == 2) & (table.features["m_vis"] >= profile.edges[9])
    mine &= table.features["m_vis"] < profile.edges[10]
    assert profile.n[2, 9] == mine.sum() > 5
    assert profile.mean[1, 2, 9] == pytest.approx(table.proba[mine, 1].mean())
    expected = table.proba[mine, 1].std(ddof=1) / np.sqrt(mine.sum())
    assert profile.error[1, 2, 9] == pytest.approx(expected)


def test_what_is_declared_to_be_missing_is_missing_and_nothing_else():
    rng = np.random.default_rng(3)
    absent = np.arange(400) % 4 == 0
    table = scored_table(n=400)
    columns = {
        "jpt": np.where(absent, -10.0, rng.exponential(50, 400)),
        "clipped": np.maximum(rng.normal(size=400), -1.0),  # one event of six is at the edge
        "d0": np.where(absent, np.nan, rng.normal(size=400)),
        # The inverse of a scaler gives a value back but for some rounding.
        "scaled": (np.where(absent, -10.0, 200.0 + rng.normal(size=400)) * (1 + 1e-7)).astype("f4"),
    }
    declared = {"jpt": -10.0, "scaled": -10.0}
    found = evaluate(dataclasses.replace(table, features=columns, missing=declared), FAST)
    missing = {f.name: int(f.n_missing.sum()) for f in found.features}
    assert missing == {"jpt": 100, "clipped": 0, "d0": 100, "scaled": 100}
    assert found.features[0].edges[0] >= 0
    assert found.features[1].edges[0] == -1
    both = ~absent
    expected = np.corrcoef(columns["jpt"][both], columns["clipped"][both])
    unweighted = dataclasses.replace(
        table, features=columns, missing=declared, target=np.zeros(400, int)
    )
    matrix = evaluate(unweighted, FAST).correlations.matrix
    assert matrix[0, 1] == pytest.approx(expected[0, 1], abs=1e-9)
    undeclared = evaluate(dataclasses.replace(table, features=columns), FAST)
    assert [int(f.n_missing.sum()) for f in undeclared.features] == [0, 0, 100, 0]
