"""Systematic variations as figures: what each does at a glance, then each for itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from utils.columns.arrays import Floats
from utils.results.evaluation import Evaluation
from utils.results.metrics.variations import Migration, ShiftedDensity, ShiftEffect, Variations
from utils.results.plotting import frames, traces
from utils.results.plotting.frames import Grid, Legend, Named, Text, axis, name_axis
from utils.results.plotting.intervals import Row, rows_of_intervals
from utils.results.plotting.labels import literal, number, signed_percent
from utils.results.plotting.matrices import BLUE_WHITE_RED, BLUES, GROUND, Matrix, squares
from utils.results.plotting.style import INK, PALETTE_10, Settings, Style, faint
from utils.results.plotting.traces import thin
from utils.schema import unique_slugs

COLORS = {"Up": PALETTE_10[0], "Down": PALETTE_10[2]}
DASHES = {"Up": "solid", "Down": "dash"}
WORDS = {"Up": "up", "Down": "down"}
CATEGORIES_PER_FIGURE = frames.PANELS_PER_FIGURE // 2
MOST_FEATURES = 25


def variations(ev: Evaluation, style: Style) -> Named:
    """Yield all variations at a glance, then scores, migration and driving features of each."""
    result = ev.variations
    if result is None or not result.shifts:
        return
    for metric, title in (("roc_auc_macro", "ROC area, macro mean"), ("log_loss", "log-loss")):
        title = "ROC area" if ev.binary and metric == "roc_auc_macro" else title
        yield f"variations_{metric}", _changes(ev, style, result, metric, title)
    yield "variations_yields", _yields(style, result)
    for name, slug in zip(result.names, unique_slugs(result.names), strict=True):
        effects = result.of(name)
        yield from _densities(ev, style, result, effects, f"variation_{slug}")
        for effect in effects:
            if effect.migration is not None:
                key = f"migration_{slug}_{WORDS[effect.direction]}"
                yield key, _migration(style, effect, effect.migration)
        if any(effect.drivers is not None for effect in effects):
            yield f"drivers_{slug}", _drivers(style, effects)


def _changes(
    ev: Evaluation, style: Style, result: Variations, metric: str, title: str
) -> go.Figure:
    """Return the change of a metric under each variation, up and down, with its interval."""
    rows: list[Row] = [
        (literal(effect.variation), m.change, WORDS[effect.direction])
        for effect in result.shifts
        for m in effect.metrics
        if (m.metric, m.view) == (metric, ev.main_view)
    ]
    text = Text(
        f"Change of the {title} by systematic variations",
        f"{title[:1].upper() + title[1:]} of shifted minus nominal scores, {ev.label(ev.main_view)}"
        ", with 95 % bootstrap intervals: event by event, or of two samples where a variation is "
        "a sample of its own.",
    )
    return rows_of_intervals(style, rows, text, f"Change of the {literal(title)}", "shifted")


def _yields(style: Style, result: Variations) -> go.Figure:
    """Return the relative change of the yield of each category under each shift, as colours."""
    relative = np.array([effect.yields.relative.value for effect in result.shifts])
    z = 100 * relative
    n_shifts, k = z.shape
    names = [literal(effect.name) for effect in result.shifts]
    categories = [style.name(c, 18) for c in range(k)]
    cell = float(np.clip(440 / max(k, n_shifts), 44, 110))
    longest = frames.text_width(categories, 14)
    turned = longest > cell - 8
    known = np.abs(z[np.isfinite(z)])
    high = float(np.max(known, initial=0.0)) or 1.0
    kind = "Expected events" if result.yield_view == "physics" else "Events"
    fig = frames.figure(
        style,
        Text(
            "Change of yields by systematic variations",
            f"{kind} in each category under each shift, relative to nominal, in percent. The hover "
            "text has 95 % intervals of the paired bootstrap.",
        ),
        name_axis("Category", categories, fixedrange=True, tickangle=-90 if turned else 0),
        name_axis("", names, falling=True, fixedrange=True),
        Legend(place="top left"),
        area=(round(cell * k), round(cell * n_shifts)),
        margin={
            "l": frames.text_width(names, 14) + 34,
            "r": 112,
            "b": (longest if turned else 18) + 48,
        },
    )
    texts = [[signed_percent(v) for v in row] for row in relative]
    told = [
        _interval_text(100 * v, 100 * low, 100 * high_end)
        for effect in result.shifts
        for v, low, high_end in zip(
            effect.yields.relative.value,
            effect.yields.relative.low,
            effect.yields.relative.high,
            strict=True,
        )
    ]
    font = int(np.clip(cell / 3.6, 10, 16))
    matrix = Matrix(z, BLUE_WHITE_RED, (-high, high), cell, texts, font)
    hover = "%{y}, category %{x}<br>%{customdata}<extra></extra>"
    fig.add_trace(squares(matrix, "Change of the yield [%]", customdata=told, hovertemplate=hover))
    return fig.update_layout(plot_bgcolor=GROUND)


def _interval_text(value: float, low: float, high: float) -> str:
    return f"{number(value)} % [{number(low)}, {number(high)}]"


# --- one variation --------------------------------------------------------------------------------


def _densities(
    ev: Evaluation,
    style: Style,
    result: Variations,
    effects: Sequence[ShiftEffect],
    key: str,
) -> Named:
    """Yield the scores of each category, nominal and shifted, with the ratio below."""
    n = len(effects[0].densities)
    starts = range(0, n, CATEGORIES_PER_FIGURE)
    for page, start in enumerate(starts, 1):
        shown = range(start, min(start + CATEGORIES_PER_FIGURE, n))
        yield f"{key}_{page}", _density_page(ev, style, result, effects, shown)


def _density_page(
    ev: Evaluation,
    style: Style,
    result: Variations,
    effects: Sequence[ShiftEffect],
    shown: range,
) -> go.Figure:
    variation = effects[0].variation
    nominal = [effects[0].densities[i] for i in shown]
    names = [style.name(d.category) for d in nominal]
    unit = ("Events" if result.yield_view == "physics" else "Simulated events") + " / bin"
    tops: list[Settings] = []
    ratios: list[Settings] = []
    x: list[Settings] = []
    for i in shown:
        of = [effect.densities[i] for effect in effects]
        high = max(float(np.max([*d.nominal + d.nominal_error, *d.shifted])) for d in of) or 1.0
        tops.append(axis(unit, range=[0, 1.08 * high]))
        ratios.append(axis("Shifted / nominal", range=_ratio_range(of)))
        x.append(axis(f"{style.name(of[0].category)} probability", **frames.span(of[0].edges)))
    text = Text(
        f"Scores under {variation}",
        ("All events" if ev.binary else "The events of each category")
        + f" by its probability, {ev.label(result.yield_view)}, nominal and with {variation} "
        "shifted, and the ratio. Bands: statistical uncertainty of the nominal sample; bars: that "
        "of the ratio, in which what both have in common cancels. Bins have enough nominal events.",
    )
    entries = ["nominal", *(WORDS[effect.direction] for effect in effects)]
    grid = Grid(columns=len(shown))
    titles = [*([""] * len(shown) if ev.binary else names), *[""] * len(shown)]
    legend = Legend(f"<b>{literal(variation)}</b>,<br>{literal(ev.dataset)}", entries)
    fig = frames.panels(style, text, titles, [*x, *x], [*tops, *ratios], legend, grid)
    drawn: list[go.Scatter] = []
    for column, i in enumerate(shown):
        first: Settings = {"showlegend": column == 0}
        top, below = frames.place(column), frames.place(len(shown) + column)
        d = effects[0].densities[i]
        band: Settings = {"legendgroup": "nominal", "showlegend": False}
        low, top_end = np.maximum(d.nominal - d.nominal_error, 0), d.nominal + d.nominal_error
        drawn.append(traces.step_band(d.edges, low, top_end, faint(INK, 0.18), **band, **top))
        plain = (INK, "solid", "nominal")
        drawn.append(_step(d.edges, d.nominal, plain, first | top))
        share = np.divide(
            d.nominal_error, d.nominal, out=np.full(len(d.nominal), np.nan), where=d.nominal > 0
        )
        drawn.append(
            traces.step_band(d.edges, 1 - share, 1 + share, faint(INK, 0.18), **band, **below)
        )
        drawn.append(traces.guess(d.edges[[0, -1]], [1, 1], **below))
        for place, effect in enumerate(effects):
            d, way = effect.densities[i], effect.direction
            look = (COLORS[way], DASHES[way], WORDS[way])
            drawn.append(_step(d.edges, d.shifted, look, first | top))
            drawn.append(_step(d.edges, d.ratio, look, {"showlegend": False, **below}))
            at = d.edges[:-1] + (place + 1) / (len(effects) + 1) * np.diff(d.edges)
            drawn.append(_ratio_errors(at, d.ratio, d.ratio_error, way, below))
    fig.add_traces(drawn)
    return fig


def _step(edges: Floats, values: Floats, look: tuple[str, str, str], more: Settings) -> go.Scatter:
    """Return a histogram's steps; look: colour, dash and name."""
    color, dash, name = look
    x, y = traces.step_points(edges, values)
    hover = f"{name}: %{{y:.4g}}<extra></extra>"
    told: Settings = {"name": name, "legendgroup": name, "hovertemplate": hover, **more}
    return traces.line(x, y, color, width=1.6, dash=dash, **told)


