"""Columns in, columns out: each step against its definition, the pipeline against scikit-learn."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils.columns.pipeline import BLOCK_ROWS, FeaturePipeline, fit_pipeline, stack_columns
from utils.columns.splitting import train_test_rows
from utils.columns.values import (
    apply_missing,
    check_finite,
    clip_columns,
    count_not_finite,
    missing_dtype,
)
from utils.formats.pipelines import load_pipeline, save_pipeline
from utils.schema import ConfigError, InputError, Missing, PcaConfig, ScalerConfig

NAN, INF = float("nan"), float("inf")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


# --- missing values ------------------------------------------------------------------------------


def test_missing_values_become_nan_or_a_number_and_are_counted():
    raw = {
        "m_sv": np.array([-999, 90, -10], "f4"),
        "mjj": np.array([-999, 5, 7.0]),
        "pt": np.array([-999.0, 1, 2]),
    }
    kept = {n: c.copy() for n, c in raw.items()}
    columns, counts = apply_missing(
        raw, {"m_sv": Missing((-999.0, -10.0)), "mjj": Missing((-999.0,), replace=0.0)}
    )
    np.testing.assert_array_equal(columns["m_sv"], np.array([NAN, 90, NAN], "f4"))
    np.testing.assert_array_equal(columns["mjj"], [0, 5, 7])
    assert columns["m_sv"].dtype == np.float32
    assert columns["pt"] is raw["pt"]
    assert counts == {"m_sv": 2, "mjj": 1}
    for name, column in kept.items():
        np.testing.assert_array_equal(raw[name], column)


def test_a_declared_value_is_found_at_the_column_s_precision():
    column = np.array([-9.9, -9.8999], "f4")
    assert apply_missing({"a": column}, {"a": Missing((-9.9,))})[1] == {"a": 1}
    assert apply_missing({"a": column.astype("f8")}, {"a": Missing((-9.9,))})[1] == {"a": 0}


def test_nan_and_infinities_can_be_declared():
    column = np.array([NAN, INF, -INF, 1], "f4")
    columns, counts = apply_missing({"a": column}, {"a": Missing((NAN, INF), replace=-1.0)})
    assert columns["a"].tolist() == [-1, -1, -INF, 1]
    assert counts == {"a": 2}
    # A declared value beyond float32 is not its infinity.
    assert apply_missing({"a": column}, {"a": Missing((1e300,))})[1] == {"a": 0}


@given(st.sampled_from([*INTEGERS, "bool"]), st.booleans())
def test_integers_that_may_be_missing_are_floats_in_every_chunk(dtype, any_missing):
    column = np.array([1, 0] if any_missing else [0, 0], dtype)
    missing = Missing((1.0,))
    columns, counts = apply_missing({"n": column}, {"n": missing})
    assert columns["n"].dtype == missing_dtype(dtype, missing)
    assert columns["n"].dtype.kind == "f"
    assert counts["n"] == int(any_missing)
    # Every value of a type up to 16 bits is a float32, up to 32 bits a float64.
    assert columns["n"].dtype == (np.float32 if column.itemsize <= 2 else np.float64)
    assert apply_missing({"n": column[:0]}, {"n": missing})[0]["n"].dtype == columns["n"].dtype


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_keep_their_type_when_a_whole_number_replaces(dtype):
    column = np.array([np.iinfo(dtype).max, 3, 0], dtype)
    columns, counts = apply_missing({"n": column}, {"n": Missing((3.0, -1e30, 0.5), replace=5.0)})
    assert columns["n"].dtype == dtype
    assert columns["n"].tolist() == [np.iinfo(dtype).max, 5, 0]
    assert counts == {"n": 1}


def test_64_bit_integers_are_compared_exactly():
    column = np.array([2**53 + 1, 2**53], "i8")
    assert apply_missing({"n": column}, {"n": Missing((2.0**53,), replace=0.0)})[1] == {"n": 1}


@pytest.mark.parametrize(("dtype", "to"), [("u4", -1.0), ("i4", 0.5), ("i1", 128.0), ("i4", INF)])
def test_a_replacement_the_type_cannot_hold_is_refused(dtype, to):
    with pytest.raises(InputError, match=r"missing: 'n' is .* cannot hold"):
        apply_missing({"n": np.array([1, 2], dtype)}, {"n": Missing((-999.0,), replace=to)})


def test_missing_values_can_be_refused():
    columns = {"m_sv": np.array([-999, 1, -999], "f4")}
    with pytest.raises(
        InputError, match=r"a\.root: 2 of 3 values of 'm_sv' are the missing value -999"
    ):
        apply_missing(columns, {"m_sv": Missing((-999.0,), refuse=True)}, "a.root")
    same, counts = apply_missing(columns, {"m_sv": Missing((-1.0,), refuse=True)}, "a.root")
    assert same["m_sv"] is columns["m_sv"]
    assert counts == {"m_sv": 0}


def test_declarations_of_other_columns_are_passed_over():
    assert apply_missing({}, {"m_sv": Missing((-999.0,))}) == ({}, {})


# --- the finite check ----------------------------------------------------------------------------

BAD = {
    "a": np.array([1, NAN, NAN, INF], "f4"),
    "b": np.array([1, 2, 3, -INF]),
    "c": np.array([1, 2, 3, 4.0]),
    "n": np.array([1, 2, 3, 4]),
}


def test_undeclared_values_are_named_with_counts_and_file():
    with pytest.raises(
        InputError, match=r"a\.root: .* in a \(2 NaN, 1 inf\), b \(1 inf\): declare"
    ):
        check_finite(BAD, list(BAD), "a.root")
    check_finite(BAD, ["c", "n"], "a.root")


def test_declared_values_are_not_reported():
    assert count_not_finite(BAD, ["a"], allow_nan_in=["a"]) == {"a": (0, 1)}
    assert count_not_finite(BAD, ["a", "b"], missing={"a": Missing((NAN,))}) == {
        "a": (0, 1),
        "b": (0, 1),
    }
    assert count_not_finite(BAD, ["a"], missing={"a": Missing((INF,))}) == {"a": (2, 0)}
    check_finite(BAD, ["a"], "a.root", missing={"a": Missing((INF, NAN))})


def test_a_nan_beside_a_declared_number_is_reported():
    columns = {"m_sv": np.array([-999, NAN, 1])}
    assert count_not_finite(columns, ["m_sv"], missing={"m_sv": Missing((-999.0,))}) == {
        "m_sv": (1, 0)
    }


def test_many_bad_columns_still_make_one_line():
    columns = {f"x{i}": np.array([NAN]) for i in range(40)}
    with pytest.raises(InputError, match=r"x11 \(1 NaN\) and 28 more") as caught:
        check_finite(columns, list(columns), "a.root")
    assert "\n" not in str(caught.value)


# --- clipping ------------------------------------------------------------------------------------

bounds = st.one_of(
    st.none(), st.floats(-300, 300, width=32), st.sampled_from([INF, -INF, 1e300, -1e300])
)


@settings(max_examples=200, deadline=None)
@given(
    column=st.sampled_from([*INTEGERS, "float32", "float64", "bool"]).flatmap(
        lambda d: hnp.arrays(d, st.integers(0, 8))
    ),
    low=bounds,
    high=bounds,
)
def test_clipping_limits_values_and_keeps_types(column, low, high):
    before = column.copy()
    try:
        clipped = clip_columns({"x": column}, {"x": (low, high)})["x"]
    except ConfigError:
        assert no_value_between(column.dtype, low, high)
        return
    assert not no_value_between(column.dtype, low, high)
    np.testing.assert_array_equal(column, before)
    assert clipped.dtype == column.dtype
    np.testing.assert_array_equal(np.isnan(clipped), np.isnan(column))
    for given_value, value in zip(column.tolist(), clipped.tolist(), strict=True):
        if math.isnan(value):
            continue
        assert low is None or value >= low
        assert high is None or value <= high
        if (low is None or given_value >= low) and (high is None or given_value <= high):
            assert value == given_value


def no_value_between(dtype: np.dtype, low: float | None, high: float | None) -> bool:
    low, high = -INF if low is None else low, INF if high is None else high
    if dtype.kind == "f":
        limit = float(np.finfo(dtype).max)
        return low > high or low > limit or high < -limit
    # All bounds drawn are within 300 or beyond every type.
    whole = range(2) if dtype.kind == "b" else range(-301, 302)
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return not any(low <= i <= high and limits[0] <= i <= limits[1] for i in whole)


def test_njets_is_clipped_to_five():
    columns = {"njets": np.array([0, 4, 5, 6, 99], "i4"), "evt": np.array([7] * 5, "u8")}
    clipped = clip_columns(columns, {"njets": (0, 5)})
    assert clipped["njets"].tolist() == [0, 4, 5, 5, 5]
    assert clipped["evt"] is columns["evt"]


def test_impossible_limits_and_unknown_columns_are_refused():
    with pytest.raises(
        ConfigError, match=r"clip names 'njet', which is not read; nearest: 'njets'"
    ):
        clip_columns({"njets": np.zeros(1)}, {"njet": (0, 5)})
    for limits in ((5, 0), (0.2, 0.8), (NAN, 1)):
        with pytest.raises(ConfigError, match=r"no int32 value of 'njets' lies in"):
            clip_columns({"njets": np.zeros(1, "i4")}, {"njets": limits})


# --- the split -----------------------------------------------------------------------------------

codes = hnp.arrays(np.int32, st.integers(1, 300), elements=st.integers(-1, 3))


@settings(max_examples=100, deadline=None)
@given(codes, st.floats(0.05, 0.95), st.integers(0, 2**32), st.integers(0, 99))
def test_split_is_a_stratified_partition(target, train_size, seed, process_seed):
    process = np.random.default_rng(process_seed).integers(0, 4, len(target))
    train, test = train_test_rows(target, train_size, seed, process)
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(target)))
    strata = target * 10 + process
    for stratum, size in zip(*np.unique(strata, return_counts=True), strict=True):
        n_train = int((strata[train] == stratum).sum())
        assert abs(n_train - train_size * size) <= 1
        assert size == 1 or 1 <= n_train < size
    # Nothing but the sizes moves a stratum's share off; they are whole as a sum, too, where
    # no stratum is too small to have its share.
    if (
        np.bincount(strata + 10)[np.unique(strata + 10)] * min(train_size, 1 - train_size) > 1
    ).all():
        assert len(train) == int(train_size * len(target) + 0.5)


def test_split_depends_on_the_seed_only():
    target = np.arange(1000) % 3
    train, test = train_test_rows(target, 0.9, 1)
    again, _ = train_test_rows(target, 0.9, 1)
    other, _ = train_test_rows(target, 0.9, 2)
    np.testing.assert_array_equal(train, again)
    assert set(train) != set(other)
    assert not (np.diff(train) > 0).all()
    assert len(test) == 100


def test_split_is_the_same_on_every_platform():
    train, test = train_test_rows(np.array([0, 1] * 8), 0.75, 1357, np.array([0, 0, 1, 1] * 4))
    assert (train.tolist(), test.tolist()) == (
        [15, 11, 14, 1, 8, 10, 0, 3, 2, 13, 9, 12],
        [7, 6, 5, 4],
    )


def test_rows_are_chosen_without_regard_to_their_place():
    train, _ = train_test_rows(np.zeros(100_000, np.int32), 0.5, 3)
    # Of each tenth of the input half is chosen, within five standard deviations (150 / 10000).
    counts = np.bincount(train // 10_000, minlength=10)
    assert np.abs(counts - 5000).max() < 250
    # And the output order has no trend: rank correlation with the input order is near zero.
    assert abs(np.corrcoef(train, np.arange(len(train)))[0, 1]) < 5 / np.sqrt(len(train))


def test_split_with_many_processes_and_without_rows():
    target, process = np.arange(70_000) % 2, np.arange(70_000) // 2
    train, test = train_test_rows(target, 0.5, 0, process)
    assert len(train) == 70_000
    assert len(test) == 0
    assert [len(part) for part in train_test_rows(np.empty(0, np.int32), 0.5, 0)] == [0, 0]
    with pytest.raises(ConfigError, match="train_size is 1"):
        train_test_rows(target, 1, 0)


# --- scaler and PCA ------------------------------------------------------------------------------

SCALERS = [None, ScalerConfig(), ScalerConfig(with_mean=False), ScalerConfig(with_std=False)]
PCAS = [None, PcaConfig(), PcaConfig(n_components=2), PcaConfig(n_components=0.9, whiten=True)]
NAMES = ("pt", "eta", "m_sv", "mjj", "x:y/z")


def matrix(n: int = 500, seed: int = 0, dtype: str = "f4") -> np.ndarray:
    """Return correlated features of very different scales, one of them constant."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5))
    mixed[:, 4] = 3
    return (mixed * [50, 1, 100, 1e4, 1] + [60, 0, 120, 500, 0]).astype(dtype)


