"""Empty figures: frames, axes, legends and the texts at the top, of one panel and of many.

Sizes are in pixels, which are points in a PDF. The plot area is the same in every figure of one
panel, so that figures can stand side by side in a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from utils.results.plotting.labels import label
from utils.results.plotting.style import FONT, INK, MUTED, PALETTE_10, Settings, Style, conditions

AREA = (480, 400)
MARGIN = {"l": 78, "r": 18, "t": 44, "b": 64}
FEW = 6
"""Up to so many classes are filled and listed inside the frame, more as lines beside it."""

Item = TypeVar("Item")

Named = Iterator[tuple[str, go.Figure]]
"""Figures with their names, which are unique within a section of the report."""


@dataclass(frozen=True)
class Text:
    """What stands around a figure in a page: plain text, of which every character is meant."""

    title: str
    caption: str


@dataclass(frozen=True)
class Legend:
    """title, entries: figure text; from both follows the room that the legend needs.

    place: 'top' (across the frame's top), a corner such as 'bottom right', or 'outside' (right of
    the frame).
    """

    title: str = ""
    entries: Sequence[str] = ()
    place: str = "outside"

    @property
    def width(self) -> int:
        texts = [*self.entries, *self.title.split("<br>")]
        return int(max(map(plain_width, texts), default=0)) + 62

    @property
    def height(self) -> int:
        """Height that a vertical legend needs so that it does not scroll."""
        return 20 * len(self.entries) + 18 * (self.title.count("<br>") + 1) + 12

    def layout(self) -> dict[str, Any]:
        """Return plotly's settings."""
        legend: dict[str, Any] = {
            "bgcolor": "rgba(255,255,255,0.75)",
            "borderwidth": 0,
            "font": {"size": 13},
            "tracegroupgap": 0,
            "itemwidth": 30,
            "title": {"text": self.title, "font": {"size": 13}},
        }
        if self.place == "outside":
            return legend | {"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top"}
        if self.place == "top":
            columns = {"orientation": "h", "entrywidth": 0.47, "entrywidthmode": "fraction"}
            spot = {"x": 0.015, "y": 0.99, "xanchor": "left", "yanchor": "top"}
            return legend | columns | spot | {"title": legend["title"] | {"side": "top"}}
        vertical, horizontal = self.place.split()
        return legend | {
            "x": 0.98 if horizontal == "right" else 0.02,
            "y": 0.98 if vertical == "top" else 0.02,
            "xanchor": horizontal,
            "yanchor": vertical,
        }


def axis(title: str = "", *, log: bool = False, **more: Any) -> Settings:
    """Return the settings of one axis: a thin frame, ticks inside on both sides, no grid."""
    settings: Settings = {
        "title": {"text": title, "font": {"size": 17}, "standoff": 10},
        "showline": True,
        "mirror": "allticks",
        "linecolor": INK,
        "linewidth": 1,
        "ticks": "inside",
        "ticklen": 8,
        "tickwidth": 1,
        "tickcolor": INK,
        "minor": {"ticks": "inside", "ticklen": 4, "tickcolor": INK, "tickwidth": 1},
        "showgrid": False,
        "zeroline": False,
        "exponentformat": "power",
        "tickfont": {"size": 14},
    }
    if log:
        settings |= {"type": "log", "dtick": 1, "minor": settings["minor"] | {"dtick": "D1"}}
    return settings | more


def log_range(low: float, high: float, headroom: float = 0.0) -> list[float]:
    """Return the range (decades) of a log axis that leaves the share `headroom` free on top."""
    bottom, top = np.log10(low), np.log10(high)
    return [float(bottom), float(bottom + max(top - bottom, 0.3) / (1 - headroom))]


def span(values: Sequence[float] | Any) -> dict[str, Any]:
    """Return the range of an axis from the first to the last of `values`."""
    return {"range": [float(values[0]), float(values[-1])]}


def name_axis(title: str, names: Sequence[str], *, falling: bool = False, **more: Any) -> Settings:
    """Return an axis with a name at 0, 1, 2, ...; `falling`: the first at the top."""
    ends = [-0.5, len(names) - 0.5]
    ticks: Settings = {
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
        "ticks": "",
        "minor": {},
    }
    return axis(title, range=ends[::-1] if falling else ends, **(ticks | more))


