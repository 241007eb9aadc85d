"""Multilayer perceptrons: scikit-learn and LightGBM say the same, and every bit is reproducible."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info

from utils.models import FoldTask, Split, kind, mlp
from utils.models.metrics import METRICS, metric_values
from utils.models.network import Inputs, Network
from utils.models.stopping import EarlyStopping
from utils.schema import PROJECT, ConfigError, InputError, RunError

N = 900
NAMES = ("pt 1", "eta", "m{vis}")


def sample(n: int = N, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    matrix = (rng.normal(size=(n, 3)) * [1, 20, 0.3] + [0, 100, 7]).astype(np.float32)
    shifted = (matrix - [0, 100, 7]) / [1, 20, 0.3] + rng.gumbel(size=(n, 3))
    return matrix, np.minimum(np.argmax(shifted, axis=1), n_classes - 1).astype(np.int32)


def task(matrix: np.ndarray, target: np.ndarray, **model_param: Any) -> FoldTask:
    fold = np.arange(len(matrix)) % 2
    given = {"num_iterations": 4, "hidden_layer_sizes": [8, 5], "batch_size": 64, **model_param}
    return FoldTask(
        index=0,
        load=lambda: matrix,
        features=NAMES,
        target=target,
        weight=np.ones(len(matrix)),
        split=Split(fold != 0, fold == 0),
        settings=mlp.settings(given, int(target.max()) + 1, 11),
        n_threads=1,
        n_preparing_threads=1,
        train_metric_every=2,
    )


# --- the stored network ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
@pytest.mark.parametrize("sizes", [(), (7,), (8, 5, 3)])
def test_probabilities_are_those_of_scikit_learn(
    n_classes: int, activation: str, sizes: tuple[int, ...]
) -> None:
    matrix, target = sample(n_classes=n_classes)
    inputs = Inputs(matrix.mean(axis=0, dtype=float), matrix.std(axis=0, dtype=float), ())
    standard = inputs.of(matrix, NAMES).T
    np.testing.assert_allclose(
        standard, (matrix.astype(float) - inputs.mean) / inputs.scale, rtol=1e-15
    )
    classifier = MLPClassifier(sizes, activation=activation, random_state=1)
    for _ in range(3):
        classifier.partial_fit(standard, target, classes=np.arange(n_classes))
    network = Network(
        feature_names=NAMES,
        n_classes=n_classes,
        objective="binary" if n_classes == 2 else "multiclass",
        inputs=inputs,
        activation=activation,
        weights=tuple(classifier.coefs_),
        biases=tuple(classifier.intercepts_),
        parameters={},
    )
    read = mlp.open_model(network.text)
    np.testing.assert_allclose(
        read.probabilities(matrix), classifier.predict_proba(standard), rtol=0, atol=1e-12
    )
    assert read.text == network.text
    assert read.fingerprint == network.fingerprint
    assert mlp.contributions(network.text, matrix) is None


@pytest.fixture(scope="module")
def trained() -> Network:
    """A network of three classes with an indicator, made for its bits and not for its use."""
    matrix, target = sample()
    matrix[::7, 1] = np.nan
    given = task(matrix, target, hidden_layer_sizes=[40, 20], activation="tanh")
    return mlp.open_model(mlp.train_fold(given).model)


def test_an_event_has_the_same_bits_anywhere(trained: Network) -> None:
    rng = np.random.default_rng(2)
    matrix = (rng.normal(size=(40_000, 3)) * [1, 20, 0.3] + [0, 100, 7]).astype(np.float32)
    matrix[::11, 1] = np.nan
    expected = trained.probabilities(matrix)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-15)
    for n_threads in (2, 3):
        assert np.array_equal(trained.probabilities(matrix, n_threads), expected)
    assert np.array_equal(trained.probabilities(np.asfortranarray(matrix)), expected)
    assert np.array_equal(trained.probabilities(matrix[::-1])[::-1], expected)
    assert np.array_equal(trained.probabilities(matrix.astype(np.float64)), expected)
    for size in (1, 3, 31, 500, 16_385):
        few = range(0, len(matrix), size) if size > 100 else range(0, 40 * size, size)
        parts = np.concatenate([trained.probabilities(matrix[i : i + size]) for i in few])
        assert np.array_equal(parts, expected[: len(parts)])
    order = rng.permutation(len(matrix))
    assert np.array_equal(trained.probabilities(matrix[order]), expected[order])
    assert trained.probabilities(matrix[:0]).shape == (0, 3)


def test_scoring_imports_no_scikit_learn(trained: Network) -> None:
    code = """
