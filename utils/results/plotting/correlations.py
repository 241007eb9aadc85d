"""Correlations of the features: of all classes, and of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from utils.columns.arrays import Floats
from utils.results.evaluation import Evaluation
from utils.results.plotting import frames
from utils.results.plotting.frames import Legend, Named, Text, name_axis
from utils.results.plotting.matrices import BLUE_WHITE_RED, GROUND, Matrix, color_bar, painted
from utils.results.plotting.style import Style

HOVER = "%{x}, %{y}: %{customdata:.1f} %<extra></extra>"
BAR = "Correlation [%]"


NUMBERED = 16
"""Up to so many features the squares hold their numbers, which of more nobody could read."""


def correlations(ev: Evaluation, style: Style, slugs: Sequence[str]) -> Named:
    """Yield the features' correlation matrix, then that of each class, named by its slug."""
    result = ev.correlations
    if result is None or not result.names:
        return
    names = [style.feature_tick(name) for name in result.names]
    told = "Linear correlation coefficients of the features in percent, "
    text = Text(
        "Feature correlations",
        f"{told}all classes with equal weight; pairs with a missing value are left out.",
    )
    yield "correlations", _figure(style, text, names, result.matrix)
    for class_id, coefficients in result.per_class.items():
        name = ev.name(class_id)
        text = Text(
            f"Feature correlations of {name}",
            f"{told}events of true class {name} alone; grey where a feature is constant.",
        )
        title = style.name(class_id)
        yield (
            f"correlations_by_class_{slugs[class_id]}",
            _figure(style, text, names, coefficients, title),
        )


def _figure(
    style: Style, text: Text, names: list[str], coefficients: Floats, of: str = ""
) -> go.Figure:
    """Return a matrix as large as a slide takes; `of`: figure text, the class it is of."""
    n = len(names)
    cell = float(np.clip(560 / n, 16, 60))
    size = max(round(cell * n), 400)
    longest = frames.text_width(names, 14)
    fig = frames.figure(
        style,
        text,
        name_axis("", names, fixedrange=True, tickangle=-90),
        name_axis("", names, falling=True, fixedrange=True),
        Legend(place="top left"),
        area=(size, size),
        margin={"l": longest + 24, "b": longest + 24 + (28 if of else 0), "r": 100},
    )
    if of:
        spot = {"x": 0.5, "y": 0, "xref": "x domain", "yref": "y domain", "showarrow": False}
        spot |= {"yanchor": "top", "yshift": -longest - 16, "font": {"size": 17}}
        fig.add_annotation(text=f"true class: <b>{of}</b>", **spot)
    numbers = [[_coefficient(v) for v in row] for row in coefficients] if n <= NUMBERED else None
    font = int(np.clip(cell / 2.4, 8, 15))
    matrix = Matrix(100 * coefficients, BLUE_WHITE_RED, (-100, 100), size / n, numbers, font)
    shapes, trace = painted(matrix, hovertemplate=HOVER)
    fig.add_traces([trace, color_bar(matrix, BAR)])
    # Wherever in a square the pointer is, its value is told.
    return fig.update_layout(plot_bgcolor=GROUND, shapes=shapes, hoverdistance=-1)


def _coefficient(value: float) -> str:
    return f"{round(100 * value)}".replace("-", "−") if np.isfinite(value) else ""
