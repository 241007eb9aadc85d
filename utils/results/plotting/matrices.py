"""Matrices with numbers in their cells: confusion and correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from utils.columns.arrays import Floats
from utils.results.containers import VIEW_LABELS, ConfusionMatrix, Evaluation
from utils.results.plotting.densities import Named
from utils.results.plotting.labels import decimals, literal, measured, number, shorten
from utils.results.plotting.style import (
    INK,
    Style,
    axis,
    figure,
    pages,
    panels,
    parse_color,
    plain_width,
    rgba,
    thin,
)

BLUES = [[0.0, "#ffffff"], [0.25, "#d3e3f3"], [0.5, "#8cbbdf"], [0.75, "#3d85bf"], [1.0, "#0f4c8a"]]
BLUE_WHITE_RED = [[0.0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#ffffff"], [0.75, "#f4a582"]]
BLUE_WHITE_RED += [[1.0, "#b2182b"]]


def confusion(ev: Evaluation, style: Style) -> Named:
    """Yield the confusion matrices: by true class, by category, and physics yields."""
    main = ev.confusion[0].view if ev.confusion else None
    for matrix in ev.confusion:
        if matrix.view not in (main, "physics"):
            continue
        for kind in ("true", "predicted"):
            yield f"by_{kind}_{matrix.view}", _shares(style, matrix, kind)
        if matrix.view == "physics":
            yield "yields", _yields(style, matrix)
    if ev.confusion:
        yield "events", _events(style, ev.confusion[0])


def _shares(style: Style, m: ConfusionMatrix, kind: str) -> go.Figure:
    by_true = kind == "true"
    value = 100 * (m.norm_true if by_true else m.norm_pred)
    error = 100 * (m.norm_true_error if by_true else m.norm_pred_error)
    low = 100 * (m.norm_true_low if by_true else m.norm_pred_low)
    high = 100 * (m.norm_true_high if by_true else m.norm_pred_high)
    spread = 100 * (m.norm_true_spread if by_true else m.norm_pred_spread)
    n = len(value)
    hover = [
        [
            f"{number(value[i, j])} % [{number(low[i, j])}, {number(high[i, j])}], "
            f"folds ± {number(spread[i, j], 2)}, {int(m.counts[i, j]):,} events"
            for j in range(n)
        ]
        for i in range(n)
    ]
    what = "true class" if by_true else "category"
    return _matrix(
        style,
        shade=value,
        text=[
            [_share_text(value[i, j], error[i, j], int(m.counts[i, j]), n) for j in range(n)]
            for i in range(n)
        ],
        hover=hover,
        title=f"Confusion matrix by {what}, {VIEW_LABELS[m.view]}",
        caption=(
            (
                "Share of each true class that is assigned to each category: rows add up to 100 %."
                if by_true
                else "Composition of each category by true class: columns add up to 100 %."
            )
            + f" Events are {VIEW_LABELS[m.view]}; uncertainties are one standard deviation; "
            "0 stands where there is no event."
        ),
        bar="Share of the true class [%]" if by_true else "Share of the category [%]",
    )


def _share_text(value: float, error: float, count: int, n: int) -> str:
    if not np.isfinite(value):
        return "–"
    if count == 0:  # the bootstrap of nothing is nothing: that is no measured error of 0
        return "0"
    if n > 10:
        return f"{value:.0f}"
    text = f"{value:.1f}"
    if n > 6 or not np.isfinite(error):
        return text
    places = min(max(decimals(error, 1), 1), 2)
    return f"{value:.{places}f}<br><span style='font-size:80%'>± {error:.{places}f}</span>"


def _yields(style: Style, m: ConfusionMatrix) -> go.Figure:
    n = len(m.yields)

    def text(i: int, j: int) -> str:
        value = float(m.yields[i, j])
        shown = number(value)
        if n > 10:
            return _count_text(round(value), n)
        if n > 6:
            return shown
        if m.counts[i, j] == 0:
            return "0"
        value_text, _, error_text = measured(value, float(m.yields_error[i, j])).partition(" ± ")
        return f"{value_text}<br><span style='font-size:80%'>± {error_text}</span>"

    return _matrix(
        style,
        shade=100 * m.norm_true,
        text=[[text(i, j) for j in range(n)] for i in range(n)],
        hover=[
            [
                f"{number(m.yields[i, j], 4)} ± {number(m.yields_error[i, j], 2)} "
                f"[{number(m.yields_low[i, j], 4)}, {number(m.yields_high[i, j], 4)}], "
                f"folds ± {number(m.yields_spread[i, j], 2)}"
                for j in range(n)
            ]
            for i in range(n)
        ],
        title="Expected yields by true class and category",
        caption=(
            "Sums of the physics weights, divided by the evaluated fraction of each process; "
            "uncertainties from the sums of squared weights. Shade: share of the true class."
        ),
        bar="Share of the true class [%]",
    )


def _events(style: Style, m: ConfusionMatrix) -> go.Figure:
    n = len(m.counts)
    rows = m.counts.sum(axis=1, keepdims=True)
    nothing = np.full(m.counts.shape, np.nan)
    share = np.divide(100.0 * m.counts, rows, out=nothing, where=rows > 0)
    return _matrix(
        style,
        shade=share,
        text=[[_count_text(int(m.counts[i, j]), n) for j in range(n)] for i in range(n)],
        hover=[[f"{int(m.counts[i, j]):,} events" for j in range(n)] for i in range(n)],
        title="Events by true class and category",
        caption="Numbers of events, unweighted. Shade: share of the true class.",
        bar="Share of the true class [%]",
    )


def _count_text(count: int, n: int) -> str:
    if n <= 10 or abs(count) < 1000:
        return f"{count:,}".replace(",", " ")
    return (
        f"{count / 1e3:.{1 if abs(count) < 9_950 else 0}f}k"
        if abs(count) < 999_500
        else f"{count / 1e6:.1f}M"
    )


def _matrix(
    style: Style,
    *,
    shade: Floats,
    text: list[list[str]],
    hover: list[list[str]],
    title: str,
    caption: str,
    bar: str,
) -> go.Figure:
    n = len(shade)
    ids = list(range(n))
    names = [style.name(c, 18) for c in ids]
    cell = float(np.clip(440 / n, 40, 200))
    size = round(cell * n)
    ticks: dict[str, Any] = {
        "tickvals": ids,
        "ticktext": names,
        "range": [-0.5, n - 0.5],
        "minor": {},
        "fixedrange": True,
        "ticks": "",
    }
    longest = round(max(plain_width(name, 14) for name in names))
    turned = longest > cell - 8
    fig = figure(
        style,
        title=title,
        caption=caption,
        x=axis("Category (predicted class)", **ticks, tickangle=-90 if turned else 0),
        y=axis("True class", **(ticks | {"range": [n - 0.5, -0.5]})),
        legend="top left",
        area=(size, size),
        margin={
            "l": longest + 54,
            "r": 104,
            "b": (longest if turned else 18) + 48,
            "t": 44,
        },
    )
    fig.add_trace(
        cells(shade, text, hover, BLUES, (0.0, 100.0), bar, size / n, _font(cell, text)).update(
            hovertemplate="true %{y}, category %{x}<br>%{customdata}<extra></extra>"
        )
    )
    fig.update_layout(plot_bgcolor="#e9e9e9")  # shows through where nothing is defined
    return fig


def _font(cell: float, text: list[list[str]]) -> int:
    lines = [part for row in text for entry in row for part in entry.split("<br>")]
    widest = max((plain_width(line) / 13 for line in lines), default=1.0)
    return int(np.clip((cell - 8) / max(widest, 0.1), 8, 17))


def cells(
    z: Floats,
    text: list[list[str]] | None,
    hover: list[list[str]] | None,
    scale: list[list[Any]],
    bounds: tuple[float, float],
    bar: str,
    side: float,
    font: int = 9,
    **more: Any,
) -> go.Scatter:
    """Return a matrix as squares of `side` pixels: unlike a heatmap they are lines in a PDF."""
    row, column = np.indices(np.shape(z)).reshape(2, -1)
    value = np.asarray(z, dtype=float).ravel()
    known = np.isfinite(value)
    share = np.where(known, (value - bounds[0]) / (bounds[1] - bounds[0]), 0.0)
    # Where nothing is defined the square is left out and the grey ground shows.
    return go.Scatter(
        x=column.astype(np.uint8),
        y=row.astype(np.uint8),
        mode="markers+text" if text else "markers",
        text=[entry for line in text for entry in line] if text else None,
        textposition="middle center",
        textfont={"size": font, "color": [contrast(scale, s) for s in share]},
        customdata=[entry for line in hover for entry in line] if hover else thin(value),
        showlegend=False,
        cliponaxis=True,
        marker={
            "symbol": "square",
            "size": np.where(known, side - 1, 0.0).astype(np.float32),
            "color": thin(np.where(known, value, bounds[0])),
            "opacity": 1,
            "line": {"width": 0},
            **_colors(scale, bounds, bar),
        },
        **more,
    )


LEVELS = 100
"""Colours of a matrix that is painted level by level: steps that no eye tells apart."""


def painted(
    z: Floats,
    text: list[list[str]] | None,
    scale: list[list[Any]],
    bounds: tuple[float, float],
    side: float,
    font: int = 9,
    axes: tuple[str, str] = ("x", "y"),
    **more: Any,
) -> tuple[list[dict[str, Any]], go.Scatter]:
    """Return a large matrix as one path per colour, and the trace of its texts and values.

    For hundreds of cells: the engine that draws a PDF takes a square of `cells` each for itself.
    """
    row, column = np.indices(np.shape(z)).reshape(2, -1)
    value = np.asarray(z, dtype=float).ravel()
    known = np.isfinite(value)
    share = np.where(known, (value - bounds[0]) / (bounds[1] - bounds[0]), 0.0)
    level = np.where(known, np.rint(LEVELS * share), -1).astype(int)
    half = 0.5 * (side - 1) / side
    shapes = []
    for step in np.unique(level[known]):
        mine = level == step
        corners = zip(column[mine], row[mine], strict=True)
        path = "".join(
            f"M{x - half:.2f},{y - half:.2f}H{x + half:.2f}V{y + half:.2f}H{x - half:.2f}Z"
            for x, y in corners
        )
        shapes.append(
            {"type": "path", "path": path, "xref": axes[0], "yref": axes[1], "layer": "below"}
            | {"fillcolor": rgba(between(scale, step / LEVELS)), "line": {"width": 0}}
        )
    trace = go.Scatter(
        x=column.astype(np.uint8),
        y=row.astype(np.uint8),
        xaxis=axes[0],
        yaxis=axes[1],
        mode="text" if text else "none",
        text=[entry for line in text for entry in line] if text else None,
        textposition="middle center",
        textfont={"size": font, "color": [contrast(scale, s) for s in share]} if text else None,
        customdata=thin(value),
        showlegend=False,
        **more,
    )
    return shapes, trace


def color_bar(scale: list[list[Any]], bounds: tuple[float, float], text: str) -> go.Scatter:
    """Return a trace without points that has a colour bar."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        showlegend=False,
        hoverinfo="skip",
        marker={"color": [bounds[0]], **_colors(scale, bounds, text)},
    )


