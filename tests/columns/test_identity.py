"""Identities of events: numbers that are the same in every release."""

from __future__ import annotations

import numpy as np

from utils.columns.identity import file_code, group_code, identity_hash

HASHES = [2112781343769292038, 8679962310577828941]
FILE = {"name": "a.root", "size": 10, "uuid": "u-1", "tree": "t", "n_entries": 5}


def test_equal_numbers_in_two_samples_are_two_events() -> None:
    columns = {"run": np.ones(3, dtype=np.int32), "evt": np.arange(3)}
    a = identity_hash(group_code("DY"), columns)
    b = identity_hash(group_code("DY1Jets"), columns)
    assert not set(a) & set(b)
    codes = np.array([group_code("DY")] * 3, dtype=np.uint64)
    assert np.array_equal(identity_hash(codes, columns), a)


def test_group_codes_are_the_same_in_every_release() -> None:
    assert group_code("DYJetsToLL_M-50") == 7927725356796392664
    assert file_code(FILE) == group_code("u-1/t/5")


def test_a_column_may_have_any_name() -> None:
    """A column named `group` is mixed in behind the sample's group; it does not replace it."""
    numbers = {"run": np.array([1, 1, 2], "i4"), "evt": np.array([5, 6, 5], "u8")}
    named = {"group": numbers["run"], "evt": numbers["evt"]}
    for sample in ("DY", "TT"):
        code = group_code(sample)
        np.testing.assert_array_equal(identity_hash(code, named), identity_hash(code, numbers))


def test_hashes_are_the_same_in_every_release() -> None:
    columns = {"run": np.array([1, 2], "i4"), "evt": np.array([7, 2**63 + 1], "u8")}
    assert [int(h) for h in identity_hash(group_code("DY"), columns)] == HASHES
