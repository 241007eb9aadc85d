"""Exact, fast evaluation of a trained LightGBM forest.

The forest is compiled from the model text into flat arrays and evaluated for blocks of events at
once, in the spirit of QuickScorer (Lucchese et al., SIGIR 2015): each value is replaced once by
its rank among the forest's thresholds of that feature, one byte; every split is then a comparison
of bytes, done for a whole block of events by vector instructions, without branches. The leaf
values are added in LightGBM's order, so that raw scores equal `Booster.predict(raw_score=True)`
bit for bit. Forests this cannot express (linear trees, random forests, more than 64 leaves) are
handed to LightGBM itself.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from utils.jit import njit
from utils.schema import InputError, RunError

MAX_LEAVES = 64
"""Larger trees are left to LightGBM."""

BLOCK = 1024
"""Events evaluated at once: their codes, one byte per column, stay in the first-level cache."""

TASK_BLOCKS = 32
"""Blocks of events in one unit of work of a thread."""

GROUP = 4
"""Trees whose leaf values are added in one pass over a block."""

MAX_THRESHOLDS = 255
"""Thresholds of one column, so that ranks fit a byte; a feature with more takes several columns."""

ZERO_THRESHOLD = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: values no larger than this are zero."""

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = 0, 1, 2
_LEFT, _RIGHT = 0, MAX_THRESHOLDS  # ranks below and above every threshold

_SIGMOID_OBJECTIVES = ("binary", "cross_entropy")

Function = TypeVar("Function", bound=Callable[..., Any])


