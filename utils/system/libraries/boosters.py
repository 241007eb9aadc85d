"""LightGBM, imported without scikit-learn: `from utils.system.libraries.boosters import lightgbm`.

Its wrappers for scikit-learn, which nothing here uses, are 1.6 of the 2.4 s of processor time that
`import lightgbm` takes. scikit-learn can be imported afterwards.
"""

from __future__ import annotations

from utils.system.libraries.imports import hidden

with hidden("sklearn"):
    import lightgbm

__all__ = ["lightgbm", "parameter_names"]


def parameter_names() -> dict[str, str]:
    """Return the main name of each of LightGBM's parameters, by all its names, such as `eta`.

    LightGBM ignores a parameter it does not have, so one has to know them. Its C library tells
    them; nothing public of the Python package does.
    """
    names: dict[str, list[str]] = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    return {name: main for main, others in names.items() for name in (main, *others)}
