"""Distributions: scores per category, stacked yields, over-training overlays, features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from utils.columns.arrays import Floats
from utils.results.containers import (
    VIEW_LABELS,
    Evaluation,
    FeatureDistribution,
    OverTrainingDensity,
    ScoreDensities,
)
from utils.results.plotting.labels import literal
from utils.results.plotting.style import (
    FEW,
    INK,
    Style,
    axis,
    band,
    figure,
    log_range,
    note,
    pages,
    panels,
    rgba,
    step_points,
    thin,
)

SPARSE = 0.3
"""Typical relative error from which bands would cover the figure: bars take their place."""

Named = Iterator[tuple[str, go.Figure]]


def score_densities(ev: Evaluation, style: Style, slugs: Sequence[str]) -> Named:
    """Yield each category's score densities per true class, linear and logarithmic."""
    view = ev.views[0] if ev.views else "unweighted"
    for result in (d for d in ev.densities if d.view == view):
        for log in (False, True):
            name = slugs[result.category] + ("_log" if log else "")
            yield name, _density(ev, style, result, log)


def stacked_yields(ev: Evaluation, style: Style, slugs: Sequence[str]) -> Named:
    """Yield each category's score distribution stacked over the true classes."""
    view = "physics" if "physics" in ev.views else "unweighted"
    for result in (d for d in ev.densities if d.view == view):
        for log in (False, True):
            name = f"{slugs[result.category]}_stacked" + ("_log" if log else "")
            yield name, _stack(ev, style, result, log)


def _density(ev: Evaluation, style: Style, d: ScoreDensities, log: bool) -> go.Figure:
    filled = [i for i, c in enumerate(d.true_classes) if c >= 0 and d.n[i] > 0]
    few = len(d.true_classes) <= FEW
    tops = d.density + d.density_error
    positive = d.density[d.density > 0]
    if positive.size == 0:
        positive = tops = np.ones(1)
    # Bins of less than four events must not set the scale.
    sure = d.density_error <= 0.5 * d.density
    if not log and tops.shape == sure.shape and sure.any():
        tops = np.where(sure, tops, 0.0)
    headroom = _headroom(len(d.true_classes)) if few else 0.05
    high = float(np.nanmax(tops)) * (1.0 if log else 1.02)
    floor = max(float(positive.min()) * 0.5, high * 1e-6)
    y_range = log_range(floor, high, headroom) if log else [0, high / (1 - headroom)]
    category = style.name(d.category)
    sparse = _sparse(d.density, d.density_error)
    legend_title = f"<b>{category}</b> category, {literal(ev.dataset)}, true class:"
    fig = figure(
        style,
        title=f"Score of the {_plain(ev, d.category)} category" + (" (logarithmic)" if log else ""),
        caption=(
            f"Probability of {_plain(ev, d.category)} for the events assigned to its category, by "
            f"true class; {VIEW_LABELS[d.view]}. Each class is normalised to unit area; bands, or "
            "bars where events are few, are one standard deviation of the finite sample."
            + ("" if log else " Bins of up to three events may leave the frame.")
        ),
        x=axis(f"{category} probability", range=[float(d.edges[0]), float(d.edges[-1])]),
        y=axis("Probability density", log=log, range=y_range, rangemode="nonnegative"),
        legend="top" if few else "outside",
        entries=[style.name(c) for c in d.true_classes] + [category + " category,"],
        legend_title=legend_title if few else legend_title.replace(", true", ",<br>true"),
    )
    for i, class_id in enumerate(d.true_classes):
        value, error = d.density[i], d.density_error[i]
        # Fills on a logarithmic axis only hide each other, and so do those of many classes.
        fill = i in filled and (class_id == d.category or (few and not log and not sparse))
        _histogram(
            fig,
            d.edges,
            value,
            error,
            style,
            class_id,
            fill=fill,
            floor=floor if log else 0.0,
            hover=f"{style.name(class_id)}: %{{y:.3g}}<extra>{int(d.n[i]):,} events</extra>",
            banded=i in filled and (few or class_id == d.category),
            bar=(i + 1) / (len(d.true_classes) + 1) if sparse else None,
        )
    if not np.any(d.n > 0):
        note(fig, f"no event is assigned to the {category} category")
    return fig


