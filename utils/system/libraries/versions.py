"""Libraries whose version counts as code of every step: another one may give other numbers."""

from __future__ import annotations

from importlib.metadata import version

COUNTED = ("lightgbm", "numba", "numpy", "scikit-learn", "uproot")


def counted() -> dict[str, str]:
    """Return the versions of these libraries."""
    return {name: version(name) for name in COUNTED}
