"""Folds: exact for every integer, balanced, and told where they are not."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from utils.columns.folds import (
    balance,
    check_balance,
    check_entry_rule,
    fold_of,
    gaussian_z,
    independence,
)
from utils.columns.identity import hash64
from utils.schema import ConfigError, FoldRule, InputError

INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


def modulo(n_splits: int) -> FoldRule:
    return FoldRule("modulo", ("evt",), n_splits)


def fold(values: NDArray[Any], n_splits: int) -> list[int]:
    found = fold_of(modulo(n_splits), {"evt": values})
    assert found.dtype == np.int32
    return [int(f) for f in found]


# --- exact folds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS)
@settings(max_examples=40)
@given(data=st.data(), n_splits=st.integers(1, 1000))
def test_folds_of_integers_are_exact(dtype: str, data: st.DataObject, n_splits: int) -> None:
    info = np.iinfo(dtype)
    numbers = st.one_of(
        st.integers(int(info.min), int(info.max)),
        st.sampled_from([int(info.min), int(info.max), int(info.max) - 1, 0]),
    )
    values = data.draw(st.lists(numbers, min_size=1, max_size=20))
    assert fold(np.array(values, dtype=dtype), n_splits) == [v % n_splits for v in values]


def test_folds_beyond_53_bits_differ_from_those_of_rounded_numbers() -> None:
    numbers = [2**53 + 1, 2**63 + 3, 2**64 - 1]
    exact = fold(np.array(numbers, dtype=np.uint64), 2)
    assert exact == [1, 1, 1]
    assert [int(float(n)) % 2 for n in numbers] == [0, 0, 0]


def test_a_big_endian_column_has_the_same_folds() -> None:
    values = np.array([1, 2**40 + 1, -5])
    assert fold(values.astype(">i8"), 7) == fold(values, 7)


@pytest.mark.parametrize(("dtype", "limit"), [("f4", 2**24), ("f8", 2**53)])
def test_float_columns_give_folds_below_their_exact_range_only(dtype: str, limit: int) -> None:
    good = [0, -7, limit - 1, 1 - limit]
    assert fold(np.array(good, dtype=dtype), 5) == [g % 5 for g in good]
    bad = np.array([3, limit, -limit, 1.5, np.nan, np.inf, 4], dtype=dtype)
    with pytest.raises(InputError, match=r"5 of its 7 values .* row 1\)") as error:
        fold(bad, 5)
    assert "'evt'" in str(error.value)


@pytest.mark.parametrize("values", [np.array([True]), np.array(["1"]), np.array([1], "f2") * 4096])
def test_columns_that_name_no_event_are_refused(values: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="'evt'"):
        fold(values, 2)


def test_array_branches_are_refused() -> None:
    with pytest.raises(InputError, match="2 dimensions"):
        fold(np.zeros((3, 2), dtype=int), 2)


def test_a_missing_fold_column_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="'evt' is not there; nearest: 'evnt'"):
        fold_of(modulo(2), {"evnt": np.arange(3), "run": np.arange(3)})


def test_modulo_takes_one_column() -> None:
    with pytest.raises(ConfigError, match="hash"):
        fold_of(FoldRule("modulo", ("run", "evt"), 2), {})


def test_entry_folds_are_those_of_the_entry_numbers() -> None:
    rule = FoldRule("entry", (), 3)
    assert fold_of(rule, {}, np.array([10, 11, 12])).tolist() == [1, 2, 0]
    with pytest.raises(InputError, match="entry numbers"):
        fold_of(rule, {})


def test_no_events_have_no_folds() -> None:
    for rule in (modulo(3), FoldRule("hash", ("evt",), 3)):
        assert len(fold_of(rule, {"evt": np.array([], dtype=np.uint64)})) == 0


# --- the hash ------------------------------------------------------------------------------------


VECTORS = {
    (0,): 0xE220A8397B1DCDAF,
    (1234567,): 0x599ED017FB08FC85,
    (-1,): 0xE4D971771B652C20,
    (1, 1): 0xE9FD6049D65AF21E,
    (1, 2): 0xBCD9DBB49673066B,
    (2, 1): 0xE06DD043328BD285,
    (1, 2**53 + 1): 0xAD05E649DD4D310B,
    (1, 2**64 - 1): 0xA562DF66C82C649A,
}


def mix(values: tuple[int, ...]) -> int:
    """The documented definition in Python's own integers."""
    word = (1 << 64) - 1
    h = 0
    for value in values:
        h = ((h ^ (value & word)) + 0x9E3779B97F4A7C15) & word
        h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & word
        h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & word
        h ^= h >> 31
    return h


