"""Events of three classes in two folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fold_tasks import N


@pytest.fixture(scope="session")
def data() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(N, 3)).astype(np.float32)
    target = np.argmax(matrix + rng.gumbel(size=(N, 3)), axis=1).astype(np.int32)
    return {"matrix": matrix, "target": target, "fold": (np.arange(N) % 2).astype(np.int32)}
