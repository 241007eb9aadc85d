"""The split into train and test: stratified, seeded, the same on every platform."""

from __future__ import annotations

import math

import numpy as np

from utils.columns.arrays import Array, Integers


def train_test_rows(
    target: Array, train_size: float, seed: int, process: Array
) -> tuple[Integers, Integers]:
    """Return (train indices, test indices): every row once, each part in a seeded random order.

    Stratified: of each class, and of each process in it, the share `train_size` goes to the train
    part, rounded so that the parts' sizes are right as a whole; a stratum of two rows or more has
    at least one in each part, a single row goes to the train part. `target` and `process` (n,) are
    small integer codes. Seed and sizes give the same answer on every platform.
    """
    n = len(target)
    if not n:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    stratum = _strata(target, process)
    sizes = np.bincount(stratum)
    order = _random_order(n, seed)
    of_order = stratum[order]
    by_stratum = np.argsort(of_order, kind="stable")
    first = np.cumsum(sizes) - sizes
    rank = np.empty(n, np.int64)
    rank[by_stratum] = np.arange(n) - np.repeat(first, sizes)
    in_train = rank < _train_counts(sizes, train_size)[of_order]
    return order[in_train], order[~in_train]


def _random_order(n: int, seed: int) -> Integers:
    """Return a seeded permutation of n rows, the same on every platform and numpy version.

    The rows are sorted by random keys whose low bits hold the row number: no two are equal, so that
    every sorting algorithm gives the same order. The keys are raw output of the bit generator,
    whose stream numpy guarantees, unlike that of `shuffle` and of distributions.
    """
    low = np.uint64((1 << max(n - 1, 1).bit_length()) - 1)
    keys = np.random.PCG64(seed).random_raw(n) & ~low
    keys |= np.arange(n, dtype=np.uint64)
    keys.sort()
    return (keys & low).astype(np.int64)


def _strata(target: Array, process: Array) -> Array:
    """Return one small code per combination of class and process."""
    target, process = (np.asarray(c, np.int64) - np.min(c) for c in (target, process))
    code = target * (int(process.max()) + 1) + process
    # numpy sorts 16-bit integers by radix, in linear time.
    return code.astype(np.uint16) if int(code.max()) < 2**16 else np.unique_inverse(code)[1]


def _train_counts(sizes: Integers, train_size: float) -> Integers:
    """Return each stratum's number of train rows: by largest remainders, within its bounds."""
    share = sizes * train_size
    counts = np.floor(share).astype(np.int64)
    left = math.floor(int(sizes.sum()) * train_size + 0.5) - int(counts.sum())
    # Rounded remainders, so that 0.9 * 10 - 9 is no accident of the last bit; ties by code.
    largest = np.argsort(-np.round(share - counts, 9), kind="stable")
    counts[largest[:left]] += 1
    return np.where(sizes > 1, np.clip(counts, 1, np.maximum(sizes - 1, 1)), sizes)