import sys, numpy
from utils.models import kind
model = kind("mlp").open_model(sys.stdin.read())
model.probabilities(numpy.ones((2, 3), numpy.float32))
assert not {"sklearn", "lightgbm", "scipy", "threadpoolctl"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        input=trained.text.encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_features_that_can_not_be_scored_are_refused(trained: Network) -> None:
    good = np.ones((3, 3), np.float32)
    with pytest.raises(InputError, match="shape 3 x 2, the model needs 3 columns: pt 1, eta"):
        trained.probabilities(good[:, :2])
    with pytest.raises(InputError, match="features are int64"):
        trained.probabilities(good.astype(np.int64))
    for value in (np.inf, -np.inf):
        bad = good.copy()
        bad[1, 2] = value
        with pytest.raises(InputError, match=r"feature 'm\{vis\}' has infinite values"):
            trained.probabilities(bad)
    bare = Inputs(np.zeros(1), np.ones(1), ())
    weights = (np.full((1, 2), 1e200), np.array([[1e200, -1e200], [-1e200, 1e200]]))
    huge = Network(("a",), 2, "multiclass", bare, "relu", weights, (np.zeros(2), np.zeros(2)), {})
    with pytest.raises(InputError, match="too large for the multilayer perceptron"):
        huge.probabilities(np.ones((1, 1)))
    narrow = replace(huge, inputs=Inputs(np.zeros(1), np.full(1, 1e-300), ()))
    with pytest.raises(InputError, match="too large for the multilayer perceptron"):
        narrow.probabilities(np.full((1, 1), 1e300))


def edits() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Return ways to damage a model's content by what they damage."""
    return {
        "a key less": lambda c: c.pop("scale"),
        "a key more": lambda c: c.update(code="import os"),
        "format": lambda c: c.update(format="mlp-9"),
        "format is no text": lambda c: c.update(format=["a\nb"]),
        "objective": lambda c: c.update(objective="regression"),
        "unhashable objective": lambda c: c.update(objective=[]),
        "n_classes": lambda c: c.update(n_classes=4),
        "n_classes is true": lambda c: c.update(n_classes=True),
        "binary": lambda c: c.update(objective="binary"),
        "features": lambda c: c.update(features="abc"),
        "no features": lambda c: c.update(features=[]),
        "a feature twice": lambda c: c.update(features=["a", "a", "b"]),
        "a feature less": lambda c: c["features"].pop(),
        "a mean less": lambda c: c["mean"].pop(),
        "mean is text": lambda c: c["mean"].__setitem__(0, "1.0"),
        "mean is true": lambda c: c["mean"].__setitem__(0, True),
        "mean is nested": lambda c: c["mean"].__setitem__(0, [1.0]),
        "scale is 0": lambda c: c["scale"].__setitem__(0, 0.0),
        "scale is negative": lambda c: c["scale"].__setitem__(0, -1.0),
        "indicator": lambda c: c.update(indicators=[7]),
        "negative indicator": lambda c: c.update(indicators=[-1]),
        "indicator is real": lambda c: c.update(indicators=[1.0]),
        "indicator twice": lambda c: c.update(indicators=[1, 1]),
        "no indicator": lambda c: c.update(indicators=[]),
        "activation": lambda c: c.update(activation="exp"),
        "unhashable activation": lambda c: c.update(activation={}),
        "no layers": lambda c: c.update(layers=[]),
        "layers are a mapping": lambda c: c.update(layers={}),
        "a layer less": lambda c: c["layers"].pop(),
        "a layer is a list": lambda c: c["layers"].__setitem__(0, []),
        "a row less": lambda c: c["layers"][0]["weights"].pop(),
        "a row is short": lambda c: c["layers"][1]["weights"][0].pop(),
        "a bias less": lambda c: c["layers"][2]["biases"].pop(),
        "biases are none": lambda c: c["layers"][1].update(biases=None),
        "no biases": lambda c: c["layers"][1].update(biases=[]),
        "a huge whole number": lambda c: c["mean"].__setitem__(0, 10**400),
        "parameters": lambda c: c.update(parameters=[]),
    }


@pytest.mark.parametrize("what", edits())
def test_an_edited_text_is_refused_in_one_line(trained: Network, what: str) -> None:
    content = json.loads(trained.text)
    edits()[what](content)
    refused(json.dumps(content))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "null", "1.0.0", "07"])
