"""From ntuples to columns by role: what is said of a column is said of one that is there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from utils.schema import ConfigError, InputError, PreprocessConfig, load
from utils.stages.prediction.tasks import _check_definitions
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.skim_content import save_configuration


def write(path: Path, columns: Mapping[str, Any]) -> None:
    columns = {name: np.asarray(values) for name, values in columns.items()}
    with uproot.recreate(path) as file:
        file.mktree("T", {n: (v.dtype, v.shape[1:]) for n, v in columns.items()}).extend(columns)


def config(folder: Path, **keys: Any) -> PreprocessConfig:
    base = {
        "input_tree_name": "T",
        "input_path": str(folder),
        "skim_path": str(folder / "skims"),
        "training_samples": [{"S": {"p": {"class": 0}}}],
        "cont_features": ["x"],
        "misc_features": [],
    }
    return load(PreprocessConfig, {**base, **keys})


def read(config: PreprocessConfig) -> reading.Selected:
    plan = reading.plan(config, config.read_samples)
    return reading.join([reading.read(unit) for unit in plan.units])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path / "S.root",
        {
            "run": np.ones(4, "i4"),
            "evt": np.arange(4, dtype="u8"),
            "x": np.array([1, 2, 3, 4], "f4"),
            "jpt_1": np.array([50, -999, -999, 60], "f4"),
            "jpt_2": np.array([25, 30, -999, -10], "f4"),
            "jet": np.array([[1, 2], [3, -999], [-999, 6], [7, 8]], "f4"),
        },
    )
    return tmp_path


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"clip": {"xx": [0, 5]}}, "clip names 'xx', which is no feature and no branch"),
        ({"feature_info": {"jpt_3": {"missing": -10}}}, "nearest: 'jpt_[12]'"),
        ({"profile_features": ["y"]}, "profile_features names 'y'"),
    ],
)
def test_a_misspelt_column_is_no_silent_nothing(
    folder: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config(folder, **keys))


def test_what_is_said_of_a_branch_that_is_not_read_now_may_stay(folder: Path) -> None:
    read(config(folder, clip={"jpt_1": [0, 5]}, feature_info={"jpt_2": {"label": "x"}}))


DERIVED = {"ratio": "jpt_1 / jpt_2", "both": "leading + 1", "first": "log(jet[0])"}


def test_a_derived_feature_is_missing_where_a_branch_is(folder: Path) -> None:
    """-999 / -999 is no ratio of 1, and log(-999) no NaN that nobody declared."""
    keys = {"derived_features": DERIVED, "cuts": {"leading": "jpt_1 > 55"}, "missing": -999}
    selected = read(config(folder, cont_features=list(DERIVED), **keys))
    columns = selected.groups["cont_features"]
    nan = float("nan")
    np.testing.assert_array_equal(columns["ratio"], np.array([2, nan, nan, -6], "f4"))
    np.testing.assert_array_equal(columns["both"], np.array([1, nan, nan, 2], "f4"))
    np.testing.assert_allclose(columns["first"], np.log([1, 3, nan, 7]), rtol=1e-6)
    assert selected.n_missing == {"both": 2, "first": 1, "ratio": 2}


def test_the_policy_of_the_branch_is_that_of_what_is_made_from_it(folder: Path) -> None:
    of_branch = {"jpt_2": {"missing": {"values": [-10, -999], "to": 7}}}
    keys = {"cont_features": ["ratio"], "derived_features": {"ratio": DERIVED["ratio"]}}
    columns = read(config(folder, feature_info=of_branch, **keys)).groups["cont_features"]
    np.testing.assert_allclose(columns["ratio"], [2, -999 / 30, 7, 7], rtol=1e-6)
    refusing = {"jpt_2": {"missing": {"values": [-10], "to": "refuse"}}}
    with pytest.raises(InputError, match="1 of 4 values of 'ratio' are the missing value -10"):
        read(config(folder, feature_info=refusing, **keys))


def test_an_event_number_is_no_float_in_one_file_and_an_integer_in_another(folder: Path) -> None:
    """Joined as float64, a float32 number above 2^24 would look exact."""
    write(
        folder / "S2.root",
        {"run": np.ones(2, "i4"), "evt": np.array([3e7, 3e7 + 2], "f4"), "x": np.ones(2, "f4")},
    )
    both = config(
        folder,
        training_samples=[{"sample": "S", "files": "S*.root", "processes": {"p": {"class": 0}}}],
    )
    with pytest.raises(InputError, match="'evt' is float32 in one input and uint64 in another"):
        read(both)


def test_the_saved_configuration_keeps_a_missing_nan(folder: Path) -> None:
    made = config(folder, missing=float("nan"))
    save_configuration(made)
    saved = json.loads((folder / "skims" / "training" / "config_training.json").read_text())
    assert math.isnan(saved["missing"])
    assert load(PreprocessConfig, saved).missing_values(["x"])["x"].values != ()


class Skim:
    """What the comparison of definitions looks at."""

    path = Path("S.h5")

    def __init__(self, made: PreprocessConfig) -> None:
        self.metadata = {"config": made.model_dump(mode="json", by_alias=True)}


class Scorer:
    run_id = "r"

    def __init__(self, made: PreprocessConfig) -> None:
        self.recipe = type("Recipe", (), {"analysis": Skim(made).metadata["config"]})


def test_features_are_compared_by_their_meaning(folder: Path) -> None:
    def made(text: str, cut: str) -> PreprocessConfig:
        derived = {"a": text, "unused": cut}
        return config(folder, cont_features=["a"], derived_features=derived, cuts={"boosted": cut})

    run = Scorer(made("boosted * x", "x > 2"))
    _check_definitions(Skim(made("(x>2)*x", "x > 50")), run)
    for other in (made("boosted * x", "x > 3"), made("boosted * jpt_1", "x > 2")):
        with pytest.raises(InputError, match=r"another `derived_features` .'a'."):
            _check_definitions(Skim(other), run)
