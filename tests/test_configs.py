"""Every configuration composes into a typed object, and what is misspelt is refused by name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins

from utils.models import kind
from utils.schema import (
    PROJECT,
    ConfigError,
    EvaluateConfig,
    PredictConfig,
    PreprocessConfig,
    TrainConfig,
)
from utils.system import program

CONFIGS = PROJECT / "configs"
ANALYSES = sorted(p.stem for p in (CONFIGS / "analysis").glob("*.yaml"))


def typed(folder: str, name: str, model: Any, *overrides: str) -> Any:
    Plugins.instance().register(program.ProjectConfigs)
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS / folder)):
        return program.typed(compose(name, list(overrides)), model)


@pytest.mark.parametrize("path", ["training_data", "prediction_data"])
@pytest.mark.parametrize("name", ["bbH_tt", "bbH_em"])
def test_preprocess_primaries_compose(path: str, name: str) -> None:
    config = typed(f"preprocess/{path}", name, PreprocessConfig, "year=2018")
    assert config.for_training == (path == "training_data")
    assert config.analysis_name == name
    assert "/2018/" in config.read_samples[0].files[0]
    assert config.tree_name == "TauCheck"
    assert len(config.classes) == 4
    if not config.for_training:
        assert config.common_cut is None


@pytest.mark.parametrize("analysis", ANALYSES)
def test_training_composes_for_every_analysis(analysis: str) -> None:
    config = typed("train", "train", TrainConfig, f"analysis={analysis}", "++year=2018")
    assert config.features
    assert set(config.features) <= {*config.cont_features, *config.cat_features}
    assert config.fold.n_splits == 2
    assert config.model_param["bagging_seed"] == 1357


def test_the_model_that_is_chosen_brings_its_kind_and_parameters() -> None:
    assert TrainConfig().model_kind == "lightgbm"  # of files that name none
    config = typed("train", "train", TrainConfig, "year=2018")
    assert (config.model_kind, config.model_param["max_depth"]) == ("lightgbm", 3)
    config = typed("train", "train", TrainConfig, "year=2018", "model=mlp")
    assert (config.model_kind, config.model_param["hidden_layer_sizes"]) == ("mlp", [64, 64])
    for name in ("lightgbm", "mlp"):
        config = typed("train", "train", TrainConfig, "year=2018", f"model={name}")
        settings = kind(name).settings(config.model_param, 4, 1)
        assert settings.num_iterations == config.model_param["num_iterations"]
    assert "max_depth" not in config.model_param


def test_channels_have_the_documented_parameters() -> None:
    bbh = typed("train", "train", TrainConfig, "year=2018")
    assert " ".join(bbh.features) == (
        "pt_1 pt_2 m_sv m_vis pt_tt puppimet jpt_1 jpt_2 bpt_1 bpt_2 jdeta mjj njets nbtag"
    )
    assert bbh.model_param["learning_rate"] == 0.03
    assert bbh.model_param["early_stopping_round"] == 20
    cp = typed("train", "train", TrainConfig, "analysis=cp_htt", "year=2018")
    assert cp.model_param["learning_rate"] == 0.1
    assert cp.model_param["early_stopping_round"] == 10
    assert cp.model_param["num_iterations"] == 10
    assert cp.weight_name == "w_cp"
    assert len(cp.classes) == 3


def test_predict_and_evaluate_need_a_run_and_nothing_else() -> None:
    for name in ("for_datacards", "for_evaluation"):
        config = typed("predict", name, PredictConfig, "run_id=0123", "experiment_id=None")
        assert (config.kind, config.run_id, config.experiment_id) == (name, "123", None) or (
            config.run_id == "0123"
        )
    assert typed("", "evaluate", EvaluateConfig, "run_id=abc").dataset == "test"
    with pytest.raises(ConfigError, match="run_id is not set"):
        typed("", "evaluate", EvaluateConfig)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+yaer=2018"], "unknown key 'yaer'; nearest: 'year'"),
        (
            ["year=2018", "+class_to_info.0.nam=x"],
            "unknown key 'class_to_info.0.nam'; nearest: 'name'",
        ),
        (["year=2018", "train_size=much"], 'train_size: .* got "much"'),
        (["year=2018", "train_size=1.5"], "train_size: .* got 1.5"),
        (["year=2018", "train_size=1"], "train_size: .* got 1"),
        (
            ["year=2018", "+pca.components=3"],
            "unknown key 'pca.components'; nearest: 'n_components'",
        ),
        (["year=2018", "+engine.knd=dask"], "unknown key 'engine.knd'; nearest: 'kind'"),
        (["year=2018", "cat_features=[njets,pt_1]"], "pt_1 is named both in"),
        (["year=2018", "cat_features=[target]"], "target is computed by preprocessing"),
        (["year=2018", "signal_classes=[H_sgi]"], "'H_sgi' is not a class; nearest: 'H_sig'"),
        ([], "year is not set: add year="),
    ],
)
def test_a_mistake_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        typed("preprocess/training_data", "bbH_tt", PreprocessConfig, *overrides)


@pytest.mark.parametrize("analysis", ["bbH_tt", "bbH_em"])
def test_figures_carry_the_luminosity_of_their_year(analysis: str) -> None:
    for year, luminosity in (("2016", 36.3), ("2017", 41.5), ("2018", 59.8), ("2022", None)):
        config = typed("train", "train", TrainConfig, f"analysis={analysis}", f"year={year}")
        assert config.luminosity == luminosity


def test_no_configuration_holds_a_home_or_a_host() -> None:
    for path in CONFIGS.rglob("*.yaml"):
        assert not re.search(r"(^|[\s'\"])(/\w+/|~/|https?:|root://)", path.read_text()), path
