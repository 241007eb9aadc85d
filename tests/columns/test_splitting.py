"""The split in training and test rows: stratified, seeded, and without regard to order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.columns.splitting import train_test_rows

codes = hnp.arrays(np.int32, st.integers(1, 300), elements=st.integers(-1, 3))


@settings(max_examples=100)
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
    train, test = train_test_rows(target, 0.9, 1, 0 * target)
    again, _ = train_test_rows(target, 0.9, 1, 0 * target)
    other, _ = train_test_rows(target, 0.9, 2, 0 * target)
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
    alike = np.zeros(100_000, np.int32)
    train, _ = train_test_rows(alike, 0.5, 3, alike)
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
    none = np.empty(0, np.int32)
    assert [len(part) for part in train_test_rows(none, 0.5, 0, none)] == [0, 0]
