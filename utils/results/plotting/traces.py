"""What is drawn into frames: lines, bands, error bars and histograms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from utils.columns.arrays import Floats
from utils.results.plotting.style import INK, MUTED, Settings, Style, faint


def thin(values: ArrayLike) -> NDArray[np.float32]:
    """Return `values` in the precision a figure needs: pages stay small."""
    return np.asarray(values, dtype=np.float32)


def line(
    x: ArrayLike, y: ArrayLike, color: str, *, width: float = 2, dash: str = "solid", **more: Any
) -> go.Scatter:
    """Return a line; `more` are settings of the trace."""
    look = {"color": color, "width": width, "dash": dash}
    return go.Scatter(x=thin(x), y=thin(y), mode="lines", line=look, **more)


def class_line(style: Style, class_id: int, x: ArrayLike, y: ArrayLike, **more: Any) -> go.Scatter:
    """Return a line in a class's colour, which its band toggles with."""
    group = f"class {class_id}"
    color, dash = style.rgba(class_id), style.dash(class_id)
    return line(x, y, color, dash=dash, legendgroup=group, **more)


def guess(x: ArrayLike, y: ArrayLike, **more: Any) -> go.Scatter:
    """Return the line of what guessing gives."""
    return line(x, y, MUTED, width=1, dash="dot", hoverinfo="skip", showlegend=False, **more)


def band(
    x_low: ArrayLike,
    y_low: ArrayLike,
    x_high: ArrayLike,
    y_high: ArrayLike,
    color: str,
    **more: Any,
) -> go.Scatter:
    """Return the area between two lines, in pieces where either is undefined in between."""
    lines = np.vstack([np.asarray(v, dtype=float) for v in (x_low, y_low, x_high, y_high)])
    known = np.isfinite(lines).all(axis=0)
    outline: list[NDArray[Any]] = []
    for part in np.split(np.arange(len(known)), np.flatnonzero(np.diff(known)) + 1):
        if len(part) and known[part[0]]:
            x0, y0, x1, y1 = lines[:, part]
            if outline:
                outline.append(np.full((2, 1), np.nan))
            outline.append(np.array([[*x0, *x1[::-1]], [*y0, *y1[::-1]]]))
    x, y = np.concatenate(outline, axis=1) if outline else np.empty((2, 0))
    look: dict[str, Any] = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    area = {"mode": "lines", "fill": "toself", "fillcolor": color}
    return go.Scatter(x=thin(x), y=thin(y), **area, **(look | more))


def error_band(x: ArrayLike, value: Floats, error: Floats, color: str, **more: Any) -> go.Scatter:
    """Return the area within one `error` of a line."""
    return band(x, value - error, x, value + error, color, **more)


def measured_line(
    x: ArrayLike,
    value: Floats,
    error: Floats,
    color: str,
    name: str,
    hover: str,
    more: dict[str, Any],
) -> list[go.Scatter]:
    """Return a line in a colour `#rrggbb` and the band of its errors, which toggle together."""
    tied: Settings = {"legendgroup": name}
    shade = error_band(x, value, error, faint(color), **(more | tied | {"showlegend": False}))
    return [shade, line(x, value, color, name=name, hovertemplate=hover, **tied, **more)]


def star(x: float, y: float, color: str) -> go.Scatter:
    """Return the mark of what is best."""
    return go.Scatter(
        x=[x], y=[y], mode="markers", marker={"symbol": "star", "size": 12, "color": color}
    )


def bars(
    up: ArrayLike,
    down: ArrayLike | None = None,
    color: str | None = None,
    *,
    width: int = 0,
    thickness: float = 1.3,
) -> dict[str, Any]:
    """Return error bars of the lengths `up` and, if they differ, `down`."""
    found = {"type": "data", "array": thin(up), "width": width, "thickness": thickness}
    found |= {} if color is None else {"color": color}
    return found if down is None else found | {"symmetric": False, "arrayminus": thin(down)}


# --- histograms -----------------------------------------------------------------------------------


