"""Numbers as figures: intervals, gaps, comparisons, importances and SHAP values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from utils.results.containers import VIEW_LABELS, Estimate, Evaluation, Importance, ShapSummary
from utils.results.plotting.densities import Named
from utils.results.plotting.labels import literal, number
from utils.results.plotting.matrices import shorten_label
from utils.results.plotting.style import (
    INK,
    MUTED,
    PALETTE_10,
    Style,
    axis,
    figure,
    plain_width,
    thin,
)

MOST_FEATURES = 25
SHAP_FEATURES = 15
SHAP_EVENTS = 80
SHAP_SCALE = [[0.0, "#3f90da"], [0.5, "#9a86a8"], [1.0, "#bd1f01"]]

Row = tuple[str, Estimate, str]


def intervals(ev: Evaluation, style: Style) -> Named:
    """Yield ROC areas per class with their intervals and the single folds."""
    views = {"balanced": "#3f90da", "physics": "#bd1f01"}
    names = [style.name(i) for i in range(len(ev.classes))] + ["<b>macro mean</b>"]
    # Without weights as with balanced classes: a ROC curve knows nothing of the classes' sizes.
    shown = [s for s in ev.scores if s.view != "unweighted"]
    if not shown:
        return
    longest = round(max(plain_width(n, 14) for n in names))
    fig = figure(
        style,
        title="ROC areas with their uncertainty",
        caption=(
            "Area under the ROC curve of each class against the rest: value and 95 % interval "
            "from the bootstrap over events; open circles are the single folds."
        ),
        x=axis("Area under the ROC curve"),
        y=_rows(names),
        legend="outside",
        entries=[VIEW_LABELS[s.view] for s in shown],
        legend_title=literal(ev.dataset),
        area=(430, max(44 * len(names), 160)),
        margin={"l": longest + 28},
    )
    count = len(shown)
    for v, scores in enumerate(shown):
        estimates = [*scores.roc_auc, scores.roc_auc_macro]
        y = np.arange(len(names)) + (v - (count - 1) / 2) * 0.22
        color = views[scores.view]
        group = {"legendgroup": scores.view}
        fig.add_trace(_bars(estimates, y, color, VIEW_LABELS[scores.view], group))
        folds = [(f, y[i]) for i, e in enumerate(estimates) for f in e.folds if np.isfinite(f)]
        if folds:
            fig.add_trace(
                go.Scatter(
                    x=thin([f for f, _ in folds]),
                    y=thin([at for _, at in folds]),
                    mode="markers",
                    marker={"symbol": "circle-open", "size": 7, "color": color},
                    name="folds",
                    showlegend=False,
                    hovertemplate="one fold: %{x:.5f}<extra></extra>",
                    **group,
                )
            )
    yield "roc_areas", fig


def _rows(names: Sequence[str]) -> dict[str, Any]:
    span = [len(names) - 0.5, -0.5]
    text = list(names)
    return axis(tickvals=list(range(len(text))), ticktext=text, range=span, ticks="", minor={})


def _bars(
    estimates: Sequence[Estimate], y: Any, color: str, name: str, group: Mapping[str, str]
) -> go.Scatter:
    value = np.array([e.value for e in estimates])
    above = np.array([e.high for e in estimates]) - value
    below = value - np.array([e.low for e in estimates])
    return go.Scatter(
        x=thin(value),
        y=thin(y),
        error_x={
            "type": "data",
            "symmetric": False,
            "array": thin(np.maximum(np.nan_to_num(above), 0)),
            "arrayminus": thin(np.maximum(np.nan_to_num(below), 0)),
            "width": 4,
            "thickness": 1.5,
            "color": color,
        },
        mode="markers",
        marker={"size": 8, "color": color},
        name=name,
        customdata=[
            f"{number(e.value, 4)} [{number(e.low, 4)}, {number(e.high, 4)}]" for e in estimates
        ],
        hovertemplate="%{customdata}<extra></extra>",
        **group,
    )


def gaps(ev: Evaluation, style: Style) -> Named:
    """Yield the over-training gaps with their intervals, one figure per metric's scale."""
    result = ev.over_training
    if result is None:
        return
    for key, wanted, title in (
        ("gaps_roc_auc", ("roc_auc", "roc_auc_macro"), "ROC area"),
        ("gaps_log_loss", ("log_loss",), "log-loss"),
    ):
        chosen = [g for g in result.gaps if g.metric in wanted]
        rows: list[Row] = []
        for gap in chosen:
            of = "<b>macro mean</b>" if gap.metric == "roc_auc_macro" else "all classes"
            of = style.name(gap.class_id) if gap.class_id is not None else of
            kind = f"{gap.first} − {gap.second}"
            kind += "" if gap.view == "balanced" else f", {VIEW_LABELS[gap.view]}"
            rows.append((of, gap.difference, kind))
        if rows:
            yield (
                key,
                _rows_of_intervals(
                    style,
                    rows,
                    title=f"Gaps in {title}",
                    caption=(
                        f"Differences of the {title} between samples with 95 % bootstrap intervals "
                        "(paired where both hold the same events), class-balanced where nothing "
                        "else is said. Zero means no over-training."
                    ),
                    x_title=f"Difference in {title}",
                    legend_title="95 % intervals",
                ),
            )


