"""The fast forest against LightGBM itself: raw scores bit for bit, probabilities to 1e-15."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.models.forest import TASK_EVENTS, compile_forest
from utils.models.forest.arrays import BLOCK
from utils.schema import PROJECT, InputError, RunError
from utils.system.libraries import jit

SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-36, -1e-36, 1e-35, -1e-35, 1e-34, -1e-34]
SPECIAL += [-0.5, -1.0, 0.99, 1.5, 31.0, 32.0, 63.9, 1e6, -1e6, 2.0**31, 1e10, 1e30, -1e30]
N_FEATURES = 6
CATEGORICAL = [4, 5]


def make_features(rng: np.random.Generator, n: int) -> np.ndarray:
    """Continuous, heavy-tailed, half-zero, discrete and two categorical columns."""
    columns = [
        rng.normal(size=n),
        rng.standard_cauchy(n),
        rng.normal(size=n) * (rng.random(n) < 0.5),
        rng.integers(-3, 4, n),
        rng.integers(0, 6, n),
        rng.integers(0, 90, n),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def train(
    X: np.ndarray,
    y: np.ndarray,
    rounds: int = 8,
    categorical: list[int] | None = None,
    init_model: lgb.Booster | None = None,
    **parameters: Any,
) -> lgb.Booster:
    parameters = {
        "verbose": -1,
        "num_threads": 1,
        "min_data_in_leaf": 2,
        "min_data_per_group": 3,
        "cat_smooth": 1.0,
        "min_sum_hessian_in_leaf": 1e-6,
    } | parameters
    dataset_parameters = {
        key: parameters[key]
        for key in ("max_bin", "use_missing", "zero_as_missing", "min_data_in_leaf", "verbose")
        if key in parameters
    }
    data = lgb.Dataset(
        X, y, categorical_feature=categorical or [], params=dataset_parameters, free_raw_data=False
    )
    return lgb.train(parameters, data, rounds, init_model=init_model)


def probe(rng: np.random.Generator, booster: lgb.Booster, X: np.ndarray) -> np.ndarray:
    """Rows where a wrong comparison shows: thresholds, their neighbours, special values."""
    thresholds = [
        float(value)
        for line in booster.model_to_string().split("\n")
        if line.startswith("threshold=")
        for value in line[10:].split()
    ]
    with np.errstate(over="ignore"):
        at = np.array(thresholds or [0.0])[:3000].astype(np.float32)
    near = np.concatenate([at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, -at), at])
    pool = np.concatenate([near, np.array(SPECIAL, np.float32)])
    rows = np.repeat(X[rng.integers(0, len(X), 50)], 12, axis=0)
    replaced = rng.random(rows.shape) < 0.3
    rows[replaced] = rng.choice(pool, replaced.sum())
    every = np.tile(np.array(SPECIAL, np.float32)[:, None], (1, X.shape[1]))
    return np.ascontiguousarray(np.concatenate([X, rows, every]))


def raw(booster: lgb.Booster, X: np.ndarray) -> np.ndarray:
    return booster.predict(X, raw_score=True, num_threads=1).reshape(len(X), -1)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(a.view(np.int64), b.view(np.int64))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.sampled_from([12, 60, 400]),
    n_classes=st.sampled_from([1, 2, 2, 3, 4, 4, 7, 20]),
    rounds=st.integers(1, 9),
    leaves=st.sampled_from([2, 4, 8, 31, 64]),
    depth=st.sampled_from([-1, 1, 2, 3, 4]),
    max_bin=st.sampled_from([5, 63, 255, 1000]),
    use_missing=st.booleans(),
    zero_as_missing=st.booleans(),
    nan_fraction=st.sampled_from([0.0, 0.0, 0.2]),
    categorical=st.sampled_from([None, CATEGORICAL]),
    boosting=st.sampled_from(["gbdt", "gbdt", "dart"]),
    double=st.booleans(),
)
def test_random_forests_equal_lightgbm_bit_for_bit(
    seed: int,
    n: int,
    n_classes: int,
    rounds: int,
    leaves: int,
    depth: int,
    max_bin: int,
    use_missing: bool,
    zero_as_missing: bool,
    nan_fraction: float,
    categorical: list[int] | None,
    boosting: str,
    double: bool,
) -> None:
    rng = np.random.default_rng(seed)
    X = make_features(rng, n)
    X[rng.random(X.shape) < nan_fraction] = np.nan
    known = np.nan_to_num(X, posinf=0.0, neginf=0.0)
    y = (known[:, 0] + known[:, 2] * 2 + known[:, 4] % 3 + known[:, 5] % 7).astype(int)
    parameters: dict[str, Any] = {"objective": "regression"}
    if n_classes == 2:
        y = (y > np.median(y)).astype(int)
        parameters = {"objective": "binary", "sigmoid": 0.7}
    elif n_classes > 2:
        y = (y + rng.integers(0, 2, n)) % n_classes
        parameters = {"objective": "multiclass", "num_class": n_classes}
    booster = train(
        X.astype(np.float64) if double else X,
        y,
        rounds,
        categorical,
        num_leaves=leaves,
        max_depth=depth,
        max_bin=max_bin,
        use_missing=use_missing,
        zero_as_missing=zero_as_missing,
        boosting=boosting,
        seed=seed % 1000,
        **parameters,
    )
    forest = compile_forest(booster.model_to_string())
    assert forest.fast
    rows = probe(rng, booster, X)
    assert same_bits(forest.raw_scores(rows), raw(booster, rows))
    wide = rows.astype(np.float64)
    nudged = np.concatenate([wide, np.nextafter(wide, np.inf), np.nextafter(wide, -np.inf)])
    assert same_bits(forest.raw_scores(nudged), raw(booster, nudged))
    if n_classes > 1:
        expected = booster.predict(rows, num_threads=1)
        if n_classes == 2:
            expected = np.stack([1 - expected, expected], axis=1)
        assert forest.n_classes == n_classes
        np.testing.assert_allclose(forest.probabilities(rows), expected, rtol=0, atol=1e-15)


@pytest.fixture(scope="module")
def booster() -> lgb.Booster:
    rng = np.random.default_rng(1)
    X = make_features(rng, 3000)
    y = (X[:, 0] + X[:, 4] > 2).astype(int) + (X[:, 1] > 0)
    return train(X, y, 12, CATEGORICAL, objective="multiclass", num_class=3, num_leaves=31)


@pytest.fixture(scope="module")
def many(booster: lgb.Booster) -> np.ndarray:
    """More events than one task holds, the last block incomplete."""
    return make_features(np.random.default_rng(2), 2 * TASK_EVENTS + 77)


def test_more_thresholds_than_a_byte_counts() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(6000, 2)).astype(np.float32)
    y = np.sin(50 * X[:, 0]) + X[:, 1]
    booster = train(X, y, 30, objective="regression", max_bin=5000, num_leaves=64)
    forest = compile_forest(booster.model_to_string())
    assert forest.trees is not None
    assert len(forest.columns["float32"].feature) > 2
    rows = probe(rng, booster, X)
    assert same_bits(forest.raw_scores(rows), raw(booster, rows))


@pytest.mark.parametrize("n", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_any_number_of_events(booster: lgb.Booster, many: np.ndarray, n: int) -> None:
    forest = compile_forest(booster.model_to_string())
    expected = raw(booster, many[:n]) if n else np.empty((0, 3))
    assert same_bits(forest.raw_scores(many[:n]), expected)
    assert forest.probabilities(many[:n]).shape == (n, 3)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_result_does_not_depend_on_threads(
    booster: lgb.Booster, many: np.ndarray, n_threads: int
) -> None:
    forest = compile_forest(booster.model_to_string())
    assert same_bits(forest.raw_scores(many, n_threads), raw(booster, many))
    expected = booster.predict(many, num_threads=1)
    np.testing.assert_allclose(forest.probabilities(many, n_threads), expected, rtol=0, atol=1e-15)


def test_any_memory_layout(booster: lgb.Booster, many: np.ndarray) -> None:
    forest = compile_forest(booster.model_to_string())
    rows = many[:2000]
    expected = forest.raw_scores(rows)
    assert same_bits(forest.raw_scores(np.asfortranarray(rows)), expected)
    assert same_bits(forest.raw_scores(np.repeat(rows, 2, axis=0)[::2]), expected)
    frozen = rows.copy()
    frozen.flags.writeable = False
    assert same_bits(forest.raw_scores(frozen), expected)


def test_only_trees_in_the_text_count(booster: lgb.Booster, many: np.ndarray) -> None:
    forest = compile_forest(booster.model_to_string(num_iteration=5))
    assert forest.n_trees == 15
    rows = many[:500]
    expected = booster.predict(rows, raw_score=True, num_iteration=5, num_threads=1)
    assert same_bits(forest.raw_scores(rows), expected)


def test_continued_training_may_change_the_treatment_of_missing_values() -> None:
    rng = np.random.default_rng(4)
    X = make_features(rng, 500)
    X[rng.random(X.shape) < 0.1] = np.nan
    y = (np.nan_to_num(X[:, 0]) > 0).astype(int)
    first = train(X, y, 4, objective="binary", zero_as_missing=True)
    X_full = np.nan_to_num(X)
    second = train(X_full, y, 4, objective="binary", init_model=first)
    forest = compile_forest(second.model_to_string())
    rows = probe(rng, second, X)
    assert same_bits(forest.raw_scores(rows), raw(second, rows))


def test_constant_trees() -> None:
    X = make_features(np.random.default_rng(5), 40)
    y = np.arange(40) % 2
    booster = train(X, y, 3, objective="binary", min_data_in_leaf=100)
    forest = compile_forest(booster.model_to_string())
    assert forest.fast
    assert same_bits(forest.raw_scores(X), raw(booster, X))
    assert forest.probabilities(X).shape == (40, 2)


def test_a_class_without_events_gets_constant_trees() -> None:
    rng = np.random.default_rng(6)
    X = make_features(rng, 200)
    y = np.where(X[:, 0] > 0, 0, 2)
    booster = train(X, y, 5, objective="multiclass", num_class=4)
    forest = compile_forest(booster.model_to_string())
    assert same_bits(forest.raw_scores(X), raw(booster, X))


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_leaves": 100, "min_data_in_leaf": 2},
        {"linear_tree": True},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
    ],
    ids=["100 leaves", "linear", "random forest"],
)
def test_other_forests_are_left_to_lightgbm(parameters: dict[str, Any]) -> None:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(1500, 3)).astype(np.float32)
    y = np.digitize(np.sin(5 * X[:, 0]) + X[:, 1] * X[:, 2], [-0.5, 0.5])
    booster = train(X, y, 3, objective="multiclass", num_class=3, **parameters)
    forest = pickle.loads(pickle.dumps(compile_forest(booster.model_to_string())))
    assert not forest.fast
    assert same_bits(forest.raw_scores(X), raw(booster, X))
    np.testing.assert_allclose(forest.probabilities(X), booster.predict(X), rtol=0, atol=1e-15)


def test_64_leaves_are_fast_65_are_not() -> None:
    rng = np.random.default_rng(8)
    X = rng.normal(size=(2000, 3)).astype(np.float32)
    y = X[:, 0] + np.sin(5 * X[:, 1])
    for leaves, fast in ((64, True), (65, False)):
        booster = train(X, y, 2, objective="regression", num_leaves=leaves)
        assert booster.model_to_string().count(f"num_leaves={leaves}") > 0
        forest = compile_forest(booster.model_to_string())
        assert forest.fast is fast
        assert same_bits(forest.raw_scores(X), raw(booster, X))


def test_one_sigmoid_per_class(many: np.ndarray) -> None:
    X = many[:600]
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    booster = train(X, y, 5, objective="multiclassova", num_class=3, sigmoid=1.7)
    forest = compile_forest(booster.model_to_string())
    np.testing.assert_allclose(forest.probabilities(X), booster.predict(X), rtol=0, atol=1e-15)


def test_binary_probabilities_are_two_columns(many: np.ndarray) -> None:
    X = many[:600]
    booster = train(X, (X[:, 0] > 0).astype(int), 5, objective="binary", sigmoid=2.5)
    forest = compile_forest(booster.model_to_string())
    p = forest.probabilities(X)
    assert forest.n_outputs == 1
    assert np.array_equal(p[:, 0], 1 - p[:, 1])
    np.testing.assert_allclose(p[:, 1], booster.predict(X), rtol=0, atol=1e-15)


def test_a_model_that_does_not_classify_has_no_probabilities(many: np.ndarray) -> None:
    booster = train(many, many[:, 0].copy(), 2, objective="regression")
    with pytest.raises(RunError, match="objective is 'regression'"):
        compile_forest(booster.model_to_string()).probabilities(many[:5])


def test_pickled_forest_gives_the_same_scores(booster: lgb.Booster, many: np.ndarray) -> None:
    forest = compile_forest(booster.model_to_string())
    copy = pickle.loads(pickle.dumps(forest))
    assert copy.fingerprint == forest.fingerprint
    assert same_bits(copy.raw_scores(many[:100]), forest.raw_scores(many[:100]))


def test_fingerprint_is_that_of_the_trees() -> None:
    X = make_features(np.random.default_rng(9), 300)
    y = X[:, 0].copy()
    texts = [
        train(X, y, 3, objective="regression", **extra).model_to_string()
        for extra in ({}, {"num_threads": 2, "verbosity": -1}, {"lambda_l2": 1.0})
    ]
    assert texts[0] != texts[1]
    prints = [compile_forest(text).fingerprint for text in texts]
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_wrong_features_are_refused(booster: lgb.Booster, many: np.ndarray) -> None:
    forest = compile_forest(booster.model_to_string())
    with pytest.raises(InputError, match="shape 5 x 4, the model needs 6 columns: Column_0"):
        forest.raw_scores(many[:5, :4])
    with pytest.raises(InputError, match="shape 6, the model"):
        forest.probabilities(many[0])
    with pytest.raises(InputError, match="int64, the model needs float32"):
        forest.raw_scores(many[:5].astype(np.int64))


def _damaged(text: str) -> dict[str, str]:
    lines = text.split("\n")
    left = next(i for i, line in enumerate(lines) if line.startswith("left_child="))
    circle, short = lines.copy(), lines.copy()
    circle[left] = "left_child=0 " + circle[left].split(" ", 1)[1]
    short[left] = short[left].rsplit(" ", 1)[0]
    return {
        "empty": "",
        "not a model": "Tree=0\nhello\nend of trees",
        "half": text[: len(text) // 2],
        "circle": "\n".join(circle),
        "short list": "\n".join(short),
        "no thresholds": text.replace("threshold=", "thresh="),
        "not numbers": text.replace("leaf_value=", "leaf_value=x"),
        "unknown feature": text.replace("max_feature_idx=5", "max_feature_idx=1"),
        "tree gone": text.replace("\nTree=3\n", "\nTroo=3\n"),
    }


KINDS = list(_damaged("left_child=1 2"))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_text_is_refused_in_one_line(booster: lgb.Booster, kind: str) -> None:
    with pytest.raises(RunError) as caught:
        compile_forest(_damaged(booster.model_to_string())[kind])
    assert "\n" not in str(caught.value)
    assert "model text" in str(caught.value)


def test_kernels_work_where_machine_code_cannot_be_kept() -> None:
    # Code without a file has no folder for its cache, as in a read-only project and home.
    namespace: dict[str, Any] = {}
    exec("def twice(x):\n    return 2 * x", namespace)
    assert jit.kernel(namespace["twice"])(21) == 42


def test_a_forest_loads_nothing_it_does_not_use(tmp_path: Path) -> None:
    """Other packages' extensions of numba and scipy's linear algebra stay out, and still work."""
    data = lgb.Dataset(np.arange(100.0)[:, None], np.arange(100) % 2)
    booster = lgb.train({"objective": "binary", "verbosity": -1}, data, 2)
    (tmp_path / "model.txt").write_text(booster.model_to_string())
    code = f"""
import pathlib, sys
import numpy
from utils.models.forest import compile_forest
forest = compile_forest(pathlib.Path({str(tmp_path / "model.txt")!r}).read_text())
forest.probabilities(numpy.zeros((1, 1), numpy.float32))
print(*(name for name in ("awkward", "scipy.linalg", "lightgbm", "pandas") if name in sys.modules))
import scipy.linalg, awkward
scipy.linalg.inv(numpy.eye(2)), awkward.Array([1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
