"""Files that are complete or absent, scratch space, and what the system says of files.

Every module may import this one.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from utils.schema import PipelineError


def system_message(error: OSError) -> str:
    """Return an error of the operating system in words, with the file it concerns."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}"


@contextlib.contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Provide a temporary path beside `path`: renamed to it at the end, removed on any error.

    The temporary name keeps the suffix, which some writers go by; errors inside name `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except PipelineError as error:
        said = str(error).replace(partial.name, path.name)
        if said == str(error):
            raise
        raise type(error)(said) from error
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """Provide an empty folder, removed at the end: in `parent`, or outside the project."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="htt-ml-", dir=parent) as folder:
        yield Path(folder)