def test_what_is_no_number_is_refused(trained: Network, number: str) -> None:
    value = json.dumps(json.loads(trained.text)["layers"][1]["biases"][0])
    refused(trained.text.replace(value, number, 1))


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "1", "null", "[" * 100_000, '{"format": 1, "format": 1}', "tree\nversion=v4"],
)
def test_another_text_is_refused(text: str) -> None:
    refused(text)


@given(st.data())
@hypothesis_settings(max_examples=60)
def test_a_text_cut_short_is_refused(trained: Network, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(trained.text.rstrip()) - 1))
    refused(trained.text[:end])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.data())
@hypothesis_settings(max_examples=150)
def test_whatever_stands_anywhere_is_a_network_or_refused(
    trained: Network, data: st.DataObject
) -> None:
    content = json.loads(trained.text)
    node: Any = content
    while True:
        places = sorted(node) if isinstance(node, dict) else range(len(node))
        place = data.draw(st.sampled_from(places))
        inner = node[place]
        if not (isinstance(inner, dict | list) and inner) or data.draw(st.booleans()):
            break
        node = inner
    node[place] = data.draw(anything)
    text = json.dumps(content)
    try:
        network = mlp.open_model(text)
    except RunError:
        refused(text)
    else:
        assert mlp.open_model(network.text).text == network.text
        with contextlib.suppress(InputError):  # sums may overflow now
            proba = network.probabilities(np.ones((1, 3)))
            np.testing.assert_allclose(proba.sum(), 1, atol=1e-14)


def refused(text: str) -> None:
    with pytest.raises(RunError, match="the model text is damaged") as found:
        mlp.open_model(text)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 300


# --- training -------------------------------------------------------------------------------------


