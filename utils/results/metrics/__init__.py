"""Scores in, named results out: a module a metric, its result beside what computes it.

`utils.results.evaluation` makes all of them of one dataset; their names in a run are in `naming`.
"""

from utils.results.metrics.comparison import compare
from utils.results.metrics.importance import (
    Importance,
    LearningCurve,
    LearningCurves,
    ShapSummary,
    gain_importance,
    permutation_importance,
    shap_summary,
)

__all__ = [
    "Importance",
    "LearningCurve",
    "LearningCurves",
    "ShapSummary",
    "compare",
    "gain_importance",
    "permutation_importance",
    "shap_summary",
]
