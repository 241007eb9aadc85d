"""The training weight in tables: computed as the training computes it, its policy included."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from utils.schema import TARGET, ClassInfo
from utils.stages.prediction.evaluation_tables import _weight_after_policy

WEIGHT = np.array([2.0, -1.0, 1.0, 1.0, -2.0, 5.0, -9.0])
TRUE = np.array([0, 0, 0, 1, 1, 1, -1])


def skim_of(weight: Any) -> Any:
    groups = {
        "targets": {TARGET: TRUE},
        "weights": {"w": weight},
        "misc_features": {"n": np.arange(len(TRUE))},
        "identity": {"evt": np.arange(len(TRUE))},
    }
    return SimpleNamespace(groups=groups, n_rows=len(TRUE), read=lambda names, rows: groups)


def scorer_of(policy: str, expression: str = "w") -> Any:
    classes = (ClassInfo(name="a"), ClassInfo(name="b"))
    recipe = SimpleNamespace(
        weight=expression, training={"negative_weights": policy}, classes=classes
    )
    return SimpleNamespace(recipe=recipe)


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
def test_tables_have_the_weights_after_the_policy(policy: str, expected: list[float]) -> None:
    found, left_out = _weight_after_policy(skim_of(WEIGHT), scorer_of(policy))
    assert left_out == ""
    np.testing.assert_allclose(found, expected)
    assert WEIGHT[1] == -1  # what the skim holds is left as it was


def test_an_expression_is_a_weight() -> None:
    found, _ = _weight_after_policy(skim_of(WEIGHT), scorer_of("keep", "w * n"))
    np.testing.assert_allclose(found, WEIGHT * np.arange(7))


def test_a_policy_that_cannot_be_followed_says_why() -> None:
    negative = np.where(TRUE == 1, -np.abs(WEIGHT), WEIGHT)
    found, left_out = _weight_after_policy(skim_of(negative), scorer_of("rescale"))
    assert found is None
    assert "class 'b' sum to -8" in left_out


def test_a_skim_without_the_weight_s_columns_says_so() -> None:
    assert _weight_after_policy(skim_of(WEIGHT), scorer_of("error", "w_cp")) == (
        None,
        "the table has no w_cp",
    )
