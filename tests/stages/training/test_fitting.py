"""How the models of a run are fitted: side by side, on the cores there are."""

from __future__ import annotations

import pytest

from utils.stages.training.fitting import _threads
from utils.system.engine import Engine


@pytest.mark.parametrize(
    ("workers", "n_folds", "expected"),
    [
        (Engine("local", 4, 4), 2, [2, 2]),
        (Engine("local", 2, 4), 5, [2, 2, 2, 2, 4]),
        (Engine("local", 4, 4), 6, [1, 1, 1, 1, 2, 2]),
        (Engine("local", 1, 1), 2, [1, 1]),
        (Engine("serial", 1, 4), 2, [1, 1]),
        (Engine("dask", 4), 2, [1, 1]),
    ],
)
def test_folds_share_the_cores(workers: Engine, n_folds: int, expected: list[int]) -> None:
    """The last folds do not leave idle the cores of those that have ended."""
    assert [_threads(workers, i, n_folds) for i in range(n_folds)] == expected
