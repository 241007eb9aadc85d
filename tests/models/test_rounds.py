"""Rounds followed by the forest's kernels against LightGBM's own evaluation and early stopping."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from utils.models import FoldTask, Settings, Split, boosting, rounds
from utils.models.boosting_parameters import metrics_of
from utils.models.metrics import METRICS, Values
from utils.models.rounds import Rounds, Rows, why_not
from utils.schema import PROJECT, ConfigError

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

    def record(step: int, train: Values, validation: Values) -> None:
        for rows, values in (("training", train), ("validation", validation)):
            for name, value in values.items():
                curves.setdefault(f"{rows}/{name}", []).append(value)
                assert len(curves[f"{rows}/{name}"]) == step

    train, validation = (
        Rows(data.X, rows, data.target, data.weight, parameters.get("num_class", 1))
        for rows in (data.learnt, ~data.learnt)
    )
    told = Settings(parameters["objective"], n_rounds, patience, first_only, parameters)
    follow = Rounds(train, validation, told, parameters["metric"], n_threads, record)
    booster = lgb.train(
        parameters, data.dataset(data.learnt, parameters), n_rounds, callbacks=[follow]
    )
    return booster, curves


def trees(booster: lgb.Booster, n: int | None = None) -> str:
    return booster.model_to_string(num_iteration=n).split("\nparameters:")[0]


def best(booster: lgb.Booster) -> int:
    return booster.best_iteration or booster.current_iteration()


def known_metrics(n_classes: int) -> tuple[str, ...]:
    return METRICS["binary" if n_classes == 2 else "multiclass"]


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
    known = st.sampled_from(known_metrics(n_classes))
    metrics = draw(st.lists(known, min_size=1, max_size=3, unique=True))
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


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(training=trainings())
def test_trees_curves_and_stop_are_those_of_lightgbm(
    training: tuple[Data, dict[str, Any], int, int, bool],
) -> None:
    theirs, expected = by_lightgbm(*training)
    ours, found = by_ours(*training)
    compare(theirs, expected, ours, found)


def compare(theirs: lgb.Booster, expected: Curves, ours: lgb.Booster, found: Curves) -> None:
    assert [*found] == [*(n for n in found if n.startswith("training/")), *expected][: len(found)]
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


def test_rounds_without_a_split_count() -> None:
    """A few splits, then none: LightGBM drops such rounds' trees, and goes on."""
    data = Data(300, 3)
    parameters = parameters_of(3, ["multi_logloss", "multi_error"], min_gain_to_split=12.0)
    theirs, expected = by_lightgbm(data, parameters, 60, 0, False)
    ours, found = by_ours(data, parameters, 60, 0, False)
    assert ours.current_iteration() < 60 == len(found["validation/multi_logloss"])
    compare(theirs, expected, ours, found)
    for patience in (3, 25):
        theirs, expected = by_lightgbm(data, parameters, 60, patience, False)
        compare(theirs, expected, *by_ours(data, parameters, 60, patience, False))


@pytest.mark.parametrize("n_classes", [2, 5])
def test_no_split_at_all(n_classes: int) -> None:
    data = Data(200, n_classes)
    parameters = parameters_of(n_classes, known_metrics(n_classes), min_data_in_leaf=1000)
    theirs, expected = by_lightgbm(data, parameters, 5, 3, False)
    compare(theirs, expected, *by_ours(data, parameters, 5, 3, False))


def test_a_class_that_is_not_there() -> None:
    data = Data(500, 4)
    data.target[data.target == 2] = 3
    parameters = parameters_of(4, known_metrics(4))
    theirs, expected = by_lightgbm(data, parameters, 9, 3, False)
    compare(theirs, expected, *by_ours(data, parameters, 9, 3, False))
    data = Data(500, 2)
    data.target[~data.learnt] = 1
    parameters = parameters_of(2, ["auc", "binary_logloss"])
    theirs, expected = by_lightgbm(data, parameters, 9, 3, False)
    assert expected["validation/auc"][0] == 1
    compare(theirs, expected, *by_ours(data, parameters, 9, 3, False))


def test_sums_do_not_depend_on_threads_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(20_000, 2)
    parameters = parameters_of(2, METRICS["binary"], num_leaves=15)
    _, expected = by_ours(data, parameters, 13, 0, False)
    monkeypatch.setattr(rounds, "TASK_BYTES", 1)
    for n_threads, longest, history in ((3, 20, 1 << 28), (2, 5, 1 << 28), (1, 20, 1)):
        monkeypatch.setattr(rounds, "LONGEST", longest)
        monkeypatch.setattr(rounds, "HISTORY_BYTES", history)
        assert by_ours(data, parameters, 13, 0, False, n_threads)[1] == expected


@pytest.mark.parametrize("n_classes", [2, 4])
def test_certain_scores_lose_what_lightgbm_says(n_classes: int) -> None:
    """Probabilities that round to 0 and 1: the largest loss, and classes that tie at 0."""
    data = Data(600, n_classes, weights="spread")
    parameters = parameters_of(n_classes, known_metrics(n_classes), learning_rate=30.0)
    theirs, expected = by_lightgbm(data, parameters, 12, 0, False)
    assert max(expected[f"validation/{known_metrics(n_classes)[0]}"]) > 3
    compare(theirs, expected, *by_ours(data, parameters, 12, 0, False))


