"""Reliability diagrams: the share that is observed against the probability predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from utils.results.evaluation import Evaluation
from utils.results.metrics.calibration import Calibration
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import Grid, Legend, Named, Text, axis
from utils.results.plotting.labels import measured, number
from utils.results.plotting.style import Style
from utils.results.plotting.traces import thin


def calibration(ev: Evaluation, style: Style) -> Named:
    """Yield reliability diagrams, a panel per class."""
    for page, group in enumerate(frames.pages(ev.calibration), 1):
        yield f"reliability_{page}", _page(ev, style, group)


def _page(ev: Evaluation, style: Style, group: Sequence[Calibration]) -> go.Figure:
    tops = [np.concatenate([c.predicted, c.observed + c.observed_error]) for c in group]
    ranges = [[0, min(float(np.nanmax(top, initial=0.05)) * 1.08, 1.02)] for top in tops]
    noises = ", ".join(f"{number(c.noise, 2)} ({ev.classes[c.class_id].name})" for c in group)
    fig = frames.panels(
        style,
        Text(
            "Reliability diagrams",
            "Observed share of the class against its mean predicted probability in equally "
            "populated bins, under the weights trained with. On the diagonal the probability "
            "is right; bars are one standard deviation. ECE: expected calibration error; a "
            f"perfectly calibrated classifier would show {noises} with these statistics.",
        ),
        [
            f"{style.name(c.class_id, 18)}: ECE {measured(c.error.value, c.error.error)}"
            for c in group
        ],
        x=[axis("Predicted probability", range=r) for r in ranges],
        y=[axis("Observed share", range=r) for r in ranges],
        legend=Legend(),
        grid=Grid(area=(260, 260)),
    )
    hover = "predicted %{x:.3f}, observed %{y:.3f}, %{customdata:,} events<extra></extra>"
    for i, c in enumerate(group):
        own = frames.place(i)
        drawn = go.Scatter(
            x=thin(c.predicted),
            y=thin(c.observed),
            error_y=traces.bars(np.nan_to_num(c.observed_error)),
            mode="markers+lines",
            line={"width": 1, "color": style.rgba(c.class_id, 0.6)},
            marker={"color": style.rgba(c.class_id), "size": 6},
            customdata=c.n,
            name=style.name(c.class_id),
            showlegend=False,
            hovertemplate=hover,
            **own,
        )
        fig.add_traces([traces.guess([0, 1], [0, 1], **own), drawn])
    return fig
