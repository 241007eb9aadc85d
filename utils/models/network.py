"""A stored multilayer perceptron: numbers in JSON, evaluated by numpy alone.

An input is a standardised feature, 0 where it is missing, and after the features stands 1 or 0 for
each one that was missing in training. Sums run over inputs one after another, for all events of a
block at once: the order of additions, and so every bit, is the same in any block. A BLAS product
chooses its order by the shape of the matrix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.models.interface import check_matrix
from utils.schema import InputError, RunError
from utils.system.threads import each

FORMAT = "mlp-1"
ACTIVATIONS = ("relu", "tanh", "logistic")
OBJECTIVES = ("multiclass", "binary")

TASK_EVENTS = 16_384
"""Events in one unit of work of a thread."""

BLOCK_EVENTS = 512
"""Events whose layers are computed at once: few enough that they stay in a core's cache."""

_LANES = 32
"""Blocks are filled up to a multiple of this, so that no event is in the remainder of a vector
loop: exp and tanh may be computed otherwise there."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """How features become inputs: `(x - mean) / scale`, and which have an indicator of missing.

    `mean` and `scale` are `(n_features,)`; `indicators` are positions of features, in order.
    """

    mean: Floats
    scale: Floats
    indicators: tuple[int, ...]

    @property
    def number(self) -> int:
        return len(self.mean) + len(self.indicators)

    def of(self, X: NDArray[np.floating], names: Sequence[str]) -> Floats:
        """Return the inputs `(number, n)` of features `X` `(n, n_features)`.

        A missing value (NaN) is replaced by the mean, also of a feature without an indicator.
        Raises InputError, naming the features, for infinite values.
        """
        found = np.empty((self.number, len(X)))
        columns = found[: len(self.mean)]
        columns[...] = X.T
        infinite = np.isinf(columns).any(axis=1)
        if infinite.any():
            raise refused(names[int(np.argmax(infinite))])
        missing = np.isnan(columns)
        columns -= self.mean[:, None]
        columns /= self.scale[:, None]
        columns[missing] = 0.0
        found[len(self.mean) :] = missing[list(self.indicators)]
        return found


def refused(name: str) -> InputError:
    return InputError(
        f"feature '{name}' has infinite values, which a multilayer perceptron can't weigh: clip it "
        "(clip), or declare them missing (missing)"
    )


@dataclass(frozen=True, eq=False)
class Network:
    """A trained multilayer perceptron, ready to be evaluated; can be pickled.

    `weights[k]` `(n_in, n_out)` and `biases[k]` `(n_out,)` lead from layer k to the next one. The
    last has one output per class, or one for a binary model. `parameters` are those it was trained
    with, for people.
    """

    feature_names: tuple[str, ...]
    n_classes: int
    objective: str
    inputs: Inputs
    activation: str
    weights: tuple[Floats, ...] = field(repr=False)
    biases: tuple[Floats, ...] = field(repr=False)
    parameters: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The network as strict JSON, one line a key; numbers are written to the last bit."""
        content = {
            "format": FORMAT,
            "objective": self.objective,
            "n_classes": self.n_classes,
            "features": list(self.feature_names),
            "mean": self.inputs.mean.tolist(),
            "scale": self.inputs.scale.tolist(),
            "indicators": list(self.inputs.indicators),
            "activation": self.activation,
            "layers": [
                {"weights": w.tolist(), "biases": b.tolist()}
                for w, b in zip(self.weights, self.biases, strict=True)
            ],
            "parameters": dict(self.parameters),
        }
        lines = (f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in content.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def probabilities(self, X: NDArray[np.floating], n_threads: int = 1) -> Floats:
        """Return the class probabilities `(n, n_classes)` of features `X` `(n, n_features)`.

        `X` is float32 or float64, in any memory layout. An event has the same bits in any selection
        of events and for any number of threads. Raises InputError for another shape or type, for
        infinite values, and for values so large that the network's sums overflow.
        """
        check_matrix(X, self.feature_names)
        found = np.empty((len(X), self.n_classes))

        def task(start: int) -> None:
            for first in range(start, min(start + TASK_EVENTS, len(X)), BLOCK_EVENTS):
                rows = slice(first, min(first + BLOCK_EVENTS, start + TASK_EVENTS))
                found[rows] = self._block(X[rows])

        starts = range(0, len(X), TASK_EVENTS)
        # numpy releases the interpreter lock; every event has its own row.
        each(task, starts, max(1, min(n_threads, len(starts))))
        return found

    def _block(self, X: NDArray[np.floating]) -> Floats:
        values = np.zeros((self.inputs.number, -(-len(X) // _LANES) * _LANES))
        last = len(self.weights) - 1
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            values[:, : len(X)] = self.inputs.of(X, self.feature_names)
            for k, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
                values = _weighted_sums(values, weights, biases)
                if k < last:
                    activate(values, self.activation)
            found = as_probabilities(values, self.objective)[:, : len(X)]
        if not np.isfinite(found).all():
            raise InputError(
                "features are too large for the multilayer perceptron, its sums overflow: "
                "clip them (clip), or declare missing values (missing)"
            )
        return found.T


def _weighted_sums(values: Floats, weights: Floats, biases: Floats) -> Floats:
    """Return `weights.T @ values + biases`, added in order of the inputs; values are (n_in, n)."""
    sums = np.empty((len(biases), values.shape[1]))
    sums[...] = biases[:, None]
    part = np.empty_like(sums)
    for row, value in zip(weights, values, strict=True):
        np.multiply(row[:, None], value, out=part)
        sums += part
    return sums


def activate(values: Floats, activation: str) -> None:
    """Replace weighted sums by what a hidden layer gives on."""
    if activation == "relu":
        np.maximum(values, 0.0, out=values)
    elif activation == "tanh":
        np.tanh(values, out=values)
    else:
        values[...] = _logistic(values)


def _logistic(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow for any x."""
    small = np.exp(-np.abs(values))
    found: Floats = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return found


def as_probabilities(outputs: Floats, objective: str) -> Floats:
    """Return probabilities `(n_classes, n)` of the last layer's sums `(n_outputs, n)`.

    multiclass: softmax; binary: 1-p and p = 1 / (1 + exp(-x)).
    """
    if objective == "binary":
        p = _logistic(outputs[0])
        return np.stack([1.0 - p, p])
    found: Floats = np.exp(outputs - outputs.max(axis=0))
    norm = found[0].copy()
    for row in found[1:]:
        norm += row
    found /= norm
    return found


def open_network(text: str) -> Network:
    """Return the network that `Network.text` describes.

    Raises RunError, in one line, where the text is not exactly that.
    """
    try:
        raw = json.loads(text, parse_constant=_no_number, object_pairs_hook=_each_key_once)
        return _network(raw)
    except (ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"the model text is damaged ({reason}): log the model again") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


_KEYS = (
    *("format", "objective", "n_classes", "features", "mean", "scale", "indicators"),
    *("activation", "layers", "parameters"),
)


def _network(raw: Any) -> Network:
    _keys(raw, _KEYS, "the text")
    if raw["format"] != FORMAT:
        raise ValueError(f"its format is {str(raw['format'])[:40]!r}, {FORMAT} is needed")
    names = raw["features"]
    if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
        raise ValueError("features is no list of names")
    if len(set(names)) != len(names):
        raise ValueError("a feature is named twice")
    indicators = raw["indicators"]
    if not (isinstance(indicators, list) and all(type(i) is int for i in indicators)):
        raise ValueError("indicators is no list of positions")
    if sorted(set(indicators)) != indicators or not set(indicators) <= set(range(len(names))):
        raise ValueError("indicators are no positions of features in order")
    objective, n_classes = raw["objective"], raw["n_classes"]
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is none of {', '.join(OBJECTIVES)}")
    if type(n_classes) is not int or n_classes < 2 or (objective == "binary" and n_classes != 2):
        raise ValueError("n_classes is not that of the objective")
    if raw["activation"] not in ACTIVATIONS:
        raise ValueError(f"activation is none of {', '.join(ACTIVATIONS)}")
    if not isinstance(raw["parameters"], dict):
        raise ValueError("parameters is no mapping")
    inputs = Inputs(
        mean=_vector(raw["mean"], "mean", len(names)),
        scale=_vector(raw["scale"], "scale", len(names)),
        indicators=tuple(indicators),
    )
    if not (inputs.scale > 0).all():
        raise ValueError("scale is not above 0")
    weights, biases = _layers(raw["layers"], inputs.number)
    if len(biases[-1]) != (1 if objective == "binary" else n_classes):
        raise ValueError(f"the last layer gives {len(biases[-1])} values")
    return Network(
        feature_names=tuple(names),
        n_classes=n_classes,
        objective=objective,
        inputs=inputs,
        activation=raw["activation"],
        weights=tuple(weights),
        biases=tuple(biases),
        parameters=raw["parameters"],
    )


def _keys(raw: Any, keys: Sequence[str], what: str) -> None:
    if not isinstance(raw, dict) or sorted(raw) != sorted(keys):
        raise ValueError(f"{what} has not exactly the keys {', '.join(keys)}")


def _layers(raw: Any, n_in: int) -> tuple[list[Floats], list[Floats]]:
    if not isinstance(raw, list) or not raw:
        raise ValueError("layers is no list of layers")
    weights: list[Floats] = []
    biases: list[Floats] = []
    for k, layer in enumerate(raw):
        _keys(layer, ("weights", "biases"), f"layer {k}")
        rows, offsets = layer["weights"], layer["biases"]
        if not isinstance(offsets, list) or not offsets:
            raise ValueError(f"layer {k} has no biases")
        if not isinstance(rows, list) or len(rows) != n_in:
            raise ValueError(f"layer {k} has not {n_in} rows of weights")
        biases.append(_vector(offsets, f"biases of layer {k}", len(offsets)))
        weights.append(
            np.stack([_vector(row, f"weights of layer {k}", len(offsets)) for row in rows])
        )
        n_in = len(offsets)
    return weights, biases


def _vector(raw: Any, what: str, length: int) -> Floats:
    if not isinstance(raw, list) or len(raw) != length:
        raise ValueError(f"{what} has not {length} numbers")
    if not all(type(v) in (int, float) for v in raw):
        raise ValueError(f"{what} holds more than numbers")
    found = np.array(raw, np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{what} is not finite")
    return found
