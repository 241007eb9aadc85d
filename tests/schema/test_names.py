"""Names that a model's file or a friend tree could not hold, or could not tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_analysis import preprocess_config

from utils.models.forest import compile_forest
from utils.schema import ConfigError
from utils.system.libraries.boosters import lightgbm


def features(*names: str, **more: Any) -> dict[str, Any]:
    return {"cont_features": list(names), **more}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (features("jet pt", "jet_pt"), "features 'jet pt' and 'jet_pt' have one name in a model's"),
        (features("a b c", "a_b c"), "features 'a b c' and 'a_b c' have one name"),
        (features("x", cat_features=["a b", "a_b"]), "features 'a b' and 'a_b' have one name"),
        (features("a b", cat_features=["a_b"]), "features 'a b' and 'a_b' have one name"),
        (features("jet_pt[0]"), r"feature 'jet_pt\[0\]': .*for example 'jet_pt_0: jet_pt\[0\]'"),
        (features("a::b"), "feature 'a::b': .*for example 'a_b: a::b'"),
        (features("a,b"), "feature 'a,b': "),
        (features('a"b'), "feature 'a\"b': "),
        (features("{a}"), "feature '{a}': "),
        (features("a\nb"), r"feature 'a\\nb': "),
        (features(""), "feature '': "),
        (
            features("x", cat_features=["pca_0"], pca={"n_components": 1}),
            "'pca_0' is also the name of a component",
        ),
    ],
)
def test_features_that_no_model_could_tell_apart_are_refused(
    keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        preprocess_config(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        features("jet pt", "jet.pt", "pτ", "a/b", "a-b", "A", "a"),
        features("jet_pt[0]", "jet pt", "jet_pt", training_features=["jet_pt"]),
        features("jet_pt[0]", "x", pca={"n_components": 1}, cat_features=["pca"]),
    ],
)
def test_what_a_model_can_tell_apart_is_accepted(keys: dict[str, Any]) -> None:
    assert preprocess_config(**keys).cont_features == keys["cont_features"]


@pytest.mark.parametrize("sign", [chr(i) for i in range(1, 128)])
def test_what_is_accepted_is_what_lightgbm_keeps(sign: str) -> None:
    """LightGBM itself is the oracle, for every ASCII sign."""
    name = f"a{sign}b"
    try:
        preprocess_config(**features(name))
    except ConfigError:
        return
    data = lightgbm.Dataset(np.arange(200.0)[:, None] % 7, np.arange(200) % 2, feature_name=[name])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, data, 1)
    assert booster.feature_name() == [name.replace(" ", "_")]
    assert compile_forest(booster.model_to_string()).feature_names == tuple(booster.feature_name())


@pytest.mark.parametrize("name", ["a/b", "event number", "a::evt", "f(x)"])
def test_an_identity_that_no_friend_tree_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no branch of a friend tree can be called so"):
        preprocess_config(identity=["run", name], xtrain_split_feature=name)


def test_an_identity_of_leaves_is_accepted() -> None:
    config = preprocess_config(identity=["info.run", "info.evt"], xtrain_split_feature="info.evt")
    assert config.identity_columns == ("info.run", "info.evt")
