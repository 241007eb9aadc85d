"""What an analysis declares means one thing, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
from small_analysis import preprocess_config

from utils.schema import (
    ConfigError,
)


def test_missing_values_are_declared_for_all_and_by_feature() -> None:
    config = preprocess_config(
        cont_features=["a", "b"],
        missing=-999,
        feature_info={"b": {"missing": {"values": [-1, -2], "to": "refuse"}}},
    )
    declared = config.missing_values(["a", "b"])
    assert declared["a"].values == (-999.0,)
    assert declared["b"].values == (-1.0, -2.0)
    assert declared["b"].refuse


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
        _ = preprocess_config(
            cat_features=["njets"], derived_features={"d": "2 * evt"}, **keys
        ).read_samples


def test_a_dotted_override_changes_a_class_and_leaves_the_others() -> None:
    classes = {0: {"name": "a", "alpha": 0.1}, 1: {"name": "b"}, "0": {"color": "red"}}
    config = preprocess_config(class_to_info=classes)
    assert (config.classes[0].name, config.classes[0].color) == ("a", "red")
    assert (config.classes[0].alpha, config.classes[1].name) == (0.1, "b")


@pytest.mark.parametrize("name", ["a/b", "event number", "a::evt", "f(x)"])
def test_an_identity_that_no_friend_tree_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no branch of a friend tree can be called so"):
        preprocess_config(identity=["run", name], xtrain_split_feature=name)


def test_an_identity_of_leaves_is_accepted() -> None:
    config = preprocess_config(identity=["info.run", "info.evt"], xtrain_split_feature="info.evt")
    assert config.identity_columns == ("info.run", "info.evt")


def test_a_feature_called_like_a_component_is_refused() -> None:
    with pytest.raises(ConfigError, match="'pca_0' is also the name of a component of pca"):
        preprocess_config(cont_features=["x"], cat_features=["pca_0"], pca={"n_components": 1})
    assert preprocess_config(cont_features=["x"], cat_features=["pca_0"]).pca is None
