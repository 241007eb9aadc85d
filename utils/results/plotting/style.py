"""One look for all figures: colours, frames, axes, legends and the texts at the top.

Sizes are in pixels, which are points in a PDF. The plot area is the same in every figure of one
panel, so that figures can stand side by side in a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from utils.results.plotting.labels import label, literal, shorten
from utils.schema import ClassInfo, ConfigError

# Colour-blind safe sets of M. Petroff, arXiv:2107.02270.
PALETTE_6 = ("#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd")
PALETTE_10 = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
DASHES = ("solid", "dash", "dot", "dashdot")
INK = "#1a1a1a"
MUTED = "#7a7a7a"
FONT = "Arial, Helvetica, 'Liberation Sans', 'Nimbus Sans', sans-serif"

AREA = (480, 400)
MARGIN = {"l": 78, "r": 18, "t": 44, "b": 64}
FEW = 6
"""Up to so many classes are filled and listed inside the frame, more as lines beside it."""

_NUMBERS = re.compile(r"^(?:rgba?)?\s*\(?\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?:,\s*[\d.]+\s*)?\)?$")


@dataclass(frozen=True)
class Style:
    """How one analysis's figures look.

    classes: in order of their ids; colours left empty get colour-blind safe ones. experiment_text:
    e.g. 'CMS Simulation Preliminary': the first word is set bold, the rest italic. luminosity in
    1/fb, center_of_mass_energy in TeV. feature_labels: axis titles with units by feature name.
    stacked: draw stacked yields beside the densities.
    """

    classes: tuple[ClassInfo, ...]
    experiment_text: str = ""
    luminosity: float | None = None
    center_of_mass_energy: float | None = None
    feature_labels: Mapping[str, str] = field(default_factory=dict)
    stacked: bool = False

    def color(self, class_id: int) -> tuple[int, int, int]:
        """Return the colour of a class as red, green, blue; black for unlabelled events.

        Raises ConfigError where the class's colour is not one.
        """
        if class_id < 0:
            return (0, 0, 0)
        given = self.classes[class_id].color
        if given:
            return parse_color(given, self.classes[class_id].name)
        palette = PALETTE_6 if len(self.classes) <= len(PALETTE_6) else PALETTE_10
        rgb = parse_color(palette[class_id % len(palette)], "")
        # The second round through the palette is darker as well as dashed.
        shade = 0.62 ** (class_id // len(palette))
        return (round(rgb[0] * shade), round(rgb[1] * shade), round(rgb[2] * shade))

    def rgba(self, class_id: int, alpha: float = 1.0) -> str:
        return rgba(self.color(class_id), alpha)

    def dash(self, class_id: int) -> str:
        """Return the dash of a class's line: classes that share a hue differ in it."""
        palette = PALETTE_6 if len(self.classes) <= len(PALETTE_6) else PALETTE_10
        if class_id < 0 or self.classes[class_id].color:
            return "solid"
        return DASHES[(class_id // len(palette)) % len(DASHES)]

    def alpha(self, class_id: int) -> float:
        return self.classes[class_id].alpha if class_id >= 0 else 0.0

    def name(self, class_id: int, length: int = 26) -> str:
        """Return the class's label (or name) as figure text."""
        if class_id < 0:
            return "unlabelled"
        info = self.classes[class_id]
        return label(info.label) if info.label else literal(shorten(info.name, length))

    def feature(self, name: str, length: int = 48) -> str:
        """Return a feature's axis title."""
        given = self.feature_labels.get(name)
        return label(given) if given else literal(shorten(name, length))

    def feature_name(self, name: str) -> str:
        """Return a feature's title without its unit, for tables and bars."""
        given = self.feature_labels.get(name)
        return label(re.sub(r"\s*\[[^\]]*\]\s*$", "", given)) if given else literal(name)


def parse_color(text: str, owner: str) -> tuple[int, int, int]:
    """Return a colour written as `#rgb`, `#rrggbb`, `r, g, b`, `rgb(...)` or a CSS name."""
    stripped = text.strip()
    if re.fullmatch(r"#[0-9A-Fa-f]{3}|#[0-9A-Fa-f]{6}", stripped):
        digits = stripped[1:] if len(stripped) == 7 else "".join(2 * c for c in stripped[1:])
        return (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16))
    if found := _NUMBERS.match(stripped):
        r, g, b = (int(n) for n in found.groups())
        if max(r, g, b) <= 255:
            return (r, g, b)
    if stripped.lower() in CSS_COLORS:
        return parse_color(CSS_COLORS[stripped.lower()], owner)
    raise ConfigError(
        f"class '{owner}' has the color '{text}', which is none: "
        "write '#c2475c', 'rgb(194, 71, 92)' or leave it out"
    )


_CSS_COLORS = (
    "black=#000000 white=#ffffff red=#ff0000 green=#008000 blue=#0000ff orange=#ffa500 "
    "purple=#800080 gray=#808080 grey=#808080 brown=#a52a2a pink=#ffc0cb cyan=#00ffff "
    "magenta=#ff00ff yellow=#ffff00 gold=#ffd700 navy=#000080 teal=#008080 olive=#808000 "
    "maroon=#800000 lime=#00ff00 crimson=#dc143c darkblue=#00008b darkgreen=#006400 "
    "darkred=#8b0000 firebrick=#b22222 royalblue=#4169e1 steelblue=#4682b4 tomato=#ff6347 "
    "forestgreen=#228b22 seagreen=#2e8b57 salmon=#fa8072 skyblue=#87ceeb turquoise=#40e0d0 "
    "violet=#ee82ee indigo=#4b0082 coral=#ff7f50 "
)
CSS_COLORS = dict(pair.split("=") for pair in _CSS_COLORS.split())


def rgba(color: tuple[int, int, int], alpha: float = 1.0) -> str:
    return f"rgba({color[0]},{color[1]},{color[2]},{alpha:.3g})"


def thin(values: ArrayLike) -> NDArray[np.float32]:
    """Return `values` in the precision a figure needs: pages stay small."""
    return np.asarray(values, dtype=np.float32)


# --- figures --------------------------------------------------------------------------------------


def axis(title: str = "", *, log: bool = False, **more: Any) -> dict[str, Any]:
    """Return the settings of one axis: a thin frame, ticks inside on both sides, no grid."""
    settings: dict[str, Any] = {
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


def figure(
    style: Style,
    *,
    title: str,
    caption: str,
    x: dict[str, Any],
    y: dict[str, Any],
    legend: str = "outside",
    entries: Sequence[str] = (),
    legend_title: str = "",
    area: tuple[int, int] = AREA,
    margin: Mapping[str, int] | None = None,
) -> go.Figure:
    """Return an empty figure of one panel.

    title, caption: plain text for the page around the figure. legend: 'top' (across the frame's
    top), a corner such as 'bottom right', or 'outside' (right of the frame). entries: the legend's
    texts, from which the room beside the frame follows.
    """
    sides = dict(MARGIN) | dict(margin or {})
    if legend == "outside" and entries:
        sides["r"] = legend_width([*entries, *legend_title.split("<br>")]) + 12
        area = (area[0], max(area[1], legend_height(entries, legend_title)))
    layout = {
        "xaxis": x,
        "yaxis": y,
        "legend": _legend(legend, legend_title),
        "annotations": header(style),
        "width": area[0] + sides["l"] + sides["r"],
        "height": area[1] + sides["t"] + sides["b"],
        "margin": sides | {"pad": 0},
    }
    # Given at once, a layout is ten times faster than added to a figure that exists.
    return go.Figure(layout=layout | page(title, caption))


def page(title: str, caption: str) -> dict[str, Any]:
    """Return the layout settings that figures of one and of many panels share."""
    return {
        "template": "none",
        "font": {"family": FONT, "size": 14, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "meta": {"title": title, "caption": caption},
        "hoverlabel": {"font": {"family": FONT, "size": 13}},
        "colorway": list(PALETTE_10),
        "barmode": "overlay",
    }


def plain_width(text: str, size: int = 13) -> float:
    """Return the approximate width (pixels) of figure text, in the widest font of the list."""
    bare = re.sub(r"&[#a-z0-9]+;", "x", re.sub(r"<[^>]*>", "", text))
    width = sum(
        0.36 if c in " iIjlrtf.,:;'|!()[]" else 0.9 if c in "mwMW%@" else 0.63 for c in bare
    )
    return size * width * (1.1 if "<b>" in text else 1.0)


def legend_width(entries: Sequence[str]) -> int:
    return int(max((plain_width(e) for e in entries), default=0)) + 62


def legend_height(entries: Sequence[str], title: str) -> int:
    """Return the height a vertical legend needs so that it does not scroll."""
    return 20 * len(entries) + 18 * (title.count("<br>") + 1) + 12


def place_legend(
    lines: Iterable[tuple[ArrayLike, ArrayLike]],
    corners: Sequence[str],
    entries: Sequence[str],
    title: str,
    area: tuple[int, int] = AREA,
) -> str:
    """Return the first of `corners` where a legend hides no line, 'outside' if there is none.

    lines: x and y of each in shares of the frame, 0 to 1.
    """
    if len(entries) > FEW:
        return "outside"
    width = (legend_width([*entries, title]) + 10) / area[0]
    height = (legend_height(entries, title) + 10) / area[1]
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
            return corner
    return "outside"


def _legend(place: str, title: str) -> dict[str, Any]:
    legend: dict[str, Any] = {
        "bgcolor": "rgba(255,255,255,0.75)",
        "borderwidth": 0,
        "font": {"size": 13},
        "tracegroupgap": 0,
        "itemwidth": 30,
        "title": {"text": title, "font": {"size": 13}},
    }
    if place == "outside":
        return legend | {"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top"}
    if place == "top":
        columns = {"orientation": "h", "entrywidth": 0.47, "entrywidthmode": "fraction"}
        spot = {"x": 0.015, "y": 0.99, "xanchor": "left", "yanchor": "top"}
        return legend | columns | spot | {"title": legend["title"] | {"side": "top"}}
    vertical, horizontal = place.split()
    return legend | {
        "x": 0.98 if horizontal == "right" else 0.02,
        "y": 0.98 if vertical == "top" else 0.02,
        "xanchor": horizontal,
        "yanchor": vertical,
    }


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


def conditions(style: Style) -> str:
    """Return luminosity and energy in the usual form, e.g. `59.8 fb⁻¹ (13 TeV)`."""
    energy = style.center_of_mass_energy
    if style.luminosity is None:
        return "" if energy is None else f"√s = {energy:g} TeV"
    amount = style.luminosity
    text = f"{amount:.0f}" if amount >= 100 else f"{amount:.3g}"
    return f"{text} fb<sup>−1</sup>" + ("" if energy is None else f" ({energy:g} TeV)")


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


# --- what is drawn --------------------------------------------------------------------------------


def step_points(edges: ArrayLike, values: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the corners of a histogram's outline: 2m points for m bins."""
    edges = np.asarray(edges, dtype=float)
    return np.repeat(edges, 2)[1:-1], np.repeat(np.asarray(values, dtype=float), 2)


def band(
    x_low: ArrayLike,
    y_low: ArrayLike,
    x_high: ArrayLike,
    y_high: ArrayLike,
    color: str,
    **more: Any,
) -> go.Scatter:
    """Return the area between two lines, in pieces where either is undefined in between."""
    lines = np.vstack([np.asarray(v, dtype=float) for v in (x_low, y_low, x_high, y_high)])
    known = np.isfinite(lines).all(axis=0)
    outline: list[NDArray[Any]] = []
    for part in np.split(np.arange(len(known)), np.flatnonzero(np.diff(known)) + 1):
        if len(part) and known[part[0]]:
            x0, y0, x1, y1 = lines[:, part]
            if outline:
                outline.append(np.full((2, 1), np.nan))
            outline.append(np.array([[*x0, *x1[::-1]], [*y0, *y1[::-1]]]))
    x, y = np.concatenate(outline, axis=1) if outline else np.empty((2, 0))
    return go.Scatter(
        x=thin(x),
        y=thin(y),
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=color,
        hoverinfo="skip",
        showlegend=False,
        **more,
    )


def some_points(n: int, most: int = 300) -> NDArray[np.intp]:
    """Return indices of at most `most` of n points, the ends among them: enough for a band."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.intp))


# --- many panels ----------------------------------------------------------------------------------

PANEL = (300, 235)
PANELS_PER_FIGURE = 6


def panels(
    style: Style,
    titles: Sequence[str],
    *,
    title: str,
    caption: str,
    x: Sequence[dict[str, Any]],
    y: Sequence[dict[str, Any]],
    entries: Sequence[str] = (),
    legend_title: str = "",
    columns: int | None = None,
    area: tuple[int, int] = PANEL,
    left: int = 76,
    below: int = 62,
    above: int = 28,
) -> go.Figure:
    """Return an empty figure of several panels, each with its own frame, axes and title.

    x, y: axis settings, one per panel. Panel i has the axes `x{i+1}` and `y{i+1}`.
    """
    n = len(titles)
    columns = columns or (n if n <= 3 else 2 if n == 4 else 3)
    rows = -(-n // columns)
    right = legend_width([*entries, *legend_title.split("<br>")]) + 10 if entries else 20
    if entries:  # no legend may be taller than the panels beside it
        needed = legend_height(entries, legend_title) - (rows - 1) * (below + above)
        area = (area[0], max(area[1], -(-needed // rows)))
    inner = (
        columns * area[0] + (columns - 1) * left,
        rows * area[1] + (rows - 1) * (below + above),
    )
    annotations = header(style, shift=above - 4 if any(titles) else 4)
    axes: dict[str, Any] = {}
    for i in range(n):
        row, column = divmod(i, columns)
        x0 = column * (area[0] + left) / inner[0]
        y1 = 1 - row * (area[1] + below + above) / inner[1]
        x1, y0 = x0 + area[0] / inner[0], y1 - area[1] / inner[1]
        suffix = str(i + 1) if i else ""
        fonts = {"tickfont": {"size": 12}}
        axes["xaxis" + suffix] = fonts | x[i] | {"domain": [x0, min(x1, 1)], "anchor": "y" + suffix}
        axes["yaxis" + suffix] = fonts | y[i] | {"domain": [max(y0, 0), y1], "anchor": "x" + suffix}
        for name in ("xaxis", "yaxis"):
            text = axes[name + suffix].get("title", {})
            axes[name + suffix]["title"] = text | {"font": {"size": 14}, "standoff": 6}
        annotations.append(
            {"text": titles[i], "x": x0, "y": y1, "xref": "paper", "yref": "paper"}
            | {"xanchor": "left", "yanchor": "bottom", "showarrow": False, "yshift": 2}
            | {"font": {"size": 14, "color": INK}}
        )
    sides = {"l": left + 4, "r": right, "t": 44 + (above if any(titles) else 0), "b": below + 4}
    layout = axes | {
        "legend": _legend("outside", legend_title),
        "annotations": annotations,
        "width": inner[0] + sides["l"] + sides["r"],
        "height": inner[1] + sides["t"] + sides["b"],
        "margin": sides | {"pad": 0},
    }
    return go.Figure(layout=layout | page(title, caption))


def pages(items: Sequence[Any], size: int = PANELS_PER_FIGURE) -> list[Sequence[Any]]:
    """Return `items` cut into pages of `size`."""
    return [items[i : i + size] for i in range(0, len(items), size)]
