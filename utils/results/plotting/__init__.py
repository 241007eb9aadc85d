"""Named results in, figures out: nothing is computed, read or saved here.

`figures` gives every figure of an evaluation under a stable key `section/name`, which is its file
name too. Titles and captions (plain text) travel in `figure.layout.meta`.
"""

from __future__ import annotations

from collections.abc import Iterator

import plotly.graph_objects as go

from utils.results.evaluation import Evaluation
from utils.results.plotting import (
    calibration,
    confusion,
    correlations,
    densities,
    features,
    importance,
    intervals,
    one_versus_rest,
    overtraining,
    significance,
    thresholds,
    variations,
)
from utils.results.plotting.frames import Named
from utils.results.plotting.style import Style
from utils.schema import unique_slugs

__all__ = ["QUESTIONS", "Style", "draw", "figures", "opened_singly"]

QUESTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "performance": (
        "How good is it?",
        ("roc", "precision_recall", "average_precision", "densities", "thresholds", "significance"),
    ),
    "certainty": ("How sure are we?", ("scores", "calibration", "comparison")),
    "over_training": ("Does it over-train?", ("over_training", "learning_curves")),
    "model": ("What does it use?", ("importances", "shap", "correlations", "features")),
    "failures": ("Where does it fail?", ("confusion", "profiles")),
    "variations": ("What do systematic variations do to it?", ("variations",)),
}
"""Sections in order: the question each answers and the names of the results (as in
`Evaluation.gaps`) that it shows."""


_SINGLE = (
    *("roc_", "precision_recall_", "score", "by_true_", "learning_curves", "importance_gain"),
    "comparison_",
)
_NOT_SINGLE = ("_log", "_stacked", "_physics", "_unweighted", "_areas")


def opened_singly(key: str) -> bool:
    """Return whether people open the figure `section/name` by itself, so that it has its own page.

    All figures are in the report and, as PDF, beside it.
    """
    name = key.rsplit("/", 1)[-1]
    chosen = name == "significance" or name.startswith(_SINGLE)
    return chosen and not name.endswith(_NOT_SINGLE)


def figures(evaluation: Evaluation, style: Style) -> dict[str, go.Figure]:
    """Return the figures of an evaluation by `section/name`, in the order of the report.

    A field that is empty gives no figure; its reason stands in `evaluation.gaps`.
    """
    return dict(draw(evaluation, style))


def draw(evaluation: Evaluation, style: Style) -> Iterator[tuple[str, go.Figure]]:
    """Yield the figures of `figures` one by one, each made when it is asked for."""
    names = unique_slugs(info.name for info in evaluation.classes)
    # How the names of a class's own figures end; the one score of two classes needs no name.
    ends = ["", ""] if evaluation.binary else [f"_{name}" for name in names]
    both = (evaluation, style)
    parts: dict[str, list[Named]] = {
        "performance": [
            one_versus_rest.roc(*both),
            one_versus_rest.precision_recall(*both),
            densities.score_densities(*both, ends),
            densities.stacked_yields(*both, ends),
            thresholds.thresholds(*both),
            significance.significance(*both, ends),
        ],
        "certainty": [
            intervals.intervals(*both),
            calibration.calibration(*both),
            intervals.comparison(*both),
        ],
        "over_training": [
            overtraining.over_training(*both, ends),
            overtraining.gaps(*both),
            importance.learning_curves(*both),
        ],
        "model": [
            importance.importances(*both),
            importance.shap(*both, ends),
            correlations.correlations(*both, names),
            features.features(*both),
        ],
        "failures": [confusion.confusion(*both), features.profiles(*both)],
        "variations": [variations.variations(*both)],
    }
    for section, makers in parts.items():
        for maker in makers:
            for name, fig in maker:
                yield f"{section}/{name}", fig