def _headroom(n_entries: int) -> float:
    return min(0.1 + 0.055 * -(-n_entries // 2), 0.4)


def _histogram(
    fig: go.Figure,
    edges: Floats,
    value: Floats,
    error: Floats,
    style: Style,
    class_id: int,
    *,
    fill: bool,
    floor: float,
    hover: str,
    banded: bool,
    bar: float | None = None,
    axes: dict[str, str] | None = None,
    showlegend: bool = True,
) -> None:
    """Add one class's histogram: outline, fill and statistical band, which toggle together.

    bar: where in a bin (0 to 1) an error bar stands, None for a band instead.
    """
    axes = axes or {}
    name = style.name(class_id)
    group = {"legendgroup": f"class {class_id}", **axes}
    if class_id < 0:  # unlabelled events look like data: points with error bars
        fig.add_trace(_points(edges, value, error, INK, name, "circle", hover, showlegend, group))
        return
    x, y = step_points(edges, np.maximum(value, floor))
    _, low = step_points(edges, np.maximum(value - error, floor))
    _, high = step_points(edges, np.maximum(value + error, floor))
    # The outline starts and ends on the axis, as the outline of a histogram does.
    x_line = np.concatenate([x[:1], x, x[-1:]])
    y_line = np.concatenate([[floor], y, [floor]])
    color = style.rgba(class_id)
    faint = style.rgba(class_id, 0.45 * style.alpha(class_id))
    fig.add_trace(
        go.Scatter(
            x=thin(x_line),
            y=thin(y_line),
            mode="lines",
            name=name,
            line={"color": color, "width": 1.8, "dash": style.dash(class_id)},
            fill="toself" if fill else "none",
            fillcolor=faint,
            hovertemplate=hover,
            hoveron="points",
            showlegend=showlegend,
            **group,
        )
    )
    if not banded:
        return
    seen = value > 0
    if bar is None:
        fig.add_trace(band(x, low, x, high, style.rgba(class_id, 0.32), **group))
        return
    at = edges[:-1] + bar * np.diff(edges)
    bars = go.Scatter(
        x=thin(at[seen]),
        y=thin(value[seen]),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": thin(error[seen]),
            "arrayminus": thin(np.minimum(error[seen], value[seen] - floor)),
            "width": 0,
            "thickness": 1,
            "color": color,
        },
        mode="markers",
        marker={"size": 3, "color": color},
        hoverinfo="skip",
        showlegend=False,
        **group,
    )
    fig.add_trace(bars)


def _points(
    edges: Floats,
    value: Floats,
    error: Floats,
    color: str,
    name: str,
    symbol: str,
    hover: str,
    showlegend: bool,
    more: dict[str, Any],
) -> go.Scatter:
    shown = value > 0
    centres = 0.5 * (edges[1:] + edges[:-1])
    return go.Scatter(
        x=thin(centres[shown]),
        y=thin(value[shown]),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": thin(error[shown]),
            # An error bar that reaches below zero can't be drawn on a logarithmic axis.
            "arrayminus": thin(np.minimum(error[shown], 0.999 * value[shown])),
            "width": 0,
            "thickness": 1.3,
            "color": color,
        },
        mode="markers",
        name=name,
        marker={"color": color, "size": 6, "symbol": symbol},
        hovertemplate=hover,
        showlegend=showlegend,
        **more,
    )


