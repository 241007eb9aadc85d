"""What a library would import and nothing here uses, left out: start-up is what stages wait for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
