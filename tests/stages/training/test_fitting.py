"""How the models of a run are fitted: side by side, on the cores there are, beside other work."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from utils.models import FoldResult, FoldTask, boosting, splits
from utils.schema import RunError
from utils.stages.training.fitting import _threads, folds_training
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


def given(
    kind: str, n_iterations: int, n_folds: int = 2, kept_ones: tuple[int, ...] = ()
) -> tuple[Any, ...]:
    """Return what training takes: 400 events of 2 classes in folds, some of which are kept."""
    rng = np.random.default_rng(3)
    matrix, target = rng.normal(size=(400, 2)).astype(np.float32), np.arange(400) % 2
    data = SimpleNamespace(
        skim=SimpleNamespace(matrix=lambda features: matrix),
        features=("a", "b"),
        rows=np.arange(400),
        target=target,
        weight=np.ones(400),
    )
    config = SimpleNamespace(model_kind="lightgbm", train_metric_every=0)
    settings = boosting.settings({"num_iterations": n_iterations}, 2, 1)
    kept = SimpleNamespace(
        known=lambda skim, index: SimpleNamespace(index=index) if index in kept_ones else None,
        keep=lambda skim, result: None,
    )
    rows = splits(rng.integers(0, n_folds, 400), n_folds, None)
    return Engine(kind, 2, 2), config, settings, data, rows, kept


def test_folds_train_beside_the_caller_s_work_and_give_the_same() -> None:
    texts = []
    for kind in ("local", "serial"):
        with folds_training(*given(kind, 5)) as folds:
            results: list[FoldResult] = folds()
        texts.append([r.model for r in results])
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("n_folds", "kept_ones", "waves"),
    [
        (2, (), [{0: 1, 1: 1}]),
        (5, (), [{0: 1, 1: 1, 2: 1, 3: 1}, {4: 2}]),
        (5, (0, 1, 3), [{2: 1, 4: 1}]),
        (5, (0, 1, 2, 3), [{4: 2}]),
    ],
)
def test_folds_that_train_beside_each_other_have_as_many_threads(
    n_folds: int,
    kept_ones: tuple[int, ...],
    waves: list[dict[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last folds, with more of them, begin when the others have ended."""
    ended: list[int] = []
    begun: dict[int, tuple[int, int]] = {}
    train_fold = boosting.train_fold

    def told(task: FoldTask) -> FoldResult:
        begun[task.index] = task.n_threads, len(ended)
        result = train_fold(task)
        ended.append(task.index)
        return result

    monkeypatch.setattr(boosting, "train_fold", told)
    with folds_training(*given("local", 5, n_folds, kept_ones)) as folds:
        assert [r.index for r in folds()] == list(range(n_folds))
    assert {i: n for i, (n, _) in begun.items()} == {i: n for w in waves for i, n in w.items()}
    before = 0
    for wave in waves:
        assert all(begun[i][1] >= before for i in wave), begun
        before += len(wave)


def test_folds_end_when_the_caller_s_work_fails() -> None:
    begun: list[threading.Thread] = []

    def fail() -> None:
        begun.extend(t for t in threading.enumerate() if t.name.startswith("training"))
        raise RunError("no store")

    with pytest.raises(RunError, match="no store"), folds_training(*given("local", 10**7)):
        fail()
    assert begun
    for thread in begun:
        thread.join()  # the training itself would take hours
