"""Columns in, columns out: missing values, clipping, the finite check, the split, scaler and PCA.

A `columns` argument maps names to arrays (n,) of one chunk of events; no function changes its
arguments. `where` is the file (and part of it) that error texts name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.files import complete
from utils.schema import ConfigError, InputError, Missing, PcaConfig, ScalerConfig, nearest

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]

BLOCK_ROWS = 8_192
"""Rows transformed at once: their float64 copies fit a core's cache."""

REMAKE = "python preprocess.py --config-name <channel>.yaml"
"""The command that makes a feature pipeline."""

_FORMAT = "feature-pipeline-1"


# --- missing values and the finite check ---------------------------------------------------------


def missing_dtype(dtype: npt.DTypeLike, missing: Missing | None) -> np.dtype[Any]:
    """Return the type a column has after `apply_missing`: integers that may become NaN are floats.

    The answer depends on the declaration only, so that all chunks of a column agree.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f" or missing is None or missing.refuse or not math.isnan(missing.replace):
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def apply_missing(
    columns: Mapping[str, Array], missing: Mapping[str, Missing], where: str = ""
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return (columns, count of declared missing cells per declared column).

    A declared value is rounded to the column's precision before it is compared: -9.9 is found in a
    float32 column that holds -9.9. NaN and infinities may be declared. Declared columns that are
    not in `columns` are passed over. Raises InputError where `refuse` meets a missing cell, or an
    integer column cannot hold the value that is to replace it.
    """
    result, counts = dict(columns), {}
    for name, declared in missing.items():
        if name not in columns:
            continue
        column = columns[name]
        is_missing = holds_missing(column, declared)
        counts[name] = int(np.count_nonzero(is_missing))
        if declared.refuse and counts[name]:
            raise InputError(
                f"{where or 'input'}: {counts[name]} of {len(column)} values of '{name}' are the "
                f"missing value {_numbers(declared.values)}, which `missing` refuses: cut these "
                "events away or say what they become"
            )
        dtype = missing_dtype(column.dtype, declared)
        value = _replacement(name, declared, dtype)
        if counts[name] or dtype != column.dtype:
            result[name] = column.astype(dtype)
            result[name][is_missing] = value
    return result, counts


def count_not_finite(
    columns: Mapping[str, Array],
    names: Collection[str],
    allow_nan_in: Collection[str] = (),
    missing: Mapping[str, Missing] | None = None,
) -> dict[str, tuple[int, int]]:
    """Return {name: (NaN, infinite)} of those `names` that hold any undeclared such value.

    NaN is allowed in the columns of `allow_nan_in`. With `missing`, given raw columns, the cells
    declared there do not count.
    """
    found = {}
    for name in names:
        column = columns[name]
        if column.dtype.kind != "f" or np.isfinite(column).all():
            continue
        undeclared = ~np.isfinite(column)
        if missing and name in missing:
            undeclared &= ~holds_missing(column, missing[name])
        n_nan = int(np.count_nonzero(undeclared & np.isnan(column)))
        n_inf = int(np.count_nonzero(undeclared)) - n_nan
        if name in allow_nan_in:
            n_nan = 0
        if n_nan or n_inf:
            found[name] = (n_nan, n_inf)
    return found


def refuse_not_finite(found: Mapping[str, tuple[int, int]], where: str) -> None:
    """Raise InputError naming columns, counts and file, if `count_not_finite` found any."""
    if not found:
        return
    parts = [
        f"{name} ("
        + ", ".join(f"{n} {what}" for n, what in ((nan, "NaN"), (inf, "inf")) if n)
        + ")"
        for name, (nan, inf) in found.items()
    ]
    listed = ", ".join(parts[:12]) + (f" and {len(parts) - 12} more" if len(parts) > 12 else "")
    raise InputError(
        f"{where}: values that are not finite in {listed}: declare them under `missing` "
        "(`missing: .nan` for NaN) or cut these events away"
    )