def _ratio_errors(
    at: Floats, ratio: Floats, error: Floats, way: str, axes: dict[str, str]
) -> go.Scatter:
    known = np.isfinite(ratio) & np.isfinite(error)
    return go.Scatter(
        x=thin(at[known]),
        y=thin(ratio[known]),
        error_y=traces.bars(error[known], color=COLORS[way], thickness=1),
        mode="markers",
        marker={"size": 2, "color": COLORS[way]},
        legendgroup=WORDS[way],
        showlegend=False,
        hoverinfo="skip",
        **axes,
    )


def _ratio_range(of: Sequence[ShiftedDensity]) -> list[float]:
    """Return an axis about 1 that holds the ratios of all bins that have some events."""
    far = [0.02]
    for d in of:
        away = np.abs(d.ratio - 1)
        sure = np.isfinite(away) & (d.ratio_error < 0.3) & (d.nominal_error < 0.5 * d.nominal)
        far += [float(v) for v in (away + d.ratio_error)[sure]]
    half = min(1.1 * max(far), 1.0)
    return [1 - half, 1 + half]


def _migration(style: Style, effect: ShiftEffect, migration: Migration) -> go.Figure:
    """Return where the events of each nominal category go."""
    k = len(migration.counts) - 1
    outside = bool(migration.counts[k].any() or migration.counts[:, k].any())
    n = k + 1 if outside else k
    names = [style.name(c, 18) for c in range(k)] + ["not selected"] * outside
    share = 100 * migration.shares[:n, :n]
    counts = migration.counts[:n, :n]
    cell = float(np.clip(440 / n, 40, 160))
    longest = frames.text_width(names, 14)
    turned = longest > cell - 8
    fig = frames.figure(
        style,
        Text(
            f"Migration under {effect.name}",
            "Share of the events of each nominal category (row) that the shifted scores assign to "
            "each category (column), physics-weighted where there are weights: rows add up to "
            "100 %."
            + (" Events that only one selection admits come from or go to the last." * outside),
        ),
        name_axis(
            f"Category, {literal(effect.name)}",
            names,
            fixedrange=True,
            tickangle=-90 if turned else 0,
        ),
        name_axis("Nominal category", names, falling=True, fixedrange=True),
        Legend(place="top left"),
        area=(round(cell * n), round(cell * n)),
        margin={"l": longest + 54, "r": 104, "b": (longest if turned else 18) + 48},
    )
    texts = [[_share_text(share[i, j], int(counts[i, j])) for j in range(n)] for i in range(n)]
    told = [f"{number(share[i, j])} %, {counts[i, j]:,} events" for i in range(n) for j in range(n)]
    font = int(np.clip(cell / 3.4, 8, 17))
    matrix = Matrix(share, BLUES, (0.0, 100.0), cell, texts, font)
    hover = "nominal %{y}, shifted %{x}<br>%{customdata}<extra></extra>"
    bar = "Share of the nominal category [%]"
    fig.add_trace(squares(matrix, bar, customdata=told, hovertemplate=hover))
    return fig.update_layout(plot_bgcolor=GROUND)


