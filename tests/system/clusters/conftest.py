"""What tests of clusters share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dask_servers import Running


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with ExitStack() as stack:
        yield Running(tmp_path, stack)


@pytest.fixture
def waits_for() -> Callable[[Path], None]:
    """Wait until a task has left a file."""

    def wait(path: Path) -> None:
        while not path.exists():
            time.sleep(0.05)

    return wait
