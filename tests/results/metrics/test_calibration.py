"""Calibration: the size of its noise, and the weights it is judged under."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scored_tables import FAST

from utils.results.evaluation import evaluate
from utils.results.events import EvaluationTable
from utils.schema import ClassInfo

# --- curves -------------------------------------------------------------------------------------


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
    found = evaluate(table, FAST).calibration[0]
    assert found.error.value == pytest.approx(found.noise, rel=0.6)
    assert found.error.low < found.noise
    pull = (found.observed - found.predicted) / found.observed_error
    assert 0.5 < np.sqrt(np.mean(pull**2)) < 1.5
    assert found.n.sum() == n
    assert found.n.min() > 0.9 * n / 20

    wrong = dataclasses.replace(table, proba=np.stack([1 - p**2, p**2], axis=1))
    found = evaluate(wrong, FAST).calibration[0]
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
    balanced = evaluate(table, FAST).calibration[0].error.value
    unweighted = evaluate(dataclasses.replace(table, train_weight=np.ones(n)), FAST)
    assert balanced < 0.03
    assert unweighted.calibration[0].error.value > 0.2