def comparison(ev: Evaluation, style: Style) -> Named:
    """Yield the differences between two runs, one figure per metric."""
    result = ev.comparison
    if result is None:
        return
    a, b = literal(result.a), literal(result.b)
    for metric in dict.fromkeys(m.metric for m in result.metrics):
        rows: list[Row] = [
            (
                "<b>all classes</b>" if m.class_id is None else style.name(m.class_id),
                m.difference,
                VIEW_LABELS[m.view],
            )
            for m in result.metrics
            if m.metric == metric
        ]
        better = next(m.higher_is_better for m in result.metrics if m.metric == metric)
        side = "right" if better else "left"
        yield (
            f"comparison_{metric}",
            _rows_of_intervals(
                style,
                rows,
                title=f"Comparison: {metric}",
                caption=(
                    f"{result.a} minus {result.b} on the same {result.n_events:,} events, with "
                    f"95 % paired bootstrap intervals. {result.a} is better to the {side}."
                ),
                x_title=f"Difference in {literal(metric)}",
                legend_title=f"{a}<br>minus {b}",
            ),
        )


def _rows_of_intervals(
    style: Style,
    rows: Sequence[Row],
    *,
    title: str,
    caption: str,
    x_title: str,
    legend_title: str,
) -> go.Figure:
    names = list(dict.fromkeys(name for name, _, _ in rows))
    kinds = list(dict.fromkeys(kind for _, _, kind in rows))
    longest = round(max(plain_width(n, 14) for n in names))
    fig = figure(
        style,
        title=title,
        caption=caption,
        x=axis(x_title),
        y=_rows(names),
        legend="outside",
        entries=kinds,
        legend_title=legend_title,
        area=(430, max(44 * len(names), 130)),
        margin={"l": longest + 28},
    )
    fig.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dot"})
    for k, kind in enumerate(kinds):
        chosen = [(names.index(n), e) for n, e, of in rows if of == kind]
        y = np.array([i for i, _ in chosen]) + (k - (len(kinds) - 1) / 2) * 0.6 / len(kinds)
        color = PALETTE_10[(0, 2, 8, 1)[k % 4]]
        fig.add_trace(_bars([e for _, e in chosen], y, color, kind, {"legendgroup": kind}))
    return fig


def importances(ev: Evaluation, style: Style) -> Named:
    """Yield the feature importances with their spread over the folds."""
    for result in ev.importances:
        if len(result.features):
            yield f"importance_{result.kind}", _importance(style, result)


