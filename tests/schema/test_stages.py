"""Each stage's own keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_analysis import preprocess_config

from utils.schema import PredictConfig, PreprocessConfig, load


def test_values_of_other_yaml_types_become_text() -> None:
    config = load(PredictConfig, {"kind": "for_datacards", "run_id": 123, "experiment_id": "None"})
    assert (config.run_id, config.experiment_id) == ("123", None)
    assert preprocess_config(year=2018).year == "2018"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{sample_name}.h5", "train.h5"),
        ("{sample_name}", "train.h5"),
        ("{sample_name}.hdf5", "train.hdf5"),
        ("{sample_name}.v1", "train.v1.h5"),
    ],
)
def test_a_skim_has_a_suffix_whatever_its_template(template: str, expected: str) -> None:
    config = load(PreprocessConfig, {"output_path": "/skims", "output_filename_template": template})
    assert config.skim_file("train") == Path("/skims") / expected
