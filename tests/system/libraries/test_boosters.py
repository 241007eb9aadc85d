"""LightGBM is imported without what it does not need."""

from __future__ import annotations

import subprocess
import sys

from utils.schema import PROJECT


def test_lightgbm_leaves_scikit_learn_alone() -> None:
    """It is not imported, works without, and can be imported afterwards, as PCA does."""
    code = """
import sys
import numpy
from utils.system.libraries.boosters import lightgbm
assert "sklearn" not in sys.modules
data = lightgbm.Dataset(numpy.arange(100.0)[:, None], numpy.arange(100) % 2)
lightgbm.train({"objective": "binary", "verbosity": -1}, data, 1)
import sklearn.decomposition
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
