"""Correlations of the features: of all classes, and of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from utils.columns.arrays import Floats
from utils.results.evaluation import Evaluation
from utils.results.plotting import frames
from utils.results.plotting.frames import Grid, Legend, Named, Text, name_axis
from utils.results.plotting.labels import literal
from utils.results.plotting.matrices import BLUE_WHITE_RED, GROUND, Matrix, color_bar, painted
from utils.results.plotting.style import Style

HOVER = "%{x}, %{y}: %{customdata:.1f} %<extra></extra>"
BAR = "Correlation [%]"


def correlations(ev: Evaluation, style: Style) -> Named:
    """Yield the features' correlation matrix, then those of the single classes."""
    result = ev.correlations
    if result is None or not result.names:
        return
    names = [style.feature_tick(name) for name in result.names]
    yield "correlations", _of_all(style, names, result.matrix)
    for number, group in enumerate(frames.pages(list(result.per_class.items())), start=1):
        yield f"correlations_by_class_{number}", _by_class(ev, style, names, group)


def _of_all(style: Style, names: list[str], coefficients: Floats) -> go.Figure:
    n = len(names)
    cell = float(np.clip(560 / n, 22, 60))
    size = max(round(cell * n), 400)
    longest = frames.text_width(names, 14)
    fig = frames.figure(
        style,
        Text(
            "Feature correlations",
            "Linear correlation coefficients of the features in percent, all classes with equal "
            "weight; pairs with a missing value are left out.",
        ),
        name_axis("", names, fixedrange=True, tickangle=-90),
        name_axis("", names, falling=True, fixedrange=True),
        Legend(place="top left"),
        area=(size, size),
        margin={"l": longest + 24, "b": longest + 24, "r": 100},
    )
    text = [[_coefficient(v) for v in row] for row in coefficients] if n <= 30 else None
    font = int(np.clip(cell / 2.6, 8, 15))
    matrix = Matrix(100 * coefficients, BLUE_WHITE_RED, (-100, 100), size / n, text, font)
    shapes, trace = painted(matrix, hovertemplate=HOVER)
    return _finished(fig, [trace, color_bar(matrix, BAR)], shapes)


def _coefficient(value: float) -> str:
    return f"{round(100 * value)}".replace("-", "−") if np.isfinite(value) else ""


def _by_class(
    ev: Evaluation, style: Style, names: list[str], group: Sequence[tuple[int, Floats]]
) -> go.Figure:
    n = len(names)
    longest = frames.text_width(names, 10)
    size = max(260, 13 * n)
    look: dict[str, Any] = {"fixedrange": True, "tickfont": {"size": 10 if n <= 20 else 8}}
    fig = frames.panels(
        style,
        Text(
            "Feature correlations by true class",
            "Linear correlation coefficients in percent for each true class; grey where a feature "
            "is constant.",
        ),
        [style.name(c) for c, _ in group],
        x=[name_axis("", names, tickangle=-90, **look)] * len(group),
        y=[name_axis("", names, falling=True, **look)] * len(group),
        legend=Legend(),
        grid=Grid((size, size), longest + 24, longest + 20, columns=min(len(group), 2)),
    )
    shapes, drawn = [], []
    for i, (class_id, coefficients) in enumerate(group):
        matrix = Matrix(100 * coefficients, BLUE_WHITE_RED, (-100, 100), size / n)
        name = literal(ev.name(class_id))
        paths, trace = painted(matrix, frames.place(i), hovertemplate=f"{name}<br>{HOVER}")
        shapes += paths
        drawn.append(trace)
    fig = _finished(fig, [*drawn, color_bar(matrix, BAR)], shapes)
    return fig.update_layout(margin={"r": 100}, width=fig.layout.width + 80)


def _finished(fig: go.Figure, drawn: list[go.Scatter], shapes: list[dict[str, Any]]) -> go.Figure:
    fig.add_traces(drawn)
    # Wherever in a square the pointer is, its value is told.
    return fig.update_layout(plot_bgcolor=GROUND, shapes=shapes, hoverdistance=-1)