def _importance(style: Style, result: Importance) -> go.Figure:
    mean, spread = result.mean, result.spread
    order = np.argsort(-np.nan_to_num(mean, nan=-np.inf), kind="stable")[:MOST_FEATURES]
    names = [shorten_label(style.feature_name(result.features[i])) for i in order]
    left_out = len(result.features) - len(order)
    longest = round(max(plain_width(n, 14) for n in names))
    unit = result.unit[:1].upper() + result.unit[1:]
    what = "gain" if result.kind == "gain" else "permutation"
    fig = figure(
        style,
        title=f"Feature importance ({what})",
        caption=(
            f"{unit}: mean over the folds, bars of one standard deviation over the folds, "
            "open circles the single folds."
            + (f" The {left_out} least important features are left out." if left_out else "")
        ),
        x=axis(literal(unit), range=_span(result, mean, spread)),
        y=_rows(names),
        legend="top right",
        area=(460, max(22 * len(names), 120)),
        margin={"l": longest + 24},
    )
    rows = np.arange(len(order))
    fig.add_trace(
        go.Bar(
            x=thin(mean[order]),
            y=rows,
            orientation="h",
            marker={"color": "#3f90da"},
            width=0.62,
            error_x={
                "type": "data",
                "array": thin(np.nan_to_num(spread[order])),
                "width": 0,
                "thickness": 1.4,
                "color": INK,
            },
            name="mean over folds",
            showlegend=False,
            customdata=[literal(result.features[i]) for i in order],
            hovertemplate="%{customdata}: %{x:.4g}<extra></extra>",
        )
    )
    folds = [(v, r) for r, i in zip(rows, order, strict=True) for v in result.values[:, i]]
    folds = [(v, r) for v, r in folds if np.isfinite(v)]
    if len(result.values) > 1 and folds:
        fig.add_trace(
            go.Scatter(
                x=thin([v for v, _ in folds]),
                y=thin([r for _, r in folds]),
                mode="markers",
                marker={"symbol": "circle-open", "size": 6, "color": INK},
                name="single folds",
                showlegend=False,
                hovertemplate="one fold: %{x:.4g}<extra></extra>",
            )
        )
    return fig


def _span(result: Importance, mean: Any, spread: Any) -> list[float]:
    ends = np.concatenate([result.values.ravel(), mean, mean + np.nan_to_num(spread)])
    ends = ends[np.isfinite(ends)]
    high = float(ends.max(initial=0.0)) or 1.0
    return [min(1.06 * float(ends.min(initial=0.0)), 0.0), 1.06 * high]


def shap(ev: Evaluation, style: Style, slugs: Sequence[str]) -> Named:
    """Yield the mean |SHAP| per feature and class, then a beeswarm per class."""
    result = ev.shap
    if result is None or not result.features:
        return
    yield "shap", _shap_bars(style, result)
    if result.values.shape[2] > 0:
        for class_id in range(len(result.values)):
            yield f"shap_{slugs[class_id]}", _beeswarm(ev, style, result, class_id)


def _shap_bars(style: Style, result: ShapSummary) -> go.Figure:
    total = np.nansum(result.mean_abs, axis=0)
    order = np.argsort(-total, kind="stable")[:MOST_FEATURES]
    names = [shorten_label(style.feature_name(result.features[i])) for i in order]
    ids = range(len(result.mean_abs))
    longest = round(max(plain_width(n, 14) for n in names))
    fig = figure(
        style,
        title="What moves the scores (SHAP)",
        caption=(
            "Mean absolute SHAP value of each feature, stacked over the classes' raw scores, from "
            f"{result.values.shape[2]:,} sampled events."
        ),
        x=axis("Mean |SHAP value| (raw score)", rangemode="tozero"),
        y=_rows(names),
        legend="outside",
        entries=[style.name(c) for c in ids],
        legend_title="Class score",
        area=(460, max(22 * len(names), 120)),
        margin={"l": longest + 24},
    )
    for class_id in ids:
        fig.add_trace(
            go.Bar(
                x=thin(result.mean_abs[class_id][order]),
                y=np.arange(len(order)),
                orientation="h",
                width=0.62,
                name=style.name(class_id),
                marker={"color": style.rgba(class_id, 0.85)},
                hovertemplate=f"{style.name(class_id)}: %{{x:.4g}}<extra></extra>",
            )
        )
    fig.update_layout(barmode="stack", legend={"traceorder": "normal"})
    return fig