def sklearn_steps(scaler, pca):
    steps = []
    if scaler:
        steps.append(StandardScaler(with_mean=scaler.with_mean, with_std=scaler.with_std))
    if pca:
        steps.append(PCA(pca.n_components, whiten=pca.whiten, random_state=1))
    return make_pipeline(*(steps or ["passthrough"]))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("pca", PCAS)
@pytest.mark.parametrize("scaler", SCALERS)
def test_pipeline_equals_scikit_learn_s(scaler, pca, dtype):
    train, other = matrix(dtype=dtype), matrix(90, seed=1, dtype=dtype)
    fitted = fit_pipeline(train, NAMES, scaler, pca, seed=1)
    reference = sklearn_steps(scaler, pca).fit(train.astype("f8"))
    if pca and pca.whiten is False and pca.n_components is None:
        # The constant feature's direction is noise of the last bit; its sign means nothing.
        fitted_values, expected = fitted.transform(other)[:, :4], reference.transform(other)[:, :4]
    else:
        fitted_values, expected = fitted.transform(other), reference.transform(other.astype("f8"))
    scale = np.maximum(np.abs(expected).max(axis=0), 1e-3)
    np.testing.assert_allclose(fitted_values / scale, expected / scale, rtol=0, atol=1e-6)
    assert fitted_values.dtype == np.float32
    assert fitted.inputs == NAMES
    assert fitted.outputs == (
        NAMES if pca is None else tuple(f"pca_{i}" for i in range(len(fitted.outputs)))
    )


