"""What a library would import and nothing here uses, left out: start-up is what stages wait for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Let `import name` fail meanwhile, as if it were not installed, unless it was imported before.

    For optional dependencies only, and for the first import of what looks for them.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # this is how an import is refused
    try:
        yield
    finally:
        del sys.modules[name]


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
