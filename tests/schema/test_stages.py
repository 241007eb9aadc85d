"""Each stage's own keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_analysis import preprocess_config

from utils.schema import (
    ConfigError,
    EvaluateConfig,
    PredictConfig,
    PreprocessConfig,
    TrainConfig,
    load,
)
from utils.system.engine import cores_of


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


def test_an_evaluation_runs_in_its_own_process() -> None:
    bounded = {"run_id": "r", "engine": {"n_workers": 1}}
    assert cores_of(load(EvaluateConfig, bounded).engine) == 1
    with pytest.raises(ConfigError, match="leave engine=dask out"):
        load(EvaluateConfig, {"run_id": "r", "engine": "dask"})


@pytest.mark.parametrize(
    ("n_threads", "n_workers", "expected"),
    [(3, None, 3), (-1, None, None), (0, 2, 2), (2, 2, 2), (None, 1, 1)],
)
def test_num_threads_is_the_engine_s_bound(
    n_threads: int | None, n_workers: int | None, expected: int | None
) -> None:
    raw = {"model_param": {"num_threads": n_threads}, "engine": {"n_workers": n_workers}}
    config = load(TrainConfig, raw)
    assert config.engine.n_workers == expected
    assert "num_threads" not in config.model_param