@pytest.mark.parametrize("pca", PCAS)
@pytest.mark.parametrize("scaler", SCALERS)
def test_a_row_s_result_does_not_depend_on_its_chunk(scaler, pca):
    fitted = fit_pipeline(matrix(), NAMES, scaler, pca, seed=1)
    rows = matrix(BLOCK_ROWS + 50, seed=2)
    whole = fitted.transform(rows)
    for start, stop in [(0, 1), (3, 40), (BLOCK_ROWS - 3, BLOCK_ROWS + 50)]:
        np.testing.assert_array_equal(fitted.transform(rows[start:stop]), whole[start:stop])
    np.testing.assert_array_equal(fitted.transform(np.asfortranarray(rows)), whole)
    assert fitted.transform(rows[:0]).shape == (0, len(fitted.outputs))


@pytest.mark.parametrize("pca", PCAS)
@pytest.mark.parametrize("scaler", SCALERS)
def test_a_saved_pipeline_is_the_same_pipeline(tmp_path, scaler, pca):
    fitted = fit_pipeline(matrix(), NAMES, scaler, pca, seed=1)
    path = save_pipeline(fitted, tmp_path / "new" / "pipe.pkl")
    assert path == tmp_path / "new" / "pipe.json"
    assert load_pipeline(tmp_path / "new" / "pipe.pkl") == fitted
    assert load_pipeline(path).fingerprint == fitted.fingerprint
    assert FeaturePipeline.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    assert [p.name for p in path.parent.iterdir()] == ["pipe.json"]


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 30), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6, width=32) | st.just(NAN),
    )
)
def test_the_scaler_uses_the_present_values(values):
    assume((~np.isnan(values)).any(axis=0).all())
    names = [f"x{i}" for i in range(values.shape[1])]
    fitted = fit_pipeline(values, names, ScalerConfig(), None, seed=0)
    exact = values.astype("f8")
    expected = StandardScaler().fit(exact).transform(exact)
    np.testing.assert_array_equal(np.isnan(fitted.transform(values)), np.isnan(values))
    np.testing.assert_allclose(fitted.mean, np.nanmean(exact, axis=0), rtol=1e-5, atol=1e-2)
    scale = np.nanmax(np.abs(np.c_[expected.T, np.ones(len(names))]), axis=1)
    constant = np.nanmax(exact, axis=0) == np.nanmin(exact, axis=0)
    near = np.abs(fitted.transform(values) - expected)[:, ~constant] / scale[~constant]
    assert not (near > 1e-5).any()


