"""Matrices as squares: what confusion matrices and correlations are drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.plotting.style import INK, Color, Settings, parse_color, rgba
from utils.results.plotting.traces import thin

Scale = list[list[Any]]
"""Colours at shares of a range, as plotly takes them."""

BLUES: Scale = [
    [0.0, "#ffffff"],
    [0.25, "#d3e3f3"],
    [0.5, "#8cbbdf"],
    [0.75, "#3d85bf"],
    [1.0, "#0f4c8a"],
]
BLUE_WHITE_RED: Scale = [
    [0.0, "#2166ac"],
    [0.25, "#92c5de"],
    [0.5, "#ffffff"],
    [0.75, "#f4a582"],
    [1.0, "#b2182b"],
]
GROUND = "#e9e9e9"
"""Shows through where nothing is defined."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix with colours for its numbers, and perhaps a text in each cell.

    z (n, n): NaN leaves a square out. bounds: of the colours. side: of a square in pixels.
    """

    z: Floats
    scale: Scale
    bounds: tuple[float, float]
    side: float
    text: list[list[str]] | None = None
    font: int = 9

    def shares(self) -> tuple[NDArray[np.bool_], Floats]:
        """Return, cell by cell, which are defined, and their place in the range of colours."""
        value = np.asarray(self.z, dtype=float).ravel()
        known = np.isfinite(value)
        low, high = self.bounds
        return known, np.where(known, (value - low) / (high - low), 0.0)

    def trace(self, mode: str, **more: Any) -> go.Scatter:
        """Return a trace with a point in the middle of each cell, and the texts."""
        row, column = np.indices(np.shape(self.z)).reshape(2, -1)
        texts: Settings = {"mode": mode or "none"}
        if self.text:
            colors = [contrast(self.scale, share) for share in self.shares()[1]]
            texts = {
                "mode": f"{mode}+text".strip("+"),
                "text": [entry for line in self.text for entry in line],
                "textposition": "middle center",
                "textfont": {"size": self.font, "color": colors},
            }
        x, y = column.astype(np.uint8), row.astype(np.uint8)
        return go.Scatter(x=x, y=y, showlegend=False, **texts, **more)


def squares(matrix: Matrix, bar: str, **more: Any) -> go.Scatter:
    """Return a matrix as squares: unlike a heatmap they are lines in a PDF. bar: its title."""
    known, _ = matrix.shares()
    marker = {
        "symbol": "square",
        "size": np.where(known, matrix.side - 1, 0.0).astype(np.float32),
        "color": thin(np.where(known, np.ravel(matrix.z), matrix.bounds[0])),
        "opacity": 1,
        "line": {"width": 0},
        **_colors(matrix, bar),
    }
    return matrix.trace("markers", marker=marker, cliponaxis=True, **more)


LEVELS = 100
"""Colours of a matrix that is painted level by level: steps that no eye tells apart."""


def painted(matrix: Matrix, **more: Any) -> tuple[list[dict[str, Any]], go.Scatter]:
    """Return a large matrix as one path per colour, and the trace of its texts and values.

    For hundreds of cells: the engine that draws a PDF takes each of `squares` for itself.
    """
    row, column = np.indices(np.shape(matrix.z)).reshape(2, -1)
    known, share = matrix.shares()
    level = np.where(known, np.rint(LEVELS * share), -1).astype(int)
    half = 0.5 * (matrix.side - 1) / matrix.side
    shapes = []
    for step in np.unique(level[known]):
        mine = level == step
        corners = zip(column[mine], row[mine], strict=True)
        path = "".join(
            f"M{x - half:.2f},{y - half:.2f}H{x + half:.2f}V{y + half:.2f}H{x - half:.2f}Z"
            for x, y in corners
        )
        shapes.append(
            {
                "type": "path",
                "path": path,
                "xref": "x",
                "yref": "y",
                "layer": "below",
            }
            | {"fillcolor": rgba(between(matrix.scale, step / LEVELS)), "line": {"width": 0}}
        )
    return shapes, matrix.trace("", customdata=thin(np.ravel(matrix.z)), **more)


def color_bar(matrix: Matrix, text: str) -> go.Scatter:
    """Return a trace without points that has a colour bar."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        showlegend=False,
        hoverinfo="skip",
        marker={"color": [matrix.bounds[0]], **_colors(matrix, text)},
    )


def _colors(matrix: Matrix, text: str) -> dict[str, Any]:
    return {
        "colorscale": matrix.scale,
        "cmin": matrix.bounds[0],
        "cmax": matrix.bounds[1],
        "showscale": True,
        "colorbar": {
            "title": {"text": text, "side": "right", "font": {"size": 14}},
            "thickness": 14,
            "outlinewidth": 1,
            "outlinecolor": INK,
            "ticks": "inside",
            "tickfont": {"size": 12},
            "len": 1.0,
            "lenmode": "fraction",
            "xpad": 12,
            "ypad": 0,
        },
    }


def between(scale: Scale, share: float) -> Color:
    """Return the colour at `share` (0..1) of a scale."""
    at = np.array([stop for stop, _ in scale], dtype=float)
    rgb = np.array([parse_color(color, "") for _, color in scale], dtype=float)
    red, green, blue = (round(float(np.interp(share, at, channel))) for channel in rgb.T)
    return red, green, blue


def contrast(scale: Scale, share: float) -> str:
    """Return the colour of text that can be read on the colour at `share` (0..1) of a scale."""
    luminance = np.array(between(scale, share)) @ np.array([0.299, 0.587, 0.114])
    return "#ffffff" if luminance < 145 else INK
