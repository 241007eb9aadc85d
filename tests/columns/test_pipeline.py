"""Scaler and PCA against scikit-learn, and how columns are stacked."""

from __future__ import annotations

import numpy as np
import pytest
from feature_matrix import NAMES, PCAS, SCALERS, matrix
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils.columns.pipeline import BLOCK_ROWS, FeaturePipeline, fit_pipeline, stack_columns
from utils.schema import ConfigError, InputError, PcaConfig, ScalerConfig

NAN, INF = float("nan"), float("inf")


# --- scaler and PCA ------------------------------------------------------------------------------


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


@settings(max_examples=30)
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
