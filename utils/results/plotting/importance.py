"""What a model uses and how it learnt: importances, SHAP values, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.evaluation import Evaluation
from utils.results.metrics.importance import Importance, LearningCurves, ShapSummary
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import Legend, Named, Text, axis
from utils.results.plotting.labels import literal
from utils.results.plotting.style import INK, MUTED, PALETTE_10, Settings, Style
from utils.results.plotting.traces import thin

MOST_FEATURES = 25
SHAP_FEATURES = 15
SHAP_EVENTS = 80
SHAP_SCALE = [[0.0, "#3f90da"], [0.5, "#9a86a8"], [1.0, "#bd1f01"]]


def importances(ev: Evaluation, style: Style) -> Named:
    """Yield the feature importances with their spread over the folds."""
    for result in ev.importances:
        if len(result.features):
            yield f"importance_{result.kind}", _importance(style, result)


def _feature_rows(
    style: Style,
    text: Text,
    features: Sequence[str],
    x: Settings,
    legend: Legend,
    row: int = 22,
    **sides: int,
) -> go.Figure:
    """Return an empty figure with a row for each feature."""
    names = [style.feature_tick(name) for name in features]
    margin = {"l": frames.text_width(names, 14) + 24, **sides}
    return frames.rows(style, text, names, x, legend, row=row, area=(460, 120), margin=margin)


def _highest(values: Floats, most: int) -> NDArray[np.intp]:
    """Return the indices of at most `most` of the values (F,), the highest first, NaN last."""
    return np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:most]


def _importance(style: Style, result: Importance) -> go.Figure:
    mean, spread = result.mean, result.spread
    order = _highest(mean, MOST_FEATURES)
    features = [result.features[i] for i in order]
    left_out = len(result.features) - len(order)
    unit = result.unit[:1].upper() + result.unit[1:]
    ends = np.concatenate([result.values.ravel(), mean, mean + np.nan_to_num(spread)])
    ends = ends[np.isfinite(ends)]
    low, high = float(ends.min(initial=0.0)), float(ends.max(initial=0.0)) or 1.0
    fig = _feature_rows(
        style,
        Text(
            f"Feature importance ({result.kind})",
            f"{unit}: mean over the folds, bars of one standard deviation over the folds, "
            "open circles the single folds."
            + (f" The {left_out} least important features are left out." if left_out else ""),
        ),
        features,
        axis(literal(unit), range=[min(1.06 * low, 0.0), 1.06 * high]),
        Legend(place="top right"),
    )
    fig.add_bar(
        x=thin(mean[order]),
        y=np.arange(len(order)),
        orientation="h",
        marker={"color": "#3f90da"},
        width=0.62,
        error_x=traces.bars(np.nan_to_num(spread[order]), color=INK, thickness=1.4),
        name="mean over folds",
        showlegend=False,
        customdata=[literal(name) for name in features],
        hovertemplate="%{customdata}: %{x:.4g}<extra></extra>",
    )
    if len(result.values) > 1:
        folds = [(v, r) for r, i in enumerate(order) for v in result.values[:, i]]
        fig.add_traces(traces.folds(folds, INK, "one fold: %{x:.4g}", 6))
    return fig


def shap(ev: Evaluation, style: Style, ends: Sequence[str]) -> Named:
    """Yield the mean |SHAP| per feature and score, then a beeswarm per score."""
    result = ev.shap
    if result is None or not result.features:
        return
    yield "shap", _shap_bars(style, result)
    if result.values.shape[2] > 0:
        for place, class_id in enumerate(result.score_classes):
            yield f"shap{ends[class_id] or '_values'}", _beeswarm(ev, style, result, place)


def _shap_bars(style: Style, result: ShapSummary) -> go.Figure:
    order = _highest(np.nansum(result.mean_abs, axis=0), MOST_FEATURES)
    names = [style.name(c) for c in result.score_classes]
    fig = _feature_rows(
        style,
        Text(
            "What moves the scores (SHAP)",
            "Mean absolute SHAP value of each feature, stacked over the classes' raw scores, from "
            f"{result.values.shape[2]:,} sampled events.{_left_out(result, order)}",
        ),
        [result.features[i] for i in order],
        axis("Mean |SHAP value| (raw score)", rangemode="tozero"),
        Legend("Class score", names),
    )
    for values, class_id, name in zip(result.mean_abs, result.score_classes, names, strict=True):
        fig.add_bar(
            x=thin(values[order]),
            y=np.arange(len(order)),
            orientation="h",
            width=0.62,
            name=name,
            marker={"color": style.rgba(class_id, 0.85)},
            hovertemplate=f"{name}: %{{x:.4g}}<extra></extra>",
        )
    fig.update_layout(barmode="stack", legend={"traceorder": "normal"})
    return fig


def _left_out(result: ShapSummary, shown: NDArray[np.intp]) -> str:
    """Return the sentence on how many features have no row."""
    n = len(result.features) - len(shown)
    return f" The {n} features that move it least are left out." if n else ""


def _beeswarm(ev: Evaluation, style: Style, result: ShapSummary, place: int) -> go.Figure:
    class_id, order = result.score_classes[place], _highest(result.mean_abs[place], SHAP_FEATURES)
    n = result.values.shape[2]
    chosen = np.unique(np.linspace(0, n - 1, min(n, SHAP_EVENTS)).astype(int))
    values = result.values[place][order][:, chosen].astype(float)
    shade = [ranks(result.feature_values[i, chosen].astype(float)) for i in order]
    fig = _feature_rows(
        style,
        Text(
            f"What moves the {ev.name(class_id)} score (SHAP)",
            "SHAP values (the models' own contributions to the raw score) of "
            f"{len(chosen)} sampled events; the colour is the rank of the feature's value."
            + _left_out(result, order),
        ),
        [result.features[i] for i in order],
        axis(f"SHAP value for {style.name(class_id)} (raw score)"),
        Legend(place="top right"),
        row=30,
        r=96,
    )
    fig.add_vline(x=0, line={"color": MUTED, "width": 1})
    fig.add_scatter(
        x=thin(values.ravel()),
        y=thin(np.concatenate([row + swarm(of_row) for row, of_row in enumerate(values)])),
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
    return fig


def swarm(values: Floats, bins: int = 60, width: float = 0.38) -> Floats:
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


def ranks(values: Floats) -> Floats:
    """Return the rank of each value within 0..1, equal values alike, missing ones in the middle."""
    known = np.isfinite(values)
    distinct, inverse = np.unique(values[known], return_inverse=True)
    out = np.full(len(values), 0.5)
    if len(distinct) > 1:
        out[known] = inverse / (len(distinct) - 1)
    return out


def learning_curves(ev: Evaluation, style: Style) -> Named:
    """Yield the learning curves of all folds, best iterations marked."""
    if ev.learning_curves is not None and ev.learning_curves.curves:
        yield "learning_curves", _learning_curves(style, ev.learning_curves)


def _learning_curves(style: Style, result: LearningCurves) -> go.Figure:
    metric = literal(result.metric)
    few = len(result.curves) <= 5
    fig = frames.figure(
        style,
        Text(
            "Learning curves",
            f"{result.metric} during the training of each fold: solid on the validation rows, "
            "dashed on the training rows; stars mark the best iterations.",
        ),
        axis("Iteration"),
        axis(metric),
        Legend("", ["fold 00, validation"], "top right" if few else "outside"),
    )
    for i, curve in enumerate(result.curves):
        color = PALETTE_10[i % len(PALETTE_10)]
        fold = f"fold {curve.fold}"
        name = f"{fold}, validation"
        seen = traces.line(curve.iteration, curve.validation, color)
        fig.add_trace(seen.update(name=name, legendgroup=name, showlegend=True))
        if len(curve.train):
            name = f"{fold}, training"
            seen = traces.line(curve.train_iteration, curve.train, color, width=1.3, dash="dash")
            fig.add_trace(seen.update(name=name, legendgroup=name, showlegend=True))
        for at in np.flatnonzero(curve.iteration == curve.best)[:1]:
            star = traces.star(int(curve.best), float(thin(curve.validation[at])), color)
            told = f"{fold}: best iteration %{{x}}, {metric} %{{y:.5g}}<extra></extra>"
            star.update(name=f"best iteration {curve.best}", legendgroup=f"{fold}, validation")
            fig.add_trace(star.update(showlegend=False, hovertemplate=told, marker_line_width=0.8))
    return fig
