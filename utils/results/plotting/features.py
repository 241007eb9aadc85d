"""Features per true class, and the mean score against them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from utils.columns.arrays import Floats
from utils.results.evaluation import Evaluation
from utils.results.metrics.features import FeatureDistribution, ScoreProfile
from utils.results.plotting import frames, traces
from utils.results.plotting.densities import sparse
from utils.results.plotting.frames import FEW, Grid, Legend, Named, Text, axis
from utils.results.plotting.style import Style
from utils.results.plotting.traces import Look


def features(ev: Evaluation, style: Style) -> Named:
    """Yield the feature distributions per true class, six to a figure."""
    several = frames.pages(ev.features)
    for number, group in enumerate(several, start=1):
        of = f" ({number} of {len(several)})" if len(several) > 1 else ""
        yield f"distributions_{number}", _features(ev, style, group, of)


def _features(
    ev: Evaluation, style: Style, group: Sequence[FeatureDistribution], of: str
) -> go.Figure:
    ids = sorted({c for f in group for c in f.true_classes})
    missing = ", ".join(
        f"{f.name} {int(f.n_missing.sum()):,}" for f in group if np.any(f.n_missing > 0)
    )
    caption = (
        f"Features before any transformation, by true class, unit area each; "
        f"{ev.label(group[0].view)}; the central 99.8 % is shown."
    )
    if missing:
        caption += f" Events with a missing value: {missing}."
    fig = frames.panels(
        style,
        Text(f"Feature distributions{of}", caption),
        [""] * len(group),
        x=[
            axis(style.feature(f.name, 32), **frames.span(f.edges))
            | ({"tickformat": "d"} if f.integer else {})
            for f in group
        ],
        y=[axis("Density", range=[0, max(1.08 * _top(f), 1e-9)]) for f in group],
        legend=Legend("True class", [style.name(c) for c in ids]),
        grid=Grid(above=14),
    )
    seen: set[int] = set()
    for i, f in enumerate(group):
        scattered = sparse(f.density, f.density_error)
        for t, class_id in enumerate(f.true_classes):
            look = Look(
                banded=len(ids) <= FEW and bool(np.any(f.density[t] > 0)),
                bar=(t + 1) / (len(f.true_classes) + 1) if scattered else None,
                showlegend=class_id not in seen,
                more=frames.place(i),
            )
            seen.add(class_id)
            hover = f"{style.name(class_id)}: %{{y:.3g}}<extra></extra>"
            histogram = (f.edges, f.density[t], f.density_error[t])
            fig.add_traces(traces.class_histogram(style, class_id, *histogram, look, hover))
    return fig


def _top(f: FeatureDistribution) -> float:
    """Return the highest end of an error that is at most half of its bin."""
    ends: Floats = (f.density + f.density_error)[f.density_error <= 0.5 * f.density]
    return float(np.max(ends, initial=0.0)) or float(np.max(f.density, initial=0.0))


def profiles(ev: Evaluation, style: Style) -> Named:
    """Yield the mean score against each chosen feature, a panel per class probability."""
    for number, profile in enumerate(ev.profiles, start=1):
        several = frames.pages(range(len(profile.mean)))
        for page, group in enumerate(several, start=1):
            suffix = f"_{page}" if len(several) > 1 else ""
            yield f"profile_{number}{suffix}", _profile(style, profile, group)


def _profile(style: Style, profile: ScoreProfile, group: Sequence[int]) -> go.Figure:
    names = [style.name(c) for c in profile.true_classes]
    of = [profile.score_classes[s] for s in group]
    tops = [profile.mean[s] + profile.error[s] for s in group]
    highs = [float(np.nanmax(t)) if np.isfinite(t).any() else 1.0 for t in tops]
    x = axis(style.feature(profile.feature, 32), **frames.span(profile.edges))
    fig = frames.panels(
        style,
        Text(
            f"Scores against {profile.feature}",
            f"Mean probability in bins of {profile.feature}, by true class, unweighted. Where a "
            "curve bends, a cut on the score sculpts the distribution. Bands: error of the mean.",
        ),
        [f"{style.name(k)} probability" for k in of],
        x=[x] * len(group),
        y=[axis("Mean probability", range=[0, min(h * 1.1, 1.05)]) for h in highs],
        legend=Legend("True class", names),
        grid=Grid(),
    )
    centres = 0.5 * (profile.edges[1:] + profile.edges[:-1])
    for i, s in enumerate(group):
        own = frames.place(i)
        for t, class_id in enumerate(profile.true_classes):
            mean, error, shade = profile.mean[s, t], profile.error[s, t], style.rgba(class_id, 0.25)
            tied = {"legendgroup": f"class {class_id}", **own}
            fig.add_trace(traces.error_band(centres, mean, error, shade, **tied))
            hover = f"{names[t]}: %{{y:.3f}} at %{{x:.4g}}<extra></extra>"
            told = {"name": names[t], "hovertemplate": hover, "showlegend": i == 0}
            fig.add_trace(traces.class_line(style, class_id, centres, mean, **told, **own))
    return fig
