"""Points side by side, and their ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from evaluations import make_evaluation

from utils.results.metrics.importance import ShapSummary
from utils.results.plotting import Style, figures
from utils.results.plotting.importance import ranks, swarm


def test_swarm_and_ranks() -> None:
    offsets = swarm(np.array([0.0, 0.0, 0.0, 1.0]))
    assert len(set(offsets[:3])) == 3
    assert np.abs(offsets).max() <= 0.4
    assert ranks(np.array([3.0, 1.0, 3.0, np.nan])).tolist() == [1, 0, 1, 0.5]


def test_shap_figures_say_how_many_features_have_no_row() -> None:
    names = tuple(f"x{i}" for i in range(28))
    values = np.random.default_rng(1).normal(size=(1, 28, 30))
    shap = ShapSummary((1,), names, values, values[0], np.abs(values).mean(axis=2))
    evaluation = replace(make_evaluation(("background", "signal")), shap=shap)
    drawn = figures(evaluation, Style(evaluation.classes))
    assert " The 3 features " in drawn["model/shap"].layout.meta["caption"]
    assert " The 13 features " in drawn["model/shap_values"].layout.meta["caption"]
