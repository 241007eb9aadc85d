"""Confusion matrices: by true class, by category, in expected and in simulated events."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go

from utils.columns.arrays import Floats
from utils.results.estimates import ratio
from utils.results.evaluation import Evaluation
from utils.results.metrics.confusion import ConfusionMatrix
from utils.results.plotting import frames
from utils.results.plotting.frames import Legend, Named, Text, name_axis
from utils.results.plotting.labels import decimals, measured, number
from utils.results.plotting.matrices import BLUES, GROUND, Matrix, squares
from utils.results.plotting.style import Style

Cell = Callable[[int, int], str]
"""Text of the cell in a row and column."""

SHARE_OF_CLASS = "Share of the true class [%]"


def confusion(ev: Evaluation, style: Style) -> Named:
    """Yield the confusion matrices: by true class, by category, and physics yields."""
    for matrix in ev.confusion:
        if matrix.view not in ev.shown_views:
            continue
        for kind in ("true", "predicted"):
            yield f"by_{kind}_{matrix.view}", _shares(ev, style, matrix, kind)
        if matrix.view == "physics":
            yield "yields", _yields(style, matrix)
    if ev.confusion:
        yield "events", _events(style, ev.confusion[0])


def _shares(ev: Evaluation, style: Style, m: ConfusionMatrix, kind: str) -> go.Figure:
    by_true, label = kind == "true", ev.label(m.view)
    of = m.norm_true if by_true else m.norm_pred
    value, error = 100 * of.value, 100 * of.error

    def hover(i: int, j: int) -> str:
        share, low, high = (number(100 * v[i, j]) for v in (of.value, of.low, of.high))
        spread, count = number(100 * of.spread[i, j], 2), int(m.counts[i, j])
        return f"{share} % [{low}, {high}], folds ± {spread}, {count:,} events"

    what = "true class" if by_true else "category"
    meaning = (
        "Share of each true class that is assigned to each category: rows add up to 100 %."
        if by_true
        else "Composition of each category by true class: columns add up to 100 %."
    )
    return _figure(
        style,
        Text(
            f"Confusion matrix by {what}, {label}",
            f"{meaning} Events are {label}; uncertainties are one standard deviation; "
            "0 stands where there is no event.",
        ),
        value,
        lambda i, j: _share_text(value[i, j], error[i, j], int(m.counts[i, j]), len(value)),
        hover,
        f"Share of the {what} [%]",
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
    of, n = m.yields, len(m.counts)

    def text(i: int, j: int) -> str:
        value = float(of.value[i, j])
        if n > 10:
            return _count_text(round(value), n)
        if n > 6:
            return number(value)
        if m.counts[i, j] == 0:
            return "0"
        shown, _, error = measured(value, float(of.error[i, j])).partition(" ± ")
        return f"{shown}<br><span style='font-size:80%'>± {error}</span>"

    def hover(i: int, j: int) -> str:
        value, low, high = (number(v[i, j], 4) for v in (of.value, of.low, of.high))
        error, spread = (number(v[i, j], 2) for v in (of.error, of.spread))
        return f"{value} ± {error} [{low}, {high}], folds ± {spread}"

    about = Text(
        "Expected yields by true class and category",
        "Sums of the physics weights, divided by the evaluated fraction of each process; "
        "uncertainties from the sums of squared weights. Shade: share of the true class.",
    )
    return _figure(style, about, 100 * m.norm_true.value, text, hover, SHARE_OF_CLASS)


def _events(style: Style, m: ConfusionMatrix) -> go.Figure:
    rows = m.counts.sum(axis=1, keepdims=True)
    about = Text(
        "Events by true class and category",
        "Numbers of events, unweighted. Shade: share of the true class.",
    )
    return _figure(
        style,
        about,
        ratio(100.0 * m.counts, rows),
        lambda i, j: _count_text(int(m.counts[i, j]), len(rows)),
        lambda i, j: f"{int(m.counts[i, j]):,} events",
        SHARE_OF_CLASS,
    )


def _count_text(count: int, n: int) -> str:
    if n <= 10 or abs(count) < 1000:
        return f"{count:,}"
    return (
        f"{count / 1e3:.{1 if abs(count) < 9_950 else 0}f}k"
        if abs(count) < 999_500
        else f"{count / 1e6:.1f}M"
    )


def _figure(
    style: Style, about: Text, shade: Floats, text: Cell, hover: Cell, bar: str
) -> go.Figure:
    n = len(shade)
    names = [style.name(c, 18) for c in range(n)]
    cell = float(np.clip(440 / n, 40, 200))
    size = round(cell * n)
    longest = frames.text_width(names, 14)
    turned = longest > cell - 8
    angle = -90 if turned else 0
    x = name_axis("Category (predicted class)", names, fixedrange=True, tickangle=angle)
    fig = frames.figure(
        style,
        about,
        x,
        name_axis("True class", names, falling=True, fixedrange=True),
        Legend(place="top left"),
        area=(size, size),
        margin={"l": longest + 54, "r": 104, "b": (longest if turned else 18) + 48},
    )
    texts = [[text(i, j) for j in range(n)] for i in range(n)]
    lines = [part for row in texts for entry in row for part in entry.split("<br>")]
    widest = max((frames.plain_width(line) / 13 for line in lines), default=1.0)
    font = int(np.clip((cell - 8) / max(widest, 0.1), 8, 17))
    matrix = Matrix(shade, BLUES, (0.0, 100.0), size / n, texts, font)
    told = {
        "customdata": [hover(i, j) for i in range(n) for j in range(n)],
        "hovertemplate": "true %{y}, category %{x}<br>%{customdata}<extra></extra>",
    }
    fig.add_trace(squares(matrix, bar, **told))
    return fig.update_layout(plot_bgcolor=GROUND)
