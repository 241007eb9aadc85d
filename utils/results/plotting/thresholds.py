"""Efficiency and purity against the threshold on a class's probability."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from utils.results.evaluation import Evaluation
from utils.results.events import View
from utils.results.metrics.thresholds import ThresholdScan
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import Grid, Legend, Named, Text, axis
from utils.results.plotting.labels import literal
from utils.results.plotting.style import MUTED, Settings, Style


def thresholds(ev: Evaluation, style: Style) -> Named:
    """Yield efficiency and purity against the threshold, a panel per class."""
    view = ev.expected_view
    for number, group in enumerate(frames.pages([s for s in ev.thresholds if s.view == view]), 1):
        yield f"thresholds_{number}", _page(ev, style, view, group)


def _page(ev: Evaluation, style: Style, view: View, scans: Sequence[ThresholdScan]) -> go.Figure:
    label = ev.label(view)
    fig = frames.panels(
        style,
        Text(
            f"Efficiency and purity against threshold, {label}",
            "Selection `probability of the class ≥ threshold`, over all categories; "
            f"{label}. Bands: one standard deviation; purity is drawn down to "
            "five selected events.",
        ),
        [style.name(s.class_id) for s in scans],
        x=[axis("Threshold", range=[0, 1])] * len(scans),
        y=[axis("Efficiency, purity", range=[0, 1.03])] * len(scans),
        legend=Legend(literal(ev.dataset), ["background eff."]),
        grid=Grid(),
    )
    for i, s in enumerate(scans):
        own: Settings = frames.place(i) | {"showlegend": i == 0}
        for name, value, error, color in (
            ("efficiency", s.efficiency, s.efficiency_error, "#5790fc"),
            ("purity", s.purity, s.purity_error, "#e42536"),
        ):
            hover = f"{name} %{{y:.4f}} at %{{x:.3f}}<extra></extra>"
            fig.add_traces(traces.measured_line(s.threshold, value, error, color, name, hover, own))
        name, values = "background eff.", s.background_efficiency
        hover = "background %{y:.4f} at %{x:.3f}<extra></extra>"
        told: Settings = {"name": name, "legendgroup": name, "hovertemplate": hover}
        fig.add_trace(traces.line(s.threshold, values, MUTED, dash="dash", **told, **own))
    return fig
