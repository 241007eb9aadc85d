"""Curves: ROC, precision-recall, thresholds, reliability, significance, profiles, learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from utils.results.containers import (
    VIEW_LABELS,
    Estimate,
    Evaluation,
    PrecisionRecallCurve,
    RocCurve,
    ScoreProfile,
    SignificanceScan,
    View,
)
from utils.results.plotting.densities import Named
from utils.results.plotting.labels import literal, measured, number
from utils.results.plotting.style import (
    FEW,
    INK,
    MUTED,
    PALETTE_10,
    Style,
    axis,
    band,
    figure,
    log_range,
    note,
    pages,
    panels,
    parse_color,
    place_legend,
    plain_width,
    rgba,
    some_points,
    thin,
)


def shown_views(ev: Evaluation) -> list[View]:
    """Return the views that are drawn: as trained and, where there are weights, physics."""
    first = list(ev.views[:1])
    return first + [v for v in ev.views if v == "physics" and v not in first]


def _name(style: Style, class_id: int, area: Estimate) -> str:
    return f"{style.name(class_id)}  {measured(area.value, area.error)}"


def roc(ev: Evaluation, style: Style) -> Named:
    """Yield ROC curves of all classes: linear, and as background rejection on a log axis."""
    for view in shown_views(ev):
        curves = [c for c in ev.roc if c.view == view]
        if curves:
            yield f"roc_{view}", _roc(ev, style, curves)
            yield f"rejection_{view}", _rejection(ev, style, curves)


def _roc(ev: Evaluation, style: Style, curves: Sequence[RocCurve]) -> go.Figure:
    view = curves[0].view
    entries = [_name(style, c.class_id, c.area) for c in curves]
    legend_title = f"{literal(ev.dataset)}, area under curve"
    fig = figure(
        style,
        title=f"ROC curves, {VIEW_LABELS[view]}",
        caption=(
            f"Each class against all others together; {VIEW_LABELS[view]}. Bands: 68 % pointwise "
            "from the bootstrap. Areas with one standard deviation are of the full curves."
        ),
        x=axis("False-positive rate", range=[0, 1]),
        y=axis("True-positive rate", range=[0, 1.005]),
        legend=place_legend(
            [(c.fpr, c.tpr) for c in curves], ["bottom right"], entries, legend_title
        ),
        entries=entries,
        legend_title=legend_title,
    )
    fig.add_trace(_guess([0, 1], [0, 1]))
    for curve, name in zip(curves, entries, strict=True):
        group = {"legendgroup": f"class {curve.class_id}"}
        color = style.rgba(curve.class_id, 0.25)
        x, at = curve.fpr, some_points(len(curve.fpr))
        fig.add_trace(band(x[at], curve.tpr_low[at], x[at], curve.tpr_high[at], color, **group))
        line = _line(style, curve.class_id, x, curve.tpr, name)
        hover = "fpr %{x:.4f}, tpr %{y:.4f}"
        fig.add_trace(line.update(**_hover(hover, curve.threshold, len(curves)), **group))
    return fig


def _hover(text: str, threshold: Any, n_curves: int) -> dict[str, Any]:
    """Return the settings of a hover text; thresholds are told unless there are many curves."""
    if n_curves > FEW:  # their thresholds would be a third of a large page
        return {"hovertemplate": text}
    # The first one, infinity, has no place in JSON.
    cuts = np.where(np.isfinite(threshold), threshold, 1.0).astype(np.float32)
    return {"customdata": cuts, "hovertemplate": text + ", score ≥ %{customdata:.4f}"}


def _rejection(ev: Evaluation, style: Style, curves: Sequence[RocCurve]) -> go.Figure:
    view = curves[0].view
    entries = [_name(style, c.class_id, c.area) for c in curves]
    # Half an event's worth of background is where the data end; less says nothing.
    positive = [c.fpr[(c.fpr > 0) & (c.tpr > 0.02)] for c in curves]
    smallest = min((float(p.min()) for p in positive if p.size), default=1e-3)
    high = min(1 / max(smallest, 1e-12), 1e6)
    y_range = log_range(1, max(high, 3))
    grid = np.linspace(0.01, 1, 100)
    lines = [(c.tpr[c.fpr > 0], -np.log10(c.fpr[c.fpr > 0]) / y_range[1]) for c in curves]
    lines.append((grid, -np.log10(grid) / y_range[1]))
    legend_title = f"{literal(ev.dataset)}, area under ROC curve"
    fig = figure(
        style,
        title=f"Background rejection, {VIEW_LABELS[view]}",
        caption=(
            "Inverse of the share of all other classes that passes, against the efficiency for "
            f"the class; {VIEW_LABELS[view]}. Bands: 68 % from the bootstrap."
        ),
        x=axis("Signal efficiency", range=[0, 1]),
        y=axis("Background rejection 1/ε<sub>B</sub>", log=True, range=y_range),
        legend=place_legend(lines, ["top right", "bottom left"], entries, legend_title),
        entries=entries,
        legend_title=legend_title,
    )
    fig.add_trace(_guess(grid, 1 / grid))
    for curve, name in zip(curves, entries, strict=True):
        use = curve.fpr > 0
        y = 1 / curve.fpr[use]
        group = {"legendgroup": f"class {curve.class_id}"}
        color = style.rgba(curve.class_id, 0.25)
        at = some_points(len(y))
        left, right = curve.tpr_low[use][at], curve.tpr_high[use][at]
        fig.add_trace(band(left, y[at], right, y[at], color, **group))
        line = _line(style, curve.class_id, curve.tpr[use], y, name)
        hover = "efficiency %{x:.3f}, rejection %{y:.4g}"
        fig.add_trace(line.update(**_hover(hover, curve.threshold[use], len(curves)), **group))
    return fig


def _guess(x: Any, y: Any) -> go.Scatter:
    return go.Scatter(
        x=thin(x),
        y=thin(y),
        mode="lines",
        line={"color": MUTED, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )


def _line(style: Style, class_id: int, x: Any, y: Any, name: str) -> go.Scatter:
    line = {"color": style.rgba(class_id), "width": 2, "dash": style.dash(class_id)}
    return go.Scatter(x=thin(x), y=thin(y), mode="lines", name=name, line=line)


def precision_recall(ev: Evaluation, style: Style) -> Named:
    """Yield precision-recall curves of all classes with their prevalence baselines."""
    for view in shown_views(ev):
        curves = [c for c in ev.precision_recall if c.view == view]
        if curves:
            yield f"precision_recall_{view}", _precision_recall(ev, style, curves)


def _precision_recall(
    ev: Evaluation, style: Style, curves: Sequence[PrecisionRecallCurve]
) -> go.Figure:
    view = curves[0].view
    entries = [_name(style, c.class_id, c.area) for c in curves]
    legend_title = f"{literal(ev.dataset)}, average precision"
    lines = [(c.recall, c.precision) for c in curves]
    corners = ["bottom left", "bottom right", "top right"]
    guesses = {c.prevalence for c in curves}
    fig = figure(
        style,
        title=f"Precision and recall, {VIEW_LABELS[view]}",
        caption=(
            f"Each class against all others together; {VIEW_LABELS[view]}. Dotted: the precision "
            "of guessing, which is the class's prevalence. Bands: 68 % pointwise."
        ),
        x=axis("Recall (efficiency)", range=[0, 1]),
        y=axis("Precision (purity)", range=[0, 1.005]),
        legend=place_legend(
            [*lines, *(([0, 1], [g, g]) for g in guesses)], corners, entries, legend_title
        ),
        entries=entries,
        legend_title=legend_title,
    )
    if len(guesses) == 1:  # one for all, as where classes are balanced
        fig.add_trace(_guess([0, 1], [*guesses] * 2))
    for curve, name in zip(curves, entries, strict=True):
        group = {"legendgroup": f"class {curve.class_id}"}
        x, at = curve.recall, some_points(len(curve.recall))
        low, high = curve.precision_low[at], curve.precision_high[at]
        color = style.rgba(curve.class_id, 0.25)
        fig.add_trace(band(x[at], low, x[at], high, color, **group))
        line = _line(style, curve.class_id, x, curve.precision, name)
        hover = "recall %{x:.4f}, precision %{y:.4f}"
        fig.add_trace(line.update(**_hover(hover, curve.threshold, len(curves)), **group))
        if len(guesses) > 1:
            base = _guess([0, 1], [curve.prevalence, curve.prevalence])
            fig.add_trace(base.update(line={"color": style.rgba(curve.class_id)}, **group))
    return fig


def thresholds(ev: Evaluation, style: Style) -> Named:
    """Yield efficiency and purity against the threshold, a panel per class."""
    view = "physics" if "physics" in ev.views else (ev.views or ("unweighted",))[0]
    scans = [s for s in ev.thresholds if s.view == view]
    several = pages(scans)
    kinds = (("efficiency", "efficiency", "#5790fc"), ("purity", "purity", "#e42536"))
    for page_number, group in enumerate(several, start=1):
        fig = panels(
            style,
            [style.name(s.class_id) for s in group],
            title=f"Efficiency and purity against threshold, {VIEW_LABELS[view]}",
            caption=(
                "Selection `probability of the class ≥ threshold`, over all categories; "
                f"{VIEW_LABELS[view]}. Bands: one standard deviation; purity is drawn down to "
                "five selected events."
            ),
            x=[axis("Threshold", range=[0, 1]) for _ in group],
            y=[axis("Efficiency, purity", range=[0, 1.03]) for _ in group],
            entries=["background eff."],
            legend_title=literal(ev.dataset),
        )
        for i, scan in enumerate(group):
            axes = _axes(i)
            for attribute, name, color in kinds:
                value = getattr(scan, attribute)
                error = getattr(scan, attribute + "_error")
                tone = rgba(parse_color(color, ""), 0.25)
                x = scan.threshold
                fig.add_trace(
                    band(x, value - error, x, value + error, tone, legendgroup=name, **axes)
                )
                fig.add_trace(
                    _plain_line(x, value, name, color, "solid", i == 0).update(
                        hovertemplate=f"{name} %{{y:.4f}} at %{{x:.3f}}<extra></extra>", **axes
                    )
                )
            fig.add_trace(
                _plain_line(
                    scan.threshold, scan.background_efficiency, "background eff.", MUTED, "dash",
                    i == 0,
                ).update(hovertemplate="background %{y:.4f} at %{x:.3f}<extra></extra>", **axes)
            )  # fmt: skip
        yield f"thresholds_{page_number}", fig


def _axes(i: int) -> dict[str, str]:
    return {"xaxis": f"x{i + 1}" if i else "x", "yaxis": f"y{i + 1}" if i else "y"}


def _plain_line(
    x: Any, y: Any, name: str, color: str, dash: str, showlegend: bool, width: float = 2
) -> go.Scatter:
    return go.Scatter(
        x=thin(x),
        y=thin(y),
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=showlegend,
        line={"color": color, "width": width, "dash": dash},
    )


def calibration(ev: Evaluation, style: Style) -> Named:
    """Yield reliability diagrams, a panel per class."""
    several = pages(ev.calibration)
    for page_number, group in enumerate(several, start=1):
        ranges = []
        for c in group:
            top = np.concatenate([c.predicted, c.observed + c.observed_error])
            high = float(np.nanmax(top, initial=0.05))
            ranges.append([0, min(high * 1.08, 1.02)])
        fig = panels(
            style,
            [
                f"{style.name(c.class_id, 18)}: ECE {measured(c.error.value, c.error.error)}"
                for c in group
            ],
            title="Reliability diagrams",
            caption=(
                "Observed share of the class against its mean predicted probability in equally "
                "populated bins, under the weights trained with. On the diagonal the probability "
                "is right; bars are one standard deviation. ECE: expected calibration error; a "
                "perfectly calibrated classifier would show "
                + ", ".join(f"{number(c.noise, 2)} ({ev.classes[c.class_id].name})" for c in group)
                + " with these statistics."
            ),
            x=[axis("Predicted probability", range=r) for r in ranges],
            y=[axis("Observed share", range=r) for r in ranges],
            area=(290, 290),
        )
        for i, c in enumerate(group):
            axes = _axes(i)
            fig.add_trace(_guess([0, 1], [0, 1]).update(**axes))
            fig.add_trace(
                go.Scatter(
                    x=thin(c.predicted),
                    y=thin(c.observed),
                    error_y={
                        "type": "data",
                        "array": thin(np.nan_to_num(c.observed_error)),
                        "width": 0,
                        "thickness": 1.3,
                    },
                    mode="markers+lines",
                    line={"width": 1, "color": style.rgba(c.class_id, 0.6)},
                    marker={"color": style.rgba(c.class_id), "size": 6},
                    customdata=c.n,
                    name=style.name(c.class_id),
                    showlegend=False,
                    hovertemplate="predicted %{x:.3f}, observed %{y:.3f}, %{customdata:,} events"
                    "<extra></extra>",
                    **axes,
                )
            )
        yield f"reliability_{page_number}", fig


def significance(ev: Evaluation, style: Style, slugs: Sequence[str]) -> Named:
    """Yield expected significance per category, and against a threshold in each."""
    result = ev.significance
    if result is None:
        return
    signal = " + ".join(style.name(c) for c in result.signal_classes)
    names = [style.name(s.category) for s in result.scans] + ["<b>combined</b>"]
    systematic = f"{100 * result.background_uncertainty:g} %"
    with_b = f"background ± {systematic}"
    series = (
        ("background known", [*result.z, result.combined], "#94a4a2"),
        (with_b, [*result.z_uncertain, result.combined_uncertain], "#3f90da"),
    )
    high = max((float(np.nanmax(v)) for _, v, _ in series if np.isfinite(v).any()), default=1.0)
    longest = round(max(plain_width(n, 14) for n in names))
    fig = figure(
        style,
        title="Expected significance per category",
        caption=(
            "Asimov significance of the signal classes in each category without a further cut, "
            "and the quadrature sum over categories; with the background known exactly, and known "
            f"to {systematic} besides the statistics of its sample."
        ),
        x=axis("Expected significance Z<sub>A</sub>", range=[0, max(high, 1e-3) * 1.18]),
        y=axis(
            tickvals=list(range(len(names))),
            ticktext=names,
            range=[len(names) - 0.5, -0.9],
            ticks="",
            minor={},
        ),
        legend="outside",
        entries=[with_b, f"signal: {signal}"],
        legend_title=f"signal: {signal}",
        area=(400, max(38 * len(names), 150)),
        margin={"l": longest + 24},
    )
    for name, values, color in series:
        fig.add_trace(
            go.Bar(
                y=list(range(len(names))),
                x=thin(values),
                orientation="h",
                name=name,
                marker={"color": color},
                text=[number(v) for v in values],
                textposition="outside",
                textfont={"size": 12},
                cliponaxis=False,
                hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
            )
        )
    fig.update_layout(barmode="group", bargap=0.25)
    yield "significance", fig
    for scan in result.scans:
        yield f"significance_{slugs[scan.category]}", _scan(ev, style, scan, signal, with_b)


def _scan(ev: Evaluation, style: Style, s: SignificanceScan, signal: str, with_b: str) -> go.Figure:
    category = style.name(s.category)
    tops = np.concatenate([s.z + np.nan_to_num(s.z_error), s.z_uncertain])
    high = float(np.nanmax(tops)) if np.isfinite(tops).any() else 1.0
    yields = np.concatenate([s.signal, s.background])
    yields = yields[np.isfinite(yields) & (yields > 0)]
    low_high = (float(yields.min()), float(yields.max())) if yields.size else (1.0, 10.0)
    start = float(s.threshold[0]) if len(s.threshold) else 0.0
    x_range = [start, float(s.threshold[-1]) if len(s.threshold) else 1.0]
    fig = figure(
        style,
        title=f"Expected significance in the {ev.classes[s.category].name} category",
        caption=(
            "Asimov significance after a cut on the category's probability, with one standard "
            "deviation of the finite samples, and the yields that pass."
        ),
        x=axis(f"Cut on {category} probability", range=x_range),
        y=axis("Expected Z<sub>A</sub>", range=[0, max(high, 1e-6) / (1 - 0.37)]),
        legend="top",
        legend_title=f"<b>{category}</b> category, signal: {signal}",
        area=(480, 460),
    )
    fig.update_layout(
        xaxis={"anchor": "y2"},
        yaxis={"domain": [0.42, 1]},
        yaxis2=axis("Yield", log=True, range=log_range(low_high[0] * 0.6, low_high[1] * 2))
        | {"domain": [0, 0.37], "anchor": "x"},
        xaxis2=axis(range=x_range, matches="x", showticklabels=False)
        | {"anchor": "y", "domain": [0, 1]},
    )
    top = {"xaxis": "x2", "yaxis": "y"}
    tone = rgba(parse_color("#94a4a2", ""), 0.35)
    fig.add_trace(band(s.threshold, s.z - s.z_error, s.threshold, s.z + s.z_error, tone, **top))
    fig.add_trace(
        _plain_line(s.threshold, s.z, "background known", "#717581", "dash", True).update(
            hovertemplate="Z %{y:.3f} at %{x:.3f}<extra></extra>", **top
        )
    )
    fig.add_trace(
        _plain_line(s.threshold, s.z_uncertain, with_b, "#3f90da", "solid", True).update(
            hovertemplate="Z %{y:.3f} at %{x:.3f}<extra></extra>", **top
        )
    )
    if s.best is not None:
        fig.add_trace(
            go.Scatter(
                x=[float(s.threshold[s.best])],
                y=[float(s.z_uncertain[s.best])],
                mode="markers",
                name=f"best: {number(float(s.z_uncertain[s.best]))} at "
                f"{number(float(s.threshold[s.best]))}",
                marker={"symbol": "star", "size": 12, "color": INK},
                hoverinfo="name",
                **top,
            )
        )
    else:
        note(fig, "no positive background in this category", xref="x2 domain", yref="y domain")
    below = {"xaxis": "x", "yaxis": "y2"}
    for name, value, error, color in (
        ("signal", s.signal, s.signal_error, "#bd1f01"),
        ("background", s.background, s.background_error, "#832db6"),
    ):
        shown = np.where(value > 0, value, np.nan)
        low = np.where(value - error > 0, value - error, shown * 1e-3)
        tone = rgba(parse_color(color, ""), 0.25)
        fig.add_trace(band(s.threshold, low, s.threshold, shown + error, tone, **below))
        fig.add_trace(
            _plain_line(s.threshold, shown, name, color, "solid", True).update(
                hovertemplate=f"{name} %{{y:.4g}} at %{{x:.3f}}<extra></extra>", **below
            )
        )
    return fig


def profiles(ev: Evaluation, style: Style) -> Named:
    """Yield the mean score against each chosen feature, a panel per class probability."""
    for number_of, profile in enumerate(ev.profiles, start=1):
        several = pages(range(len(profile.mean)))
        for page_number, group in enumerate(several, start=1):
            suffix = f"_{page_number}" if len(several) > 1 else ""
            yield f"profile_{number_of}{suffix}", _profile(style, profile, group)


def _profile(style: Style, profile: ScoreProfile, group: Sequence[int]) -> go.Figure:
    names = [style.name(c) for c in profile.true_classes]
    tops = [profile.mean[k] + profile.error[k] for k in group]
    highs = [float(np.nanmax(t)) if np.isfinite(t).any() else 1.0 for t in tops]
    fig = panels(
        style,
        [f"{style.name(k)} probability" for k in group],
        title=f"Scores against {profile.feature}",
        caption=(
            f"Mean probability in bins of {profile.feature}, by true class, unweighted. Where a "
            "curve bends, a cut on the score sculpts the distribution. Bands: error of the mean."
        ),
        x=[
            axis(
                style.feature(profile.feature, 32),
                range=[float(profile.edges[0]), float(profile.edges[-1])],
            )
            for _ in group
        ],
        y=[axis("Mean probability", range=[0, min(h * 1.1, 1.05)]) for h in highs],
        entries=names,
        legend_title="True class",
    )
    centres = 0.5 * (profile.edges[1:] + profile.edges[:-1])
    for i, k in enumerate(group):
        for t, class_id in enumerate(profile.true_classes):
            mean, error = profile.mean[k, t], profile.error[k, t]
            more = {"legendgroup": f"class {class_id}", **_axes(i)}
            color = style.rgba(class_id, 0.25)
            fig.add_trace(band(centres, mean - error, centres, mean + error, color, **more))
            fig.add_trace(
                _line(style, class_id, centres, mean, names[t]).update(
                    showlegend=i == 0,
                    hovertemplate=f"{names[t]}: %{{y:.3f}} at %{{x:.4g}}<extra></extra>",
                    **more,
                )
            )
    return fig


def learning_curves(ev: Evaluation, style: Style) -> Named:
    """Yield the learning curves of all folds, best iterations marked."""
    result = ev.learning_curves
    if result is None or not result.curves:
        return
    metric = literal(result.metric)
    fig = figure(
        style,
        title="Learning curves",
        caption=(
            f"{result.metric} during the training of each fold: solid on the validation rows, "
            "dashed on the training rows; stars mark the best iterations."
        ),
        x=axis("Iteration"),
        y=axis(metric),
        legend="top right" if len(result.curves) <= 5 else "outside",
        entries=["fold 00, validation"],
    )
    for i, curve in enumerate(result.curves):
        color = PALETTE_10[i % len(PALETTE_10)]
        fold = f"fold {curve.fold}"
        fig.add_trace(
            _plain_line(
                curve.iteration, curve.validation, f"{fold}, validation", color, "solid", True
            )
        )
        if len(curve.train):
            fig.add_trace(
                _plain_line(
                    curve.train_iteration,
                    curve.train,
                    f"{fold}, training",
                    color,
                    "dash",
                    True,
                    1.3,
                )
            )
        at = np.flatnonzero(curve.iteration == curve.best)
        if at.size:
            fig.add_trace(
                go.Scatter(
                    x=[int(curve.best)],
                    y=thin(curve.validation[at[:1]]),
                    mode="markers",
                    marker={"symbol": "star", "size": 12, "color": color, "line": {"width": 0.8}},
                    name=f"best iteration {curve.best}",
                    legendgroup=f"{fold}, validation",
                    showlegend=False,
                    hovertemplate=f"{fold}: best iteration %{{x}}, {metric} %{{y:.5g}}"
                    "<extra></extra>",
                )
            )
    yield "learning_curves", fig
