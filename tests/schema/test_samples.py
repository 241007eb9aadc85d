"""Samples: described once, in either form, and refused where they are not."""

from __future__ import annotations

from typing import Any

import pytest
from small_analysis import preprocess_config

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
