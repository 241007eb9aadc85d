"""Expected significance per category, and against a threshold in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from utils.results.evaluation import Evaluation
from utils.results.metrics.significance import Significance, SignificanceScan
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import Legend, Named, Text, axis
from utils.results.plotting.labels import number
from utils.results.plotting.style import INK, MUTED, Settings, Style, faint, parse_color, rgba
from utils.results.plotting.traces import thin


def significance(ev: Evaluation, style: Style, ends: Sequence[str]) -> Named:
    """Yield expected significance per category, and against a threshold in each."""
    result = ev.significance
    if result is None:
        return
    if not ev.binary:
        yield "significance", _categories(style, result)
    for scan in result.scans:
        yield f"significance{ends[scan.category]}", _scan(ev, style, scan, result)


def _signal(style: Style, result: Significance) -> str:
    return "signal: " + " + ".join(style.name(c) for c in result.signal_classes)


def _known_to(result: Significance) -> str:
    return f"{100 * result.background_uncertainty:g} %"


def _categories(style: Style, result: Significance) -> go.Figure:
    names = [style.name(s.category) for s in result.scans] + ["<b>combined</b>"]
    series = {
        "background known": ([*result.z, result.combined], 0.4),
        f"background ± {_known_to(result)}": (
            [*result.z_uncertain, result.combined_uncertain],
            1.0,
        ),
    }
    known = [float(v) for values, _ in series.values() for v in values if np.isfinite(v)]
    high = max(known, default=1.0)
    signal = _signal(style, result)
    fig = frames.rows(
        style,
        Text(
            "Expected significance per category",
            "Asimov significance of the signal classes in each category without a further cut, "
            "and the quadrature sum over categories; with the background known exactly, and known "
            f"to {_known_to(result)} besides the statistics of its sample.",
        ),
        names,
        axis("Expected significance Z<sub>A</sub>", range=[0, max(high, 1e-3) * 1.18]),
        Legend(signal, [[*series][1], signal]),
        row=38,
        area=(400, 150),
        margin={"l": frames.text_width(names, 14) + 24},
    )
    for name, (values, alpha) in series.items():
        colors = [style.rgba(s.category, alpha) for s in result.scans] + [faint(INK, alpha)]
        told: Settings = {"name": name, "legendgroup": name, "orientation": "h"}
        # The legend tells pale from full, in the colour of no class.
        fig.add_bar(x=[None], y=[None], marker={"color": faint(MUTED, alpha)}, **told)
        fig.add_bar(
            y=list(range(len(names))),
            x=thin(values),
            marker={"color": colors},
            showlegend=False,
            offsetgroup=name,
            text=[number(v) for v in values],
            textposition="outside",
            textfont={"size": 12},
            cliponaxis=False,
            hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
            **told,
        )
    fig.update_layout(barmode="group", bargap=0.25, yaxis={"range": [len(names) - 0.5, -0.9]})
    return fig


def _scan(ev: Evaluation, style: Style, s: SignificanceScan, result: Significance) -> go.Figure:
    category = style.name(s.category)
    in_category = "" if ev.binary else f" in the {ev.name(s.category)} category"
    tops = np.concatenate([s.z + np.nan_to_num(s.z_error), s.z_uncertain])
    high = float(np.nanmax(tops)) if np.isfinite(tops).any() else 1.0
    yields = np.concatenate([s.signal, s.background])
    yields = yields[np.isfinite(yields) & (yields > 0)]
    lowest, highest = (yields.min(), yields.max()) if yields.size else (1.0, 10.0)
    cuts = frames.span(s.threshold)
    fig = frames.figure(
        style,
        Text(
            f"Expected significance{in_category}",
            f"Asimov significance after a cut on the probability{in_category}, with one standard "
            "deviation of the finite samples, and the yields that pass. The best cut leaves at "
            f"least {result.min_background:g} effective events of background.",
        ),
        axis(f"Cut on {category} probability", **cuts),
        axis("Expected Z<sub>A</sub>", range=[0, max(high, 1e-6) / (1 - 0.37)]),
        Legend(
            ("" if ev.binary else f"<b>{category}</b> category, ") + _signal(style, result),
            place="top",
        ),
        area=(480, 460),
    )
    fig.update_layout(
        xaxis={"anchor": "y2"},
        yaxis={"domain": [0.42, 1]},
        yaxis2=axis("Yield", log=True, range=frames.log_range(lowest * 0.6, highest * 2))
        | {"domain": [0, 0.37], "anchor": "x"},
        xaxis2=axis(matches="x", showticklabels=False, **cuts) | {"anchor": "y", "domain": [0, 1]},
    )
    top: Settings = {"xaxis": "x2", "yaxis": "y"}
    below: Settings = {"xaxis": "x", "yaxis": "y2"}
    own = style.rgba(s.category)
    shade = style.rgba(s.category, 0.2)
    fig.add_trace(traces.error_band(s.threshold, s.z, s.z_error, shade, **top))
    for name, z, dash in (
        ("background known", s.z, "dash"),
        (f"background ± {_known_to(result)}", s.z_uncertain, "solid"),
    ):
        told: Settings = {"name": name, "legendgroup": name, "showlegend": True}
        told["hovertemplate"] = "Z %{y:.3f} at %{x:.3f}<extra></extra>"
        fig.add_trace(traces.line(s.threshold, z, own, dash=dash, **told, **top))
    if s.best is None:
        nothing = f"no cut leaves {result.min_background:g} effective events of background"
        frames.note(fig, nothing, xref="x2 domain", yref="y domain")
    else:
        cut, best = float(s.threshold[s.best]), float(s.z_uncertain[s.best])
        told = {"name": f"best: {number(best)} at {number(cut)}", "hoverinfo": "name"}
        fig.add_trace(traces.star(cut, best, INK).update(**told, **top))
    signal = style.color(result.signal_classes[0])
    for name, value, error, color in (
        ("signal", s.signal, s.signal_error, signal),
        ("background", s.background, s.background_error, parse_color(MUTED, "")),
    ):
        shown = np.where(value > 0, value, np.nan)
        low = np.where(value - error > 0, value - error, shown * 1e-3)
        told = {"name": name, "legendgroup": name, "showlegend": True}
        told |= {"hovertemplate": f"{name} %{{y:.4g}} at %{{x:.3f}}<extra></extra>"}
        upper = (s.threshold, shown + error)
        fig.add_trace(traces.band(s.threshold, low, *upper, rgba(color, 0.25), **below))
        fig.add_trace(traces.line(s.threshold, shown, rgba(color), **told, **below))
    return fig