def columns_of(values: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    return {
        f"c{i}": np.array([v], dtype=np.uint64 if v >= 2**63 else np.int64)
        for i, v in enumerate(values)
    }


@pytest.mark.parametrize(("values", "expected"), VECTORS.items())
def test_hash_keeps_its_published_vectors(values: tuple[int, ...], expected: int) -> None:
    assert hash64(columns_of(values)).tolist() == [expected]


def test_the_docstring_publishes_these_vectors() -> None:
    published = re.findall(r"\(([-\d, ^+]+)\) +([0-9a-f]{16})", hash64.__doc__ or "")
    read = {}
    for text, digest in published:
        terms = [t.replace("2^53 + 1", str(2**53 + 1)) for t in text.split(", ")]
        terms = [t.replace("2^64 - 1", str(2**64 - 1)) for t in terms]
        read[tuple(map(int, terms))] = int(digest, 16)
    assert read == VECTORS


@settings(max_examples=60)
@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=4).map(tuple))
def test_hash_is_its_definition(values: tuple[int, ...]) -> None:
    assert hash64(columns_of(values)).tolist() == [mix(values)]


def test_hash_depends_on_values_not_on_types() -> None:
    values = np.array([0, 5, 127])
    expected = hash64({"evt": values})
    for dtype in [*INTEGERS, "f4", "f8", ">i4"]:
        assert np.array_equal(hash64({"evt": values.astype(dtype)}), expected)


def test_hash_folds_are_even_where_event_numbers_are_not() -> None:
    even = {"run": np.ones(20_000, dtype=np.int32), "evt": np.arange(0, 40_000, 2)}
    hashed = fold_of(FoldRule("hash", ("run", "evt"), 4), even)
    assert not balance(hashed, 4).refused
    assert balance(fold_of(modulo(4), even), 4).refused


def test_hash_needs_a_column() -> None:
    with pytest.raises(ConfigError, match="identity"):
        fold_of(FoldRule("hash", (), 2), {})


# --- balance and independence --------------------------------------------------------------------


def test_balance_counts_empty_folds_and_refuses_with_the_numbers() -> None:
    uneven = np.repeat([0, 2], [900, 900]).astype(np.int32)
    found = balance(uneven, 3)
    assert found.sizes == (900, 0, 900)
    assert found.relative_std == pytest.approx(np.sqrt(0.5))
    assert found.pull == pytest.approx(gaussian_z(900, 2))  # chi-square of (900, 0, 900)
    with pytest.raises(InputError, match=r"'evt' have 900, 0, 900 events.*70\.7%.*hash"):
        check_balance(uneven, modulo(3))


def test_balance_needs_both_limits_exceeded() -> None:
    few = np.repeat([0, 1], [60, 40])  # 20 % apart, but 2 standard deviations
    many = np.repeat([0, 1], [520_000, 480_000])  # 40 standard deviations, but 4 %
    assert check_balance(few, modulo(2)).pull == pytest.approx(1.7, abs=0.05)  # one-sided
    assert check_balance(many, modulo(2)).relative_std == pytest.approx(0.04)
    with pytest.raises(InputError):
        check_balance(np.repeat([0, 1], [70, 30]), modulo(2))


def test_one_odd_fold_of_many_is_refused() -> None:
    """Beyond chance for ten folds, though no ten times as wide as what chance gives on average."""
    sizes = [1000] * 9 + [1250]
    found = balance(np.repeat(np.arange(10), sizes), 10)
    assert found.relative_std / np.sqrt(9 / sum(sizes)) < 3
    assert found.refused


