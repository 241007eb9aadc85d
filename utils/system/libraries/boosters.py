"""LightGBM, imported without scikit-learn: `from utils.system.libraries.boosters import lightgbm`.

Its wrappers for scikit-learn, which nothing here uses, are 1.6 of the 2.4 s of processor time that
`import lightgbm` takes. scikit-learn can be imported afterwards.
"""

from __future__ import annotations

from utils.system.libraries.imports import hidden

with hidden("sklearn"):
    import lightgbm

__all__ = ["lightgbm"]
