"""Each stage's own keys."""

from __future__ import annotations

from small_analysis import preprocess_config

from utils.schema import (
    PredictConfig,
    load,
)


def test_values_of_other_yaml_types_become_text() -> None:
    config = load(PredictConfig, {"kind": "for_datacards", "run_id": 123, "experiment_id": "None"})
    assert (config.run_id, config.experiment_id) == ("123", None)
    assert preprocess_config(year=2018).year == "2018"