def _stack(ev: Evaluation, style: Style, d: ScoreDensities, log: bool) -> go.Figure:
    known = [i for i, c in enumerate(d.true_classes) if c >= 0]
    order = sorted(known, key=lambda i: float(d.yields[i].sum()))
    total = d.yields[known].sum(axis=0) if known else np.zeros(len(d.edges) - 1)
    error = np.sqrt((d.yields_error[known] ** 2).sum(axis=0)) if known else np.zeros_like(total)
    few = len(d.true_classes) <= FEW
    headroom = _headroom(len(d.true_classes) + 1) if few else 0.05
    high = float(np.max(total + error, initial=0.0)) or 1.0
    positive = d.yields[d.yields > 0]
    floor = max(float(positive.min()) * 0.5, high * 1e-6) if positive.size else high * 1e-3
    width = float(d.edges[1] - d.edges[0])
    category = style.name(d.category)
    unit = "Events" if d.view == "physics" else "Simulated events"
    legend_title = f"<b>{category}</b> category, {literal(ev.dataset)}, {VIEW_LABELS[d.view]}"
    fig = figure(
        style,
        title=f"Yields in the {_plain(ev, d.category)} category"
        + (" (logarithmic)" if log else ""),
        caption=(
            f"Events assigned to the {_plain(ev, d.category)} category, stacked by true class "
            f"({VIEW_LABELS[d.view]}); the hatched band is the statistical uncertainty of the sum."
        ),
        x=axis(f"{category} probability", range=[float(d.edges[0]), float(d.edges[-1])]),
        y=axis(
            f"{unit} / {width:.3g}",
            log=log,
            range=log_range(floor, high, headroom) if log else [0, high / (1 - headroom)],
        ),
        legend="top" if few else "outside",
        entries=[style.name(c) for c in d.true_classes] + ["stat. uncertainty"],
        legend_title=legend_title if few else legend_title.replace(", ", ",<br>"),
    )
    base = np.zeros_like(total)
    for i in order:
        class_id = d.true_classes[i]
        top = base + d.yields[i]
        x, y_low = step_points(d.edges, np.maximum(base, floor if log else base))
        _, y_high = step_points(d.edges, np.maximum(top, floor if log else top))
        area = band(x, y_low, x, y_high, style.rgba(class_id, 0.75))
        area.update(
            name=style.name(class_id),
            showlegend=True,
            line={"width": 0.8, "color": style.rgba(class_id)},
        )
        fig.add_trace(area)
        base = top
    x, low = step_points(d.edges, np.maximum(total - error, floor if log else 0.0))
    _, high_line = step_points(d.edges, np.maximum(total + error, floor if log else 0.0))
    hatch = band(x, low, x, high_line, "rgba(0,0,0,0)")
    hatch.update(
        name="stat. uncertainty",
        showlegend=True,
        fillpattern={"shape": "/", "fgcolor": "rgba(60,60,60,0.8)", "size": 5, "solidity": 0.25},
    )
    fig.add_trace(hatch)
    if -1 in d.true_classes:
        i = d.true_classes.index(-1)
        hover = "unlabelled: %{y:.4g}<extra></extra>"
        y, e = d.yields[i], d.yields_error[i]
        fig.add_trace(_points(d.edges, y, e, INK, "unlabelled", "circle", hover, True, {}))
    if not np.any(d.n > 0):
        note(fig, f"no event is assigned to the {category} category")
    return fig


def over_training(ev: Evaluation, style: Style, slugs: Sequence[str]) -> Named:
    """Yield each category's score in-fold, out-of-fold and on the test set, overlaid."""
    if ev.over_training is None:
        return
    for d in ev.over_training.densities:
        yield slugs[d.category], _over_training(ev, style, d)


def _over_training(ev: Evaluation, style: Style, d: OverTrainingDensity) -> go.Figure:
    category = style.name(d.category)
    own = style.color(d.category)
    rest = (105, 105, 105) if max(own) - min(own) > 60 else (87, 144, 252)
    parts = (("of_class", f"true {category}", own), ("of_rest", "rest", rest))
    samples = [s for s in ("in-fold", "out-of-fold", "test") if s in d.of_class or s in d.of_rest]
    tops = [
        np.max(value + error, initial=0.0)
        for group in (d.of_class, d.of_rest)
        for value, error in group.values()
    ]
    high = float(max(tops, default=0.0)) or 1.0
    # The outlines are drawn first, the points over them.
    fig = figure(
        style,
        title=f"{_plain(ev, d.category)} category: seen and unseen events",
        caption=(
            f"Probability of {_plain(ev, d.category)} in its category for its own events and for "
            "the rest, unit area each. Filled: out-of-fold, the scores an analysis uses; dashed: "
            "scored by the models that trained on the events; points: test set. Agreement of "
            "filled areas and points is what matters; the numbers stand in the table."
        ),
        x=axis(f"{category} probability", range=[float(d.edges[0]), float(d.edges[-1])]),
        y=axis("Probability density", range=[0, high / (1 - 0.27)]),
        legend="top",
        entries=[],
        legend_title=f"<b>{category}</b> category",
    )
    empty = True
    for sample in samples:  # so that the legend has a column for the class and one for the rest
        for key, label, rgb in parts:
            value, error = getattr(d, key).get(sample, (np.zeros(0), np.zeros(0)))
            if not value.size or not np.any(value > 0):
                continue
            empty = False
            name = f"{label}, {sample}"
            group = {"legendgroup": f"{key} {sample}"}
            hover = f"{name}: %{{y:.3g}}<extra></extra>"
            if sample == "test":
                symbol = "circle" if key == "of_class" else "square"
                dark = tuple(round(0.75 * c) for c in rgb)
                tone = rgba((dark[0], dark[1], dark[2]))
                fig.add_trace(
                    _points(d.edges, value, error, tone, name, symbol, hover, True, group)
                )
                continue
            x, y = step_points(d.edges, value)
            filled = sample == "out-of-fold"
            fig.add_trace(
                go.Scatter(
                    x=thin(np.concatenate([x[:1], x, x[-1:]])),
                    y=thin(np.concatenate([[0.0], y, [0.0]])),
                    mode="lines",
                    name=name,
                    line={"color": rgba(rgb), "width": 1.6, "dash": "solid" if filled else "dash"},
                    fill="toself" if filled else "none",
                    fillcolor=rgba(rgb, 0.18),
                    hoveron="points",
                    hovertemplate=hover,
                    **group,
                )
            )
            if filled:
                low, above = np.maximum(value - error, 0.0), value + error
                fig.add_trace(
                    band(
                        x,
                        step_points(d.edges, low)[1],
                        x,
                        step_points(d.edges, above)[1],
                        rgba(rgb, 0.3),
                        **group,
                    )
                )
    if empty:
        note(fig, f"no event is assigned to the {category} category")
    return fig


