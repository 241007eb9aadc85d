"""Variations as users write them: what is refused, and that without any nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest
from small_analysis import preprocess_config

from utils.formats.skims import row_keys
from utils.schema import ConfigError

EXPRESSION = {"up": {"met": "met * 1.03"}, "down": {"met": "met * 0.97"}}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"up": "{branch}__tUp"}, r"has up and no down: give down, or say 'one_sided: true'"),
        ({"weight_down": "w"}, r"has weight_down and no weight_up: give weight_up"),
        ({"samples_up": {"S": "T"}}, r"has samples_up and no samples_down"),
        ({}, r"variations.t replaces nothing: give up and down, or"),
        ({**EXPRESSION, "weight_up": "2"}, r"has up and down and weight_up: give up and down, or"),
        ({"up": "ptUp", "down": "ptDown"}, r"write \{branch\} where the nominal branch's name"),
        ({"up": "{branch}Up", "down": {"x": "2"}}, r"up and down are of two kinds"),
        ({"up": "{branch}Up", "down": "{branch}Up"}, r"up and down say the same"),
        ({**EXPRESSION, "one_sided": True}, r"has both directions and says one_sided"),
        ({"up": {"evt": "evt + 1"}, "down": {"met": "2"}}, r"variations.t.up shifts 'evt', which"),
        ({"up": {"mt": "mt * 2"}, "down": {"mt": "mt"}}, r"which derived_features or cuts define"),
        ({**EXPRESSION, "samples": ["simulatoin"]}, r"no tag of one; nearest: 'simulation'"),
        ({"samples_up": {"X": "T"}, "samples_down": {"S": "T2"}}, r"'X' is no sample"),
        ({"upp": "x"}, r"unknown key 'variations.t.upp'; nearest: 'up'"),
    ],
)
def test_what_no_variation_can_mean_is_refused(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = preprocess_config(
            variations={"t": declared},
            derived_features={"mt": "met * 2"},
            samples={"S": {"tags": ["simulation"]}},
        ).read_samples


@pytest.mark.parametrize("name", ["a__b", "tau-ES", "", "_x", "x_", "9"])
def test_a_name_that_makes_no_branch_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits and single underscores"):
        preprocess_config(variations={name: EXPRESSION})


def test_two_variations_that_write_one_branch_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'x' under tUp and a feature .* as 'x__tUp': rename"):
        preprocess_config(variations={"t": EXPRESSION}, cont_features=["x", "x__tUp"])
    both = {"samples_up": {"S": "T"}, "one_sided": True}
    with pytest.raises(ConfigError, match=r"variations names T twice"):
        preprocess_config(variations={"a": both, "b": both})


def test_an_alternative_sample_is_no_sample_of_the_lists() -> None:
    tune = {"tune": {"samples_up": {"S": "T"}, "one_sided": "mirror"}}
    with pytest.raises(ConfigError, match=r"tune.samples_up: 'T' is a sample of the analysis"):
        _ = preprocess_config(variations=tune, prediction_samples=["T"]).read_samples
    described = preprocess_config(variations=tune, samples={"T": {"factor": 2}})
    assert [s.name for s in described.read_samples] == ["S"]


def test_declaring_variations_changes_no_fingerprint() -> None:
    plain = preprocess_config().model_dump(mode="json", by_alias=True)
    assert "variations" not in plain  # what is stored is what it was
    declared = preprocess_config(
        variations={
            "met": {**EXPRESSION, "samples": ["simulation"]},
            "tune": {"samples_up": {"S": "T"}, "one_sided": True},
        },
        samples={"S": {"tags": ["simulation"]}, "T": {"factor": 0.5}},
    ).model_dump(mode="json", by_alias=True)
    assert declared["variations"]["met"]["up"] == EXPRESSION["up"]
    assert row_keys(declared) == row_keys(plain)
    other = preprocess_config(samples={"S": {"tags": ["a"], "factor": 2}})
    assert row_keys(other.model_dump(mode="json", by_alias=True)) != row_keys(plain)
