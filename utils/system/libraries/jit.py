"""numba, imported without what it would load for others.

Before its first compilation, also of cached code, numba loads the extensions that installed
packages announce (awkward's alone costs 0.8 s of processor time) and scipy's linear algebra. The
kernels here take plain arrays and multiply no matrices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

from utils.system.libraries.imports import hidden

with contextlib.suppress(ImportError):  # a numba that is built otherwise works, only slower
    from numba.core import entrypoints

    entrypoints._already_initialized = True
with contextlib.suppress(ImportError), hidden("scipy.linalg"):
    import numba.np.arraymath  # noqa: F401  # looks for scipy.linalg once, when it is imported

__all__ = ["kernel"]

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile `function` when first called, keeping the machine code between processes.

    It releases the interpreter lock.
    """
    try:
        return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # neither the project nor the user's cache folder is writable
        return cast(Function, njit(nogil=True, error_model="numpy")(function))
