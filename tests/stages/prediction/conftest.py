"""Models that differ, and a sample for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from predictions import write_tree


@pytest.fixture(scope="session")
def boosters() -> tuple[lightgbm.Booster, ...]:
    """Five models that differ, of three classes."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 3)).astype(np.float32)
    models = []
    for i in range(5):
        y = np.argmax(X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(400, 3)), axis=1)
        parameters = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "seed": i}
        data = lightgbm.Dataset(X, y, feature_name=["x", "y", "n"])
        models.append(lightgbm.train({**parameters, "num_threads": 1}, data, 3))
    return tuple(models)


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    n = 50
    columns = {
        "run": np.ones(n, np.int32),
        "evt": np.arange(1, n + 1, dtype=np.uint64),
        "x": rng.normal(size=n).astype(np.float32),
        "y": rng.normal(size=n),
        "n": rng.integers(0, 4, n).astype(np.int32),
    }
    write_tree(tmp_path, columns, 20)
    return columns
