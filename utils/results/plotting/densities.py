"""Distributions of the scores: densities per category, and yields stacked over true classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from utils.columns.arrays import Floats
from utils.results.evaluation import Evaluation
from utils.results.metrics.densities import ScoreDensities
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import FEW, Legend, Named, Text, axis
from utils.results.plotting.labels import literal
from utils.results.plotting.style import INK, Settings, Style
from utils.results.plotting.traces import Look

SPARSE = 0.3
"""Typical relative error from which bands would cover the figure: bars take their place."""


def score_densities(ev: Evaluation, style: Style, ends: Sequence[str]) -> Named:
    """Yield each category's score densities per true class, linear and logarithmic."""
    for result in (d for d in ev.densities if d.view == ev.main_view):
        for log in (False, True):
            name = f"score{ends[result.category]}" + ("_log" if log else "")
            yield name, _density(ev, style, result, log)


def stacked_yields(ev: Evaluation, style: Style, ends: Sequence[str]) -> Named:
    """Yield each category's score distribution stacked over the true classes, if asked for."""
    view = "physics" if "physics" in ev.views else "unweighted"
    for result in (d for d in ev.densities if style.stacked and d.view == view):
        for log in (False, True):
            name = f"score{ends[result.category]}_stacked" + ("_log" if log else "")
            yield name, _stack(ev, style, result, log)


def _density(ev: Evaluation, style: Style, d: ScoreDensities, log: bool) -> go.Figure:
    few, name, category = len(d.true_classes) <= FEW, ev.name(d.category), style.name(d.category)
    events = "all events" if ev.binary else "the events assigned to its category"
    of_category = "" if ev.binary else f" of the {name} category"
    positive = d.density[d.density > 0]
    tops = d.density + d.density_error if positive.size else np.ones(1)
    # Bins of less than four events must not set the scale.
    sure = d.density_error <= 0.5 * d.density
    if positive.size and not log and sure.any():
        tops = np.where(sure, tops, 0.0)
    high = float(np.nanmax(tops)) * (1.0 if log else 1.02)
    floor = max(float(positive.min(initial=np.inf if positive.size else 1.0)) * 0.5, high * 1e-6)
    headroom = _headroom(len(d.true_classes)) if few else 0.05
    fig = _score_figure(
        style,
        d,
        Text(
            f"Score{of_category}" + (" (logarithmic)" if log else ""),
            f"Probability of {name} for {events}, by true class; {ev.label(d.view)}. Each class is "
            "normalised to unit area; bands, or bars where events are few, are one standard "
            "deviation of the finite sample."
            + ("" if log else " Bins of up to three events may leave the frame."),
        ),
        _y_axis("Probability density", log, floor, high, headroom) | {"rangemode": "nonnegative"},
        Legend(
            _where(ev, category, "" if few else "<br>") + "true class:",
            [style.name(c) for c in d.true_classes] + [category + " category,"],
            "top" if few else "outside",
        ),
    )
    scattered = sparse(d.density, d.density_error)
    for i, class_id in enumerate(d.true_classes):
        own, filled = class_id == d.category, class_id >= 0 and d.n[i] > 0
        look = Look(
            # Fills on a logarithmic axis only hide each other, and so do those of many classes.
            fill=filled and (own or (few and not log and not scattered)),
            floor=floor if log else 0.0,
            banded=filled and (few or own),
            bar=(i + 1) / (len(d.true_classes) + 1) if scattered else None,
        )
        hover = f"{style.name(class_id)}: %{{y:.3g}}<extra>{int(d.n[i]):,} events</extra>"
        value, error = d.density[i], d.density_error[i]
        fig.add_traces(traces.class_histogram(style, class_id, d.edges, value, error, look, hover))
    return fig


