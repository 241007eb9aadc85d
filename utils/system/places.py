"""What the disk says of places that a command is going to write to, before it does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from utils.schema import ConfigError


def existing(path: Path) -> Path:
    """Return the folder that is there already, of those that lead to `path`."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def check_writable(path: Path, what: str) -> None:
    """Raise ConfigError where the file or folder `path` can't be written, without trying."""
    place = existing(path)
    if place.is_file() and place != path.absolute():
        raise ConfigError(f"{what} {path} can't be written: {place} is a file, not a folder")
    if not os.access(place, os.W_OK | (os.X_OK if place.is_dir() else 0)):
        raise ConfigError(f"{what} {path} can't be written: {place} is not writable for you")


def check_space(path: Path, needed: float, what: str) -> str:
    """Return the disk that is needed and free, in words. Raises ConfigError where it is short."""
    free = shutil.disk_usage(existing(path)).free
    if needed > free:
        raise ConfigError(f"{what} take about {size(needed)}, but {path} has {size(free)} free")
    return f"about {size(needed)} of {size(free)} free"


def size(n_bytes: float) -> str:
    """Return a number of bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
