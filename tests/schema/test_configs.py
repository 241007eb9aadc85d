"""Every configuration composes into a typed object, and what is misspelt is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from utils.models import kind
from utils.schema import (
    PROJECT,
    ConfigError,
    EvaluateConfig,
    PredictConfig,
    PreprocessConfig,
    TrainConfig,
    load,
    nearest,
    slug,
    unique_slugs,
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


def preprocess(**keys: Any) -> PreprocessConfig:
    base = {
        "input_tree_name": "T",
        "input_path": "in",
        "input_samples": [{"S": {"p": {"class": 0}}}],
    }
    return load(PreprocessConfig, {**base, **keys})


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
        _ = preprocess(input_samples=samples).read_samples


def test_a_sample_is_described_in_one_place_or_the_other() -> None:
    config = preprocess(
        samples={"S": {"files": ["a.root", "/b/*.root"], "factor": "2 * 3 / 4", "tree": "X"}}
    )
    (sample,) = config.read_samples
    assert sample.files == (str(PROJECT / "in" / "a.root"), "/b/*.root")
    assert (sample.factor, sample.tree, sample.group) == (1.5, "X", "S")


def test_missing_values_are_declared_for_all_and_by_feature() -> None:
    config = preprocess(
        cont_features=["a", "b"],
        missing=-999,
        feature_info={"b": {"missing": {"values": [-1, -2], "to": "refuse"}}},
    )
    declared = config.missing_values(["a", "b"])
    assert declared["a"].values == (-999.0,)
    assert declared["b"].values == (-1.0, -2.0)
    assert declared["b"].refuse


def test_helper_keys_are_fine_where_something_refers_to_them() -> None:
    cfg = OmegaConf.create(
        {
            "for_training": False,
            "where": "/data",
            "input_path": "${where}/x",
            "input_tree_name": "T",
            "input_samples": ["S"],
        }
    )
    assert program.typed(cfg, PreprocessConfig).input_path == "/data/x"
    cfg["were"] = "/nowhere"
    with pytest.raises(ConfigError, match="unknown key 'were'"):
        program.typed(cfg, PreprocessConfig)


def test_a_helper_key_may_be_a_table() -> None:
    base = {"input_tree_name": "T", "input_samples": ["S"], "year": 2018, "which": "${paths[0]}"}
    cfg = OmegaConf.create(
        {
            **base,
            "paths": ["/a"],
            "roots": {"2018": "/b"},
            "input_path": "${oc.select:roots.${year}}",
        }
    )
    with pytest.raises(ConfigError, match="unknown key 'which'"):
        program.typed(cfg, PreprocessConfig)
    del cfg["which"]
    with pytest.raises(ConfigError, match="unknown key 'paths'"):
        program.typed(cfg, PreprocessConfig)
    cfg["skim_path"] = "${paths[0]}"
    found = program.typed(cfg, PreprocessConfig)
    assert (found.input_path, found.skim_path) == ("/b", "/a")


@pytest.mark.parametrize("key", ["training_samples", "prediction_samples"])
def test_a_sample_has_one_group(key: str) -> None:
    other = {"training_samples": "prediction_samples", "prediction_samples": "training_samples"}
    samples = {key: [{"sample": "S", "group": "G", "processes": {}}], other[key]: ["S"]}
    with pytest.raises(ConfigError, match=r"sample 'S' has the group '[GS]'.* once, under samples"):
        _ = preprocess(**samples).read_samples
    described = {"samples": {"S": {"group": "G"}}, key: ["S"], other[key]: ["S"]}
    assert preprocess(**described).read_samples[0].group == "G"


def test_values_of_other_yaml_types_become_text() -> None:
    config = load(PredictConfig, {"kind": "for_datacards", "run_id": 123, "experiment_id": "None"})
    assert (config.run_id, config.experiment_id) == ("123", None)
    assert preprocess(year=2018).year == "2018"


def test_what_is_typed_becomes_what_hydra_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    primaries = CONFIGS / "preprocess/training_data"
    flat = tmp_path / "flat.yaml"
    flat.write_text("year: ???\n")
    typed_in = [
        "--config-path",
        str(tmp_path),
        "--config-name",
        "flat.yaml",
        "year=1",
        "engine=dask",
    ]
    line = program.command_line(typed_in, primaries, "bbH_tt")
    assert "++year=1" in line
    assert "+engine=dask" in line
    line = program.command_line(
        ["analysis=bbH_em", "~pca", "hydra.verbose=true"], primaries, "bbH_tt"
    )
    assert line[:3] == ["analysis=bbH_em", "~pca", "hydra.verbose=true"]
    of_mlproject = ["year=1", "model_param.max_depth=", "run_name="]
    with pytest.raises(ConfigError, match=r"'model_param.max_depth=' has no value.*depth=null"):
        program.command_line(of_mlproject, primaries, "bbH_tt")
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    line = program.command_line(of_mlproject, primaries, "bbH_tt")
    assert not any("max_depth" in part or "run_name" in part for part in line)
    line = program.command_line(["run_id=12e34"], primaries, "bbH_tt")
    assert "++run_id='12e34'" in line  # not the number 1.2e35
    with pytest.raises(ConfigError, match="no analysis file"):
        program.command_line([f"analysis={tmp_path}/none.yaml"], primaries, "bbH_tt")
    with pytest.raises(
        ConfigError, match=r"--config-name for_datacards.yaml or for_evaluation.yaml"
    ):
        program.command_line(["run_id=1"], CONFIGS / "predict", None)


def test_no_configuration_holds_a_home_or_a_host() -> None:
    for path in CONFIGS.rglob("*.yaml"):
        assert not re.search(r"(^|[\s'\"])(/\w+/|~/|https?:|root://)", path.read_text()), path


def test_slugs_are_safe_and_distinct() -> None:
    assert slug("h+jets") == "h_jets"
    assert unique_slugs(["h+jets", "h jets", "h_jets"]) == ["h_jets", "h_jets_2", "h_jets_3"]
    assert nearest("m_svv", ["m_sv", "pt"]) == "nearest: 'm_sv'"
    assert nearest("zzz", []) == "there are none"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"missing": True}, "missing: .*a number is needed, not true or false"),
        ({"n_splits": True}, "n_splits: .*a number is needed"),
        ({"pca": {"n_components": 0}}, "pca.n_components: .*greater than 0"),
        ({"xtrain_split_feature": "d"}, "'d' identifies events, so it must be a branch"),
        ({"samples": {"S": {"factr": 1}}}, "unknown key 'samples.S.factr'; nearest: 'factor'"),
        (
            {"prediction_samples": [{"sample": "S", "never_trained": True}]},
            "prediction_samples.S is declared never_trained, but",
        ),
        (
            {"prediction_samples": [{"sample": "P", "group": "S", "never_trained": True}]},
            "prediction_samples.P is declared never_trained, but",
        ),
    ],
)
def test_what_would_silently_mean_something_else_is_refused(
    keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = preprocess(
            cat_features=["njets"], derived_features={"d": "2 * evt"}, **keys
        ).read_samples


def test_a_dotted_override_changes_a_class_and_leaves_the_others() -> None:
    classes = {0: {"name": "a", "alpha": 0.1}, 1: {"name": "b"}, "0": {"color": "red"}}
    config = preprocess(class_to_info=classes)
    assert (config.classes[0].name, config.classes[0].color) == ("a", "red")
    assert (config.classes[0].alpha, config.classes[1].name) == (0.1, "b")