def features(ev: Evaluation, style: Style) -> Named:
    """Yield the feature distributions per true class, six to a figure."""
    several = pages(ev.features)
    for number, group in enumerate(several, start=1):
        of = f" ({number} of {len(several)})" if len(several) > 1 else ""
        yield f"distributions_{number}", _features(style, group, of)


def _features(style: Style, group: Sequence[FeatureDistribution], of: str) -> go.Figure:
    ids = sorted({c for f in group for c in f.true_classes})
    missing = [f for f in group if np.any(f.n_missing > 0)]
    caption = (
        f"Features before any transformation, by true class, unit area each; "
        f"{VIEW_LABELS[group[0].view]}; the central 99.8 % is shown."
    )
    if missing:
        counts = ", ".join(f"{f.name} {int(f.n_missing.sum()):,}" for f in missing)
        caption += f" Events without a value, or with a filler for one: {counts}."
    fig = panels(
        style,
        [""] * len(group),
        title=f"Feature distributions{of}",
        caption=caption,
        x=[
            axis(style.feature(f.name, 32), range=[float(f.edges[0]), float(f.edges[-1])])
            | ({"tickformat": "d"} if f.integer else {})
            for f in group
        ],
        y=[
            axis("Density", range=[0, max(1.08 * _top(f.density, f.density_error), 1e-9)])
            for f in group
        ],
        entries=[style.name(c) for c in ids],
        legend_title="True class",
        above=14,
    )
    seen: set[int] = set()
    for i, f in enumerate(group):
        axes = {"xaxis": f"x{i + 1}" if i else "x", "yaxis": f"y{i + 1}" if i else "y"}
        sparse = _sparse(f.density, f.density_error)
        for t, class_id in enumerate(f.true_classes):
            _histogram(
                fig,
                f.edges,
                f.density[t],
                f.density_error[t],
                style,
                class_id,
                fill=False,
                floor=0.0,
                hover=f"{style.name(class_id)}: %{{y:.3g}}<extra></extra>",
                banded=len(ids) <= FEW and bool(np.any(f.density[t] > 0)),
                bar=(t + 1) / (len(f.true_classes) + 1) if sparse else None,
                axes=axes,
                showlegend=class_id not in seen,
            )
            seen.add(class_id)
    return fig


def _sparse(density: Floats, error: Floats) -> bool:
    """Return whether bands of most classes would cover more than they tell."""
    classes = zip(density, error, strict=True)
    relative = [np.median(e[d > 0] / d[d > 0]) for d, e in classes if np.any(d > 0)]
    return bool(relative) and float(np.median(relative)) > SPARSE


def _top(density: Floats, error: Floats) -> float:
    """Return the highest end of an error that is at most half of its bin."""
    sure = error <= 0.5 * density
    return float(np.max((density + error)[sure], initial=0.0)) or float(
        np.max(density, initial=0.0)
    )


def _plain(ev: Evaluation, class_id: int) -> str:
    """Return a class's name for titles and captions, which are plain text."""
    return ev.classes[class_id].name if class_id >= 0 else "unlabelled"
