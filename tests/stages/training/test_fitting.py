"""How the models of a run are fitted: side by side, on the cores there are."""

from __future__ import annotations

import pytest

from utils.stages.training import fitting
from utils.stages.training.fitting import _threads
from utils.system.engine import Engine


@pytest.mark.parametrize(
    ("kind", "n_workers", "n_folds", "expected"),
    [
        ("local", 4, 2, [2, 2]),
        ("local", 2, 5, [2, 2, 2, 2, 4]),
        ("local", 4, 6, [1, 1, 1, 1, 2, 2]),
        ("local", 1, 2, [4, 4]),
        ("serial", 1, 2, [1, 1]),
        ("dask", 4, 2, [1, 1]),
    ],
)
def test_folds_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, kind: str, n_workers: int, n_folds: int, expected: list[int]
) -> None:
    """Four cores; the last folds do not leave idle those of the folds that have ended."""
    monkeypatch.setattr(fitting, "available_cores", lambda: 4)
    workers = Engine(kind, n_workers)
    assert [_threads(workers, i, n_folds) for i in range(n_folds)] == expected