def _stack(ev: Evaluation, style: Style, d: ScoreDensities, log: bool) -> go.Figure:
    known = [i for i, c in enumerate(d.true_classes) if c >= 0]
    total = d.yields[known].sum(axis=0)
    error = np.sqrt((d.yields_error[known] ** 2).sum(axis=0))
    high = float(np.max(total + error, initial=0.0)) or 1.0
    positive = d.yields[d.yields > 0]
    floor = max(float(positive.min()) * 0.5, high * 1e-6) if positive.size else high * 1e-3
    few, name, category = len(d.true_classes) <= FEW, ev.name(d.category), style.name(d.category)
    events = "all events" if ev.binary else f"the events assigned to the {name} category"
    in_category = "" if ev.binary else f" in the {name} category"
    unit = "Events" if d.view == "physics" else "Simulated events"
    width = float(d.edges[1] - d.edges[0])
    headroom = _headroom(len(d.true_classes) + 1) if few else 0.05
    title = f"{_where(ev, category)}{ev.label(d.view)}"
    sum_of_all = "stat. uncertainty"
    fig = _score_figure(
        style,
        d,
        Text(
            f"Yields{in_category}" + (" (logarithmic)" if log else ""),
            f"Sums of {events}, stacked by true class ({ev.label(d.view)}); hatched: the "
            "statistical uncertainty of the sum.",
        ),
        _y_axis(f"{unit} / {width:.3g}", log, floor, high, headroom),
        Legend(
            title if few else title.replace(", ", ",<br>"),
            [style.name(c) for c in d.true_classes] + [sum_of_all],
            "top" if few else "outside",
        ),
    )
    lowest = floor if log else -np.inf
    base = np.zeros_like(total)
    signals = {ev.signal} if ev.binary else set()
    signals |= set(ev.significance.signal_classes) if ev.significance else set()
    # The signal on top, whatever its size.
    height = {i: (d.true_classes[i] in signals, float(d.yields[i].sum())) for i in known}
    for i in sorted(known, key=lambda i: height[i]):
        class_id, top = d.true_classes[i], base + d.yields[i]
        edge = {"width": 0.8, "color": style.rgba(class_id)}
        told: Settings = {"name": style.name(class_id), "showlegend": True, "line": edge}
        ends = (np.maximum(base, lowest), np.maximum(top, lowest))
        fig.add_trace(traces.step_band(d.edges, *ends, style.rgba(class_id, 0.75), **told))
        base = top
    hatch = {"shape": "/", "fgcolor": "rgba(60,60,60,0.8)", "size": 5, "solidity": 0.25}
    told = {"name": sum_of_all, "showlegend": True, "fillpattern": hatch}
    low, high = (np.maximum(total + sign * error, max(lowest, 0.0)) for sign in (-1, 1))
    fig.add_trace(traces.step_band(d.edges, low, high, "rgba(0,0,0,0)", **told))
    if -1 in d.true_classes:
        i = d.true_classes.index(-1)
        hover = "unlabelled: %{y:.4g}<extra></extra>"
        told = {"name": "unlabelled", "hovertemplate": hover, "showlegend": True}
        fig.add_trace(traces.points(d.edges, d.yields[i], d.yields_error[i], INK, **told))
    return fig


def _where(ev: Evaluation, category: str, end: str = "") -> str:
    """Return the words for which events a legend is of."""
    of = "" if ev.binary else f"<b>{category}</b> category, "
    return f"{of}{literal(ev.dataset)},{end or ' '}"


def _score_figure(
    style: Style, d: ScoreDensities, text: Text, y: Settings, legend: Legend
) -> go.Figure:
    category = style.name(d.category)
    fig = frames.figure(
        style, text, axis(f"{category} probability", **frames.span(d.edges)), y, legend
    )
    if not np.any(d.n > 0):
        frames.note(fig, f"no event is assigned to the {category} category")
    return fig


def _y_axis(title: str, log: bool, floor: float, high: float, headroom: float) -> Settings:
    """Return an axis that leaves the share `headroom` free on top."""
    limits = frames.log_range(floor, high, headroom) if log else [0, high / (1 - headroom)]
    return axis(title, log=log, range=limits)


def _headroom(n_entries: int) -> float:
    return min(0.1 + 0.055 * -(-n_entries // 2), 0.4)


def sparse(density: Floats, error: Floats) -> bool:
    """Return whether bands of most classes would cover more than they tell."""
    classes = zip(density, error, strict=True)
    relative = [np.median(e[d > 0] / d[d > 0]) for d, e in classes if np.any(d > 0)]
    return bool(relative) and float(np.median(relative)) > SPARSE
