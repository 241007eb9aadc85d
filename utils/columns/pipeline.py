"""The feature pipeline: scaler and PCA of the continuous features, fitted and applied."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from utils.columns.arrays import Array, Columns
from utils.schema import ConfigError, InputError, PcaConfig, ScalerConfig, nearest

BLOCK_ROWS = 8_192
"""Rows transformed at once: their float64 copies fit a core's cache."""

REMAKE = "python preprocess.py --config-name <channel>.yaml"
"""The command that makes a feature pipeline."""

_FORMAT = "feature-pipeline-1"


@dataclass(frozen=True)
class FeaturePipeline:
    """A fitted scaler and PCA of the continuous features, as plain numbers.

    `inputs` are the features in order, `outputs` the columns `transform` gives: the same names, or
    pca_0, pca_1, ... The transformation is ((x - mean) / scale - pca_mean) . components^T /
    pca_scale, the parts that are None left out; `components` are (n_outputs, n_inputs).
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    pca_mean: tuple[float, ...] | None = None
    components: tuple[tuple[float, ...], ...] | None = None
    pca_scale: tuple[float, ...] | None = None

    def transform(self, matrix: Array) -> Array:
        """Return the transformed features, float32 (n, n_outputs), of `matrix` (n, n_inputs).

        Computed in float64. A row's result does not depend on the other rows. Missing values (NaN)
        stay, except that PCA refuses them by InputError, as it does values beyond float32.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.inputs):
            raise InputError(
                f"the feature pipeline takes {len(self.inputs)} columns ({', '.join(self.inputs)}),"
                f" not an array of shape {matrix.shape}"
            )
        # By columns, as features come and go: across rows a large matrix misses the caches.
        out = np.empty((len(matrix), len(self.outputs)), np.float32, order="F")
        for start in range(0, len(matrix), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            try:
                with np.errstate(over="raise"):
                    out[rows] = self._transform_block(matrix[rows])
            except FloatingPointError:
                raise InputError(
                    "transformed features exceed what float32 holds (3.4e38): "
                    f"{_widest(matrix[rows], self.inputs)} is the largest; clip it"
                ) from None
        return out

    def transform_changed(self, features: Columns, changed: Columns) -> Columns:
        """Return the outputs, float32 (n,) by name, that differ where some inputs are `changed`.

        They are what `transform` gives of all inputs; `features` are those that are not changed.
        """
        names = tuple(name for name in self.inputs if name in changed)
        if not names:
            return {}
        if self.components is not None:
            matrix = stack_columns({**features, **changed}, self.inputs)
            return dict(zip(self.outputs, self.transform(matrix).T, strict=True))
        places = [self.inputs.index(name) for name in names]
        mean, scale = (
            None if numbers is None else tuple(numbers[i] for i in places)
            for numbers in (self.mean, self.scale)
        )
        own = FeaturePipeline(names, names, mean, scale)
        return dict(zip(names, own.transform(stack_columns(changed, names)).T, strict=True))

    def _transform_block(self, block: Array) -> Array:
        if self.mean is None and self.scale is None and self.components is None:
            return block
        values = self._scale(block.astype(np.float64))
        if self.components is None or self.pca_mean is None:
            return values
        if np.isnan(values).any():
            _refuse_missing(values, self.inputs)
        values -= self.pca_mean
        # Summed feature by feature: a matrix product rounds differently with the number of rows,
        # and an event's features must not depend on the chunk it is read in.
        result = np.zeros((len(values), len(self.outputs)))
        for j, column in enumerate(np.array(self.components).T):
            result += values[:, j, None] * column
        if self.pca_scale is not None:
            result /= self.pca_scale
        return result

    def _scale(self, values: Array) -> Array:
        """Return `values`, scaled in place."""
        if self.mean is not None:
            values -= self.mean
        if self.scale is not None:
            values /= self.scale
        return values

    def to_json(self) -> dict[str, Any]:
        """Return the pipeline as containers of plain numbers, for JSON, with its fingerprint."""
        return {**self._numbers(), "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], where: str = "feature pipeline") -> FeaturePipeline:
        """Return the pipeline that `to_json` gave `raw`; executes nothing.

        Raises InputError where `raw` is something else, or was changed since.
        """
        if not isinstance(raw, Mapping) or raw.get("format") != _FORMAT:
            raise InputError(
                f"{where} is not a feature pipeline of {_FORMAT}: make it anew: {REMAKE}"
            )
        try:
            pipeline = cls(
                inputs=tuple(map(str, raw["inputs"])),
                outputs=tuple(map(str, raw["outputs"])),
                mean=_floats(raw["mean"]),
                scale=_floats(raw["scale"]),
                pca_mean=_floats(raw["pca_mean"]),
                components=_rows(raw["components"]),
                pca_scale=_floats(raw["pca_scale"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where} is damaged ({error!r}): make it anew: {REMAKE}") from None
        if pipeline.fingerprint != raw.get("fingerprint"):
            raise InputError(
                f"{where} was changed after it was made (its fingerprint differs): "
                f"make it anew: {REMAKE}"
            )
        return pipeline

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the pipeline's canonical JSON: equal for equal names and numbers only."""
        text = json.dumps(self._numbers(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _numbers(self) -> dict[str, Any]:
        return {"format": _FORMAT, **vars(self)}


def fit_pipeline(
    matrix: Array,
    names: Sequence[str],
    scaler: ScalerConfig | None,
    pca: PcaConfig | None,
    seed: int,
) -> FeaturePipeline:
    """Return a scaler and scikit-learn's PCA, those asked for, fitted to `matrix`.

    `matrix` (n, n_features) holds the train part's continuous features, in the order of `names`.
    The scaler leaves NaN out; PCA with NaN is refused by InputError. `seed` matters to PCA's
    randomised solver only.
    """
    names = tuple(names)
    if matrix.ndim != 2 or matrix.shape[1] != len(names):
        raise InputError(f"{len(names)} features are named, but the matrix is {matrix.shape}")
    if (scaler is None and pca is None) or not names:
        return FeaturePipeline(names, names)
    if not len(matrix):
        raise InputError("scaler and PCA need events to be fitted to, but none was selected")
    for j, name in enumerate(names):
        if np.isinf(matrix[:, j]).any():
            raise InputError(f"'{name}' is infinite for some events: clip it or cut them away")
        if np.isnan(matrix[:, j]).all():
            raise InputError(f"'{name}' is missing in all events: scaler and PCA cannot be fitted")
    if pca is not None and np.isnan(matrix).any():
        _refuse_missing(matrix, names)
    mean, scale = _fit_scaler(matrix, scaler)
    scaled = FeaturePipeline(names, names, mean, scale)
    return scaled if pca is None else _fit_pca(matrix, scaled, pca, seed)


def _fit_scaler(
    matrix: Array, scaler: ScalerConfig | None
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return means and standard deviations of the present values, as scikit-learn's StandardScaler.

    Computed here, a feature at a time: importing scikit-learn takes longer than reading a million
    events, and its copies of the matrix are most of the memory of a preprocessing.
    """
    if scaler is None:
        return None, None
    means, scales = [], []
    eps = np.finfo(np.float64).eps
    for column in matrix.T:
        values = column[~np.isnan(column)].astype(np.float64)
        n, mean, variance = len(values), float(values.mean()), float(values.var())
        # What varies by rounding alone is constant and keeps its scale.
        constant = variance <= n * eps * variance + (n * mean * eps) ** 2
        means.append(mean)
        scales.append(1.0 if constant else float(np.sqrt(variance)))
    return tuple(means) if scaler.with_mean else None, tuple(scales) if scaler.with_std else None


def _fit_pca(matrix: Array, scaled: FeaturePipeline, pca: PcaConfig, seed: int) -> FeaturePipeline:
    """Return `scaled` with a PCA added that is fitted to what it makes of `matrix`."""
    from sklearn.decomposition import PCA

    values = scaled._scale(matrix.astype(np.float64, order="C"))
    unfitted = PCA(n_components=pca.n_components, whiten=pca.whiten, random_state=seed)
    try:
        fitted = unfitted.fit(values)
    except ValueError as error:
        raise ConfigError(f"pca: {' '.join(str(error).split())}") from None
    whitening = None
    if pca.whiten:
        # As scikit-learn: directions without variance are not blown up.
        root = np.sqrt(fitted.explained_variance_)
        whitening = _floats(np.maximum(root, np.finfo(np.float64).eps))
    return replace(
        scaled,
        outputs=tuple(f"pca_{i}" for i in range(len(fitted.components_))),
        pca_mean=_floats(fitted.mean_),
        components=_rows(fitted.components_),
        pca_scale=whitening,
    )


def stack_columns(columns: Mapping[str, Array], names: Sequence[str]) -> Array:
    """Return the named columns as a matrix (n, len(names)): float32 if none is wider, else float64.

    Raises InputError for a name that is not there.
    """
    for name in names:
        if name not in columns:
            raise InputError(f"column '{name}' was not read; {nearest(name, columns)}")
    n = len(next(iter(columns.values()), ()))
    dtype = np.result_type(np.float32, *(columns[name].dtype for name in names))
    matrix = np.empty((n, len(names)), dtype)
    for j, name in enumerate(names):
        matrix[:, j] = columns[name]
    return matrix


def feature_matrix(
    columns: Mapping[str, Array], pipeline: FeaturePipeline, features: Sequence[str]
) -> Array:
    """Return what models see, float32 (n, len(features)), from untransformed columns by name.

    `columns` hold the pipeline's inputs and the categorical features, one of them at least.
    """
    raw = stack_columns(columns, pipeline.inputs)
    transformed = zip(pipeline.outputs, pipeline.transform(raw).T, strict=True)
    return stack_columns({**columns, **dict(transformed)}, features)


def _floats(numbers: Any) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(map(float, numbers))


def _rows(matrix: Any) -> tuple[tuple[float, ...], ...] | None:
    return None if matrix is None else tuple(tuple(map(float, row)) for row in matrix)


def _refuse_missing(matrix: Array, names: Sequence[str]) -> None:
    counts = np.isnan(matrix).sum(axis=0)
    listed = ", ".join(f"{n} ({int(c)})" for n, c in zip(names, counts, strict=True) if c)
    raise InputError(
        f"PCA mixes all features, so it is not defined for events with missing values: {listed}; "
        "give them a value (`missing: {values: ..., to: ...}`), cut them away, or set pca=null"
    )


def _widest(block: Array, names: Sequence[str]) -> str:
    largest = np.nanmax(np.abs(np.where(np.isinf(block), np.nan, block)), axis=0)
    return f"'{names[int(np.argmax(largest))]}'"
