"""Work that threads share: numpy, numba and unpackers release the interpreter lock for long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> list[Result]:
    """Return function(item) of each item in order, `n_threads` of them at a time."""
    if n_threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, items))


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items in order; the next one is made in a thread while this one is worked on."""
    source = iter(items)
    with ThreadPoolExecutor(1, "ahead") as thread:
        following = thread.submit(_next, source)
        while found := following.result():
            following = thread.submit(_next, source)
            yield found[0]


def _next(source: Iterator[Item]) -> tuple[Item] | None:
    for item in source:
        return (item,)
    return None
