"""LightGBM, imported without scikit-learn: `from utils.boosters import lightgbm`.

Its wrappers for scikit-learn, which nothing here uses, are 1.6 of the 2.4 s of processor time that
`import lightgbm` takes. LightGBM works without scikit-learn, an optional dependency of its own, and
scikit-learn can be imported afterwards.
"""

from __future__ import annotations

import sys

_hidden = "sklearn" not in sys.modules
if _hidden:
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # this is how an import is refused
try:
    import lightgbm
finally:
    if _hidden:
        del sys.modules["sklearn"]

__all__ = ["lightgbm"]
