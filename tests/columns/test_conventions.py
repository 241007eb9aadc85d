"""Shifted branches are known by their names, as the experiments write them."""

from __future__ import annotations

import pytest

from utils.columns.conventions import guess_shifts


@pytest.mark.parametrize(
    ("branch", "up", "down", "name", "ending"),
    [
        ("pt_1", "pt_1__tauESUp", "pt_1__tauESDown", "tauES", "__tauESUp"),
        ("Jet_pt", "Jet_pt_jesTotalUp", "Jet_pt_jesTotalDown", "jesTotal", "_jesTotalUp"),
        ("met", "met_unclust_up", "met_unclust_down", "unclust", "_unclust_up"),
        ("w_btag", "w_btagUp", "w_btagDown", "w_btag", "Up"),
        ("w_trig", "w_trig_up", "w_trig_down", "w_trig", "_up"),
        ("pt", "pt_TES_DETECTOR__1up", "pt_TES_DETECTOR__1down", "TES_DETECTOR", None),
    ],
)
def test_each_convention(branch: str, up: str, down: str, name: str, ending: str | None) -> None:
    nominal = branch if ending else f"{branch}_NOSYS"
    [guess] = guess_shifts([nominal, up, down, "other"])
    assert guess.name == name
    assert guess.partners == {"up": {nominal: up}, "down": {nominal: down}}
    if ending is None:
        assert guess.patterns is None
    else:
        assert guess.patterns is not None
        assert guess.patterns["up"] == "{branch}" + ending
        assert {p.format(branch=branch) for p in guess.patterns.values()} == {up, down}


def test_a_shift_of_many_branches_is_one() -> None:
    names = ["pt", "m", "pt__ESUp", "pt__ESDown", "m__ESUp", "m__ESDown"]
    [guess] = guess_shifts(names)
    assert guess.branches == ["pt", "m"]
    assert sorted(guess.shifted) == sorted(names[2:])


def test_the_longest_branch_is_the_nominal_one() -> None:
    [guess] = guess_shifts(["jet", "jet_pt", "jet_pt_jesUp", "jet_pt_jesDown"])
    assert guess.branches == ["jet_pt"]


@pytest.mark.parametrize(
    "names",
    [
        ["look", "lookup", "setup", "set"],  # words
        ["pt__tauESUp", "m"],  # nothing that it would be a shift of
        ["speed", "speedUp"],  # one direction without a name of its own
        ["pt_1", "pt_10"],
    ],
)
def test_other_names_are_no_shifts(names: list[str]) -> None:
    assert guess_shifts(names) == []


def test_one_direction_is_told() -> None:
    [guess] = guess_shifts(["pt", "pt__JERUp"])
    assert not guess.two_sided
    assert guess.endings == {"up": "__JERUp"}


def test_names_of_variations_are_valid_and_differ() -> None:
    names = ["pt", "pt__a.bUp", "pt__a.bDown", "m", "m_a-bUp", "m_a-bDown", "pt__1xUp", "m__1xUp"]
    found = [guess.name for guess in guess_shifts(names)]
    assert found == ["a_b", "a_b_2", "shift_1x"]
