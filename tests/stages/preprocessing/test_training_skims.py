"""Skims to train on, and what share of each process they hold."""

from __future__ import annotations

import numpy as np
import pytest
from scored_files import rows_of

from utils.schema import (
    PHYSICS_WEIGHT,
)
from utils.stages.preprocessing.training_skims import process_fractions


def test_no_cancellation_of_weights_makes_a_fraction_small() -> None:
    process = np.array([0, 0, 0, 1, 1, 1, 1])
    weight = np.array([1.0, 1.0, 2.0, 1.0, -2.0, 5.0, 1.0])
    groups = {"provenance": {"process": process}, "weights": {PHYSICS_WEIGHT: weight}}
    parts = [rows_of(groups, [0, 1, 5, 6]), rows_of(groups, [2, 3, 4])]
    train, test = process_fractions(("p", "q", "none"), parts)
    assert train == {"p": 0.5, "q": pytest.approx(6 / 9), "none": 0}
    # Of process q the test part sums to -1, of absolute weights to 3.
    assert test == {"p": 0.5, "q": pytest.approx(3 / 9), "none": 0}
    groups["weights"] = {PHYSICS_WEIGHT: 0 * weight}  # then of events
    parts = [rows_of(groups, [0, 1, 5, 6]), rows_of(groups, [2, 3, 4])]
    assert process_fractions(("p", "q", "none"), parts)[1] == {"p": 1 / 3, "q": 0.5, "none": 0}
