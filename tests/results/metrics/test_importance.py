"""Importances of features that are known to matter or not."""

from __future__ import annotations

import numpy as np
import pytest

from utils.results.metrics.importance import gain_importance, permutation_importance, shap_summary
from utils.schema import InputError


def test_permutation_importance_finds_the_one_feature_used():
    rng = np.random.default_rng(9)
    matrix = rng.normal(size=(3000, 3))
    target = (matrix[:, 1] > 0).astype(int)
    fold = np.arange(3000) % 2
    calls = []

    def score(x, f):
        calls.append(set(f))
        p = 1 / (1 + np.exp(-4 * x[:, 1]))
        return np.stack([1 - p, p], axis=1)

    found = permutation_importance(
        score, matrix, target, fold, ["a", "b", "c"], n_folds=3, max_rows=1000
    )
    assert found.values.shape == (3, 3)
    assert np.isnan(found.values[2]).all()
    assert (found.values[:2, 1] > 0.5).all()
    np.testing.assert_array_equal(found.values[:2, [0, 2]], 0)
    assert found.mean[1] > 0.5
    assert found.spread[1] > 0
    assert all(len(f) == 1 for f in calls)
    with pytest.raises(InputError, match="3 columns for 1 features"):
        permutation_importance(score, matrix, target, fold, ["a"], n_folds=2)


def test_gain_importance_is_a_share():
    found = gain_importance(["a", "b"], np.array([[1.0, 3.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found.values, [[0.25, 0.75], [np.nan, np.nan]])
    np.testing.assert_allclose(found.mean, [0.25, 0.75])


def test_shap_summary_of_a_binary_model_is_of_its_signal():
    values = np.array([[[1.0, -2.0]], [[3.0, 0.0]]])
    found = shap_summary(["a", "b"], values, np.ones((2, 2)))
    mirrored = shap_summary(["a", "b"], values, np.ones((2, 2)), signal=0)
    np.testing.assert_allclose(found.values, [values[:, 0].T])
    np.testing.assert_allclose(mirrored.values, -found.values)
    np.testing.assert_allclose(found.mean_abs, [[2, 1]])
    with pytest.raises(InputError, match="do not belong"):
        shap_summary(["a"], values, np.ones((2, 2)))