def standardised(given: FoldTask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all rows standardised by those learnt from, with the target and weight of these."""
    learnt = given.split.train
    matrix, weight = given.load().astype(float), given.weight[learnt]
    mean = np.average(matrix[learnt], axis=0, weights=weight)
    scale = np.sqrt(np.average((matrix[learnt] - mean) ** 2, axis=0, weights=weight))
    return (matrix - mean) / scale, given.target[learnt], weight / weight.mean()


def test_epochs_are_those_of_scikit_learn_s_own_fit() -> None:
    """With all rows in one batch their order, which `fit` continues otherwise, adds nothing."""
    matrix, target = sample()
    given = task(matrix, target, alpha=0.01, learning_rate=0.01, batch_size=N // 2)
    given = replace(given, weight=np.random.default_rng(3).uniform(0.5, 2, N))
    inputs, labels, weight = standardised(given)
    classifier = MLPClassifier(
        (8, 5), alpha=0.01, learning_rate_init=0.01, batch_size=N // 2, max_iter=4, random_state=11
    )
    with pytest.warns(ConvergenceWarning):
        classifier.fit(inputs[given.split.train], labels, weight)
    proba = mlp.open_model(mlp.train_fold(given).model).probabilities(matrix)
    np.testing.assert_allclose(proba, classifier.predict_proba(inputs), atol=1e-10)


def test_each_epoch_has_an_order_of_its_own() -> None:
    matrix, target = sample()
    given = task(matrix, target)
    inputs, labels, weight = standardised(given)
    proba = mlp.open_model(mlp.train_fold(given).model).probabilities(matrix)

    def of(random_state: Any) -> np.ndarray:
        classifier = MLPClassifier((8, 5), batch_size=64, random_state=random_state)
        for _ in range(4):
            rows = inputs[given.split.train]
            classifier.partial_fit(rows, labels, weight, classes=np.arange(3))
        found: np.ndarray = classifier.predict_proba(inputs)
        return found

    np.testing.assert_allclose(proba, of(np.random.RandomState(11)), atol=1e-10)
    assert np.abs(proba - of(11)).max() > 1e-6  # a number starts the same order every time


def test_the_same_bits_whatever_happens_beside() -> None:
    matrix, target = sample(3000)
    matrix[::5, 2] = np.nan
    given = task(matrix, target, batch_size=500, early_stopping_round=2)
    expected = mlp.train_fold(given).model
    for changes in ({"n_threads": 3}, {"n_preparing_threads": 2}, {"train_metric_every": 1}):
        assert mlp.train_fold(replace(given, **changes)).model == expected
    fortran = np.asfortranarray(matrix)
    assert mlp.train_fold(replace(given, load=lambda: fortran)).model == expected
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(mlp.train_fold(given).model)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3
    other = replace(given, settings=mlp.settings({"seed": 12}, 3, 11))
    assert mlp.train_fold(other).model != expected


def test_the_limit_on_blas_is_lifted_by_the_last_fold() -> None:
    def blas() -> set[int]:
        return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}

    before = blas()
    limit = mlp._OneBlasThread()
    with limit:
        with limit:
            assert blas() == {1}
        assert blas() == {1}
    assert blas() == before


def test_a_model_never_sees_the_rows_left_out() -> None:
    matrix, target = sample()
    given = task(matrix, target)
    before = mlp.train_fold(given).model
    changed = matrix.copy()
    changed[given.split.validation] *= -3
    assert mlp.train_fold(replace(given, load=lambda: changed)).model == before
    changed = matrix.copy()
    changed[given.split.train] *= -3
    assert mlp.train_fold(replace(given, load=lambda: changed)).model != before


@pytest.mark.parametrize("n_classes", [2, 3])
def test_curves_are_those_of_the_stored_network(n_classes: int) -> None:
    """The last point of each curve, computed anew from the text; and when points are taken."""
    matrix, target = sample(n_classes=n_classes)
    weight = np.random.default_rng(4).uniform(0.1, 3, N)
    names = METRICS["binary" if n_classes == 2 else "multiclass"]
    given = replace(task(matrix, target, num_iterations=5, metric=list(names)), weight=weight)
    seen: list[tuple[int, int, str, float]] = []
    result = mlp.train_fold(replace(given, watch=lambda *args: seen.append(args)))
    assert result.best_iteration == 5
    assert (result.n_train, result.n_validation, result.importances) == (N // 2, N // 2, {})
    proba = mlp.open_model(result.model).probabilities(matrix).T
    raw = np.log(proba[1:] / proba[:1]) if n_classes == 2 else np.log(proba)
    for name, rows in (("train", given.split.train), ("validation", given.split.validation)):
        values = metric_values(names, raw[:, rows], target[rows], weight[rows])
        for metric, value in values.items():
            points = result.curves[f"{name}/{metric}"]
            steps = [1, 2, 4, 5] if name == "train" else [1, 2, 3, 4, 5]
            assert [step for step, _ in points] == steps
            assert points[-1][1] == pytest.approx(value, rel=1e-11)
    assert [(fold, step, name) for fold, step, name, _ in seen] == [
        (0, step, names[0]) for step in range(1, 6)
    ]


def test_the_best_epoch_is_kept() -> None:
    matrix, target = sample()
    many = {"learning_rate": 0.05, "hidden_layer_sizes": [30], "num_iterations": 60}
    result = mlp.train_fold(task(matrix, target, early_stopping_round=3, **many))
    curve = result.curves["validation/multi_logloss"]
    assert result.best_iteration == min(curve, key=lambda point: point[1])[0]
    assert len(curve) == result.best_iteration + 3 < 60
    assert result.curves["train/multi_logloss"][-1][0] % 2 == 0
    short = {**many, "num_iterations": result.best_iteration}
    same = mlp.open_model(mlp.train_fold(task(matrix, target, **short)).model)
    best = mlp.open_model(result.model)
    assert np.array_equal(best.probabilities(matrix), same.probabilities(matrix))


def test_a_doubled_weight_is_a_doubled_event() -> None:
    """Exact where a batch is all rows and nothing is penalised: sums over rows are all there is."""
    matrix, target = sample()
    full = {"batch_size": 10_000, "alpha": 0, "num_iterations": 30, "activation": "tanh"}
    given = task(matrix, target, **full)
    doubled = np.arange(N) % 3 == 1
    weighted = mlp.train_fold(replace(given, weight=np.where(doubled, 2.0, 1.0)))
    more = np.concatenate([matrix, matrix[doubled]])
    split = given.split
    repeated = replace(
        given,
        load=lambda: more,
        target=np.concatenate([target, target[doubled]]),
        weight=np.ones(len(more)),
        split=Split(
            np.concatenate([split.train, split.train[doubled]]),
            np.concatenate([split.validation, split.validation[doubled]]),
        ),
    )
    found = [
        mlp.open_model(mlp.train_fold(t).model).probabilities(matrix) for t in (given, repeated)
    ]
    mine = mlp.open_model(weighted.model).probabilities(matrix)
    np.testing.assert_allclose(mine, found[1], atol=1e-8)
    assert np.abs(mine - found[0]).max() > 1e-3
    tenfold = mlp.train_fold(replace(given, weight=np.where(doubled, 20.0, 10.0)))
    np.testing.assert_allclose(mlp.open_model(tenfold.model).probabilities(matrix), mine, atol=1e-8)


def test_events_without_weight_teach_nothing() -> None:
    matrix, target = sample()
    given = task(matrix, target)
    without = np.arange(N) % 3 == 1
    weight = np.where(without, 0.0, 1.0)
    changed = matrix.copy()
    changed[without & given.split.train] = 1e9
    found = {
        mlp.train_fold(replace(given, load=lambda m=m: m, weight=weight)).model
        for m in (matrix, changed)
    }
    assert len(found) == 1


def test_missing_values() -> None:
    """They count as the mean; where training knew them an indicator tells them from it."""
    matrix, target = sample()
    lacking = (np.arange(N) % 5 == 0) | (target == 1)  # being missing says something
    matrix[lacking, 0] = np.nan
    matrix[:, 2] = 4.0
    given = task(matrix, target, num_iterations=20, learning_rate=0.01)
    model = mlp.open_model(mlp.train_fold(given).model)
    known = given.split.train & ~lacking
    assert model.inputs.mean[0] == pytest.approx(matrix[known, 0].mean(dtype=float), rel=1e-12)
    assert model.inputs.indicators == (0,)
    assert (model.inputs.mean[2], model.inputs.scale[2]) == (4.0, 1.0)
    average = np.array([model.inputs.mean])
    missing = average.copy()
    missing[0, 0] = np.nan
    proba = model.probabilities(np.concatenate([average, missing]))
    assert proba[1, 1] > proba[0, 1] + 0.2
    missing = average.copy()
    missing[0, 1] = np.nan  # never in training
    assert np.array_equal(model.probabilities(missing), model.probabilities(average))
    matrix[:, 0] = np.nan
    nothing = mlp.open_model(mlp.train_fold(given).model)
    assert (nothing.inputs.mean[0], nothing.inputs.scale[0]) == (0.0, 1.0)


def test_folds_that_can_not_be_trained_are_refused() -> None:
    matrix, target = sample()
    given = task(matrix, target)
    empty = Split(np.zeros(N, bool), np.ones(N, bool))
    with pytest.raises(InputError, match="model 0 has no events to train on"):
        mlp.train_fold(replace(given, split=empty))
    with pytest.raises(InputError, match="model 0 has no weight to train on"):
        mlp.train_fold(replace(given, weight=np.zeros(N)))
    weight = np.ones(N)
    weight[1] = -1
    with pytest.raises(ConfigError, match=r"negative weights.*negative_weights"):
        mlp.train_fold(replace(given, weight=weight))
    for row in (0, 1):  # validated on, learnt from
        bad = matrix.copy()
        bad[row, 1] = np.inf
        with pytest.raises(InputError, match="feature 'eta' has infinite values"):
            mlp.train_fold(replace(given, load=lambda bad=bad: bad))
    with pytest.raises(ConfigError, match="model 0 diverges: use a smaller"):
        mlp.train_fold(task(matrix, target, solver="sgd", learning_rate=1e80))


# --- metrics and early stopping -------------------------------------------------------------------


@pytest.mark.parametrize("objective", METRICS)
@pytest.mark.parametrize("case", ["plain", "ties", "certain", "one class"])
def test_metrics_are_those_of_lightgbm(objective: str, case: str) -> None:
    """LightGBM evaluates given scores: those of a model that adds nothing to them."""
    rng = np.random.default_rng(6)
    n, n_classes = 800, 2 if objective == "binary" else 4
    outputs = rng.normal(size=(1 if n_classes == 2 else n_classes, n))
    target = rng.integers(0, n_classes, n)
    weight = rng.integers(1, 2000, n) / 64  # float32, as LightGBM keeps them, holds these
    if case == "ties":
        outputs = np.round(outputs)
    elif case == "certain":
        outputs *= 300
    elif case == "one class":
        target[:] = 1
    names = METRICS[objective]
    values = metric_values(names, outputs, target, weight)
    theirs: dict[str, dict[str, list[float]]] = {}
    data = lightgbm.Dataset(
        np.zeros((n, 1)),
        target,
        weight=weight,
        init_score=outputs[0] if objective == "binary" else outputs.T,
        params={"feature_pre_filter": False, "verbosity": -1},
    )
    lightgbm.train(
        {
            "objective": objective,
            "num_class": 1 if objective == "binary" else n_classes,
            "metric": list(names),
            "verbosity": -1,
            "boost_from_average": False,
            "num_threads": 1,
        },
        data,
        1,
        valid_sets=[data],
        valid_names=["given"],
        callbacks=[lightgbm.record_evaluation(theirs)],
    )
    for name in names:
        assert values[name] == pytest.approx(theirs["given"][name][0], rel=1e-12, abs=1e-13), name


def by_hand(curves: list[dict[str, float]], patience: int, first_only: bool) -> tuple[int, int]:
    """Return the best and the last iteration, by looking back at whole curves."""
    names = list(curves[0])
    for last in range(1, len(curves) + 1):
        for name in names[:1] if first_only else names:
            so_far = [c[name] * (-1 if name == "auc" else 1) for c in curves[:last]]
            best = so_far.index(min(so_far)) + 1  # the first of equal ones
            if last - best >= patience or last == len(curves):
                return best, last
    raise AssertionError


@given(
    curves=st.lists(st.tuples(*[st.integers(0, 4)] * 2), min_size=1, max_size=25),
    patience=st.integers(1, 6),
    first_only=st.booleans(),
)
def test_early_stopping_is_the_rule_written_out_and_lightgbm_s(
    curves: list[tuple[int, int]], patience: int, first_only: bool
) -> None:
    named = [{"auc": float(a), "binary_error": float(b)} for a, b in curves]
    stopping = EarlyStopping(["auc", "binary_error"], patience, first_only)
    best: dict[str, int] = {}
    found = None
    for step, values in enumerate(named, 1):
        best |= dict.fromkeys(stopping.improved(step, values), step)
        decider = stopping.decider(step, step == len(named))
        if decider is not None:
            found = best[decider], step
            break
    assert found == by_hand(named, patience, first_only)
    assert found == _lightgbm_s_callback(named, patience, first_only)


def _lightgbm_s_callback(
    curves: list[dict[str, float]], patience: int, first_only: bool
) -> tuple[int, int]:
    # Versions hand their callbacks tuples of these, or objects with these names.
    names = "dataset_name metric_name metric_value maximize"
    Result = namedtuple("Result", names)
    stop = lightgbm.early_stopping(patience, first_only, verbose=False)
    for step, values in enumerate(curves):
        results = [Result("validation", n, value, n == "auc") for n, value in values.items()]
        env = lightgbm.callback.CallbackEnv(None, {}, step, 0, len(curves), results)
        try:
            stop(env)
        except lightgbm.callback.EarlyStopException as error:
            return error.best_iteration + 1, step + 1
    raise AssertionError


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_param", "message"),
    [
        ({"learning_rat": 1}, "no parameter model_param.learning_rat; nearest: 'learning_rate'"),
        ({"max_depth": 3}, "a multilayer perceptron has no parameter model_param.max_depth"),
        ({"num_iterations": 0}, "num_iterations is 0: a whole number from 1"),
        ({"num_iterations": 1.5}, "num_iterations is 1.5: a whole number"),
        ({"num_iterations": float("inf")}, "num_iterations is inf: a whole number"),
        ({"early_stopping_round": "abc"}, "early_stopping_round is abc"),
        ({"hidden_layer_sizes": [8, 0]}, "hidden_layer_sizes is 0: a whole number from 1"),
        ({"hidden_layer_sizes": [[8]]}, r"hidden_layer_sizes is \[8\]"),
        ({"activation": "tahn"}, "activation is tahn; nearest: 'tanh'"),
        ({"activation": ["relu"]}, "activation is .*nearest: 'relu'"),
        ({"solver": "lbfgs"}, "solver is lbfgs; known: adam, sgd"),
        ({"alpha": -1}, "alpha is -1: a number from 0 on"),
        ({"learning_rate": 0}, "learning_rate is 0: a number above 0"),
        ({"learning_rate": "nan"}, "learning_rate is nan"),
        ({"learning_rate": True}, "learning_rate is True"),
        ({"learning_rate": [1]}, "learning_rate is .1."),
        ({"batch_size": "auto"}, "batch_size is auto: a whole number"),
        ({"first_metric_only": "no"}, "first_metric_only is no: true or false"),
        ({"metric": "none"}, "metric names none"),
        ({"metric": "auc"}, "metric is auc; known: multi_error, multi_logloss"),
        ({"metric": ["multi_loglos"]}, "metric is multi_loglos; nearest: 'multi_logloss'"),
        ({"metric": 3}, "metric is 3"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296: it must be below"),
    ],
)
def test_parameters_that_make_no_sense(model_param: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mlp.settings(model_param, 3, 1)


def test_parameters_not_given() -> None:
    """An empty value is none; the seed is the training's, metrics those of the objective."""
    empty = dict.fromkeys(["num_iterations", "alpha", "metric", "seed", "max_depth"])
    found = mlp.settings(empty, 2, 77)
    assert found == mlp.settings({}, 2, 77)
    assert (found.own["seed"], found.own["metric"]) == (77, ["binary_logloss"])
    assert found.objective == "binary"
    shared = {"metric": ["multi_logloss", "multi_error"], "hidden_layer_sizes": 9}
    found = mlp.settings(shared, 2, 1)
    assert found.own["metric"] == ["binary_logloss", "binary_error"]
    assert found.own["hidden_layer_sizes"] == [9]
    assert mlp.settings({"metric": "multi_error,multi_logloss"}, 3, 1).own["metric"] == [
        "multi_error",
        "multi_logloss",
    ]


def test_kinds_by_name() -> None:
    assert kind("mlp") is mlp
    with pytest.raises(ConfigError, match="no model kind 'mpl'; nearest: 'mlp'"):
        kind("mpl")


def test_training_does_not_load_numba() -> None:
    """Its compiler takes longer to load than a short training."""
    code = (
        "import sys\n"
        "from tests.models.test_mlp import sample, task\n"
        "from utils.models import mlp\n"
        "mlp.train_fold(task(*sample(n_classes=2), num_iterations=2))\n"
        "assert 'numba' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
