"""Numbers with their intervals as figures: ROC areas, and differences between two runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from utils.results.estimates import Estimate
from utils.results.evaluation import Evaluation
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import Legend, Named, Text, axis
from utils.results.plotting.labels import literal, number
from utils.results.plotting.style import INK, PALETTE_10, Style
from utils.results.plotting.traces import thin

Row = tuple[str, Estimate, str]
"""Name of a row, a number, and which kind of numbers (colour) it is of."""


def intervals(ev: Evaluation, style: Style) -> Named:
    """Yield ROC areas per class with their intervals and the single folds."""
    colors = {"balanced": "#3f90da", "physics": "#bd1f01"}
    names = [] if ev.binary else [style.name(c) for c in ev.score_classes]
    names.append(style.name(ev.signal) if ev.binary else "<b>macro mean</b>")
    # Without weights as with balanced classes: a ROC curve knows nothing of the classes' sizes.
    shown = [s for s in ev.scores if s.view in colors]
    if not shown:
        return
    fig = frames.rows(
        style,
        Text(
            "ROC areas with their uncertainty",
            "Area under the ROC curve of each class against the rest: value and 95 % interval "
            "from the bootstrap over events; open circles are the single folds.",
        ),
        names,
        axis("Area under the ROC curve"),
        Legend(literal(ev.dataset), [ev.label(s.view) for s in shown]),
    )
    for v, scores in enumerate(shown):
        estimates = [*([] if ev.binary else scores.roc_auc), scores.roc_auc_macro]
        y = np.arange(len(names)) + (v - (len(shown) - 1) / 2) * 0.22
        color = colors[scores.view]
        fig.add_trace(_bars(estimates, y, color, ev.label(scores.view), scores.view))
        folds = [(f, at) for e, at in zip(estimates, y, strict=True) for f in e.folds]
        fig.add_traces(traces.folds(folds, color, "one fold: %{x:.5f}", 7, scores.view))
    yield "roc_areas", fig


def _bars(
    estimates: Sequence[Estimate], y: ArrayLike, color: str, name: str, group: str
) -> go.Scatter:
    value, low, high = np.array([(e.value, e.low, e.high) for e in estimates]).T
    up, down = (np.maximum(np.nan_to_num(v), 0) for v in (high - value, value - low))
    return go.Scatter(
        x=thin(value),
        y=thin(y),
        error_x=traces.bars(up, down, color, width=4, thickness=1.5),
        mode="markers",
        marker={"size": 8, "color": color},
        name=name,
        legendgroup=group,
        customdata=[
            f"{number(e.value, 4)} [{number(e.low, 4)}, {number(e.high, 4)}]" for e in estimates
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )


def comparison(ev: Evaluation, style: Style) -> Named:
    """Yield the differences between two runs, one figure per metric."""
    result = ev.comparison
    if result is None:
        return
    for metric in dict.fromkeys(m.metric for m in result.metrics):
        chosen = [m for m in result.metrics if m.metric == metric]
        rows: list[Row] = [
            (
                "<b>all classes</b>" if m.class_id is None else style.name(m.class_id),
                m.difference,
                ev.label(m.view),
            )
            for m in chosen
        ]
        side = "right" if chosen[0].higher_is_better else "left"
        text = Text(
            f"Comparison: {metric}",
            f"{result.a} minus {result.b} on the same {result.n_events:,} events, with "
            f"95 % paired bootstrap intervals. {result.a} is better to the {side}.",
        )
        title = f"{literal(result.a)}<br>minus {literal(result.b)}"
        yield (
            f"comparison_{metric}",
            rows_of_intervals(style, rows, text, f"Difference in {literal(metric)}", title),
        )


def rows_of_intervals(
    style: Style, rows: Sequence[Row], text: Text, x: str, legend: str
) -> go.Figure:
    """Return numbers with their intervals about zero; x, legend: titles of axis and legend."""
    names = list(dict.fromkeys(name for name, _, _ in rows))
    kinds = list(dict.fromkeys(kind for _, _, kind in rows))
    fig = frames.rows(style, text, names, axis(x), Legend(legend, kinds), area=(430, 130))
    fig.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dot"})
    for k, kind in enumerate(kinds):
        chosen = [(names.index(n), e) for n, e, of in rows if of == kind]
        y = np.array([i for i, _ in chosen]) + (k - (len(kinds) - 1) / 2) * 0.6 / len(kinds)
        color = PALETTE_10[(0, 2, 8, 1)[k % 4]]
        fig.add_trace(_bars([e for _, e in chosen], y, color, kind, kind))
    return fig
