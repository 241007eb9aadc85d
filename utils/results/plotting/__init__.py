"""Named results in, figures out: nothing is computed, read or saved here.

`figures` gives every figure of an evaluation under a stable key `section/name`, which is its file
name too. Titles and captions (plain text) travel in `figure.layout.meta`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import plotly.graph_objects as go

from utils.results.containers import Evaluation
from utils.results.plotting import curves, densities, matrices, summary
from utils.results.plotting.style import Style
from utils.schema import unique_slugs

__all__ = ["QUESTIONS", "Style", "draw", "figures"]

QUESTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "performance": (
        "How good is it?",
        ("roc", "precision_recall", "average_precision", "densities", "thresholds", "significance"),
    ),
    "certainty": ("How sure are we?", ("scores", "calibration", "comparison")),
    "over_training": ("Does it over-train?", ("over_training", "learning_curves")),
    "model": ("What does it use?", ("importances", "shap", "correlations", "features")),
    "failures": ("Where does it fail?", ("confusion", "profiles")),
}
"""Sections in order: the question each answers and the names of the results (as in
`Evaluation.gaps`) that it shows."""


def figures(evaluation: Evaluation, style: Style) -> dict[str, go.Figure]:
    """Return the figures of an evaluation by `section/name`, in the order of the report.

    A field that is empty gives no figure; its reason stands in `evaluation.gaps`.
    """
    return dict(draw(evaluation, style))


def draw(evaluation: Evaluation, style: Style) -> Iterator[tuple[str, go.Figure]]:
    """Yield the figures of `figures` one by one, each made when it is asked for."""
    slugs = unique_slugs(info.name for info in evaluation.classes)
    ev = evaluation
    parts: dict[str, list[Iterable[tuple[str, go.Figure]]]] = {
        "performance": [
            curves.roc(ev, style),
            curves.precision_recall(ev, style),
            densities.score_densities(ev, style, [f"score_{s}" for s in slugs]),
            densities.stacked_yields(ev, style, [f"score_{s}" for s in slugs])
            if style.stacked
            else (),
            curves.thresholds(ev, style),
            curves.significance(ev, style, slugs),
        ],
        "certainty": [
            summary.intervals(ev, style),
            curves.calibration(ev, style),
            summary.comparison(ev, style),
        ],
        "over_training": [
            densities.over_training(ev, style, [f"overlay_{s}" for s in slugs]),
            summary.gaps(ev, style),
            curves.learning_curves(ev, style),
        ],
        "model": [
            summary.importances(ev, style),
            summary.shap(ev, style, slugs),
            matrices.correlations(ev, style),
            densities.features(ev, style),
        ],
        "failures": [matrices.confusion(ev, style), curves.profiles(ev, style)],
    }
    for section, makers in parts.items():
        for maker in makers:
            for name, fig in maker:
                yield f"{section}/{name}", fig
