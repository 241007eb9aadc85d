"""Colours and conditions: as users write them, and what is chosen where they do not."""

from __future__ import annotations

import pytest

from utils.results.plotting import Style
from utils.results.plotting.style import PALETTE_6, conditions, parse_color
from utils.results.plotting.traces import step_points
from utils.schema import ClassInfo, ConfigError


@pytest.mark.parametrize(
    "text", ["194,71,92", "rgb(194, 71, 92)", "rgba(194,71,92,0.4)", "#c2475c", " #C2475C "]
)
def test_colors_as_users_write_them(text: str) -> None:
    assert parse_color(text, "x") == (194, 71, 92)


@pytest.mark.parametrize("text", ["#12", "300,0,0", "no such colour"])
def test_wrong_color_names_class_and_remedy(text: str) -> None:
    style = Style((ClassInfo(name="Fakes", color=text),))
    with pytest.raises(ConfigError, match=r"'Fakes'.*leave it out"):
        style.color(0)


def test_default_colors_are_the_colour_blind_safe_ones() -> None:
    style = Style(tuple(ClassInfo(name=str(i)) for i in range(6)))
    assert [style.color(i) for i in range(6)] == [parse_color(c, "") for c in PALETTE_6]


def test_conditions() -> None:
    classes = (ClassInfo(name="a"),)
    assert conditions(Style(classes)) == ""
    assert conditions(Style(classes, luminosity=137.6)) == "138 fb<sup>−1</sup>"
    assert conditions(Style(classes, center_of_mass_energy=13.6)) == "√s = 13.6 TeV"


def test_step_points() -> None:
    x, y = step_points([0, 1, 3], [5, 7])
    assert x.tolist() == [0, 1, 1, 3]
    assert y.tolist() == [5, 5, 7, 7]
