"""How one analysis's figures look: colours of classes, their names, and features' titles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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

_NUMBERS = re.compile(r"^(?:rgba?)?\s*\(?\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?:,\s*[\d.]+\s*)?\)?$")


Settings = dict[str, Any]
"""Settings of a trace, an axis or a layout, as plotly names them."""

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


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

    def color(self, class_id: int) -> Color:
        """Return the colour of a class as red, green, blue; black for unlabelled events.

        Raises ConfigError where the class's colour is not one.
        """
        if class_id < 0:
            return (0, 0, 0)
        given = self.classes[class_id].color
        if given:
            return parse_color(given, self.classes[class_id].name)
        rgb = parse_color(self.palette[class_id % len(self.palette)], "")
        # The second round through the palette is darker as well as dashed.
        return darker(rgb, 0.62 ** (class_id // len(self.palette)))

    @property
    def palette(self) -> tuple[str, ...]:
        """Colours of classes that name none."""
        return PALETTE_6 if len(self.classes) <= len(PALETTE_6) else PALETTE_10

    def rgba(self, class_id: int, alpha: float = 1.0) -> str:
        return rgba(self.color(class_id), alpha)

    def dash(self, class_id: int) -> str:
        """Return the dash of a class's line: classes that share a hue differ in it."""
        if class_id < 0 or self.classes[class_id].color:
            return "solid"
        return DASHES[(class_id // len(self.palette)) % len(DASHES)]

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

    def feature_tick(self, name: str) -> str:
        """Return a feature's title without its unit, short; one with markup is left whole."""
        text = self.feature_name(name)
        return text if "<" in text or "&" in text else shorten(text, 26)

    def feature_name(self, name: str) -> str:
        """Return a feature's title without its unit, for tables and bars."""
        given = self.feature_labels.get(name)
        return label(re.sub(r"\s*\[[^\]]*\]\s*$", "", given)) if given else literal(name)


def parse_color(text: str, owner: str) -> Color:
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


def rgba(color: Color, alpha: float = 1.0) -> str:
    return f"rgba({color[0]},{color[1]},{color[2]},{alpha:.3g})"


def faint(text: str, alpha: float = 0.25) -> str:
    """Return a colour written `#rrggbb` for an area that others shine through."""
    return rgba(parse_color(text, ""), alpha)


def darker(color: Color, share: float) -> Color:
    red, green, blue = (round(share * c) for c in color)
    return red, green, blue


def conditions(style: Style) -> str:
    """Return luminosity and energy in the usual form, e.g. `59.8 fb⁻¹ (13 TeV)`."""
    energy = style.center_of_mass_energy
    if style.luminosity is None:
        return "" if energy is None else f"√s = {energy:g} TeV"
    amount = style.luminosity
    text = f"{amount:.0f}" if amount >= 100 else f"{amount:.3g}"
    return f"{text} fb<sup>−1</sup>" + ("" if energy is None else f" ({energy:g} TeV)")
