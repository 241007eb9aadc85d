"""Samples: described once, in either form, and refused where they are not."""

from __future__ import annotations

from typing import Any

import pytest
from small_analysis import preprocess_config

from utils.formats.skims import row_keys
from utils.schema import (
    PROJECT,
    ConfigError,
)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "input_samples is empty"),
        (["S"], "names no process"),
        ([{"S": {"p": {"clas": 0}}}], "unknown key 'input_samples.S.p.clas'; nearest: 'class'"),
        ([{"S": {"p": {"cut": "a>1"}}}], "input_samples.S.p.class is not set"),
        ([{"S": {"p": {"class": 0}}}, {"S": {"q": {"class": 1}}}], "names S twice"),
        ([{"sample": "S", "fiels": ["x"], "processes": {"p": {"class": 0}}}], "nearest: 'files'"),
        (
            [{"sample": "S", "factor": "a*b", "processes": {"p": {"class": 0}}}],
            "product or quotient",
        ),
    ],
)
def test_malformed_samples_are_refused(samples: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = preprocess_config(input_samples=samples).read_samples


def test_a_sample_is_described_in_one_place_or_the_other() -> None:
    config = preprocess_config(
        samples={"S": {"files": ["a.root", "/b/*.root"], "factor": "2 * 3 / 4", "tree": "X"}}
    )
    (sample,) = config.read_samples
    assert sample.files == (str(PROJECT / "in" / "a.root"), "/b/*.root")
    assert (sample.factor, sample.tree, sample.group) == (1.5, "X", "S")


@pytest.mark.parametrize("key", ["training_samples", "prediction_samples"])
def test_a_sample_has_one_group(key: str) -> None:
    other = {"training_samples": "prediction_samples", "prediction_samples": "training_samples"}
    samples = {key: [{"sample": "S", "group": "G", "processes": {}}], other[key]: ["S"]}
    with pytest.raises(ConfigError, match=r"sample 'S' has the group '[GS]'.* once, under samples"):
        _ = preprocess_config(**samples).read_samples
    described = {"samples": {"S": {"group": "G"}}, key: ["S"], other[key]: ["S"]}
    assert preprocess_config(**described).read_samples[0].group == "G"


@pytest.mark.parametrize("how", ["samples", "long form"])
def test_a_cross_section_normalises_to_the_reference_luminosity(how: str) -> None:
    said = {"cross_section": "50 * 0.02", "generated": 2e6, "factor": 1.5}
    entry: dict[str, Any] = {"sample": "S", "processes": {"p": {"class": 0}}}
    config = preprocess_config(
        reference_luminosity=40.0,
        input_samples=[entry if how == "samples" else entry | said],
        samples={"S": said} if how == "samples" else {},
    )
    [sample] = config.read_samples
    # 1 pb and 40/fb are 40,000 events, of which each generated one is a 50th.
    assert sample.factor == pytest.approx(1.5 * 40_000 / 2e6)


@pytest.mark.parametrize(
    ("said", "luminosity", "message"),
    [
        ({"cross_section": 1.0}, 40.0, "S.generated is missing: cross_section and generated go"),
        ({"generated": 10}, 40.0, "S.cross_section is missing"),
        ({"cross_section": 1, "generated": 10}, None, "no reference_luminosity says"),
        ({"cross_section": 1, "generated": 0}, 40.0, "S.generated is 0: give a positive"),
        ({"cross_section": "-2", "generated": 9}, 40.0, "S.cross_section is -2: give a positive"),
        ({"cross_section": "x", "generated": 9}, 40.0, "S.cross_section: 'x' is not a product"),
    ],
)
def test_a_cross_section_that_normalises_nothing_is_refused(
    said: dict[str, Any], luminosity: float | None, message: str
) -> None:
    entry = {"sample": "S", "processes": {"p": {"class": 0}}, **said}
    config = preprocess_config(reference_luminosity=luminosity, input_samples=[entry])
    with pytest.raises(ConfigError, match=message):
        _ = config.read_samples


def test_the_luminosity_is_in_the_rows_of_a_skim_where_a_cross_section_is_given() -> None:
    def keys(luminosity: float, **said: Any) -> dict[str, Any]:
        config = preprocess_config(reference_luminosity=luminosity, samples={"S": said})
        return row_keys(config.model_dump(mode="json"))

    given = {"cross_section": 1.0, "generated": 10}
    assert keys(40.0, **given) != keys(50.0, **given)
    assert keys(40.0, factor=2) == keys(50.0, factor=2)