def check_finite(
    columns: Mapping[str, Array],
    names: Collection[str],
    where: str,
    allow_nan_in: Collection[str] = (),
    missing: Mapping[str, Missing] | None = None,
) -> None:
    """Raise InputError where one of `names` holds an undeclared NaN or infinity.

    Best asked before `apply_missing`, with `missing`: afterwards a NaN of the input cannot be told
    from a declared value (then name such columns in `allow_nan_in`).
    """
    refuse_not_finite(count_not_finite(columns, names, allow_nan_in, missing), where)


def holds_missing(column: Array, declared: Missing) -> npt.NDArray[np.bool_]:
    """Return for each row, `(n,)`, whether it holds one of the declared missing values."""
    found = np.zeros(len(column), np.bool_)
    for value in declared.values:
        if column.dtype.kind == "f":
            with np.errstate(over="ignore"):
                rounded = column.dtype.type(value)
            if math.isnan(value):
                found |= np.isnan(column)
            elif np.isfinite(rounded) or math.isinf(value):
                found |= column == rounded
        elif float(value).is_integer():
            # As a Python integer, so that 64-bit columns are compared exactly.
            found |= column == int(value)
    return found


def _replacement(name: str, declared: Missing, dtype: np.dtype[Any]) -> float | int:
    if declared.refuse or dtype.kind == "f":
        return declared.replace
    value = declared.replace
    lowest, highest = _limits(dtype)
    if not (value.is_integer() if isinstance(value, float) else True) or not (
        lowest <= value <= highest
    ):
        raise InputError(
            f"missing: '{name}' is {dtype} and cannot hold {value:g}: choose a whole number "
            f"from {lowest} to {highest}, or nan"
        )
    return int(value)


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the lowest and highest finite value of a type; integers exactly."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _numbers(values: Sequence[float]) -> str:
    return " or ".join(f"{v:g}" for v in values)


# --- clipping ------------------------------------------------------------------------------------


def clip_columns(
    columns: Mapping[str, Array], clip: Mapping[str, tuple[float | None, float | None]]
) -> dict[str, Array]:
    """Return the columns with those named in `clip` limited to (lowest, highest), types kept.

    None leaves a side open, NaN stays NaN. Raises ConfigError for a column that is not there and
    for limits that no value satisfies.
    """
    result = dict(columns)
    for name, (low, high) in clip.items():
        if name not in columns:
            raise ConfigError(f"clip names '{name}', which is not read; {nearest(name, columns)}")
        result[name] = _clipped(name, columns[name], low, high)
    return result


def _clipped(name: str, column: Array, low: float | None, high: float | None) -> Array:
    kind = column.dtype.type
    lower, upper = -math.inf if low is None else low, math.inf if high is None else high
    lowest, highest = _limits(column.dtype)
    if not (lower <= upper and lower <= highest and upper >= lowest):
        raise ConfigError(f"clip: no {column.dtype} value of '{name}' lies in [{low}, {high}]")
    if column.dtype.kind == "f":
        return np.clip(
            column,
            None if math.isinf(lower) else kind(max(lower, lowest)),
            None if math.isinf(upper) else kind(min(upper, highest)),
        )
    lower, upper = math.ceil(max(lower, lowest)), math.floor(min(upper, highest))
    if lower > upper:
        raise ConfigError(f"clip: no {column.dtype} value of '{name}' lies in [{low}, {high}]")
    if column.dtype.kind == "b":
        return np.clip(column.view(np.uint8), lower, upper).astype(np.bool_)
    return np.clip(column, kind(lower), kind(upper))


# --- the split into train and test ---------------------------------------------------------------


def split(
    target: Array, train_size: float, seed: int, process: Array | None = None
) -> tuple[IntArray, IntArray]:
    """Return (train indices, test indices): every row once, each part in a seeded random order.

    Stratified: of each class, and of each process in it, the share `train_size` goes to the train
    part, rounded so that the parts' sizes are right as a whole; a stratum of two rows or more has
    at least one in each part, a single row goes to the train part. `target` and `process` (n,) are
    small integer codes. Seed and sizes give the same answer on every platform.
    """
    if not 0 < train_size < 1:
        raise ConfigError(f"train_size is {train_size}: a share between 0 and 1 is needed")
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


