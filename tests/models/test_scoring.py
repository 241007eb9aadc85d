"""Scores routed by fold: each event's by the model that may score it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fold_tasks import N, task

from utils.models import boosting
from utils.models.scoring import open_models, score, score_in_fold
from utils.schema import FoldRule, RunError


def test_in_fold_scores_are_those_of_the_models_that_learnt(data: dict[str, Any]) -> None:
    results = [boosting.train_fold(task(data, i)) for i in range(2)]
    rule = FoldRule("modulo", ("evt",), 2)
    models = open_models("lightgbm", [r.model for r in results], rule, ("a", "b", "c"), "the test")
    learnt = [data["fold"] != 0, (data["fold"] != 1) & (np.arange(N) > 10)]
    infold = score_in_fold(models, data["matrix"], learnt)
    other = score(models, data["matrix"], 1 - data["fold"])
    nobody = ~learnt[0] & ~learnt[1]
    assert nobody.sum() == 6
    assert np.isnan(infold[nobody]).all()
    np.testing.assert_allclose(infold[~nobody], other[~nobody], rtol=1e-15)


def test_models_and_folds_must_match(data: dict[str, Any]) -> None:
    text = boosting.train_fold(task(data, 0)).model
    rule = FoldRule("modulo", ("evt",), 2)
    with pytest.raises(RunError, match="1 models for 2 folds"):
        open_models("lightgbm", [text], rule, ("a", "b", "c"), "the test")
    with pytest.raises(RunError, match="takes the features a, b, c, not c, b, a"):
        open_models("lightgbm", [text, text], rule, ("c", "b", "a"), "the test")
