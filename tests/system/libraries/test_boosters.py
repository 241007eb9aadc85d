"""LightGBM is imported without what it does not need, and used with one number of threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from patience import HANGS

from utils.schema import PROJECT
from utils.system.libraries import boosters


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


def test_a_number_of_threads_waits_for_others_to_end() -> None:
    order: list[str] = []

    def another() -> None:
        with boosters.threads_of_its_own(2):
            order.append("another began")

    with ThreadPoolExecutor(1) as pool:
        with boosters.threads_of_its_own(1):
            with boosters.threads_of_its_own(1):
                waiting = pool.submit(another)
            with boosters.threads_beside(8) as number:
                assert number == 1
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            order.append("the first ended")
        waiting.result(timeout=HANGS)
    assert order == ["the first ended", "another began"]


@pytest.mark.parametrize("begin", [boosters.threads_of_its_own, boosters.threads_beside])
def test_an_error_lets_others_begin(
    begin: Callable[[int], AbstractContextManager[int | None]],
) -> None:
    with pytest.raises(KeyError), begin(3):
        raise KeyError
    done = threading.Event()

    def another() -> None:
        with boosters.threads_beside(2) as number:
            assert number == 2
        with boosters.threads_of_its_own(1):
            done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(another).result(timeout=HANGS)
    assert done.is_set()