def test_fingerprints_differ_with_names_and_numbers():
    pipelines = [
        FeaturePipeline(("a",), ("a",)),
        FeaturePipeline(("b",), ("b",)),
        FeaturePipeline(("a",), ("a",), mean=(0.0,)),
        FeaturePipeline(("a",), ("a",), mean=(5e-324,)),
        FeaturePipeline(("a",), ("a",), scale=(0.0,)),
    ]
    assert len({p.fingerprint for p in pipelines}) == len(pipelines)


def test_missing_values_and_pca_are_refused_with_the_reason():
    values = matrix()
    values[3, 1] = NAN
    with pytest.raises(InputError, match=r"PCA .* not defined .*: eta \(1\); give them a value"):
        fit_pipeline(values, NAMES, None, PcaConfig(), seed=0)
    fitted = fit_pipeline(matrix(), NAMES, ScalerConfig(), PcaConfig(), seed=0)
    with pytest.raises(InputError, match=r"eta \(1\)"):
        fitted.transform(values)


def test_what_cannot_be_fitted_is_refused():
    values = matrix()
    with pytest.raises(InputError, match="none was selected"):
        fit_pipeline(values[:0], NAMES, ScalerConfig(), None, seed=0)
    with pytest.raises(ConfigError, match="pca: n_components=9"):
        fit_pipeline(values, NAMES, None, PcaConfig(n_components=9), seed=0)
    with pytest.raises(InputError, match=r"5 features are named, but the matrix is \(500, 4\)"):
        fit_pipeline(values[:, :4], NAMES, None, None, seed=0)
    values[0, 2] = INF
    with pytest.raises(InputError, match="'m_sv' is infinite"):
        fit_pipeline(values, NAMES, ScalerConfig(), None, seed=0)
    values[:, 2] = NAN
    with pytest.raises(InputError, match="'m_sv' is missing in all events"):
        fit_pipeline(values, NAMES, ScalerConfig(), None, seed=0)


