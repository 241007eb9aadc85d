"""The machine code of the evaluation: ranks of values, leaves of trees, sums, probabilities.

Compiled by numba when first called and kept between processes. What only looks at models (a
training) does without it, and without importing numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from utils.models.forest.arrays import Thresholds, Trees
from utils.system.libraries.jit import njit

BLOCK = 1024
"""Events evaluated at once: their codes, one byte per column, stay in the first-level cache."""

GROUP = 4
"""Trees whose leaf values are added in one pass over a block."""

ZERO_THRESHOLD = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: values no larger than this are zero."""

Function = TypeVar("Function", bound=Callable[..., Any])


def _kernel(function: Function) -> Function:
    """Compile `function` when first called, keeping the machine code between processes."""
    try:
        return cast(Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither the project nor the user's cache folder is writable
        return cast(Function, njit(nogil=True)(function))


@_kernel
def encode(X: NDArray[np.floating], columns: Thresholds) -> NDArray[np.int8]:
    """Return the ranks (n_blocks, n_columns, BLOCK) of the values, less 128 to fit int8.

    The rank of a value is the number of the column's thresholds below it: value > threshold[j]
    exactly when rank > j.
    """
    n_events = X.shape[0]
    n_blocks = (n_events + BLOCK - 1) // BLOCK
    codes = np.zeros((n_blocks, len(columns.feature), BLOCK), np.int8)
    value = np.zeros(BLOCK, X.dtype)
    rank = np.zeros(BLOCK, np.int32)
    for block in range(n_blocks):
        start = block * BLOCK
        n = min(BLOCK, n_events - start)
        for c in range(len(columns.feature)):
            f = columns.feature[c]
            row = codes[block, c]
            step = columns.first_step[c]
            if step == 0:
                member = columns.member[columns.member_start[c] : columns.member_start[c + 1]]
                for e in range(n):
                    v = X[start + e, f]
                    # As in C, the cast to int cuts towards zero: -0.5 is category 0.
                    left = v > -1 and v < len(member) and member[int(v)]
                    row[e] = -128 if left else 127
                continue
            table = columns.threshold[c]
            for e in range(n):
                value[e] = X[start + e, f]
                rank[e] = 0
            while step > 0:
                for e in range(n):
                    r = np.uint64(rank[e])
                    up = table[r + np.uint64(step - 1)] < value[e]
                    rank[e] = np.int32(r) + (np.int32(step) if up else np.int32(0))
                step >>= 1
            zero_code = columns.zero_code[c]
            nan_code = columns.nan_code[c]
            for e in range(n):
                v = value[e]
                code = zero_code if abs(v) <= ZERO_THRESHOLD else rank[e]
                code = nan_code if v != v else code
                row[e] = code - 128
    return codes


@_kernel
def _twig(
    codes: NDArray[np.int8],
    column: NDArray[np.int32],
    threshold: NDArray[np.int8],
    leaf: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    c0, c1, c2, c3 = codes[column[0]], codes[column[1]], codes[column[2]], codes[column[3]]
    c4, c5, c6 = codes[column[4]], codes[column[5]], codes[column[6]]
    t0, t1, t2, t3 = threshold[0], threshold[1], threshold[2], threshold[3]
    t4, t5, t6 = threshold[4], threshold[5], threshold[6]
    l0, l1, l2, l3, l4, l5, l6, l7 = (
        leaf[0], leaf[1], leaf[2], leaf[3], leaf[4], leaf[5], leaf[6], leaf[7]
    )  # fmt: skip
    for e in range(BLOCK):
        a = l1 if c3[e] > t3 else l0
        b = l3 if c4[e] > t4 else l2
        c = l5 if c5[e] > t5 else l4
        d = l7 if c6[e] > t6 else l6
        low = b if c1[e] > t1 else a
        high = d if c2[e] > t2 else c
        out[e] = high if c0[e] > t0 else low


@_kernel
def _split(
    code: NDArray[np.int8],
    threshold: np.int8,
    left: int,
    right: int,
    rows: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    # Loads stand outside the choice so that the compiler can make it without a branch.
    left_leaf, right_leaf = np.uint8(~left), np.uint8(~right)
    if left < 0 and right < 0:
        for e in range(BLOCK):
            out[e] = right_leaf if code[e] > threshold else left_leaf
    elif left < 0:
        right_row = rows[right]
        for e in range(BLOCK):
            y = right_row[e]
            out[e] = y if code[e] > threshold else left_leaf
    elif right < 0:
        left_row = rows[left]
        for e in range(BLOCK):
            x = left_row[e]
            out[e] = right_leaf if code[e] > threshold else x
    else:
        left_row, right_row = rows[left], rows[right]
        for e in range(BLOCK):
            x, y = left_row[e], right_row[e]
            out[e] = y if code[e] > threshold else x


@_kernel
def _find_leaves(
    codes: NDArray[np.int8],
    trees: Trees,
    tree: int,
    rows: NDArray[np.uint8],
    leaves: NDArray[np.uint8],
) -> None:
    """Write the leaf number of each event of a block in one tree to `leaves`."""
    start, stop = trees.tree_start[tree], trees.tree_start[tree + 1]
    if start == stop:
        leaves[:] = 0
    for i in range(start, stop):
        twig, column, left, right, row = trees.step[i]
        out = leaves if i == stop - 1 else rows[row]
        if twig >= 0:
            _twig(codes, trees.twig_column[twig], trees.twig_threshold[twig],
                  trees.twig_leaf[twig], out)  # fmt: skip
        else:
            _split(codes[column], trees.step_threshold[i], left, right, rows, out)


@_kernel
def evaluate(codes: NDArray[np.int8], trees: Trees, scores: NDArray[np.float64]) -> None:
    """Write the sums of leaf values to `scores` (n_events, n_outputs).

    Each score is added up over the iterations one after another, as LightGBM does: the order of
    the additions decides the last bits.
    """
    n_events, n_outputs = scores.shape
    n_iterations = (len(trees.tree_start) - 1) // n_outputs
    in_groups = n_iterations - n_iterations % GROUP
    rows = np.zeros((trees.n_rows, BLOCK), np.uint8)
    leaves = np.zeros((GROUP, BLOCK), np.uint8)
    total = np.zeros((n_outputs, BLOCK), np.float64)
    leaf_start, leaf_value = trees.leaf_start, trees.leaf_value
    for block in range(codes.shape[0]):
        for k in range(n_outputs):
            s = total[k]
            s[:] = 0.0
            for i in range(0, in_groups, GROUP):
                tree = i * n_outputs + k
                for g in range(GROUP):
                    _find_leaves(codes[block], trees, tree + g * n_outputs, rows, leaves[g])
                v0 = leaf_value[leaf_start[tree] :]
                v1 = leaf_value[leaf_start[tree + n_outputs] :]
                v2 = leaf_value[leaf_start[tree + 2 * n_outputs] :]
                v3 = leaf_value[leaf_start[tree + 3 * n_outputs] :]
                n0, n1, n2, n3 = leaves[0], leaves[1], leaves[2], leaves[3]
                for e in range(BLOCK):
                    s[e] = (((s[e] + v0[n0[e]]) + v1[n1[e]]) + v2[n2[e]]) + v3[n3[e]]
            for i in range(in_groups, n_iterations):
                tree = i * n_outputs + k
                _find_leaves(codes[block], trees, tree, rows, leaves[0])
                v0 = leaf_value[leaf_start[tree] :]
                n0 = leaves[0]
                for e in range(BLOCK):
                    s[e] += v0[n0[e]]
        start = block * BLOCK
        for e in range(min(BLOCK, n_events - start)):
            for k in range(n_outputs):
                scores[start + e, k] = total[k, e]


@_kernel
def softmax(scores: NDArray[np.float64]) -> None:
    """Replace each row of raw scores by exp(score) / sum of exp(score)."""
    for row in scores:
        largest = row[0]
        for score in row:
            largest = max(largest, score)
        norm = 0.0
        for k in range(len(row)):
            row[k] = math.exp(row[k] - largest)
            norm += row[k]
        for k in range(len(row)):
            row[k] /= norm


@_kernel
def logistic(scores: NDArray[np.float64], sigmoid: float) -> None:
    """Replace each raw score by 1 / (1 + exp(-sigmoid * score))."""
    for row in scores:
        for k in range(len(row)):
            row[k] = 1.0 / (1.0 + math.exp(-sigmoid * row[k]))
