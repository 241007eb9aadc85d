"""Results on the disk: dataclasses of this package, with what they hold, bit for bit.

A file holds numbers and texts, nothing that runs when it is read.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.system.files import complete

_HOME = "utils.results."
"""Where the dataclasses are that a file may name."""

_TREE = "tree"
"""What the text is called that the arrays of a file hang on."""

_SUM = "sum"
"""What the checksum of a file is called: a damaged head of an array would give other numbers."""


def write(path: Path, result: Any) -> None:
    """Write a result; the file appears when it is complete.

    Raises TypeError where it holds what is no dataclass of ours, container, number, text or array.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = json.dumps(_plain(result, arrays))
    arrays[_TREE] = np.frombuffer(tree.encode(), np.uint8)
    arrays[_SUM] = np.array(_checksum(arrays))
    with complete(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read(path: Path) -> Any:
    """Return what was written. Raises ValueError where the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if arrays.pop(_SUM) != _checksum(arrays):
            raise ValueError("it was changed since it was written")
        return _made(json.loads(arrays.pop(_TREE).tobytes()), arrays)
    except _DAMAGED as error:
        raise ValueError(f"{path.name} can't be read: {error}") from None


_DAMAGED = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, RuntimeError),
    MemoryError,
    *(ValueError, LookupError, TypeError, AttributeError, ImportError),
)
"""What reading a damaged file may raise: of its archive, and of what it says."""


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def _plain(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return a value as JSON has it, its arrays by their names."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError("arrays of Python objects are not stored")
        name = f"a{len(arrays)}"
        arrays[name] = array
        return {"scalar" if isinstance(value, np.generic) else "array": name}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [_plain(v, arrays) for v in value]}
    if isinstance(value, Mapping):
        return {"pairs": [[_plain(k, arrays), _plain(v, arrays)] for k, v in value.items()]}
    kind = type(value)
    if is_dataclass(kind) and kind.__module__.startswith(_HOME):
        held = [[f.name, _plain(getattr(value, f.name), arrays)] for f in fields(kind)]
        return {"of": [kind.__module__, kind.__qualname__], "fields": held}
    raise TypeError(f"{kind.__name__} is not stored")


def _made(plain: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the value that `_plain` wrote."""
    if not isinstance(plain, dict):
        return plain
    if "of" in plain:
        module, name = plain["of"]
        kind = getattr(importlib.import_module(module), name) if module.startswith(_HOME) else None
        if not (isinstance(kind, type) and is_dataclass(kind)):
            raise TypeError(f"{module}.{name} is no result")
        return kind(**{name: _made(v, arrays) for name, v in plain["fields"]})
    [(what, held)] = plain.items()
    if what == "array":
        return arrays[held]
    if what == "scalar":
        return arrays[held][()]
    if what == "pairs":
        return {_made(k, arrays): _made(v, arrays) for k, v in held}
    return {"tuple": tuple, "list": list}[what](_made(v, arrays) for v in held)
