"""From the text of a LightGBM model to the arrays that its evaluation needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_LEAVES = 64
"""Larger trees are left to LightGBM."""

MAX_THRESHOLDS = 255
"""Thresholds of one column, so that ranks fit a byte; a feature with more takes several columns."""

BLOCK = 1024
"""Events evaluated at once: their codes, one byte per column, stay in the first-level cache."""

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = 0, 1, 2
_LEFT, _RIGHT = 0, MAX_THRESHOLDS  # ranks below and above every threshold


class Thresholds(NamedTuple):
    """How values become one-byte ranks. A column is a feature with one way of treating missing.

    `threshold` (n_columns, 256) ascending, padded with infinity; `n_thresholds` of them count, none
    in a categorical column, whose `member[start:stop]` says which categories go left. `zero_code`
    and `nan_code` are the ranks of zero and of NaN.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.floating]
    n_thresholds: NDArray[np.int32]
    zero_code: NDArray[np.int32]
    nan_code: NDArray[np.int32]
    member_start: NDArray[np.int32]
    member: NDArray[np.bool_]


class Trees(NamedTuple):
    """The trees as steps, each of which finds the leaf numbers below one node for a block.

    A step is a row (twig, column, left, right, out): either a whole twig, or one split whose
    sides are results of earlier steps (row numbers) or leaves (bitwise complements of their
    numbers). A twig is a subtree of up to three levels, padded to seven splits, eight leaves.
    """

    tree_start: NDArray[np.int32]
    step: NDArray[np.int32]
    step_threshold: NDArray[np.int8]
    twig_column: NDArray[np.int32]
    twig_threshold: NDArray[np.int8]
    twig_leaf: NDArray[np.uint8]
    leaf_start: NDArray[np.int64]
    leaf_value: NDArray[np.float64]
    n_rows: int