class Columns(NamedTuple):
    """How values become one-byte ranks. A column is a feature with one way of treating missing.

    `threshold` (n_columns, 256) ascending, padded with infinity; `first_step` the first stride of
    the binary search, 0 for a categorical column, whose `member[start:stop]` says which
    categories go left. `zero_code` and `nan_code` are the ranks of zero and of NaN.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.floating]
    first_step: NDArray[np.int32]
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


@dataclass(frozen=True, eq=False)
class Forest:
    """A trained forest, ready to be evaluated; can be pickled.

    `n_outputs` is the number of raw scores per event (1 for binary), `n_classes` that of
    probabilities. `fingerprint` identifies header and trees of the model text, not the training
    parameters behind them. Exactly one of `trees` and `booster` is there.
    """

    feature_names: tuple[str, ...]
    n_classes: int
    n_outputs: int
    n_trees: int
    objective: str
    sigmoid: float
    fingerprint: str
    trees: Trees | None = field(repr=False)
    columns: Mapping[str, Columns] = field(repr=False)
    booster: Any = field(repr=False)

    @property
    def fast(self) -> bool:
        """Whether the forest is evaluated here rather than by LightGBM."""
        return self.trees is not None

    def raw_scores(self, X: NDArray[np.floating], n_threads: int = 1) -> NDArray[np.float64]:
        """Return the raw scores (n_events, n_outputs) of features `X` (n_events, n_features).

        `X` is float32 or float64, its columns in the order of `feature_names`; what is not
        C-contiguous is copied piece by piece. Equal bit for bit to LightGBM's
        `predict(raw_score=True)` for any number of threads. Raises InputError for another shape
        or type.
        """
        self._check(X)
        return self._scores(X, n_threads, None)

    def probabilities(self, X: NDArray[np.floating], n_threads: int = 1) -> NDArray[np.float64]:
        """Return the class probabilities (n_events, n_classes), for a binary model 1-p and p.

        The objective decides: softmax (multiclass), one sigmoid per class, not normalised
        (multiclassova), one sigmoid (binary). Raises InputError as `raw_scores` does, RunError
        for a model that was not trained to classify.
        """
        self._check(X)
        if self.objective == "multiclass":
            return self._scores(X, n_threads, _softmax)
        if self.objective not in (*_SIGMOID_OBJECTIVES, "multiclassova"):
            raise RunError(
                f"the model's objective is '{self.objective or 'custom'}', which gives no class "
                "probabilities: train with multiclass, multiclassova or binary"
            )
        sigmoid = self.sigmoid
        scores = self._scores(X, n_threads, lambda block: _logistic(block, sigmoid))
        if self.objective == "multiclassova":
            return scores
        return np.concatenate([1.0 - scores, scores], axis=1)

    def _check(self, X: NDArray[np.floating]) -> None:
        if X.ndim != 2 or X.shape[1] != len(self.feature_names):
            shape = " x ".join(map(str, X.shape))
            raise InputError(
                f"features have the shape {shape}, the model needs {len(self.feature_names)} "
                f"columns: {', '.join(self.feature_names[:12])}"
                + (" ..." if len(self.feature_names) > 12 else "")
            )
        if X.dtype not in (np.float32, np.float64):
            raise InputError(f"features are {X.dtype}, the model needs float32 or float64")

    def _scores(
        self,
        X: NDArray[np.floating],
        n_threads: int,
        convert: Callable[[NDArray[np.float64]], None] | None,
    ) -> NDArray[np.float64]:
        """Return raw scores, or what `convert` makes of them in place."""
        if self.trees is None:
            # LightGBM converts by itself: a random forest's scores are averaged before.
            found = self.booster.predict(X, raw_score=convert is None, num_threads=n_threads)
            return np.ascontiguousarray(found.reshape(len(X), self.n_outputs), np.float64)
        scores = np.empty((len(X), self.n_outputs))
        trees, columns = self.trees, self.columns[X.dtype.name]

        def task(start: int) -> None:
            part = np.require(X[start : start + size], requirements=("C", "W"))
            out = scores[start : start + size]
            _evaluate(_encode(part, columns), trees, out)
            if convert is not None:
                convert(out)

        size = BLOCK * TASK_BLOCKS
        starts = range(0, len(X), size)
        if n_threads > 1 and len(starts) > 1:
            # The kernels release the interpreter lock; every event has its own row of `scores`.
            with ThreadPoolExecutor(min(n_threads, len(starts))) as pool:
                list(pool.map(task, starts))
        else:
            for start in starts:
                task(start)
        return scores


def compile_forest(model_text: str) -> Forest:
    """Return the forest that `Booster.model_to_string()` describes, with all trees in the text.

    Raises RunError where the text is not a complete LightGBM model.
    """
    model, end, _ = model_text.partition("\nend of trees")
    header_text, *tree_texts = model.split("\nTree=")
    header = _entries(header_text)
    if not end or "feature_names" not in header:
        raise RunError("the model text is not a complete LightGBM model: log the model again")
    try:
        names = tuple(header["feature_names"].split(" "))
        n_outputs = int(header["num_tree_per_iteration"])
        if len(names) != int(header["max_feature_idx"]) + 1:
            raise ValueError("feature names and max_feature_idx disagree")
        if n_outputs < 1 or len(tree_texts) % n_outputs:
            raise ValueError(f"{len(tree_texts)} trees for {n_outputs} scores")
        if "tree_sizes" in header and len(header["tree_sizes"].split()) != len(tree_texts):
            raise ValueError("trees are missing")
        objective, *options = header.get("objective", "").split(" ")
        parameters = dict(o.split(":", 1) for o in options if ":" in o)
        parsed = [_parse_tree(text, len(names)) for text in tree_texts]
        fast = "average_output" not in header and all(
            tree is not None and len(tree.leaf_value) <= MAX_LEAVES for tree in parsed
        )
        columns, trees = _compile([tree for tree in parsed if tree]) if fast else ({}, None)
        sigmoid = float(parameters.get("sigmoid", 1.0))
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise RunError(
            f"the model text is damaged ({_reason(error)}): log the model again"
        ) from None
    return Forest(
        feature_names=names,
        n_classes=2 if n_outputs == 1 and objective in _SIGMOID_OBJECTIVES else n_outputs,
        n_outputs=n_outputs,
        n_trees=len(tree_texts),
        objective=objective,
        sigmoid=sigmoid,
        fingerprint=hashlib.sha256(model.encode()).hexdigest(),
        trees=trees,
        columns=columns,
        booster=None if fast else _load_booster(model_text),
    )


def _load_booster(model_text: str) -> Any:
    from utils.boosters import lightgbm

    try:
        return lightgbm.Booster(model_str=model_text)
    except lightgbm.basic.LightGBMError as error:
        raise RunError(f"LightGBM cannot read the model text: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"no {text}" if isinstance(error, KeyError) else text


# --- from text to arrays -------------------------------------------------------------------------


class ParsedTree(NamedTuple):
    """One tree as LightGBM numbers it: nodes from 0, leaves as bitwise complements."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    decision: NDArray[np.int64]
    left: list[int]
    right: list[int]
    leaf_value: list[float]
    categories: list[NDArray[np.bool_]]


