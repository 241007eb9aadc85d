"""Ranges of bytes of an input, wherever it is: the one way in which ROOT files are read.

A file of this machine is read when asked. From a server many ranges are fetched at once, ahead of
their use (`remote.py`). `opening.py` opens either.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Self

from utils.schema import InputError, Location


class Range(NamedTuple):
    """Where bytes are in a file."""

    start: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.size


class ByteFile(ABC):
    """An open file of `size` bytes; a context manager, used by any number of threads.

    `ahead` is how many bytes are worth fetching before they are asked for: none from a disk.
    """

    location: Location
    size: int
    ahead: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def read(self, ranges: Sequence[Range]) -> list[bytes | memoryview]:
        """Return the bytes at each range, fewer where the file ends before.

        Raises InputError, naming the file and the cause, where they can't be had.
        """

    @abstractmethod
    def prepare(self, ranges: Sequence[Range]) -> None:
        """Fetch ranges that are `taken` later, each once."""

    def taken(self, wanted: Range) -> bytes | memoryview:
        """Return the bytes at a range that is asked for once; at best it was prepared."""
        return self.read([wanted])[0]

    @abstractmethod
    def close(self) -> None: ...


class LocalFile(ByteFile):
    """An open file of this machine, by its descriptor; `location` is what messages call it."""

    def __init__(self, location: Location, descriptor: int) -> None:
        self.location, self._descriptor = location, descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, ranges: Sequence[Range]) -> list[bytes | memoryview]:
        return [self.taken(wanted) for wanted in ranges]

    def taken(self, wanted: Range) -> bytes | memoryview:
        try:
            return os.pread(self._descriptor, wanted.size, wanted.start)
        except OSError as error:
            raise InputError(f"{self.location} cannot be read: {error.strerror}") from None

    def prepare(self, ranges: Sequence[Range]) -> None:
        """A disk is read when asked."""

    def close(self) -> None:
        os.close(self._descriptor)
