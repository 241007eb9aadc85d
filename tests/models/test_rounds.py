"""Rounds followed by the forest's kernels against LightGBM's own evaluation and early stopping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from utils.models import rounds
from utils.models.metrics import METRICS, metric_values
from utils.models.rounds import Rounds, Rows, why_not

Curves = dict[str, list[float]]


class Data:
    """Events of `n_classes`, some missing, two of their features categories."""

    def __init__(
        self,
        n: int,
        n_classes: int,
        missing: float = 0.0,
        weights: str = "class",
        categorical: Sequence[int] = (),
        seed: int = 1,
    ) -> None:
        self.categorical = list(categorical)
        rng = np.random.default_rng(seed)
        X = np.stack(
            [
                rng.normal(size=n),
                rng.standard_cauchy(n),
                rng.normal(size=n) * (rng.random(n) < 0.5),
                rng.integers(0, 6, n),
                rng.integers(0, 40, n),
            ],
            axis=1,
        )
        score = 2 * X[:, 0] + 3 * X[:, 2] + X[:, 3] % 3 + X[:, 4] % 7 + rng.logistic(size=n)
        self.target = np.floor(np.argsort(np.argsort(score)) * n_classes / n).astype(np.int32)
        X[rng.random(X.shape) < missing] = np.nan
        self.X = X.astype(np.float32)
        self.weight = {
            "ones": np.ones(n),
            "class": n / np.bincount(self.target, minlength=n_classes)[self.target],
            "spread": rng.lognormal(0, 2, n),
            "some zero": rng.integers(0, 3, n) / 3,
        }[weights]
        self.learnt = rng.random(n) < 0.6

    def dataset(self, chosen: Any, parameters: Any, reference: Any = None) -> lgb.Dataset:
        return lgb.Dataset(
            self.X[chosen],
            self.target[chosen],
            weight=self.weight[chosen],
            reference=reference,
            categorical_feature=self.categorical,
            params=parameters,
        )


def by_lightgbm(
    data: Data, parameters: dict[str, Any], n_rounds: int, patience: int, first_only: bool
) -> tuple[lgb.Booster, Curves]:
    curves: Curves = {}

    def record(env: Any) -> None:
        for rows, name, value, _ in env.evaluation_result_list + env.model.eval_train():
            curves.setdefault(f"{rows}/{name}", []).append(value)

    record.order = 0
    callbacks: list[Any] = [record]
    if patience:
        callbacks.append(lgb.early_stopping(patience, first_only, verbose=False))
    train = data.dataset(data.learnt, parameters)
    valid = data.dataset(~data.learnt, parameters, train)
    booster = lgb.train(parameters, train, n_rounds, [valid], ["validation"], callbacks=callbacks)
    return booster, curves


def by_ours(
    data: Data,
    parameters: dict[str, Any],
    n_rounds: int,
    patience: int,
    first_only: bool,
    n_threads: int = 1,
) -> tuple[lgb.Booster, Curves]:
    curves: Curves = {}

    def record(step: int, train: rounds.Values, validation: rounds.Values) -> None:
        for rows, values in (("training", train), ("validation", validation)):
            for name, value in values.items():
                curves.setdefault(f"{rows}/{name}", []).append(value)
                assert len(curves[f"{rows}/{name}"]) == step

    train, validation = (
        Rows(data.X, rows, data.target, data.weight, parameters.get("num_class", 1))
        for rows in (data.learnt, ~data.learnt)
    )
    follow = Rounds(
        train, validation, parameters["metric"], patience, first_only, n_threads, record
    )
    booster = lgb.train(
        parameters, data.dataset(data.learnt, parameters), n_rounds, callbacks=[follow]
    )
    return booster, curves


def trees(booster: lgb.Booster, n: int | None = None) -> str:
    return booster.model_to_string(num_iteration=n).split("\nparameters:")[0]


def best(booster: lgb.Booster) -> int:
    return booster.best_iteration or booster.current_iteration()


def parameters_of(n_classes: int, metrics: Sequence[str], **more: Any) -> dict[str, Any]:
    objective = "binary" if n_classes == 2 else "multiclass"
    return {
        "objective": objective,
        "metric": list(metrics),
        "verbosity": -1,
        "num_threads": 1,
        "deterministic": True,
        "force_col_wise": True,
        "min_data_in_leaf": 5,
        "min_data_per_group": 5,
        "seed": 3,
        **({"num_class": n_classes} if n_classes > 2 else {}),
        **more,
    }


@st.composite
def trainings(draw: st.DrawFn) -> tuple[Data, dict[str, Any], int, int, bool]:
    n_classes = draw(st.sampled_from([2, 2, 2, 3, 4, 7, 20]))
    data = Data(
        seed=draw(st.integers(0, 2**32 - 1)),
        categorical=draw(st.sampled_from([(), (), (3, 4), (4,)])),
        n=draw(st.sampled_from([150, 700, 2500])),
        n_classes=n_classes,
        missing=draw(st.sampled_from([0.0, 0.0, 0.3])),
        weights=draw(st.sampled_from(["ones", "class", "spread", "some zero"])),
    )
    known = METRICS["binary" if n_classes == 2 else "multiclass"]
    metrics = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
    leaves = draw(st.sampled_from([{"max_depth": 3}, {"num_leaves": 31}, {"num_leaves": 64}]))
    sampled = draw(
        st.sampled_from(
            [
                {},
                {"bagging_fraction": 0.5, "bagging_freq": 1},
                {"bagging_fraction": 0.5, "bagging_freq": 3, "feature_fraction": 0.4},
                {"boosting": "goss"},
                {"data_sample_strategy": "goss"},
            ]
        )
    )
    other = draw(
        st.sampled_from(
            [
                {},
                {"cat_smooth": 1.0},
                {"max_cat_to_onehot": 50},
                {"boost_from_average": False},
                {"max_bin": 1000, "min_data_in_bin": 1},
                {"max_bin": 5},
                {"min_gain_to_split": 3.0, "extra_trees": True},  # rounds without a split
                {"use_missing": False},
                {"zero_as_missing": True},
                {"lambda_l1": 1.0, "path_smooth": 1.0},
            ]
        )
    )
    if n_classes == 2:
        other = other | draw(st.sampled_from([{}, {"sigmoid": 0.7}, {"is_unbalance": True}]))
    parameters = parameters_of(
        n_classes,
        metrics,
        learning_rate=draw(st.sampled_from([0.05, 0.3, 1.0])),
        **leaves,
        **sampled,
        **other,
    )
    n_rounds = draw(st.sampled_from([1, 2, 7, 30, 45]))
    patience = draw(st.sampled_from([0, 1, 2, 5, 20, 100]))
    return data, parameters, n_rounds, patience, draw(st.booleans())


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(training=trainings())
def test_trees_curves_and_stop_are_those_of_lightgbm(
    training: tuple[Data, dict[str, Any], int, int, bool],
) -> None:
    theirs, expected = by_lightgbm(*training)
    ours, found = by_ours(*training)
    compare(theirs, expected, ours, found)


def compare(theirs: lgb.Booster, expected: Curves, ours: lgb.Booster, found: Curves) -> None:
    assert (
        list(found) == [*(n for n in found if n.startswith("training/")), *expected][: len(found)]
    )
    n = min(len(next(iter(found.values()))), len(next(iter(expected.values()))))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][:n], values[:n], rtol=1e-12, atol=0, err_msg=name)
    if best(ours) == best(theirs):
        assert trees(ours) == trees(theirs)
        assert [*map(len, found.values())] == [*map(len, expected.values())]
    else:
        # Of two values that are equal but for rounding, either may be the best one.
        either = (best(ours) - 1, best(theirs) - 1)
        assert any(
            np.isclose(values[either[0]], values[either[1]], rtol=1e-12, atol=1e-12)
            for name, values in expected.items()
            if name.startswith("validation/") and len(values) > max(either)
        )
        fewer = min(best(ours), best(theirs))
        assert trees(ours, fewer) == trees(theirs, fewer)