def _share_text(share: float, count: int) -> str:
    if count == 0:
        return "0"
    return f"{share:.2f}" if abs(share) < 1 else f"{share:.1f}"


def _drivers(style: Style, effects: Sequence[ShiftEffect]) -> go.Figure:
    """Return how far each shifted feature alone moves the scores, up and down."""
    driven = [effect for effect in effects if effect.drivers is not None]
    totals: dict[str, float] = {}
    for effect in driven:
        assert effect.drivers is not None
        for name, value in zip(effect.drivers.features, effect.drivers.moved, strict=True):
            totals[name] = totals.get(name, 0.0) + float(value)
    order = sorted(totals, key=lambda name: -totals[name])[:MOST_FEATURES]
    names = ["<b>all together</b>", *(style.feature_tick(name) for name in order)]
    variation = effects[0].variation
    fig = frames.rows(
        style,
        Text(
            f"Which features carry {variation}",
            "Probability that goes from class to class (half the sum of absolute changes, mean "
            "over events, class-balanced) when one shifted feature stands in the place of the "
            "nominal one, all others nominal; at the top with all of them shifted."
            + (" Only the largest are shown." if len(totals) > len(order) else ""),
        ),
        names,
        axis("Moved probability [%]", rangemode="tozero"),
        Legend(f"<b>{literal(variation)}</b>", [WORDS[effect.direction] for effect in driven]),
        row=26,
        area=(460, 120),
    )
    width = 0.7 / len(driven)
    for place, effect in enumerate(driven):
        assert effect.drivers is not None
        of = dict(zip(effect.drivers.features, effect.drivers.moved, strict=True))
        values = [effect.drivers.together, *(float(of.get(name, 0.0)) for name in order)]
        fig.add_bar(
            x=thin([100 * v for v in values]),
            y=np.arange(len(names)) + (place - (len(driven) - 1) / 2) * width,
            orientation="h",
            width=width,
            marker={"color": COLORS[effect.direction]},
            name=WORDS[effect.direction],
            hovertemplate="%{x:.3g} %<extra></extra>",
        )
    return fig