def test_no_continuous_features_at_all_need_no_fit():
    fitted = fit_pipeline(np.empty((7, 0)), [], ScalerConfig(), PcaConfig(), seed=0)
    assert fitted.transform(np.empty((7, 0))).shape == (7, 0)


def test_transform_refuses_other_columns_and_values_beyond_float32():
    fitted = FeaturePipeline(("a", "b"), ("a", "b"))
    with pytest.raises(
        InputError, match=r"takes 2 columns \(a, b\), not an array of shape \(1, 3\)"
    ):
        fitted.transform(np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"exceed what float32 holds .*'b' is the largest"):
        fitted.transform(np.array([[1.0, 1e39]]))
    assert np.isnan(fitted.transform(np.array([[NAN, 1]]))[0, 0])


# --- pipeline files ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("written", "asked"), [("pkl", "pkl"), ("json", "json"), ("pkl", "json")])
def test_a_pickle_is_refused_with_the_command(tmp_path, written, asked, protocol):
    (tmp_path / f"pipe.{written}").write_bytes(pickle.dumps({"a": [1.5]}, protocol))
    with pytest.raises(
        InputError, match=rf"pipe\.{written} is (a pickle|damaged).*python preprocess\.py"
    ):
        load_pipeline(tmp_path / f"pipe.{asked}")


def test_a_pipeline_beside_a_pickle_is_read(tmp_path):
    fitted = FeaturePipeline(("a",), ("a",))
    save_pipeline(fitted, tmp_path / "pipe")
    (tmp_path / "pipe.pkl").write_bytes(pickle.dumps(1))
    assert load_pipeline(tmp_path / "pipe.pkl") == fitted


def test_a_missing_pipeline_is_answered_with_its_neighbour(tmp_path):
    save_pipeline(FeaturePipeline(("a",), ("a",)), tmp_path / "pipe.json")
    with pytest.raises(
        InputError, match=r"pip\.json does not exist; nearest: 'pipe\.json'; make it: python"
    ):
        load_pipeline(tmp_path / "pip.json")
    with pytest.raises(InputError, match="does not exist; there are none"):
        load_pipeline(tmp_path / "none" / "pipe.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(mean=[1.0]), "was changed after it was made"),
        (lambda raw: raw.pop("mean"), "damaged"),
        (lambda raw: raw.update(components=3), "damaged"),
        (lambda raw: raw.update(format="other"), "not a feature pipeline of feature-pipeline-1"),
    ],
)
def test_a_changed_pipeline_is_refused(tmp_path, change, message):
    path = save_pipeline(FeaturePipeline(("a",), ("a",)), tmp_path / "pipe.json")
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=rf"pipe\.json (is )?{message}.*python preprocess\.py"):
        load_pipeline(path)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"text"'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "pipe.json").write_text(content)
    with pytest.raises(InputError, match=r"pipe\.json is (damaged|not a feature pipeline)"):
        load_pipeline(tmp_path / "pipe.json")


# --- stacking ------------------------------------------------------------------------------------


def test_columns_are_stacked_in_order_without_loss():
    columns = {"a": np.array([1, 2], "f4"), "n": np.array([3, 4], "i2"), "e": np.array([5, 6])}
    assert stack_columns(columns, ["n", "a"]).dtype == np.float32
    stacked = stack_columns(columns, ["n", "a", "e"])
    assert stacked.dtype == np.float64
    assert stacked.tolist() == [[3, 1, 5], [4, 2, 6]]
    assert stack_columns(columns, []).shape == (2, 0)
    with pytest.raises(InputError, match="column 'x' was not read; known: a, e, n"):
        stack_columns(columns, ["x"])
