"""The machine code of models: ranks of values, leaves of trees, sums, probabilities, losses.

Compiled by numba when first called and kept between processes. What only looks at models does
without it, and without importing numba. All kernels stand in one file: numba compiles those anew
whose own file has changed, not those that call others.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats, Int32
from utils.models.forest.arrays import BLOCK, Thresholds, Trees
from utils.models.metrics import EPSILON, LARGEST_LOSS
from utils.system.libraries.jit import kernel

GROUP = 4
"""Trees whose leaf values are added in one pass over a block."""

ZERO_THRESHOLD = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: values no larger than this are zero."""

NEAR = 1e-9
"""Raw scores that differ by less may be equal as probabilities: those are then computed."""

LANES = 8
"""Partial sums of a block's losses: vector instructions add them side by side."""

_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to a whole number, in the lowest bits
_ROUND_BITS = np.float64(_ROUND).view(np.int64)
_HALF_ROOT_BITS = np.float64(math.sqrt(0.5)).view(np.int64)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_INVERSE_LN2 = 1.44269504088896338700


@kernel
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
            n_thresholds = columns.n_thresholds[c]
            if n_thresholds == 0:
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
            # Counting all thresholds below a value takes vector instructions; searching does not.
            for j in range(0, n_thresholds, 8):
                t0, t1, t2, t3 = table[j], table[j + 1], table[j + 2], table[j + 3]
                t4, t5, t6, t7 = table[j + 4], table[j + 5], table[j + 6], table[j + 7]
                for e in range(n):
                    v = value[e]
                    low = np.int32(v > t0) + np.int32(v > t1) + np.int32(v > t2) + np.int32(v > t3)
                    high = np.int32(v > t4) + np.int32(v > t5) + np.int32(v > t6) + np.int32(v > t7)
                    rank[e] += low + high
            zero_code = columns.zero_code[c]
            nan_code = columns.nan_code[c]
            for e in range(n):
                v = value[e]
                code = zero_code if abs(v) <= ZERO_THRESHOLD else rank[e]
                code = nan_code if v != v else code
                row[e] = code - 128
    return codes


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
def logistic(scores: NDArray[np.float64], sigmoid: float) -> None:
    """Replace each raw score by 1 / (1 + exp(-sigmoid * score))."""
    for row in scores:
        for k in range(len(row)):
            row[k] = 1.0 / (1.0 + math.exp(-sigmoid * row[k]))


# --- losses ---------------------------------------------------------------------------------------
#
# Each loss is LightGBM's own formula, rounding for rounding, but for exp and log: those here are
# vector instructions, which differ from the C library's by an ulp.


@kernel
def advance(
    codes: NDArray[np.int8],
    trees: Trees,
    sigmoid: float,
    target: Int32,
    weight: Floats,
    scores: Floats,
    sums: Floats,
    history: Floats,
) -> None:
    """Add the trees to raw scores, iteration by iteration, and say what the events lose at each.

    `scores` `(n_blocks, n_outputs, BLOCK)` are those before the trees and become those after them;
    `target` and `weight` are `(n_blocks, BLOCK)`, a weight of 0 where there is no event. Weighted
    sums of log loss and errors are written to `sums` `(n_blocks, n_iterations, 2)`, the first
    scores to `history` `(n_blocks, n_iterations, BLOCK)` where that is not empty.
    """
    n_blocks, n_outputs, _ = scores.shape
    rows = np.zeros((trees.n_rows, BLOCK), np.uint8)
    leaves = np.zeros(BLOCK, np.uint8)
    work = np.zeros((5, BLOCK), np.float64)
    for block in range(n_blocks):
        for i in range(sums.shape[1]):
            for k in range(n_outputs):
                tree = i * n_outputs + k
                _find_leaves(codes[block], trees, tree, rows, leaves)
                value = trees.leaf_value[trees.leaf_start[tree] :]
                s = scores[block, k]
                for e in range(BLOCK):
                    s[e] += value[leaves[e]]
            if history.size:
                history[block, i] = scores[block, 0]
            _block_losses(
                scores[block], sigmoid, target[block], weight[block], work, sums[block, i]
            )


@kernel
def _block_losses(
    scores: Floats, sigmoid: float, target: Int32, weight: Floats, work: Floats, sums: Floats
) -> None:
    """Write the weighted sums of log loss and errors of a block to `sums` `(2,)`.

    `scores` `(n_outputs, BLOCK)` are raw, one output meaning two classes; `target` and `weight`
    `(BLOCK,)`; `work` `(5, BLOCK)` is written over.
    """
    if len(scores) == 1:
        _binary_losses(scores[0], sigmoid, target, weight, work, sums)
    else:
        _multiclass_losses(scores, target, weight, work, sums)