def test_a_block_ends_where_training_could(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rounds are trained than LightGBM trains, but with less patience than SHORTEST."""
    trained = []

    class Counting(lgb.Booster):
        def update(self, *args: Any, **kwargs: Any) -> bool:
            trained.append(1)
            return bool(super().update(*args, **kwargs))

    data = Data(700, 3)
    parameters = parameters_of(3, ["multi_logloss"], learning_rate=0.5)
    monkeypatch.setattr(lgb.engine, "Booster", Counting)
    for patience in (1, 4, 6, 30):
        trained.clear()
        _, found = by_ours(data, parameters, 200, patience, False)
        seen = len(found["validation/multi_logloss"])
        assert seen < 200
        assert len(trained) - seen <= (0 if patience >= rounds.SHORTEST else rounds.SHORTEST - 1)


def fold_task(data: Data, n_classes: int, **model_param: Any) -> FoldTask:
    return FoldTask(
        index=0,
        load=lambda: data.X,
        features=tuple("abcde"),
        target=data.target,
        weight=data.weight,
        split=Split(data.learnt, ~data.learnt),
        settings=boosting.settings({"num_iterations": 25, **model_param}, n_classes, 11),
        n_threads=2,
        n_preparing_threads=2,
        train_metric_every=1,
    )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("patience", [0, 3])
def test_a_fold_is_the_same_either_way(
    n_classes: int,
    patience: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[tuple[int, int, str, float]] = []
    data = Data(900, n_classes, missing=0.1)
    task = fold_task(
        data,
        n_classes,
        early_stopping_round=patience,
        metric="multi_logloss,multi_error",
        learning_rate=0.5,
    )
    task = replace(task, watch=lambda *what: seen.append(what))
    with caplog.at_level(logging.INFO):
        theirs = boosting.train_fold(task)
        shown = seen.copy()
        seen.clear()
        monkeypatch.setattr(rounds, "WORTHWHILE", 1)
        ours = boosting.train_fold(task)
    assert caplog.messages == [
        "Rounds are evaluated by LightGBM itself (little to evaluate)",
        "Rounds are evaluated by the forest's kernels",
    ]
    assert ours.model == theirs.model
    assert ours.importances == theirs.importances
    assert ours.best_iteration == theirs.best_iteration
    assert list(ours.curves) == list(theirs.curves)
    for name, points in theirs.curves.items():
        np.testing.assert_allclose(ours.curves[name], points, rtol=1e-12, err_msg=name)
    assert [what[:3] for what in seen] == [what[:3] for what in shown]


@pytest.mark.parametrize(
    ("model_param", "why"),
    [
        ({}, None),
        ({"boosting": "goss", "num_leaves": 64}, None),
        ({"max_depth": 6, "num_leaves": 500}, None),
        ({"linear_tree": False, "device_type": "cpu"}, None),
        ({"num_leaves": 65}, "trees of 65 leaves"),
        ({"max_depth": 7, "num_leaves": 500}, "trees of 128 leaves"),
        ({"boosting": "dart"}, "boosting dart"),
        ({"boosting_type": "rf"}, "boosting rf"),
        ({"boost_from_average": False}, "boost_from_average false"),
        ({"metric": ["multi_logloss", "auc_mu"]}, "metric auc_mu"),
        ({"metric": "multi_error", "multi_error_top_k": 2}, "multi_error_top_k 2"),
        ({"early_stopping_min_delta": 0.1}, "early_stopping_min_delta 0.1"),
        ({"num_leaves": "many"}, "parameters that it may refuse"),
        ({"num_iterations": 2}, "little to evaluate"),
    ],
)
def test_what_is_left_to_lightgbm(model_param: dict[str, Any], why: str | None) -> None:
    told = boosting.settings({"num_iterations": 1000, **model_param}, 4, 1)
    assert why_not(told, metrics_of(told), 10_000) == why


def test_what_is_left_to_lightgbm_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WORTHWHILE", 1)
    data = Data(400, 3)
    for changes in ({"boosting": "dart"}, {"num_leaves": 100}, {"metric": "auc_mu"}):
        result = boosting.train_fold(fold_task(data, 3, **changes))
        assert len(next(iter(result.curves.values()))) == 25


def test_a_parameter_that_lightgbm_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WORTHWHILE", 1)
    with pytest.raises(ConfigError, match="LightGBM refuses model_param"):
        boosting.train_fold(fold_task(Data(400, 3), 3, bagging_fraction=7))


def test_kernels_are_loaded_as_they_are_called() -> None:
    """Loading them beforehand would be in vain if they were called with other types."""
    code = """
from utils.models.rounds import load_kernels
load_kernels()
from utils.models.forest import kernels
before = [len(f.signatures) for f in (kernels.encode, kernels.advance)]
import sys
sys.path.append("tests/models")
import test_rounds
for n_classes in (2, 3):
    metrics = test_rounds.known_metrics(n_classes)
    parameters = test_rounds.parameters_of(n_classes, metrics)
    test_rounds.by_ours(test_rounds.Data(200, n_classes), parameters, 3, 2, False)
print(before, [len(f.signatures) for f in (kernels.encode, kernels.advance)])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[1, 1] [1, 1]", done.stderr
