"""Values of columns: missing ones, those that are not finite, and limits, by their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.columns.values import (
    apply_missing,
    check_finite,
    clip_columns,
    count_not_finite,
    missing_dtype,
)
from utils.schema import ConfigError, InputError, Missing

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
    assert count_not_finite(BAD, ["a"], allow_nan=True) == {"a": (0, 1)}
    assert count_not_finite(BAD, ["a", "b"], missing={"a": Missing((NAN,))}) == {
        "a": (0, 1),
        "b": (0, 1),
    }
    assert count_not_finite(BAD, ["a"], missing={"a": Missing((INF,))}) == {"a": (2, 0)}
    assert count_not_finite(BAD, ["a"], missing={"a": Missing((INF, NAN))}) == {}


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


@settings(max_examples=200)
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