def _colors(scale: list[list[Any]], bounds: tuple[float, float], text: str) -> dict[str, Any]:
    return {
        "colorscale": scale,
        "cmin": bounds[0],
        "cmax": bounds[1],
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


def between(scale: list[list[Any]], share: float) -> tuple[int, int, int]:
    """Return the colour at `share` (0..1) of a scale."""
    at = np.array([stop for stop, _ in scale], dtype=float)
    rgb = np.array([parse_color(color, "") for _, color in scale], dtype=float)
    red, green, blue = (round(float(np.interp(share, at, channel))) for channel in rgb.T)
    return red, green, blue


def contrast(scale: list[list[Any]], share: float) -> str:
    """Return the colour of text that can be read on the colour at `share` (0..1) of a scale."""
    luminance = np.array(between(scale, share)) @ np.array([0.299, 0.587, 0.114])
    return "#ffffff" if luminance < 145 else INK


def correlations(ev: Evaluation, style: Style) -> Named:
    """Yield the features' correlation matrix, then those of the single classes."""
    result = ev.correlations
    if result is None or not result.names:
        return
    n = len(result.names)
    names = [shorten_label(style.feature_name(f)) for f in result.names]
    cell = float(np.clip(560 / n, 22, 60))
    size = max(round(cell * n), 400)
    longest = round(max(plain_width(name, 14) for name in names))
    ticks: dict[str, Any] = {
        "tickvals": list(range(n)),
        "ticktext": names,
        "minor": {},
        "fixedrange": True,
        "ticks": "",
    }
    text = None
    if n <= 30:
        text = [[_coefficient(v) for v in row] for row in result.matrix]
    fig = figure(
        style,
        title="Feature correlations",
        caption=(
            "Linear correlation coefficients of the features in percent, all classes with equal "
            "weight; pairs with a missing value are left out."
        ),
        x=axis(range=[-0.5, n - 0.5], tickangle=-90, **ticks),
        y=axis(range=[n - 0.5, -0.5], **ticks),
        legend="top left",
        area=(size, size),
        margin={"l": longest + 24, "b": longest + 24, "r": 100, "t": 44},
    )
    shapes, trace = painted(
        100 * result.matrix,
        text,
        BLUE_WHITE_RED,
        (-100, 100),
        size / n,
        int(np.clip(cell / 2.6, 8, 15)),
        hovertemplate="%{x}, %{y}: %{customdata:.1f} %<extra></extra>",
    )
    bar = color_bar(BLUE_WHITE_RED, (-100, 100), "Correlation [%]")
    fig.add_traces([trace, bar])
    # Wherever in a square the pointer is, its value is told.
    fig.update_layout(plot_bgcolor="#e9e9e9", shapes=shapes, hoverdistance=-1)
    yield "correlations", fig
    several = pages(list(result.per_class.items()))
    for page_number, group in enumerate(several, start=1):
        yield f"correlations_by_class_{page_number}", _by_class(ev, style, names, group)


def shorten_label(text: str) -> str:
    """Return a short tick text; one with markup is left whole."""
    return text if "<" in text or "&" in text else shorten(text, 26)


def _coefficient(value: float) -> str:
    return f"{round(100 * value)}".replace("-", "−") if np.isfinite(value) else ""


def _by_class(
    ev: Evaluation, style: Style, names: list[str], group: Sequence[tuple[int, Floats]]
) -> go.Figure:
    n = len(names)
    longest = round(max(plain_width(name, 10) for name in names))
    ticks: dict[str, Any] = {
        "tickvals": list(range(n)),
        "ticktext": names,
        "minor": {},
        "fixedrange": True,
        "ticks": "",
    }
    ticks |= {"tickfont": {"size": 10 if n <= 20 else 8}}
    area = max(260, 13 * n)
    columns = min(len(group), 2)
    fig = panels(
        style,
        [style.name(c) for c, _ in group],
        title="Feature correlations by true class",
        caption=(
            "Linear correlation coefficients in percent for each true class; grey where a feature "
            "is constant."
        ),
        x=[axis(range=[-0.5, n - 0.5], tickangle=-90, **ticks) for _ in group],
        y=[axis(range=[n - 0.5, -0.5], **ticks) for _ in group],
        columns=columns,
        area=(area, area),
        left=longest + 24,
        below=longest + 20,
    )
    shapes = []
    for i, (class_id, matrix) in enumerate(group):
        suffix = str(i + 1) if i else ""
        paths, trace = painted(
            100 * matrix,
            None,
            BLUE_WHITE_RED,
            (-100, 100),
            area / n,
            axes=("x" + suffix, "y" + suffix),
            hovertemplate=f"{literal(ev.classes[class_id].name)}<br>"
            "%{x}, %{y}: %{customdata:.1f} %<extra></extra>",
        )
        shapes += paths
        fig.add_trace(trace)
    fig.add_trace(color_bar(BLUE_WHITE_RED, (-100, 100), "Correlation [%]"))
    fig.update_layout(plot_bgcolor="#e9e9e9", shapes=shapes, hoverdistance=-1)
    fig.update_layout(margin={"r": 100}, width=fig.layout.width + 80)
    return fig