def step_points(edges: ArrayLike, values: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the corners of a histogram's outline: 2m points for m bins."""
    edges = np.asarray(edges, dtype=float)
    return np.repeat(edges, 2)[1:-1], np.repeat(np.asarray(values, dtype=float), 2)


def outline(edges: Floats, values: Floats, floor: float, **more: Any) -> go.Scatter:
    """Return a histogram's outline, which starts and ends on the axis (at `floor`)."""
    x, y = step_points(edges, np.maximum(values, floor))
    return go.Scatter(
        x=thin(np.concatenate([x[:1], x, x[-1:]])),
        y=thin(np.concatenate([[floor], y, [floor]])),
        mode="lines",
        hoveron="points",
        **more,
    )


def step_band(
    edges: Floats, low: ArrayLike, high: ArrayLike, color: str, **more: Any
) -> go.Scatter:
    """Return the area between the outlines of two histograms."""
    x, below = step_points(edges, low)
    _, above = step_points(edges, high)
    return band(x, below, x, above, color, **more)


def points(
    edges: Floats, value: Floats, error: Floats, color: str, symbol: str = "circle", **more: Any
) -> go.Scatter:
    """Return a histogram as data are drawn: points with error bars, where there is something."""
    shown = value > 0
    value, error = value[shown], error[shown]
    return go.Scatter(
        x=thin(0.5 * (edges[1:] + edges[:-1])[shown]),
        y=thin(value),
        # An error bar that reaches below zero can't be drawn on a logarithmic axis.
        error_y=bars(error, np.minimum(error, 0.999 * value), color),
        mode="markers",
        marker={"color": color, "size": 6, "symbol": symbol},
        **more,
    )


@dataclass(frozen=True)
class Look:
    """How one class's histogram is drawn.

    fill: its area is filled. floor: lower end of the axis. banded: its errors are drawn, as a band
    or, where `bar` says where in a bin (0 to 1), as error bars. more: settings of all its traces.
    """

    fill: bool = False
    floor: float = 0.0
    banded: bool = True
    bar: float | None = None
    showlegend: bool = True
    more: Settings = field(default_factory=dict)


def class_histogram(
    style: Style, class_id: int, edges: Floats, value: Floats, error: Floats, look: Look, hover: str
) -> list[go.Scatter]:
    """Return one class's histogram: outline, fill and statistical band, which toggle together."""
    group = {"legendgroup": f"class {class_id}", **look.more}
    told: Settings = {
        "name": style.name(class_id),
        "hovertemplate": hover,
        "showlegend": look.showlegend,
    }
    if class_id < 0:  # unlabelled events look like data
        return [points(edges, value, error, INK, **told, **group)]
    color = style.rgba(class_id)
    drawn = outline(
        edges,
        value,
        look.floor,
        line={"color": color, "width": 1.8, "dash": style.dash(class_id)},
        fill="toself" if look.fill else "none",
        fillcolor=style.rgba(class_id, 0.45 * style.alpha(class_id)),
        **told,
        **group,
    )
    if not look.banded:
        return [drawn]
    if look.bar is None:
        low, high = (np.maximum(value + sign * error, look.floor) for sign in (-1, 1))
        return [drawn, step_band(edges, low, high, style.rgba(class_id, 0.32), **group)]
    seen = value > 0
    at = (edges[:-1] + look.bar * np.diff(edges))[seen]
    value, error = value[seen], error[seen]
    errors = go.Scatter(
        x=thin(at),
        y=thin(value),
        error_y=bars(error, np.minimum(error, value - look.floor), color, thickness=1),
        mode="markers",
        marker={"size": 3, "color": color},
        hoverinfo="skip",
        showlegend=False,
        **group,
    )
    return [drawn, errors]


def folds(
    values: Iterable[tuple[float, float]],
    color: str,
    hover: str,
    size: int,
    group: str | None = None,
) -> list[go.Scatter]:
    """Return the values of single folds, each with its place on the other axis, as open circles."""
    known = [(value, at) for value, at in values if np.isfinite(value)]
    if not known:
        return []
    x, y = zip(*known, strict=True)
    marker = {"symbol": "circle-open", "size": size, "color": color}
    told = {"name": "folds", "showlegend": False, "hovertemplate": hover + "<extra></extra>"}
    return [
        go.Scatter(x=thin(x), y=thin(y), mode="markers", marker=marker, legendgroup=group, **told)
    ]
