"""Work that threads share keeps its order and its errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from patience import HANGS

from utils.system.threads import ahead, each


def test_each_keeps_the_order() -> None:
    assert each(lambda x: x * x, range(20), 3) == [x * x for x in range(20)]


def test_ahead_makes_one_item_more_than_was_asked_for() -> None:
    made: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for i in range(5):
            made.append(i)
            if i == 1:
                second.set()
            yield i

    found = ahead(items())
    assert next(found) == 0
    assert second.wait(HANGS)
    assert made == [0, 1]
    assert list(found) == [1, 2, 3, 4]
    assert list(ahead([])) == []


def test_ahead_passes_empty_items_and_errors_on() -> None:
    def items() -> Iterator[int | None]:
        yield None
        yield 0
        raise ValueError("the third")

    found = ahead(items())
    assert [next(found), next(found)] == [None, 0]
    with pytest.raises(ValueError, match="the third"):
        next(found)


def test_ahead_can_be_left() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    source = items()
    for item in ahead(source):
        if item == 3:
            break
    source.close()
    assert closed == [True]
