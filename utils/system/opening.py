"""Inputs opened, and found: on this machine or on a server.

What speaks to servers is imported where an input is on one: most are on disks.
"""

from __future__ import annotations

import os

from utils.schema import InputError, Location, Url
from utils.system.ranges import ByteFile, LocalFile


def open_bytes(location: Location) -> ByteFile:
    """Open an input. Raises InputError where it can't be opened."""
    if isinstance(location, Url):
        from utils.system.remote import open_remote

        return open_remote(location)
    try:
        return LocalFile(location, os.open(location, os.O_RDONLY))
    except OSError as error:
        raise InputError(f"{location} cannot be read: {error.strerror}") from None


def find_urls(pattern: Url) -> list[Url]:
    """Return the files of a server that match a pattern."""
    from utils.system.remote import find

    return find(pattern)
