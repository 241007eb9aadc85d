"""One booster per fold: what it learns from, how long, and that it is the same every time."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import pytest
from fold_tasks import N, task
from patience import HANGS

from utils.models import FoldResult, Split, boosting, splits
from utils.models.scoring import open_models, score
from utils.schema import ConfigError, FoldRule, InputError


def test_a_model_never_sees_its_fold(data: dict[str, Any]) -> None:
    """Nothing about the left-out fold's features changes the trees."""
    before = boosting.train_fold(task(data, 0)).model
    changed = data["matrix"].copy()
    changed[data["fold"] == 0] = -changed[data["fold"] == 0]
    after = boosting.train_fold(task({**data, "matrix": changed}, 0)).model
    assert before == after
    changed = data["matrix"].copy()
    changed[data["fold"] == 1] = -changed[data["fold"] == 1]
    assert boosting.train_fold(task({**data, "matrix": changed}, 0)).model != before


def test_the_same_twice(data: dict[str, Any]) -> None:
    parameters = {"bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.6}
    first = boosting.train_fold(task(data, 1, **parameters))
    assert boosting.train_fold(task(data, 1, **parameters)).model == first.model
    other = replace(task(data, 1, **parameters), settings=boosting.settings(parameters, 3, 12))
    assert boosting.train_fold(other).model != first.model


def test_curves_stop_and_best_iteration(data: dict[str, Any]) -> None:
    result = boosting.train_fold(
        task(data, 0, num_iterations=200, early_stopping_round=3, learning_rate=0.5)
    )
    curve = result.curves["validation/multi_logloss"]
    best = min(curve, key=lambda point: point[1])
    assert result.best_iteration == best[0] < 200
    assert len(curve) == result.best_iteration + 3
    assert lightgbm.Booster(model_str=result.model).current_iteration() == result.best_iteration
    steps = [step for step, _ in result.curves["train/multi_logloss"]]
    assert steps[0] == 1
    assert all(step % 2 == 0 for step in steps[1:])
    assert (result.n_train, result.n_validation) == (N // 2, N // 2)


def test_two_classes_train_a_binary_model(data: dict[str, Any]) -> None:
    results = [boosting.train_fold(task(data, i, 2, metric=["multi_logloss"])) for i in range(2)]
    assert "validation/binary_logloss" in results[0].curves
    rule = FoldRule("modulo", ("evt",), 2)
    models = open_models("lightgbm", [r.model for r in results], rule, ("a", "b", "c"), "the test")
    proba = score(models, data["matrix"], data["fold"])
    assert proba.shape == (N, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-15)
    booster = lightgbm.Booster(model_str=results[0].model)
    mine = data["fold"] == 0
    np.testing.assert_array_equal(proba[mine, 1], booster.predict(data["matrix"][mine]))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_contributions_sum_up_to_the_raw_scores(data: dict[str, Any], n_classes: int) -> None:
    text = boosting.train_fold(task(data, 0, n_classes)).model
    parts = boosting.contributions(text, data["matrix"])
    assert parts.shape == (N, 1 if n_classes == 2 else 3, 3)
    raw = boosting.open_model(text).raw_scores(data["matrix"])
    expected = raw - parts.sum(axis=2)  # what an output is without any feature: the same for all
    np.testing.assert_allclose(expected, np.broadcast_to(expected[:1], expected.shape), atol=1e-12)


def test_an_empty_value_is_none_given() -> None:
    empty = dict.fromkeys(["max_depth", "num_iterations", "early_stopping_round", "metric", "seed"])
    assert boosting.settings(empty, 3, 5) == boosting.settings({}, 3, 5)


def test_rows_of_each_model(data: dict[str, Any]) -> None:
    fold = data["fold"]
    for i, split in enumerate(splits(fold, 2, None)):
        np.testing.assert_array_equal(split.train, fold != i)
        np.testing.assert_array_equal(split.validation, fold == i)
    inner = np.arange(N) % 10 == 0
    for i, split in enumerate(splits(fold, 2, inner)):
        assert not (split.train & split.validation).any()
        assert not (split.train | split.validation)[fold == i].any()
    (single,) = splits(np.zeros(N, np.int32), 1, inner)
    np.testing.assert_array_equal(single.validation, inner)


@pytest.mark.parametrize(
    ("model_param", "n_classes", "message"),
    [
        ({"learning_rat": 1}, 3, "no parameter model_param.learning_rat; nearest: 'learning_rate'"),
        ({"objective": "regression"}, 3, "no class probabilities"),
        ({"objective": "binary"}, 3, "binary, but there are 3 classes"),
        ({"num_class": 4}, 3, "num_class is 4, but there are 3"),
        ({"learning_rate": 0.03, "eta": 0.5}, 3, "one parameter of LightGBM.* once, as .*rate"),
    ],
)
def test_parameters_that_make_no_sense(
    model_param: dict[str, Any], n_classes: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        boosting.settings(model_param, n_classes, 1)


@pytest.mark.parametrize("model_param", [{}, {"num_leaves": 31, "bagging_fraction": 0.5}])
def test_the_number_of_threads_changes_nothing(model_param: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    n = 6000  # LightGBM leaves fewer than 1024 rows to one thread
    matrix = rng.normal(size=(n, 3)).astype(np.float32)
    target = np.argmax(matrix + rng.gumbel(size=(n, 3)), axis=1).astype(np.int32)
    many = {"matrix": matrix, "target": target, "fold": (np.arange(n) % 2).astype(np.int32)}
    given = boosting.settings({"num_iterations": 20, "bagging_freq": 1, **model_param}, 3, 1)
    assert given.own["deterministic"] is True
    found = set()
    for n_threads, n_preparing in ((1, 1), (1, 3), (2, 2), (3, 1)):
        one = replace(
            task(many, 0),
            weight=np.linspace(0.1, 3.0, n),
            settings=given,
            n_threads=n_threads,
            n_preparing_threads=n_preparing,
        )
        found.add(boosting.train_fold(one).model.split("\nparameters:")[0])
    assert len(found) == 1


@pytest.mark.parametrize("parameters", [{}, {"force_row_wise": True, "metric": "auc_mu"}])
def test_folds_beside_each_other_never_change_lightgbm_s_number_of_threads(
    data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]
) -> None:
    """It is one variable of the process: changing it under a training ends the process."""
    first = replace(task(data, 0, **parameters), n_threads=1, n_preparing_threads=3)
    second = replace(task(data, 1, **parameters), n_threads=2, n_preparing_threads=3)
    expected = [boosting.train_fold(one).model for one in (first, second)]
    at_work: list[int] = []
    seen: list[tuple[Any, ...]] = []
    binned, futures = threading.Event(), list[Future[FoldResult]]()
    construct, train = lightgbm.Dataset.construct, lightgbm.train

    def telling(what: str, n_threads: int) -> None:
        seen.append((what, n_threads, *at_work))

    def constructing(self: Any) -> Any:
        if self._handle is None:
            telling("bins", self.params["num_threads"])
            binned.set()
        return construct(self)

    def training(params: dict[str, Any], *given: Any, **more: Any) -> Any:
        telling("trains", params["num_threads"])
        at_work.append(params["num_threads"])
        if not futures:  # the first fold has begun: now comes the second one
            binned.clear()
            futures.append(pool.submit(boosting.train_fold, second))
            assert binned.wait(HANGS)
        try:
            return train(params, *given, **more)
        finally:
            at_work.remove(params["num_threads"])

    monkeypatch.setattr(lightgbm.Dataset, "construct", constructing)
    monkeypatch.setattr(lightgbm, "train", training)
    with ThreadPoolExecutor(1) as pool:
        found = [boosting.train_fold(first).model, futures[0].result(timeout=HANGS).model]
    assert all(set(others) <= {n_threads} for _, n_threads, *others in seen), seen
    assert {("bins", 3), ("bins", 1, 1), ("trains", 1), ("trains", 2)} <= set(seen)
    trees = [[text.split("\nparameters:")[0] for text in texts] for texts in (found, expected)]
    assert trees[0] == trees[1]


def test_parameters_by_their_other_names() -> None:
    given = {"n_estimators": 7, "early_stopping_rounds": 2, "eta": 0.5, "random_state": 3}
    found = boosting.settings(given, 3, 1)
    assert (found.num_iterations, found.early_stopping_round) == (7, 2)
    assert (found.own["learning_rate"], found.own["seed"]) == (0.5, 3)
    assert found.own["force_col_wise"] is True
    assert found.own["num_class"] == 3


def test_an_empty_fold_is_refused(data: dict[str, Any]) -> None:
    empty = Split(np.zeros(N, bool), np.ones(N, bool))
    with pytest.raises(InputError, match="no events to train on"):
        boosting.train_fold(replace(task(data, 0), split=empty))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_iterations": "abc"}, "num_iterations is abc: a whole number from 1"),
        ({"num_iterations": 0}, "num_iterations is 0: a whole number from 1"),
        ({"early_stopping_round": "abc"}, "early_stopping_round is abc"),
        ({"metric": "none"}, "metric names none"),
    ],
)
def test_values_that_no_training_can_use_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        boosting.settings({"metric": "multi_logloss", **changes}, 3, 1)


# --- names of features ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["jet pt", "x", "jet_pt"], "the features 'jet pt' and 'jet_pt' for one"),
        (["a b c", "a_b c"], "the features 'a b c' and 'a_b c' for one"),
        (["jet_pt[0]"], r"no feature named 'jet_pt\[0\]': .*for example 'jet_pt_0: jet_pt\[0\]'"),
        (["a::b"], "no feature named 'a::b': .*for example 'a_b: a::b'"),
        (["a\nb"], r"no feature named 'a\\nb'"),
        ([""], "no feature named ''"),
    ],
)
def test_features_that_lightgbm_could_not_tell_apart_are_refused(
    names: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        boosting.check_features(names)


@pytest.mark.parametrize("sign", [chr(i) for i in range(1, 128)])
def test_a_name_that_is_accepted_is_one_that_lightgbm_keeps(sign: str) -> None:
    """LightGBM itself is the oracle, for every ASCII sign."""
    name = f"a{sign}b"
    data = lightgbm.Dataset(np.arange(200.0)[:, None] % 7, np.arange(200) % 2, feature_name=[name])
    try:
        boosting.check_features([name])
    except ConfigError:
        if sign in '[]{}":,':
            with pytest.raises(lightgbm.basic.LightGBMError):
                data.construct()
        return
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, data, 1)
    text = booster.model_to_string()
    model = boosting.open_model(text)
    assert model.feature_names == (name.replace(" ", "_"),)
    assert booster.feature_name() == list(model.feature_names)


def test_a_model_without_a_split_is_refused_with_its_cause(data: dict[str, Any]) -> None:
    tiny = replace(task(data, 0), weight=np.full(N, 1e-9))
    with pytest.raises(InputError, match=r"none of its trees has a split: .* weigh 3e-07 in all"):
        boosting.train_fold(tiny)
    flat = replace(task(data, 0), load=lambda: np.zeros((N, 3), np.float32))
    with pytest.raises(InputError, match="every feature has one value in all training events"):
        boosting.train_fold(flat)


def test_trees_without_a_split_among_others_are_told(
    data: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    # With this gain only the first trees find a split that is worth it.
    boosting.train_fold(task(data, 0, num_iterations=40, min_gain_to_split=8.0))
    told = [r.message for r in caplog.records if "have no split" in r.message]
    assert len(told) == 1
    assert "of model 0" in told[0]
