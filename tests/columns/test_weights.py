"""Weights: the definitions against closed forms, and sums that must be preserved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.columns.weights import (
    NEGATIVE_POLICIES,
    WeightRow,
    apply_negative_policy,
    check_weights,
    class_imbalance,
    class_imbalance_by_weight,
    cp_weights,
    summary_table,
    weight_summary,
)
from utils.schema import ConfigError, InputError

NAMES = ["sig", "bkg", "h+jets"]


@st.composite
def events(draw, low: float = -4.0):
    """Draw (weights, targets) of up to 30 events of at most 4 classes."""
    n = draw(st.integers(1, 30))
    weight = draw(hnp.arrays(np.float64, n, elements=st.floats(low, 8, width=32)))
    target = draw(hnp.arrays(np.int32, n, elements=st.integers(0, 3)))
    return weight, target


def by_class(values: np.ndarray, target: np.ndarray) -> dict[int, float]:
    return {int(c): float(values[target == c].sum()) for c in np.unique(target)}


# --- class balance -------------------------------------------------------------------------------


def test_class_weight_is_n_over_n_of_the_class():
    weight = class_imbalance(np.array([0, 2, 2, 2], np.int32))
    assert weight.dtype == np.float64
    np.testing.assert_array_equal(weight, [4, 4 / 3, 4 / 3, 4 / 3])


@settings(max_examples=50)
@given(events())
def test_class_weights_give_every_class_the_same_sum(drawn):
    _, target = drawn
    for total in by_class(class_imbalance(target), target).values():
        assert total == pytest.approx(len(target))


@settings(max_examples=50)
@given(events(low=0.125))
def test_class_weights_by_weight_give_every_class_the_same_sum(drawn):
    weight, target = drawn
    balanced = weight * class_imbalance_by_weight(weight, target)
    for total in by_class(balanced, target).values():
        assert total == pytest.approx(weight.sum())


def test_sums_of_class_balance_are_signed():
    weight = class_imbalance_by_weight(np.array([3, -1, 4.0]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(weight, [3, 3, 1.5])


def test_events_without_a_class_are_refused():
    with pytest.raises(InputError, match=r"2 of 3 events have no class"):
        class_imbalance(np.array([-1, 0, -1]))


def test_no_events_give_no_weights():
    none = np.empty(0, np.int32)
    for weight in (
        class_imbalance(none),
        class_imbalance_by_weight(none, none),
        cp_weights(none, none),
        apply_negative_policy(none, none, "rescale")[0],
    ):
        assert weight.shape == (0,)
        assert weight.dtype == np.float64


# --- CP weights ----------------------------------------------------------------------------------


def test_cp_weight_by_hand():
    weight, target = np.array([2, -1, 3, 4.0]), np.array([0, 0, 1, 1])
    np.testing.assert_allclose(
        cp_weights(weight, target), [2 * 8 / 1, 1 * 8 / 1, 3 * 8 / 7, 4 * 8 / 7], rtol=1e-15
    )


@settings(max_examples=50)
@given(events())
def test_cp_weights_follow_their_formula_or_are_refused(drawn):
    weight, target = drawn
    sums = by_class(weight, target)
    if min(sums.values()) < -1e-6:
        with pytest.raises(InputError, match=r"w_cp: the weights of class \d sum to"):
            cp_weights(weight, target)
    elif min(sums.values()) > 1e-6:
        expected = [abs(w) * weight.sum() / sums[c] for w, c in zip(weight, target, strict=True)]
        np.testing.assert_allclose(cp_weights(weight, target), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("weight", [[1.0, -1.0, 2.0], [1.0, -2.0, 2.0]])
def test_a_class_sum_that_is_not_positive_is_refused(weight):
    target = np.array([1, 1, 0])
    for compute in (
        lambda: cp_weights(np.array(weight), target, NAMES),
        lambda: class_imbalance_by_weight(np.array(weight), target, NAMES),
        lambda: apply_negative_policy(np.array(weight), target, "rescale", NAMES),
    ):
        with pytest.raises(InputError, match=r"class 'bkg' sum to .* over 2 events"):
            compute()


def test_integer_and_float32_weights_are_summed_in_float64():
    target = np.zeros(3, np.int32)
    weight = np.array([2**24, 1, 1], np.float32)
    np.testing.assert_array_equal(class_imbalance_by_weight(weight, target), np.ones(3))
    assert weight_summary(weight, target, np.zeros(3, int), ["a"])[0].sum_of_weights == 2**24 + 2
    assert cp_weights(np.array([1, 2], np.int16), target[:2]).dtype == np.float64


# --- negative weights ----------------------------------------------------------------------------


@settings(max_examples=50)
@given(events(), st.sampled_from(NEGATIVE_POLICIES))
def test_policies_do_what_they_say(drawn, policy):
    weight, target = drawn
    before = weight.copy()
    negative = weight < 0
    positive_sums = min(by_class(weight, target).values()) > 1e-6
    if negative.any() and (policy == "error" or (policy == "rescale" and not positive_sums)):
        if policy == "error":
            with pytest.raises(InputError, match=rf"{negative.sum()} of {len(weight)} training"):
                apply_negative_policy(weight, target, policy)
        return
    after, keep = apply_negative_policy(weight, target, policy)
    np.testing.assert_array_equal(weight, before)
    if policy == "keep":
        np.testing.assert_array_equal(after, weight)
    if policy == "drop":
        np.testing.assert_array_equal(keep, ~negative)
        np.testing.assert_array_equal(after[keep], weight[~negative])
    else:
        assert keep.all()
    if policy == "absolute":
        np.testing.assert_array_equal(after, np.abs(weight))
    if policy == "rescale" and positive_sums:
        assert (after >= 0).all()
        assert by_class(after, target) == pytest.approx(by_class(weight, target), rel=1e-6)


def test_rescaling_leaves_classes_without_negative_weights_alone():
    after, _ = apply_negative_policy(np.array([3, -1, 0.1, 0.7]), np.array([0, 0, 1, 1]), "rescale")
    np.testing.assert_allclose(after[:2], [1.5, 0.5], rtol=1e-15)
    np.testing.assert_allclose(after[2:], [0.1, 0.7], rtol=1e-15)


def test_the_error_policy_names_the_classes():
    with pytest.raises(
        InputError, match=r"2 of 4 training weights are negative \('sig': 1, 'h\+jets': 1\)"
    ):
        apply_negative_policy(np.array([-1, 1, -1, 1.0]), np.array([0, 1, 2, 2]), "error", NAMES)


def test_an_unknown_policy_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'rescaled' is not a policy; nearest: 'rescale'"):
        apply_negative_policy(np.ones(1), np.zeros(1, int), "rescaled")


# --- checks --------------------------------------------------------------------------------------


def test_unusable_weights_are_refused():
    target = np.array([0, 1, 1, 1])
    check_weights(np.array([1, 0, -2, 0.0]), "w", target, NAMES)
    check_weights(np.empty(0), "w", target[:0])
    with pytest.raises(InputError, match=r"w: 1 weights are NaN and 2 infinite, of 4"):
        check_weights(np.array([np.nan, np.inf, -np.inf, 1]), "w", target)
    with pytest.raises(InputError, match=r"w: all 4 weights are zero"):
        check_weights(np.zeros(4), "w", target)
    with pytest.raises(InputError, match=r"w: all 3 weights of class 'bkg' are zero"):
        check_weights(np.array([1, 0, 0, 0.0]), "w", target, NAMES)


# --- summary -------------------------------------------------------------------------------------


def test_summary_by_hand():
    rows = weight_summary(
        np.array([1, -0.5, 2, 2.0]), np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), NAMES
    )
    assert rows[:6] == (
        WeightRow("sig", None, 2, 0.5, 0.5, 0.2),
        WeightRow("sig", 0, 1, 1.0, 0.0, 1.0),
        WeightRow("sig", 1, 1, -0.5, 1.0, 1.0),
        WeightRow("bkg", None, 2, 4.0, 0.0, 2.0),
        WeightRow("bkg", 0, 0, 0.0, 0.0, 0.0),
        WeightRow("bkg", 1, 2, 4.0, 0.0, 2.0),
    )
    assert rows[6:] == tuple(WeightRow("h+jets", k, 0, 0.0, 0.0, 0.0) for k in (None, 0, 1))


@settings(max_examples=50)
@given(events(), st.integers(1, 4))
def test_folds_add_up_to_their_class(drawn, n_folds):
    weight, target = drawn
    rows = weight_summary(weight, target, np.arange(len(weight)) % n_folds, list("abcd"))
    for name in "abcd":
        [total] = [r for r in rows if r.class_name == name and r.fold is None]
        folds = [r for r in rows if r.class_name == name and r.fold is not None]
        assert sum(r.n for r in folds) == total.n
        assert sum(r.sum_of_weights for r in folds) == pytest.approx(total.sum_of_weights)
        assert total.effective_n <= total.n * (1 + 1e-9)


def test_summary_of_one_fold_as_text():
    rows = weight_summary(np.array([1, 3.0]), np.array([0, 2]), np.zeros(2, int), NAMES)
    assert [r.fold for r in rows] == [None, 0] * 3
    head, *lines = summary_table(rows).splitlines()
    assert head.split()[:3] == ["class", "fold", "events"]
    assert lines[4].split() == ["h+jets", "all", "1", "3", "0.0", "%", "1.0"]
    assert len({len(line) for line in [head, *lines]}) == 1
