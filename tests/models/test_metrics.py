"""The arithmetic behind the metrics; that they are LightGBM's is in test_mlp and test_rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from utils.columns.arrays import Array, Floats
from utils.models.forest import kernels
from utils.models.forest.arrays import BLOCK
from utils.models.metrics import LARGEST_LOSS, LOSS, METRICS, Values, auc, metric_values

Metrics = Callable[[Sequence[str], Floats, Array, Floats], Values]


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


def by_kernels(names: Sequence[str], outputs: Floats, target: Array, weight: Floats) -> Values:
    """Return metrics as a training by rounds has them, block by block."""
    sums = np.zeros(2)
    for start in range(0, len(target), BLOCK):
        block, of_block = np.zeros((len(outputs), BLOCK)), np.empty(2)
        own_target, own_weight = np.zeros(BLOCK, np.int32), np.zeros(BLOCK)
        m = len(target[start : start + BLOCK])
        block[:, :m] = outputs[:, start : start + m]
        own_target[:m], own_weight[:m] = target[start : start + m], weight[start : start + m]
        work = np.zeros((5, BLOCK))
        kernels._block_losses(block, 1.0, own_target, own_weight, work, of_block)
        sums += of_block
    return {name: sums[LOSS[name]] / weight.sum() for name in names}


both = pytest.mark.parametrize("values", [metric_values, by_kernels])


@both
def test_scores_that_differ_less_than_probabilities_can_are_a_tie(values: Metrics) -> None:
    """Both of 1e-17 and 0 have the probability 1/2; a difference of 1e-15 shows."""
    one = np.ones(1)
    for ahead, wrong in ((1e-17, 0.0), (-1e-17, 0.0), (1e-15, 1.0), (0.0, 0.0)):
        assert values(["binary_error"], np.full((1, 1), ahead), (one * 0).astype(int), one) == {
            "binary_error": wrong
        }
    for ahead, wrong in ((1e-17, 1.0), (-1e-17, 1.0), (-1e-15, 0.0), (1e-15, 1.0), (0.0, 1.0)):
        outputs = np.array([[0.0], [ahead]])
        assert values(["multi_error"], outputs, (one * 0).astype(int), one) == {
            "multi_error": wrong
        }


@both
@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 5000])
def test_any_number_of_events_written_out(values: Metrics, n: int) -> None:
    rng = np.random.default_rng(2)
    target, weight = rng.integers(0, 3, n), rng.lognormal(size=n)
    outputs = rng.normal(size=(3, n))
    p = np.exp(outputs) / np.exp(outputs).sum(axis=0)
    mine = p[target, np.arange(n)]
    assert values(METRICS["multiclass"], outputs, target, weight) == pytest.approx(
        {
            "multi_logloss": np.average(-np.log(mine), weights=weight),
            "multi_error": np.average(mine < p.max(axis=0), weights=weight),
        },
        rel=1e-13,
    )


@both
def test_extreme_scores_lose_what_they_do_in_lightgbm(values: Metrics) -> None:
    one, of = np.ones(1), np.ones(1, int)
    for ahead, lost in ((800.0, 0.0), (-800.0, LARGEST_LOSS), (-34.6, LARGEST_LOSS)):
        names, outputs = ["binary_logloss"], np.full((1, 1), ahead)
        assert values(names, outputs, of, one)["binary_logloss"] == pytest.approx(lost)
        names, outputs = ["multi_logloss"], np.array([[0.0], [ahead]])
        assert values(names, outputs, of, one)["multi_logloss"] == pytest.approx(lost)


def test_area_by_pairs() -> None:
    rng = np.random.default_rng(3)
    score, target, weight = rng.integers(0, 9, 80) / 4, rng.integers(0, 2, 80), rng.random(80)
    pairs = weight[target == 1][:, None] * weight[target == 0]
    ahead = score[target == 1][:, None] - score[target == 0]
    expected = (pairs * (np.sign(ahead) + 1) / 2).sum() / pairs.sum()
    assert auc(score, target, weight) == pytest.approx(expected, rel=1e-13)
    assert auc(score, target * 0, weight) == auc(score, target * 0 + 1, weight) == 1