def _beeswarm(ev: Evaluation, style: Style, result: ShapSummary, class_id: int) -> go.Figure:
    order = np.argsort(-result.mean_abs[class_id], kind="stable")[:SHAP_FEATURES]
    names = [shorten_label(style.feature_name(result.features[i])) for i in order]
    longest = round(max(plain_width(n, 14) for n in names))
    n = result.values.shape[2]
    chosen = np.unique(np.linspace(0, n - 1, min(n, SHAP_EVENTS)).astype(int))
    x, y, shade = [], [], []
    for row, i in enumerate(order):
        values = result.values[class_id, i, chosen].astype(float)
        x.append(values)
        y.append(row + swarm(values))
        shade.append(ranks(result.feature_values[i, chosen].astype(float)))
    fig = figure(
        style,
        title=f"What moves the {ev.classes[class_id].name} score (SHAP)",
        caption=(
            "SHAP values (the models' own contributions to the raw score) of "
            f"{len(chosen)} sampled events; the colour is the rank of the feature's value."
        ),
        x=axis(f"SHAP value for {style.name(class_id)} (raw score)"),
        y=_rows(names),
        legend="top right",
        area=(460, max(30 * len(names), 120)),
        margin={"l": longest + 24, "r": 96},
    )
    fig.add_vline(x=0, line={"color": MUTED, "width": 1})
    fig.add_trace(
        go.Scatter(
            x=thin(np.concatenate(x)),
            y=thin(np.concatenate(y)),
            mode="markers",
            showlegend=False,
            hovertemplate="%{x:.3f}<extra></extra>",
            marker={
                "size": 4,
                "color": (100 * np.concatenate(shade)).astype(np.uint8),
                "colorscale": SHAP_SCALE,
                "cmin": 0,
                "cmax": 100,
                "opacity": 0.75,
                "colorbar": {
                    "title": {"text": "Feature value", "side": "right", "font": {"size": 14}},
                    "tickvals": [0, 100],
                    "ticktext": ["low", "high"],
                    "thickness": 10,
                    "outlinewidth": 0,
                    "len": 0.9,
                    "ticks": "",
                },
            },
        )
    )
    return fig


def swarm(values: Any, bins: int = 60, width: float = 0.38) -> Any:
    """Return offsets that spread points of a like value about their row, without randomness."""
    low, high = float(np.nanmin(values, initial=0.0)), float(np.nanmax(values, initial=0.0))
    if high <= low:
        return np.zeros(len(values))
    where = np.minimum(((values - low) / (high - low) * bins).astype(int), bins - 1)
    offset = np.zeros(len(values))
    largest = max(int(np.bincount(where).max()), 1)
    for b in np.unique(where):
        inside = np.flatnonzero(where == b)
        steps = np.arange(len(inside))
        signed = np.where(steps % 2, -1, 1) * ((steps + 1) // 2)
        offset[inside] = signed * 2 * width / max(largest, 12)
    return offset


def ranks(values: Any) -> Any:
    """Return the rank of each value within 0..1, equal values alike, missing ones in the middle."""
    known = np.isfinite(values)
    distinct, inverse = np.unique(values[known], return_inverse=True)
    out = np.full(len(values), 0.5)
    if len(distinct) > 1:
        out[known] = inverse / (len(distinct) - 1)
    return out
