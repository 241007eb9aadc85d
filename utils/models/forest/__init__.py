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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.models.forest.arrays import (
    MAX_LEAVES,
    Thresholds,
    Trees,
    compile_trees,
    entries,
    parse_tree,
)
from utils.models.interface import check_matrix
from utils.schema import RunError
from utils.system.threads import each

__all__ = ["Forest", "compile_forest"]

TASK_EVENTS = 8192
"""Events in one unit of work of a thread."""

_SIGMOID_OBJECTIVES = ("binary", "cross_entropy")


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
    columns: Mapping[str, Thresholds] = field(repr=False)
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
        check_matrix(X, self.feature_names)
        return self._scores(X, n_threads, None)

    def probabilities(self, X: NDArray[np.floating], n_threads: int = 1) -> NDArray[np.float64]:
        """Return the class probabilities (n_events, n_classes), for a binary model 1-p and p.

        The objective decides: softmax (multiclass), one sigmoid per class, not normalised
        (multiclassova), one sigmoid (binary). Raises InputError as `raw_scores` does, RunError
        for a model that was not trained to classify.
        """
        from utils.models.forest import kernels

        check_matrix(X, self.feature_names)
        if self.objective == "multiclass":
            return self._scores(X, n_threads, kernels.softmax)
        if self.objective not in (*_SIGMOID_OBJECTIVES, "multiclassova"):
            raise RunError(
                f"the model's objective is '{self.objective or 'custom'}', which gives no class "
                "probabilities: train with multiclass, multiclassova or binary"
            )
        sigmoid = self.sigmoid
        scores = self._scores(X, n_threads, lambda block: kernels.logistic(block, sigmoid))
        if self.objective == "multiclassova":
            return scores
        return np.concatenate([1.0 - scores, scores], axis=1)

    def _scores(
        self,
        X: NDArray[np.floating],
        n_threads: int,
        convert: Callable[[NDArray[np.float64]], None] | None,
    ) -> NDArray[np.float64]:
        """Return raw scores, or what `convert` makes of them in place."""
        if self.trees is None:
            from utils.system.libraries.boosters import threads_beside

            with threads_beside(n_threads) as number:
                # LightGBM converts by itself: a random forest's scores are averaged before.
                found = self.booster.predict(X, raw_score=convert is None, num_threads=number)
            return np.ascontiguousarray(found.reshape(len(X), self.n_outputs), np.float64)
        from utils.models.forest import kernels

        scores = np.empty((len(X), self.n_outputs))
        trees, columns = self.trees, self.columns[X.dtype.name]

        def task(start: int) -> None:
            part = np.require(X[start : start + TASK_EVENTS], requirements=("C", "W"))
            out = scores[start : start + TASK_EVENTS]
            kernels.evaluate(kernels.encode(part, columns), trees, out)
            if convert is not None:
                convert(out)

        starts = range(0, len(X), TASK_EVENTS)
        # The kernels release the interpreter lock; every event has its own row of `scores`.
        each(task, starts, max(1, min(n_threads, len(starts))))
        return scores


def compile_forest(model_text: str) -> Forest:
    """Return the forest that `Booster.model_to_string()` describes, with all trees in the text.

    Raises RunError where the text is not a complete LightGBM model.
    """
    model, end, _ = model_text.partition("\nend of trees")
    header_text, *tree_texts = model.split("\nTree=")
    header = entries(header_text)
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
        parsed = [parse_tree(text, len(names)) for text in tree_texts]
        fast = "average_output" not in header and all(
            tree is not None and len(tree.leaf_value) <= MAX_LEAVES for tree in parsed
        )
        columns, trees = compile_trees([tree for tree in parsed if tree]) if fast else ({}, None)
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
    from utils.system.libraries.boosters import lightgbm

    try:
        return lightgbm.Booster(model_str=model_text)
    except lightgbm.basic.LightGBMError as error:
        raise RunError(f"LightGBM cannot read the model text: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"no {text}" if isinstance(error, KeyError) else text