@kernel
def _exp(x: float) -> float:
    """Return exp(x) for x up to 709, to an ulp; below -708 something smaller than 1e-307."""
    x = x if x > -708.0 else -708.0
    rounded = x * _INVERSE_LN2 + _ROUND
    k = rounded - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    # Taylor's series: |r| < 0.35, the first term left out is below 1e-17.
    q = 1.0 / 6227020800.0
    q = q * r + 1.0 / 479001600.0
    q = q * r + 1.0 / 39916800.0
    q = q * r + 1.0 / 3628800.0
    q = q * r + 1.0 / 362880.0
    q = q * r + 1.0 / 40320.0
    q = q * r + 1.0 / 5040.0
    q = q * r + 1.0 / 720.0
    q = q * r + 1.0 / 120.0
    q = q * r + 1.0 / 24.0
    q = q * r + 1.0 / 6.0
    q = q * r + 0.5
    mantissa = 1.0 + (r + r * r * q)
    # k in the lowest bits of `rounded`, moved to where the exponent is.
    bits = np.float64(mantissa).view(np.int64) + (np.float64(rounded).view(np.int64) << 52)
    return np.int64(bits).view(np.float64)


@kernel
def _log(x: float) -> float:
    """Return log(x) of a positive normal number, to an ulp: fdlibm's e_log.c without branches."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits - _HALF_ROOT_BITS) >> 52
    k = np.int64(exponent + _ROUND_BITS).view(np.float64) - _ROUND
    f = np.int64(bits - (exponent << 52)).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    q = 1.479819860511658591e-01
    q = q * z + 1.531383769920937332e-01
    q = q * z + 1.818357216161805012e-01
    q = q * z + 2.222219843214978396e-01
    q = q * z + 2.857142874366239149e-01
    q = q * z + 3.999999999940941908e-01
    q = q * z + 6.666666666666735130e-01
    half = 0.5 * f * f
    value: float = k * _LN2_HIGH - ((half - (s * (half + z * q) + k * _LN2_LOW)) - f)
    return value


@kernel
def _multiclass_losses(
    scores: Floats, target: Int32, weight: Floats, work: Floats, sums: Floats
) -> None:
    """An event is an error where another class is at least as probable as its own."""
    # Short loops that write one array each: the compiler makes vector instructions of these only.
    largest, mine, norm, rivals, loss = work[0], work[1], work[2], work[3], work[4]
    largest[:] = scores[0]
    norm[:] = 0.0
    rivals[:] = 0.0
    for e in range(BLOCK):
        mine[e] = scores[target[e], e]
    for k in range(1, len(scores)):
        s = scores[k]
        for e in range(BLOCK):
            largest[e] = s[e] if s[e] > largest[e] else largest[e]
    for k in range(len(scores)):
        s = scores[k]
        for e in range(BLOCK):
            norm[e] += _exp(s[e] - largest[e])
        for e in range(BLOCK):
            ahead = s[e] - mine[e]
            # A whole number for each rival, a small fraction for one that may only seem to differ.
            rivals[e] += 1.0 if ahead >= 0.0 else 0.0
            rivals[e] += 1.0 / 1024 if ahead != 0.0 and abs(ahead) < NEAR else 0.0
    for e in range(BLOCK):
        loss[e] = _exp(mine[e] - largest[e]) / norm[e]
    for e in range(BLOCK):
        p = loss[e]
        lost = -_log(p if p > EPSILON else EPSILON)
        loss[e] = weight[e] * (lost if p > EPSILON else LARGEST_LOSS)
    for e in range(BLOCK):
        if rivals[e] != math.floor(rivals[e]):
            rivals[e] = _rivals(scores[:, e], target[e])
    for e in range(BLOCK):
        rivals[e] = weight[e] if rivals[e] > 1.0 else 0.0
    sums[0] = _sum(loss)
    sums[1] = _sum(rivals)


@kernel
def _rivals(scores: Floats, target: int) -> int:
    """Return how many classes are at least as probable as `target`, itself among them."""
    largest = scores.max()
    norm = 0.0
    for score in scores:
        norm += math.exp(score - largest)
    p = math.exp(scores[target] - largest) / norm
    found = 0
    for score in scores:
        found += math.exp(score - largest) / norm >= p
    return found


@kernel
def _binary_losses(
    scores: Floats, sigmoid: float, target: Int32, weight: Floats, work: Floats, sums: Floats
) -> None:
    """An event is an error where its class is not the one that has more than half."""
    loss, wrong = work[0], work[1]
    for e in range(BLOCK):
        x = -sigmoid * scores[e]
        wrong[e] = 1.0 / (1.0 + _exp(x if x < 709.0 else 709.0))
    for e in range(BLOCK):
        p = wrong[e] if target[e] > 0 else 1.0 - wrong[e]
        lost = -_log(p if p > EPSILON else EPSILON)
        loss[e] = weight[e] * (lost if p > EPSILON else LARGEST_LOSS)
    for e in range(BLOCK):
        wrong[e] = weight[e] if (wrong[e] > 0.5) != (target[e] > 0) else 0.0
    for e in range(BLOCK):
        if abs(scores[e]) < NEAR:
            p = 1.0 / (1.0 + math.exp(-sigmoid * scores[e]))
            wrong[e] = weight[e] if (p > 0.5) != (target[e] > 0) else 0.0
    sums[0] = _sum(loss)
    sums[1] = _sum(wrong)


@kernel
def _sum(values: Floats) -> float:
    lanes = np.zeros(LANES)
    for e in range(0, BLOCK, LANES):
        for lane in range(LANES):
            lanes[lane] += values[e + lane]
    total: float = lanes.sum()
    return total
