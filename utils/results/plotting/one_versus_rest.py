"""Curves of one class against all others: ROC, background rejection, precision and recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.results.estimates import Estimate
from utils.results.evaluation import Evaluation
from utils.results.events import View
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import FEW, Legend, Named, Text, axis
from utils.results.plotting.labels import literal, measured
from utils.results.plotting.style import Settings, Style


@dataclass(frozen=True, eq=False)
class _Line:
    """One class's curve as it is drawn; the band is given as the outline's two lines."""

    class_id: int
    x: Floats
    y: Floats
    threshold: Floats
    low: tuple[Floats, Floats]
    high: tuple[Floats, Floats]
    area: Estimate
    guess: go.Scatter | None = None


@dataclass(frozen=True, eq=False)
class _Frame:
    """What the curves of one figure stand in.

    number: what the legend gives of each curve. hover: text of a point, as plotly reads it.
    shares: the lines that the legend must not hide, in shares of the frame, and the corners it may
    stand in. guess: what guessing gives in all classes; None where it is another in each.
    """

    text: Text
    x: Settings
    y: Settings
    number: str
    hover: str
    corners: Sequence[str]
    shares: Sequence[tuple[Any, Any]]
    guess: go.Scatter | None


def roc(ev: Evaluation, style: Style) -> Named:
    """Yield ROC curves of all classes: linear, and as background rejection on a log axis."""
    for view in ev.shown_views:
        if any(c.view == view for c in ev.roc):
            yield f"roc_{view}", _roc(ev, style, view)
            yield f"rejection_{view}", _rejection(ev, style, view)


def _roc(ev: Evaluation, style: Style, view: View) -> go.Figure:
    label = ev.label(view)
    curves = [c for c in ev.roc if c.view == view]
    lines = []
    for c in curves:
        low, high = (c.fpr, c.tpr_low), (c.fpr, c.tpr_high)
        lines.append(_Line(c.class_id, c.fpr, c.tpr, c.threshold, low, high, c.area))
    frame = _Frame(
        Text(
            f"ROC curves, {label}",
            f"Each class against all others together; {label}. Bands: 68 % pointwise "
            "from the bootstrap. Areas with one standard deviation are of the full curves.",
        ),
        x=axis("False-positive rate", range=[0, 1]),
        y=axis("True-positive rate", range=[0, 1.005]),
        number="area under curve",
        hover="fpr %{x:.4f}, tpr %{y:.4f}",
        corners=["bottom right"],
        shares=[(c.fpr, c.tpr) for c in curves],
        guess=traces.guess([0, 1], [0, 1]),
    )
    return _figure(ev, style, frame, lines)


def _rejection(ev: Evaluation, style: Style, view: View) -> go.Figure:
    label = ev.label(view)
    lines = []
    for c in (c for c in ev.roc if c.view == view):
        use = c.fpr > 0
        y = 1 / c.fpr[use]
        low, high = (c.tpr_low[use], y), (c.tpr_high[use], y)
        lines.append(_Line(c.class_id, c.tpr[use], y, c.threshold[use], low, high, c.area))
    # Half an event's worth of background is where the data end; less says nothing.
    largest = [float(one.y[one.x > 0.02].max(initial=0.0)) for one in lines]
    top = min(max((y for y in largest if y > 0), default=1e3), 1e6)
    y_range = frames.log_range(1, max(top, 3))
    grid = np.linspace(0.01, 1, 100)
    shown = [(one.x, one.y) for one in lines] + [(grid, 1 / grid)]
    frame = _Frame(
        Text(
            f"Background rejection, {label}",
            "Inverse of the share of all other classes that passes, against the efficiency for "
            f"the class; {label}. Bands: 68 % from the bootstrap.",
        ),
        x=axis("Signal efficiency", range=[0, 1]),
        y=axis("Background rejection 1/ε<sub>B</sub>", log=True, range=y_range),
        number="area under ROC curve",
        hover="efficiency %{x:.3f}, rejection %{y:.4g}",
        corners=["top right", "bottom left"],
        shares=[(x, np.log10(y) / y_range[1]) for x, y in shown],
        guess=traces.guess(grid, 1 / grid),
    )
    return _figure(ev, style, frame, lines)


def precision_recall(ev: Evaluation, style: Style) -> Named:
    """Yield precision-recall curves of all classes with their prevalence baselines."""
    for view in ev.shown_views:
        if any(c.view == view for c in ev.precision_recall):
            yield f"precision_recall_{view}", _precision_recall(ev, style, view)


def _precision_recall(ev: Evaluation, style: Style, view: View) -> go.Figure:
    label = ev.label(view)
    curves = [c for c in ev.precision_recall if c.view == view]
    lines = []
    for c in curves:
        low, high = (c.recall, c.precision_low), (c.recall, c.precision_high)
        guess = traces.guess([0, 1], [c.prevalence] * 2, legendgroup=f"class {c.class_id}")
        guess.update(line={"color": style.rgba(c.class_id)})
        lines.append(
            _Line(c.class_id, c.recall, c.precision, c.threshold, low, high, c.area, guess)
        )
    guesses = {c.prevalence for c in curves}
    frame = _Frame(
        Text(
            f"Precision and recall, {label}",
            f"Each class against all others together; {label}. Dotted: the precision "
            "of guessing, which is the class's prevalence. Bands: 68 % pointwise.",
        ),
        x=axis("Recall (efficiency)", range=[0, 1]),
        y=axis("Precision (purity)", range=[0, 1.005]),
        number="average precision",
        hover="recall %{x:.4f}, precision %{y:.4f}",
        corners=["bottom left", "bottom right", "top right"],
        shares=[*((c.recall, c.precision) for c in curves), *(([0, 1], [g, g]) for g in guesses)],
        # One for all, as where classes are balanced, or each with its class.
        guess=traces.guess([0, 1], [*guesses] * 2) if len(guesses) == 1 else None,
    )
    return _figure(ev, style, frame, lines)


def _figure(ev: Evaluation, style: Style, frame: _Frame, lines: Sequence[_Line]) -> go.Figure:
    names = [f"{style.name(i.class_id)}  {measured(i.area.value, i.area.error)}" for i in lines]
    legend = Legend(f"{literal(ev.dataset)}, {frame.number}", names)
    legend = frames.placed(legend, frame.shares, frame.corners)
    fig = frames.figure(style, frame.text, frame.x, frame.y, legend)
    if frame.guess is not None:
        fig.add_trace(frame.guess)
    for one, name in zip(lines, names, strict=True):
        group = f"class {one.class_id}"
        at = some_points(len(one.x))
        shade = style.rgba(one.class_id, 0.25)
        x_low, low, x_high, high = (values[at] for values in (*one.low, *one.high))
        fig.add_trace(traces.band(x_low, low, x_high, high, shade, legendgroup=group))
        told = _told(frame.hover, one.threshold, len(lines))
        fig.add_trace(traces.class_line(style, one.class_id, one.x, one.y, name=name, **told))
        if frame.guess is None:
            fig.add_trace(one.guess)
    return fig


def some_points(n: int, most: int = 300) -> NDArray[np.intp]:
    """Return indices of at most `most` of n points, the ends among them: enough for a band."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.intp))


def _told(hover: str, threshold: Floats, n_curves: int) -> dict[str, Any]:
    """Return the settings of a hover text; thresholds are told unless there are many curves."""
    if n_curves > FEW:  # their thresholds would be a third of a large page
        return {"hovertemplate": hover}
    # The first one, infinity, has no place in JSON.
    cuts = np.where(np.isfinite(threshold), threshold, 1.0).astype(np.float32)
    return {"customdata": cuts, "hovertemplate": hover + ", score ≥ %{customdata:.4f}"}
