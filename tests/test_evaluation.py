"""What an evaluation takes from a run: the weights that its models were trained with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from utils.evaluation import with_trained_weights
from utils.metrics import EvaluationTable
from utils.schema import ClassInfo, FoldRule, Recipe

WEIGHT = np.array([2.0, -1.0, 1.0, 1.0, -2.0, 5.0, -9.0])
TARGET = np.array([0, 0, 0, 1, 1, 1, -1])


def recipe(policy: str) -> Recipe:
    nothing: dict[str, Any] = {}
    return Recipe(
        analysis=nothing, training={"negative_weights": policy}, classes=(), features=(),
        pipeline=nothing, fold=FoldRule("entry", (), 2), weight="weight", objective="multiclass",
        models=(), samples=(), files=(), skims=nothing, audit=(), audit_passed=True,
    )  # fmt: skip


def table(weight: Any) -> EvaluationTable:
    proba = np.full((len(TARGET), 2), 0.5)
    classes = (ClassInfo(name="a"), ClassInfo(name="b"))
    return EvaluationTable(classes, proba, TARGET, np.zeros(len(TARGET), int), train_weight=weight)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("keep", [2, -1, 1, 1, -2, 5, -9]),
        ("absolute", [2, 1, 1, 1, 2, 5, -9]),
        ("drop", [2, 0, 1, 1, 0, 5, -9]),
        # Class sums stay 2 and 4, of 4 and 8 without signs.
        ("rescale", [1, 0.5, 0.5, 0.5, 1, 2.5, -9]),
    ],
)
def test_calibration_sees_the_weights_after_the_policy(policy: str, expected: list[float]) -> None:
    found, gaps = with_trained_weights(table(WEIGHT), {}, recipe(policy))
    assert gaps == {}
    np.testing.assert_allclose(found.train_weight, expected)
    assert WEIGHT[1] == -1  # the table read is left as it was


def test_a_policy_that_cannot_be_followed_is_a_gap() -> None:
    weight = np.where(TARGET == 1, -np.abs(WEIGHT), WEIGHT)
    found, gaps = with_trained_weights(table(weight), {"x": "y"}, recipe("rescale"))
    assert "class 'b' sum to -8" in gaps["calibration"]
    assert gaps["x"] == "y"
    assert found.train_weight is weight
    assert with_trained_weights(table(None), {}, recipe("rescale"))[0].train_weight is None
