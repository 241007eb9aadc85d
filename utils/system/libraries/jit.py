"""numba, imported without what it would load for others.

Before its first compilation, also of cached code, numba loads the extensions that installed
packages announce (awkward's alone costs 0.8 s of processor time) and scipy's linear algebra. The
kernels here take plain arrays and multiply no matrices.
"""

from __future__ import annotations

import contextlib

from numba import njit

from utils.system.libraries.imports import hidden

with contextlib.suppress(ImportError):  # a numba that is built otherwise works, only slower
    from numba.core import entrypoints

    entrypoints._already_initialized = True
with contextlib.suppress(ImportError), hidden("scipy.linalg"):
    import numba.np.arraymath  # noqa: F401  # looks for scipy.linalg once, when it is imported

__all__ = ["njit"]