def test_balance_of_one_fold_or_no_events_is_fine() -> None:
    assert not check_balance(np.zeros(100, dtype=np.int32), modulo(1)).refused
    assert check_balance(np.array([], dtype=np.int32), modulo(3)).sizes == (0, 0, 0)


def test_random_folds_are_rarely_refused_and_rarely_warned_about() -> None:
    rng = np.random.default_rng(1)
    refused = warned = 0
    for _ in range(300):
        fold_numbers = rng.integers(0, 5, 900)
        refused += balance(fold_numbers, 5).refused
        found = independence(fold_numbers, rng.integers(0, 4, 900), 5, list("abcd"), "process")
        warned += found.warning is not None
    assert refused == 0
    assert warned == 0


def test_independence_warns_of_a_process_with_even_numbers_only() -> None:
    event = np.concatenate([np.arange(3000), np.arange(0, 600, 2)])
    process = np.repeat([0, 1], [3000, 300])
    found = independence(event % 2, process, 2, ["signal", "even only"], "process")
    table = np.array([[1500, 1500], [300, 0]])
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    assert found.chi2 == pytest.approx(((table - expected) ** 2 / expected).sum())
    assert found.dof == 1
    assert found.worst == "even only"
    assert found.warning is not None
    for text in ("300, 0", "hash", "process"):
        assert text in found.warning


# Chi-squares whose upper tail is that of a Gaussian beyond z, from scipy.stats.
QUANTILES = [
    *[(1, 0, 0.4549), (1, 2, 5.1875), (1, 4, 17.3148), (1, 6, 37.3512)],
    *[(4, 0, 3.3567), (4, 2, 11.3654), (4, 4, 25.9982), (4, 6, 47.9076)],
    *[(27, 0, 26.3363), (27, 2, 43.5965), (27, 4, 66.8029), (27, 6, 96.4262)],
]


@pytest.mark.parametrize(("dof", "z", "chi2"), QUANTILES)
def test_a_chi_square_in_standard_deviations(dof: int, z: float, chi2: float) -> None:
    assert gaussian_z(chi2, dof) == pytest.approx(z, rel=0.1 / np.sqrt(dof), abs=0.03)


def test_independence_leaves_out_groups_too_small_to_tell() -> None:
    numbers = np.concatenate([np.arange(1000) % 2, np.zeros(5, dtype=int)])
    group = np.repeat([0, 1], [1000, 5])
    found = independence(numbers, group, 2, ["large", "small"], "class")
    assert (found.dof, found.warning) == (0, None)


def test_independence_of_too_few_events_says_nothing() -> None:
    found = independence(np.arange(8) % 7, np.zeros(8, np.int64), 7, ["a"], "class")
    assert (found.dof, found.warning) == (0, None)


# --- the entry rule's fingerprint ----------------------------------------------------------------


FILE = {"name": "a.root", "size": 10, "uuid": "u-1", "tree": "t", "n_entries": 5}


def test_entry_rule_takes_training_files_and_samples_never_trained_on() -> None:
    rule = FoldRule("entry", (), 2)
    check_entry_rule(rule, [FILE], {**FILE, "name": "moved.root"}, never_trained=False)
    check_entry_rule(rule, [], FILE, never_trained=True)
    check_entry_rule(modulo(2), [], FILE, never_trained=False)


def test_entry_numbers_of_another_file_could_not_flag_what_one_model_was_trained_on() -> None:
    with pytest.raises(InputError, match="re-made or merged"):
        check_entry_rule(FoldRule("entry", (), 1), [], FILE, never_trained=False)


@pytest.mark.parametrize("change", [{"uuid": "u-2"}, {"n_entries": 6}, {"size": 11}, {"tree": "s"}])
def test_entry_rule_refuses_remade_and_merged_files(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"a\.root.*never_trained"):
        check_entry_rule(FoldRule("entry", (), 2), [FILE], {**FILE, **change}, False)