def figure(
    style: Style,
    text: Text,
    x: Settings,
    y: Settings,
    legend: Legend,
    *,
    area: tuple[int, int] = AREA,
    margin: Mapping[str, int] | None = None,
) -> go.Figure:
    """Return an empty figure of one panel."""
    sides = MARGIN | dict(margin or {})
    if legend.place == "outside" and legend.entries:
        sides["r"] = legend.width + 12
        area = (area[0], max(area[1], legend.height))
    layout = {"xaxis": x, "yaxis": y, "annotations": header(style)}
    return _figure(text, legend, layout, area, sides)


def rows(
    style: Style,
    text: Text,
    names: Sequence[str],
    x: Settings,
    legend: Legend,
    *,
    row: int = 44,
    area: tuple[int, int] = (430, 160),
    margin: Mapping[str, int] | None = None,
) -> go.Figure:
    """Return an empty figure with named rows, of which each is `row` high, the first at the top.

    area: its height is the least.
    """
    y = name_axis("", names, falling=True)
    size = (area[0], max(row * len(names), area[1]))
    sides = {"l": text_width(names, 14) + 28} | dict(margin or {})
    return figure(style, text, x, y, legend, area=size, margin=sides)


def _figure(
    text: Text,
    legend: Legend,
    layout: dict[str, Any],
    area: tuple[int, int],
    sides: Mapping[str, int],
) -> go.Figure:
    layout |= {
        "legend": legend.layout(),
        "width": area[0] + sides["l"] + sides["r"],
        "height": area[1] + sides["t"] + sides["b"],
        "margin": {**sides, "pad": 0},
        "template": "none",
        "font": {"family": FONT, "size": 14, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "meta": {"title": text.title, "caption": text.caption},
        "hoverlabel": {"font": {"family": FONT, "size": 13}},
        "colorway": list(PALETTE_10),
        "barmode": "overlay",
    }
    # Given at once, a layout is ten times faster than added to a figure that exists.
    return go.Figure(layout=layout)


def plain_width(text: str, size: int = 13) -> float:
    """Return the approximate width (pixels) of figure text, in the widest font of the list."""
    bare = re.sub(r"&[#a-z0-9]+;", "x", re.sub(r"<[^>]*>", "", text))
    width = sum(
        0.36 if c in " iIjlrtf.,:;'|!()[]" else 0.9 if c in "mwMW%@" else 0.63 for c in bare
    )
    return size * width * (1.1 if "<b>" in text else 1.0)


def text_width(texts: Iterable[str], size: int = 13) -> int:
    """Return the width (pixels) of the longest of some figure texts."""
    return round(max((plain_width(text, size) for text in texts), default=0))


def placed(
    legend: Legend, lines: Iterable[tuple[ArrayLike, ArrayLike]], corners: Sequence[str]
) -> Legend:
    """Return the legend in the first of `corners` where it hides no line, else outside.

    lines: x and y of each in shares of the frame, 0 to 1.
    """
    if len(legend.entries) > FEW:
        return legend
    width, height = (legend.width + 10) / AREA[0], (legend.height + 10) / AREA[1]
    u, v = [], []
    for x, y in lines:
        points = np.arange(np.size(x))
        dense = np.linspace(0, max(len(points) - 1, 0), 500)
        u.append(np.interp(dense, points, np.asarray(x, dtype=float)))
        v.append(np.interp(dense, points, np.asarray(y, dtype=float)))
    for corner in corners:
        vertical, horizontal = corner.split()
        beside = [1 - x < width if horizontal == "right" else x < width for x in u]
        level = [1 - y < height if vertical == "top" else y < height for y in v]
        if not any(np.any(a & b) for a, b in zip(beside, level, strict=True)):
            return replace(legend, place=corner)
    return legend


def header(style: Style, shift: int = 4) -> list[dict[str, Any]]:
    """Return the texts above the frame: experiment at the left, luminosity and energy right."""
    base = {"xref": "paper", "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
    base |= {"yshift": shift}
    texts = []
    if style.experiment_text.strip():
        first, _, rest = style.experiment_text.strip().partition(" ")
        text = f"<b>{label(first)}</b>" + (
            f" <i><span style='font-size:15px'>{label(rest)}</span></i>" if rest else ""
        )
        texts.append(
            {**base, "text": text, "x": 0, "xanchor": "left", "font": {"size": 20, "color": INK}}
        )
    if right := conditions(style):
        texts.append(
            {**base, "text": right, "x": 1, "xanchor": "right", "font": {"size": 15, "color": INK}}
        )
    return texts


def note(fig: go.Figure, text: str, **more: Any) -> None:
    """Write `text` into the middle of an empty frame."""
    fig.add_annotation(
        **{
            "text": text,
            "x": 0.5,
            "y": 0.5,
            "xref": "x domain",
            "yref": "y domain",
            "showarrow": False,
            "font": {"size": 15, "color": MUTED},
            **more,
        }
    )


# --- many panels ----------------------------------------------------------------------------------

PANELS_PER_FIGURE = 6


@dataclass(frozen=True)
class Grid:
    """Sizes of a figure's panels: of each frame, and of the room left of, below and above it.

    columns: how many panels stand side by side, None for as many as look well.
    """

    area: tuple[int, int] = (300, 235)
    left: int = 76
    below: int = 62
    above: int = 28
    columns: int | None = None


def panels(
    style: Style,
    text: Text,
    titles: Sequence[str],
    x: Sequence[Settings],
    y: Sequence[Settings],
    legend: Legend,
    grid: Grid,
) -> go.Figure:
    """Return an empty figure of several panels, each with its own frame, axes and title.

    x, y: axis settings, one per panel. Traces of panel i take its `place(i)`.
    """
    n, left, below = len(titles), grid.left, grid.below
    columns = grid.columns or (n if n <= 3 else 2 if n == 4 else 3)
    lines = -(-n // columns)
    width, height = grid.area
    if legend.entries:  # no legend may be taller than the panels beside it
        needed = legend.height - (lines - 1) * (below + grid.above)
        height = max(height, -(-needed // lines))
    inner = (
        columns * width + (columns - 1) * left,
        lines * height + (lines - 1) * (below + grid.above),
    )
    annotations = header(style, shift=grid.above - 4 if any(titles) else 4)
    layout: dict[str, Any] = {}
    for i in range(n):
        line, column = divmod(i, columns)
        x0 = column * (width + left) / inner[0]
        y1 = 1 - line * (height + below + grid.above) / inner[1]
        x1, y0 = x0 + width / inner[0], y1 - height / inner[1]
        names = place(i)
        for name, settings, domain in (
            ("xaxis", x[i], [x0, min(x1, 1)]),
            ("yaxis", y[i], [max(y0, 0), y1]),
        ):
            other = names["yaxis" if name == "xaxis" else "xaxis"]
            title = settings.get("title", {}) | {"font": {"size": 14}, "standoff": 6}
            own = {"domain": domain, "anchor": other, "title": title}
            layout[name + names[name][1:]] = {"tickfont": {"size": 13}} | settings | own
        annotations.append(
            {"text": titles[i], "x": x0, "y": y1, "xref": "paper", "yref": "paper"}
            | {"xanchor": "left", "yanchor": "bottom", "showarrow": False, "yshift": 2}
            | {"font": {"size": 14, "color": INK}}
        )
    sides = {
        "l": left + 4,
        "r": legend.width + 10 if legend.entries else 20,
        "t": 44 + (grid.above if any(titles) else 0),
        "b": below + 4,
    }
    return _figure(text, legend, layout | {"annotations": annotations}, inner, sides)


def place(i: int) -> dict[str, str]:
    """Return the axes of panel i, as its traces name them."""
    suffix = str(i + 1) if i else ""
    return {"xaxis": "x" + suffix, "yaxis": "y" + suffix}


def pages(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Return `items` cut into pages of as many panels as a figure holds."""
    return [items[i : i + PANELS_PER_FIGURE] for i in range(0, len(items), PANELS_PER_FIGURE)]
