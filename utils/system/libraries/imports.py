"""Cheaper imports: what nothing here uses is left out or put off, since stages start often."""

from __future__ import annotations

import atexit
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Let `import name` fail meanwhile, as if it were not installed, unless it was imported before.

    For optional dependencies only, and for the first import of what looks for them. Other threads
    can import it meanwhile.
    """
    finder = _Hiding(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Hiding(MetaPathFinder):
    """Finds nothing but refuses one module, to the thread that made it."""

    def __init__(self, name: str) -> None:
        self._name, self._thread = name, threading.get_ident()

    def find_spec(self, name: str, *_: object) -> None:
        if name == self._name and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def later(name: str) -> None:
    """Let `import name` give a stand-in, which imports the module when something of it is used.

    Nothing happens where it was imported before.
    """
    sys.modules.setdefault(name, _Later(name))


class _Later(ModuleType):
    def __getattr__(self, attribute: str) -> Any:
        name = self.__name__
        if sys.modules.get(name) is self:
            del sys.modules[name]
        return getattr(import_module(name), attribute)


def spare_collections() -> None:
    """Let Python look for garbage less often while it imports, and not at all when it ends.

    Imports make many objects that stay. Going through them every 700 new ones takes a tenth of a
    start's time, and going through them at the very end up to a second.
    """
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