class ParsedTree(NamedTuple):
    """One tree as LightGBM numbers it: nodes from 0, leaves as bitwise complements."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    decision: NDArray[np.int64]
    left: list[int]
    right: list[int]
    leaf_value: list[float]
    categories: list[NDArray[np.bool_]]


def entries(text: str) -> dict[str, str]:
    """Return the lines `key=value` of a part of a model text."""
    lines = (line.partition("=") for line in text.split("\n") if line)
    return {key: value for key, _, value in lines}


def parse_tree(text: str, n_features: int) -> ParsedTree | None:
    """Return a tree, None for a linear one; ValueError, KeyError or IndexError if it is damaged."""
    of_tree = entries(text)
    n_leaves = int(of_tree["num_leaves"])
    if of_tree.get("is_linear", "0") != "0":
        return None
    leaf_value = [float(value) for value in of_tree["leaf_value"].split()]
    if len(leaf_value) != n_leaves or n_leaves < 1:
        raise ValueError("a tree has lists of the wrong length")
    if n_leaves == 1:
        empty = np.empty(0, np.int64)
        return ParsedTree(empty, np.empty(0), empty, [], [], leaf_value, [])
    tree = ParsedTree(
        np.array(of_tree["split_feature"].split(), np.int64),
        np.array(of_tree["threshold"].split(), np.float64),
        np.array(of_tree["decision_type"].split(), np.int64),
        [int(child) for child in of_tree["left_child"].split()],
        [int(child) for child in of_tree["right_child"].split()],
        leaf_value,
        _categories(of_tree),
    )
    if {len(part) for part in tree[:5]} != {n_leaves - 1}:
        raise ValueError("a tree has lists of the wrong length")
    if sorted(tree.left + tree.right) != [c for c in range(-n_leaves, n_leaves - 1) if c]:
        raise ValueError("a tree's nodes are not connected")
    if any(child <= i for side in tree[3:5] for i, child in enumerate(side) if child > 0):
        raise ValueError("a tree's nodes are in a circle")
    if tree.feature.min() < 0 or tree.feature.max() >= n_features:
        raise ValueError("a tree splits on an unknown feature")
    if np.isnan(tree.threshold).any():
        raise ValueError("a tree splits at NaN")
    return tree


def _categories(of_tree: Mapping[str, str]) -> list[NDArray[np.bool_]]:
    """Return for each categorical split of a tree which categories go left."""
    if of_tree.get("num_cat", "0") == "0":
        return []
    words = np.array(of_tree["cat_threshold"].split(), "<u4")
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
    bounds = [32 * int(word) for word in of_tree["cat_boundaries"].split()]
    return [bits[start:stop] for start, stop in itertools.pairwise(bounds)]


def compile_trees(parsed: list[ParsedTree]) -> tuple[dict[str, Thresholds], Trees]:
    """Return the arrays the kernels need."""
    columns, located = _compile_columns(parsed)
    builder = _Steps()
    for tree, (column, code) in zip(parsed, located, strict=True):
        builder.add(tree, column, code)
    return columns, builder.trees(parsed)


def _compile_columns(
    parsed: list[ParsedTree],
) -> tuple[dict[str, Thresholds], list[tuple[list[int], list[int]]]]:
    """Return the columns for either precision, and each node's column and threshold code."""
    thresholds: dict[tuple[int, int], set[float]] = {}
    members: dict[tuple[int, bytes], int] = {}
    for tree in parsed:
        for feature, value, decision in _nodes(tree):
            if decision & _CATEGORICAL:
                key = (feature, tree.categories[int(value)].tobytes())
                members.setdefault(key, len(members))
            else:
                thresholds.setdefault((feature, _missing_rule(decision)), set()).add(value)
    features, zero_codes, nan_codes, tables = [], [], [], []
    for feature, _ in members:
        features.append(feature)
        zero_codes.append(0)
        nan_codes.append(_RIGHT)
        tables.append(np.empty(0))
    place: dict[tuple[int, int, float], tuple[int, int]] = {}
    for (feature, rule), values in thresholds.items():
        ordered = sorted(values)
        for first in range(0, len(ordered), MAX_THRESHOLDS):
            table = np.array(ordered[first : first + MAX_THRESHOLDS])
            for rank, value in enumerate(table.tolist()):
                place[feature, rule, value] = (len(features), rank)
            missing, left = rule >> 2, rule & _DEFAULT_LEFT
            default = _LEFT if left else _RIGHT
            zero = default if missing == _MISSING_ZERO else int((table < 0.0).sum())
            features.append(feature)
            zero_codes.append(zero)
            nan_codes.append(default if missing == _MISSING_NAN else zero)
            tables.append(table)
    located = []
    for tree in parsed:
        nodes = [
            (members[feature, tree.categories[int(value)].tobytes()], 0)
            if decision & _CATEGORICAL
            else place[feature, _missing_rule(decision), value]
            for feature, value, decision in _nodes(tree)
        ]
        located.append(([column for column, _ in nodes], [rank for _, rank in nodes]))

    padded = np.full((len(tables), MAX_THRESHOLDS + 1), np.inf)
    for row, table in zip(padded, tables, strict=True):
        row[: len(table)] = table
    lengths = [len(key[1]) for key in members]
    start = np.zeros(len(tables) + 1, np.int32)
    start[1 : len(lengths) + 1] = np.cumsum(lengths)
    start[len(lengths) + 1 :] = sum(lengths)
    shared: dict[str, Any] = {
        "feature": np.array(features, np.int32),
        "n_thresholds": np.array([len(t) for t in tables], np.int32),
        "zero_code": np.array(zero_codes, np.int32),
        "nan_code": np.array(nan_codes, np.int32),
        "member_start": start,
        "member": np.frombuffer(b"".join(key[1] for key in members), np.bool_).copy(),
    }
    precisions = {
        "float32": Thresholds(threshold=_round_down(padded), **shared),
        "float64": Thresholds(threshold=padded, **shared),
    }
    return precisions, located


