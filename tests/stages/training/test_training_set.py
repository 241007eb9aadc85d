"""What a training is made from: its skims, their origin, and the weights it uses by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from preprocess import preprocess
from utils.formats.skims import open_skim, origin
from utils.schema import ConfigError, InputError, PreprocessConfig, TrainConfig, load
from utils.stages.training.training_set import load_training_set, open_training_skim

SAMPLES = [{"S": {"s": {"class": 0}}}, {"B": {"b": {"class": 1}}}]
CLASSES = {0: {"name": "signal"}, 1: {"name": "background"}}


@pytest.fixture(scope="module")
def ntuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ntuples")
    rng = np.random.default_rng(5)
    for name, shift in (("S", 1.0), ("B", 0.0)):
        with uproot.recreate(folder / f"{name}.root") as file:
            columns = {
                "run": np.ones(400, "i4"),
                "evt": np.arange(400, dtype="u8"),
                "x": rng.normal(shift, 1, 400).astype("f4"),
                "weight": rng.uniform(0.5, 1, 400).astype("f4"),
            }
            file.mktree("T", {n: v.dtype for n, v in columns.items()}).extend(columns)
    return folder


def skims(ntuples: Path, folder: Path, **keys: Any) -> Path:
    """Preprocess for training into `folder`, and return the train skim."""
    base = {
        "input_tree_name": "T",
        "input_path": str(ntuples),
        "skim_path": str(folder),
        "training_samples": SAMPLES,
        "class_to_info": CLASSES,
        "cont_features": ["x"],
        "scaler": {},
        "weight": "weight",
    }
    preprocess(load(PreprocessConfig, {**base, **keys}))
    return folder / "training" / "train.h5"


def opened(train: Path, **keys: Any) -> tuple[TrainConfig, Any]:
    base = {"train_file": str(train), "cont_features": ["x"], "engine": "serial"}
    config = load(TrainConfig, {**base, **keys})
    return config, open_training_skim(config)


def test_a_skim_s_origin_is_what_its_rows_follow_from(ntuples: Path, tmp_path: Path) -> None:
    def made(name: str, **keys: Any) -> str:
        train = skims(ntuples, tmp_path / name, **keys)
        origins = {origin(open_skim(p).metadata) for p in train.parent.glob("*.h5")}
        assert len(origins) == 1, "train and test are of one preprocessing"
        return origins.pop()

    first = made("a")
    red = {i: {**info, "color": "red"} for i, info in CLASSES.items()}
    assert made("b", class_to_info=red, n_splits=5, model_param={"max_depth": 3}) == first
    assert made("c", feature_info={"x": {"label": "X", "unit": "GeV"}}) == first
    assert made("d", common_cut="x > 0") != first
    assert made("e", feature_info={"x": {"missing": -999}}) != first
    assert made("f", seed=7) != first


def test_a_pair_of_skims_of_two_preprocessings_is_refused(ntuples: Path, tmp_path: Path) -> None:
    """As one that was killed between the two leaves it."""
    train = skims(ntuples, tmp_path / "a")
    opened(train)
    other = skims(ntuples, tmp_path / "b", common_cut="x > 0")
    other.with_name("test.h5").replace(train.with_name("test.h5"))
    with pytest.raises(InputError, match="of different preprocessings"):
        opened(train)
    train.with_name("test.h5").unlink()
    opened(train)


def test_a_test_skim_of_its_own_must_fit_the_models(ntuples: Path, tmp_path: Path) -> None:
    train = skims(ntuples, tmp_path / "a")
    fitting = skims(ntuples, tmp_path / "b", weight="2 * weight").with_name("test.h5")
    opened(train, test_file=str(fitting))
    other = skims(ntuples, tmp_path / "c", common_cut="x > 0").with_name("test.h5")
    with pytest.raises(InputError, match="made with another feature pipeline"):
        opened(train, test_file=str(other))
    named = {0: {"name": "signal"}, 1: {"name": "fakes"}}
    other = skims(ntuples, tmp_path / "d", class_to_info=named).with_name("test.h5")
    with pytest.raises(InputError, match=r"another list of classes \(signal, fakes\)"):
        opened(train, test_file=str(other))
    other = skims(ntuples, tmp_path / "e", missing={"values": [-999], "to": 0}).with_name("test.h5")
    with pytest.raises(InputError, match=r"another 'x' \(missing: .*to?.*preprocess both alike"):
        opened(train, test_file=str(other))


def test_the_training_weight_is_the_class_balance_unless_said(
    ntuples: Path, tmp_path: Path
) -> None:
    train = skims(ntuples, tmp_path / "a", compute_w_CP=True)
    assert load_training_set(*opened(train)).weight_name == "w_class_imbalance"
    data = load_training_set(*opened(train, weight_name="w_cp"))
    by_class = [data.weight[data.target == c].sum() for c in (0, 1)]
    assert by_class[0] == pytest.approx(by_class[1], rel=0.1)
    with pytest.raises(ConfigError, match=r"needs 'w_cq'.*nearest: 'w_cp'"):
        load_training_set(*opened(train, weight_name="w_cq"))


GIVEN = {
    "common_cut": ("x > -1", "x > 0"),
    "missing": (-999, -99),
    "clip": ({"x": [-2, 2]}, {"x": [-2, 3]}),
    "feature_info": ({"x": {"missing": -5}}, {"x": {"missing": -6}}),
    "class_balance": ("count", "weight"),
    "train_size": (0.8, 0.7),
    "weight": ("weight", "2 * weight"),
    "scaler": ({}, None),
    "compute_w_CP": (False, True),
    "derived_features": ({"z": "x + 1"}, {"z": "x + 2"}),
    "training_samples": (
        SAMPLES,
        [{"S": {"s": {"class": 0}}}, {"B": {"b": {"class": 1, "cut": "x > 0"}}}],
    ),
    "identity": (["run", "evt"], ["evt"]),
}


@pytest.fixture(scope="module")
def made_with_all(ntuples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    keys = {key: value for key, (value, _) in GIVEN.items()}
    return skims(ntuples, tmp_path_factory.mktemp("all"), misc_features=["evt"], **keys)


@pytest.mark.parametrize("key", GIVEN)
def test_a_key_of_preprocessing_is_the_skim_s_or_refused(made_with_all: Path, key: str) -> None:
    same, other = GIVEN[key]
    opened(made_with_all, **{key: same})
    with pytest.raises(ConfigError, match=f"{key}.* is .*, but .*train.h5 was made with"):
        opened(made_with_all, **{key: other})


def test_what_a_training_may_choose_is_not_compared(made_with_all: Path) -> None:
    _, skim = opened(made_with_all)
    everything = {**skim.metadata["config"], "n_splits": 5, "seed": 3, "fold_rule": "hash"}
    for key in everything.keys() - TrainConfig.model_fields.keys():
        del everything[key]
    opened(made_with_all, **everything)  # a channel file composes all
    opened(made_with_all, n_splits=1, train_size=0.5)  # then it is the share that is learnt from
    opened(
        made_with_all, cuts={"unused": "x > 3"}, feature_info={"x": {"missing": -5, "unit": "m"}}
    )
    with pytest.raises(ConfigError, match="misc_features: 'y' is not in"):
        opened(made_with_all, misc_features=["evt", "y"])
