"""The arithmetic behind the metrics; that they are LightGBM's is in test_mlp and test_rounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from utils.models.forest import kernels
from utils.models.metrics import METRICS, auc, metric_values


def ulps(found: list[float], expected: list[float]) -> float:
    return float(np.max(np.abs(np.subtract(found, expected)) / np.spacing(np.abs(expected))))


def test_exp_and_log_are_those_of_the_c_library_to_an_ulp() -> None:
    rng = np.random.default_rng(1)
    x = [
        0.0,
        -0.0,
        -1e-20,
        709.0,
        -708.0,
        *rng.uniform(-708, 709, 3000),
        *-rng.exponential(1, 3000),
    ]
    assert ulps([kernels._exp(v) for v in x], [math.exp(v) for v in x]) <= 1
    assert 0 < kernels._exp(-1e6) < 1e-307
    x = [1 - 2.0**-53, 0.5, kernels.EPSILON, *rng.random(3000), *np.exp(-rng.uniform(0, 34, 3000))]
    assert ulps([kernels._log(v) for v in x], [math.log(v) for v in x]) <= 1
    assert kernels._log(1.0) == 0


def test_scores_that_differ_less_than_probabilities_can_are_a_tie() -> None:
    """Both of 1e-17 and 0 have the probability 1/2; a difference of 1e-15 shows."""
    one = np.ones(1)
    for ahead, wrong in ((1e-17, 0.0), (-1e-17, 0.0), (1e-15, 1.0), (0.0, 0.0)):
        assert metric_values(["binary_error"], np.full((1, 1), ahead), one * 0, one) == {
            "binary_error": wrong
        }
    for ahead, wrong in ((1e-17, 1.0), (-1e-17, 1.0), (-1e-15, 0.0), (1e-15, 1.0), (0.0, 1.0)):
        outputs = np.array([[0.0], [ahead]])
        assert metric_values(["multi_error"], outputs, one * 0, one) == {"multi_error": wrong}


@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 5000])
def test_any_number_of_events_written_out(n: int) -> None:
    rng = np.random.default_rng(2)
    target, weight = rng.integers(0, 3, n), rng.lognormal(size=n)
    outputs = rng.normal(size=(3, n))
    p = np.exp(outputs) / np.exp(outputs).sum(axis=0)
    mine = p[target, np.arange(n)]
    assert metric_values(METRICS["multiclass"], outputs, target, weight) == pytest.approx(
        {
            "multi_logloss": np.average(-np.log(mine), weights=weight),
            "multi_error": np.average(mine < p.max(axis=0), weights=weight),
        },
        rel=1e-13,
    )


def test_area_by_pairs() -> None:
    rng = np.random.default_rng(3)
    score, target, weight = rng.integers(0, 9, 80) / 4, rng.integers(0, 2, 80), rng.random(80)
    pairs = weight[target == 1][:, None] * weight[target == 0]
    ahead = score[target == 1][:, None] - score[target == 0]
    expected = (pairs * (np.sign(ahead) + 1) / 2).sum() / pairs.sum()
    assert auc(score, target, weight) == pytest.approx(expected, rel=1e-13)
    assert auc(score, target * 0, weight) == auc(score, target * 0 + 1, weight) == 1
