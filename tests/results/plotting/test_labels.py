"""Texts of users as a figure shows them, and numbers with the decimals that count."""

from __future__ import annotations

import pytest

from utils.results.plotting.labels import (
    label,
    literal,
    measured,
    number,
    shorten,
    signed_percent,
)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("$p_{T}^{miss}$ [GeV]", "p<sub>T</sub><sup>miss</sup> [GeV]"),
        ("$m_{\\tau\\tau}$", "m<sub>ττ</sub>"),
        ("m_{#tau#tau} [GeV]", "m<sub>ττ</sub> [GeV]"),
        ("H $\\to$ ττ", "H → ττ"),
        ("$\\mathrm{d}R_{b\\bar{b}}$", "dR<sub>bb\N{COMBINING OVERLINE}</sub>"),
        ("pt_1", "pt_1"),
        ("#5 <b>", "#5 &lt;b&gt;"),
        ("costs 5$", "costs 5&#36;"),
        ("$\\unknown$", "\\unknown"),
    ],
)
def test_labels(written: str, shown: str) -> None:
    assert label(written) == shown


def test_literal_text_means_itself() -> None:
    assert literal("<&>$%\n#") == "&lt;&amp;&gt;&#36;&#37; #"
    assert shorten("abcdefghij", 6) == "abcd…j"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1234.5, "1,234"), (0.01234, "0.0123"), (-2.0, "−2.00"), (float("nan"), "–")],
)
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown
    assert number(3.2e7) == "3.20×10<sup>7</sup>"


def test_measured_has_the_decimals_of_its_error() -> None:
    assert measured(0.91234, 0.00187) == "0.9123 ± 0.0019"
    assert measured(12.3, float("nan")) == "12.3"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.4891, "+49"),
        (1.2345, "+123"),
        (-0.0312, "−3.1"),
        (0.0042, "+0.42"),
        (0.00042, "+0.042"),
        (0.0, "0"),
        (-2.9e-9, "0"),
        (float("nan"), "–"),
    ],
)
def test_changes_in_percent_have_a_sign(share: float, text: str) -> None:
    assert signed_percent(share) == text