def _random_order(n: int, seed: int) -> IntArray:
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


def _strata(target: Array, process: Array | None) -> Array:
    """Return one small code per combination of class and process."""
    code = np.asarray(target, np.int64) - np.min(target)
    if process is not None:
        process = np.asarray(process, np.int64) - np.min(process)
        code = code * (int(process.max()) + 1) + process
    # numpy sorts 16-bit integers by radix, in linear time.
    return code.astype(np.uint16) if int(code.max()) < 2**16 else np.unique_inverse(code)[1]


def _train_counts(sizes: IntArray, train_size: float) -> IntArray:
    """Return each stratum's number of train rows: by largest remainders, within its bounds."""
    share = sizes * train_size
    counts = np.floor(share).astype(np.int64)
    left = math.floor(int(sizes.sum()) * train_size + 0.5) - int(counts.sum())
    # Rounded remainders, so that 0.9 * 10 - 9 is no accident of the last bit; ties by code.
    largest = np.argsort(-np.round(share - counts, 9), kind="stable")
    counts[largest[:left]] += 1
    return np.where(sizes > 1, np.clip(counts, 1, np.maximum(sizes - 1, 1)), sizes)


# --- scaler and PCA ------------------------------------------------------------------------------


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

    def transform(self, matrix: Array) -> npt.NDArray[np.float32]:
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

    def _transform_block(self, block: Array) -> Array:
        if self.mean is None and self.scale is None and self.components is None:
            return block
        values = block.astype(np.float64)
        if self.mean is not None:
            values -= self.mean
        if self.scale is not None:
            values /= self.scale
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
                components=None
                if raw["components"] is None
                else tuple(tuple(map(float, row)) for row in raw["components"]),
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

    def save(self, path: str | Path) -> Path:
        """Write the pipeline as JSON, complete or not at all; return the path, ending in .json."""
        path = Path(path).with_suffix(".json")
        text = json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"
        try:
            with complete(path) as partial:
                partial.write_text(text)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
        return path

    def _numbers(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "mean": self.mean,
            "scale": self.scale,
            "pca_mean": self.pca_mean,
            "components": self.components,
            "pca_scale": self.pca_scale,
        }


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

    values = matrix.astype(np.float64, order="C")
    if scaled.mean is not None:
        values -= scaled.mean
    if scaled.scale is not None:
        values /= scaled.scale
    try:
        fitted = PCA(n_components=pca.n_components, whiten=pca.whiten, random_state=seed).fit(
            values
        )
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
        components=tuple(tuple(map(float, row)) for row in fitted.components_),
        pca_scale=whitening,
    )


def load_pipeline(path: str | Path) -> FeaturePipeline:
    """Return the pipeline saved at `path`, whose suffix is taken as .json whatever it is.

    Raises InputError where there is none, and for a pickle, which would execute what it contains.
    """
    named = Path(path)
    path = named.with_suffix(".json")
    pickled = next((p for p in (path, named) if p.is_file() and _is_pickle(p)), None)
    if path.is_file() and pickled != path:
        try:
            raw = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}): make it anew: {REMAKE}") from None
        return FeaturePipeline.from_json(raw, str(path))
    pickled = pickled or next((p for p in [named.with_suffix(".pkl")] if p.is_file()), None)
    if pickled:
        raise InputError(
            f"{pickled} is a pickle, which can execute anything when loaded and is not read: "
            f"make the pipeline anew: {REMAKE}"
        )
    saved = [p.name for p in path.parent.glob("*.json")] if path.parent.is_dir() else []
    raise InputError(
        f"feature pipeline {path} does not exist; {nearest(path.name, saved)}; make it: {REMAKE}"
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


def _is_pickle(path: Path) -> bool:
    """Tell whether a file starts as Python's or joblib's pickles do."""
    with path.open("rb") as file:
        start = file.read(2)
    return start[:1] == b"\x80" or start in (b"\x1f\x8b", b"x\x9c", b"ZF", b"BZ", b"(l", b"ci")


def _floats(numbers: Any) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(float(x) for x in numbers)


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