def _nodes(tree: ParsedTree) -> Iterator[tuple[int, float, int]]:
    return zip(tree.feature.tolist(), tree.threshold.tolist(), tree.decision.tolist(), strict=True)


def _missing_rule(decision: int) -> int:
    """Return missing type and default direction as LightGBM packs them."""
    if decision >> 2 == _MISSING_NONE:
        return 0  # a default direction means nothing then
    return decision & ~_CATEGORICAL


def _round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 values not above `thresholds`.

    For a float32 x, x > t holds exactly when x > round_down(t): no float32 lies between the two.
    """
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
    above = rounded > thresholds
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


class _Steps:
    """Collects the steps of tree after tree."""

    def __init__(self) -> None:
        self.tree_start = [0]
        self.steps: list[tuple[int, int, int, int, int]] = []
        self.thresholds: list[int] = []
        self.twig_columns: list[list[int]] = []
        self.twig_thresholds: list[list[int]] = []
        self.twig_leaves: list[list[int]] = []
        self.n_rows = 0

    def add(self, tree: ParsedTree, column: list[int], code: list[int]) -> None:
        """Append the steps of `tree`; its last step finds the leaf of the whole tree."""
        depth = [0] * len(column)
        for node in reversed(range(len(column))):  # children have larger numbers than parents
            sides = (tree.left[node], tree.right[node])
            depth[node] = 1 + max(depth[side] if side >= 0 else 0 for side in sides)
        free: list[int] = []
        n_rows = 0

        def visit(node: int) -> int:
            nonlocal n_rows
            if node < 0:
                return node
            if 2 <= depth[node] <= 3:
                twig, left, right = len(self.twig_leaves), 0, 0
                self._add_twig(node, tree, column, code)
            else:
                sides = [tree.left[node], tree.right[node]]
                deeper_first = sorted(sides, key=lambda s: -depth[s] if s >= 0 else 0)
                rows = {side: visit(side) for side in deeper_first}
                twig, left, right = -1, rows[sides[0]], rows[sides[1]]
            # A step never writes to a row it reads: overlapping rows would not be vectorised.
            out = free.pop() if free else n_rows
            n_rows = max(n_rows, out + 1)
            if twig < 0:
                free.extend(row for row in (left, right) if row >= 0)
            self.steps.append((twig, column[node], left, right, out))
            self.thresholds.append(code[node] - 128)
            return out

        if column:
            visit(0)
        self.n_rows = max(self.n_rows, n_rows)
        self.tree_start.append(len(self.steps))

    def _add_twig(self, root: int, tree: ParsedTree, column: list[int], code: list[int]) -> None:
        level = [root]
        columns, thresholds = [], []
        for _ in range(3):
            below = []
            for node in level:
                # A leaf above the lowest level is continued by splits that always go left.
                columns.append(column[node] if node >= 0 else 0)
                thresholds.append(code[node] - 128 if node >= 0 else 127)
                below += [tree.left[node], tree.right[node]] if node >= 0 else [node, node]
            level = below
        self.twig_columns.append(columns)
        self.twig_thresholds.append(thresholds)
        self.twig_leaves.append([~leaf for leaf in level])

    def trees(self, parsed: list[ParsedTree]) -> Trees:
        sizes = [len(tree.leaf_value) for tree in parsed]
        return Trees(
            tree_start=np.array(self.tree_start, np.int32),
            step=np.array(self.steps, np.int32).reshape(-1, 5),
            step_threshold=np.array(self.thresholds, np.int8),
            twig_column=np.array(self.twig_columns, np.int32).reshape(-1, 7),
            twig_threshold=np.array(self.twig_thresholds, np.int8).reshape(-1, 7),
            twig_leaf=np.array(self.twig_leaves, np.uint8).reshape(-1, 8),
            leaf_start=np.cumsum([0, *sizes]),
            leaf_value=np.array([value for tree in parsed for value in tree.leaf_value]),
            n_rows=self.n_rows,
        )
