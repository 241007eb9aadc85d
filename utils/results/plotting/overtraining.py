"""Does it over-train: scores of seen and unseen events overlaid, and the gaps between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from utils.results.evaluation import Evaluation
from utils.results.metrics.overtraining import OverTrainingDensity
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import Legend, Named, Text, axis
from utils.results.plotting.intervals import Row, rows_of_intervals
from utils.results.plotting.style import Color, Settings, Style, darker, rgba

SAMPLES = ("in-fold", "out-of-fold", "test")
"""In the order they are drawn: outlines first, the points over them."""


def over_training(ev: Evaluation, style: Style, ends: Sequence[str]) -> Named:
    """Yield each category's score in-fold, out-of-fold and on the test set, overlaid."""
    for d in ev.over_training.densities if ev.over_training else ():
        yield f"overlay{ends[d.category]}", _overlay(ev, style, d)


def _overlay(ev: Evaluation, style: Style, d: OverTrainingDensity) -> go.Figure:
    category, name = style.name(d.category), ev.name(d.category)
    inside = "" if ev.binary else " in its category"
    own = style.color(d.category)
    rest = (105, 105, 105) if max(own) - min(own) > 60 else (87, 144, 252)
    every = [*d.of_class.values(), *d.of_rest.values()]
    tops = (np.max(value + error, initial=0.0) for value, error in every)
    high = float(max(tops, default=0.0)) or 1.0
    fig = frames.figure(
        style,
        Text(
            f"{'Score' if ev.binary else f'{name} category'}: seen and unseen events",
            f"Probability of {name}{inside} for its own events and for the rest, unit area each. "
            "Filled: out-of-fold, the scores an analysis uses; dashed: "
            "scored by the models that trained on the events; points: test set. Agreement of "
            "filled areas and points is what matters; the numbers stand in the table.",
        ),
        axis(f"{category} probability", **frames.span(d.edges)),
        axis("Probability density", range=[0, high / (1 - 0.27)]),
        Legend("" if ev.binary else f"<b>{category}</b> category", place="top"),
    )
    for sample in SAMPLES:  # so that the legend has a column for the class and one for the rest
        for key, label, found, color, symbol in (
            ("of_class", f"true {category}", d.of_class, own, "circle"),
            ("of_rest", "rest", d.of_rest, rest, "square"),
        ):
            if sample in found and np.any(found[sample][0] > 0):
                drawn = _drawn(d, key, sample, f"{label}, {sample}", color, symbol)
                fig.add_traces(drawn)
    if not fig.data:
        frames.note(
            fig, "no event" if ev.binary else f"no event is assigned to the {category} category"
        )
    return fig


def _drawn(
    d: OverTrainingDensity, key: str, sample: str, name: str, color: Color, symbol: str
) -> list[go.Scatter]:
    value, error = getattr(d, key)[sample]
    tied: Settings = {"legendgroup": f"{key} {sample}"}
    told = tied | {"name": name, "hovertemplate": f"{name}: %{{y:.3g}}<extra></extra>"}
    if sample == "test":
        tone = rgba(darker(color, 0.75))
        return [traces.points(d.edges, value, error, tone, symbol, showlegend=True, **told)]
    filled = sample == "out-of-fold"
    line = traces.outline(
        d.edges,
        value,
        0.0,
        line={"color": rgba(color), "width": 1.6, "dash": "solid" if filled else "dash"},
        fill="toself" if filled else "none",
        fillcolor=rgba(color, 0.18),
        **told,
    )
    if not filled:
        return [line]
    ends = (np.maximum(value - error, 0.0), value + error)
    return [line, traces.step_band(d.edges, *ends, rgba(color, 0.3), **tied)]


def gaps(ev: Evaluation, style: Style) -> Named:
    """Yield the over-training gaps with their intervals, one figure per metric's scale."""
    for key, wanted, title in (
        ("gaps_roc_auc", ("roc_auc", "roc_auc_macro"), "ROC area"),
        ("gaps_log_loss", ("log_loss",), "log-loss"),
    ):
        rows: list[Row] = []
        for gap in ev.over_training.gaps if ev.over_training else ():
            if gap.metric not in wanted:
                continue
            mean = style.name(ev.signal) if ev.binary else "<b>macro mean</b>"
            of = mean if gap.metric == "roc_auc_macro" else "all classes"
            of = style.name(gap.class_id) if gap.class_id is not None else of
            kind = f"{gap.first} − {gap.second}"
            kind += "" if gap.view == "balanced" else f", {ev.label(gap.view)}"
            rows.append((of, gap.difference, kind))
        if not rows:
            continue
        text = Text(
            f"Gaps in {title}",
            f"Differences of the {title} between samples with 95 % bootstrap intervals "
            "(paired where both hold the same events), class-balanced where nothing "
            "else is said. Zero means no over-training.",
        )
        yield key, rows_of_intervals(style, rows, text, f"Difference in {title}", "95 % intervals")
