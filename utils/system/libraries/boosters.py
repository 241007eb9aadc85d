"""LightGBM, imported without scikit-learn: `from utils.system.libraries.boosters import lightgbm`.

Its wrappers for scikit-learn, which nothing here uses, are 1.6 of the 2.4 s of processor time that
`import lightgbm` takes. scikit-learn can be imported afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from utils.system.libraries.imports import hidden

with hidden("sklearn"):
    import lightgbm

__all__ = ["lightgbm", "parameter_names", "threads_beside", "threads_of_its_own"]

_CHANGED = threading.Condition()
_AT_WORK: list[int] = []
"""The number of threads of each computation that LightGBM does now: all the same."""


@contextmanager
def threads_of_its_own(n_threads: int) -> Iterator[None]:
    """Let LightGBM compute with `n_threads`, once no other thread's computation has another number.

    LightGBM keeps the number that a call names in one variable of the process, and looks there
    again while it computes: a call that changes it makes another's training write beyond its
    buffers, and ends the process.
    """
    with _CHANGED:
        _CHANGED.wait_for(lambda: not _AT_WORK or _AT_WORK[0] == n_threads)
        _AT_WORK.append(n_threads)
    try:
        yield
    finally:
        _done()


@contextmanager
def threads_beside(n_threads: int) -> Iterator[int]:
    """Provide the number of threads for a computation that waits for nobody.

    It is that of the computations that go on in other threads, without any `n_threads`.
    """
    with _CHANGED:
        number = _AT_WORK[0] if _AT_WORK else n_threads
        _AT_WORK.append(number)
    try:
        yield number
    finally:
        _done()


def _done() -> None:
    with _CHANGED:
        _AT_WORK.pop()
        _CHANGED.notify_all()


def parameter_names() -> dict[str, str]:
    """Return the main name of each of LightGBM's parameters, by all its names, such as `eta`.

    LightGBM ignores a parameter it does not have, so one has to know them. Its C library tells
    them; nothing public of the Python package does.
    """
    names: dict[str, list[str]] = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    return {name: main for main, others in names.items() for name in (main, *others)}