def _entries(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.split("\n") if line)
    return {key: value for key, _, value in lines}


def _parse_tree(text: str, n_features: int) -> ParsedTree | None:
    """Return a tree, None for a linear one; ValueError, KeyError or IndexError if it is damaged."""
    entries = _entries(text)
    n_leaves = int(entries["num_leaves"])
    if entries.get("is_linear", "0") != "0":
        return None
    leaf_value = [float(value) for value in entries["leaf_value"].split()]
    if len(leaf_value) != n_leaves or n_leaves < 1:
        raise ValueError("a tree has lists of the wrong length")
    if n_leaves == 1:
        empty = np.empty(0, np.int64)
        return ParsedTree(empty, np.empty(0), empty, [], [], leaf_value, [])
    tree = ParsedTree(
        np.array(entries["split_feature"].split(), np.int64),
        np.array(entries["threshold"].split(), np.float64),
        np.array(entries["decision_type"].split(), np.int64),
        [int(child) for child in entries["left_child"].split()],
        [int(child) for child in entries["right_child"].split()],
        leaf_value,
        _categories(entries),
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


def _categories(entries: Mapping[str, str]) -> list[NDArray[np.bool_]]:
    """Return for each categorical split of a tree which categories go left."""
    if entries.get("num_cat", "0") == "0":
        return []
    words = np.array(entries["cat_threshold"].split(), "<u4")
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
    bounds = [32 * int(word) for word in entries["cat_boundaries"].split()]
    return [bits[start:stop] for start, stop in itertools.pairwise(bounds)]


def _compile(parsed: list[ParsedTree]) -> tuple[dict[str, Columns], Trees]:
    """Return the arrays the kernels need."""
    columns, located = _compile_columns(parsed)
    builder = _Steps()
    for tree, (column, code) in zip(parsed, located, strict=True):
        builder.add(tree, column, code)
    return columns, builder.trees(parsed)


def _compile_columns(
    parsed: list[ParsedTree],
) -> tuple[dict[str, Columns], list[tuple[list[int], list[int]]]]:
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
        "first_step": np.array([1 << len(t).bit_length() >> 1 for t in tables], np.int32),
        "zero_code": np.array(zero_codes, np.int32),
        "nan_code": np.array(nan_codes, np.int32),
        "member_start": start,
        "member": np.frombuffer(b"".join(key[1] for key in members), np.bool_).copy(),
    }
    precisions = {
        "float32": Columns(threshold=_round_down(padded), **shared),
        "float64": Columns(threshold=padded, **shared),
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


# --- kernels -------------------------------------------------------------------------------------


def _kernel(function: Function) -> Function:
    """Compile `function` when first called, keeping the machine code between processes."""
    try:
        return cast(Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither the project nor the user's cache folder is writable
        return cast(Function, njit(nogil=True)(function))


@_kernel
def _encode(X: NDArray[np.floating], columns: Columns) -> NDArray[np.int8]:
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
def _evaluate(codes: NDArray[np.int8], trees: Trees, scores: NDArray[np.float64]) -> None:
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
def _softmax(scores: NDArray[np.float64]) -> None:
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
def _logistic(scores: NDArray[np.float64], sigmoid: float) -> None:
    """Replace each raw score by 1 / (1 + exp(-sigmoid * score))."""
    for row in scores:
        for k in range(len(row)):
            row[k] = 1.0 / (1.0 + math.exp(-sigmoid * row[k]))
