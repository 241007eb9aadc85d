"""Files that are complete or absent, scratch space, and what the system says of files.

Every module may import this one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from utils.schema import PipelineError

log = logging.getLogger(__name__)


def system_message(error: OSError) -> str:
    """Return an error of the operating system in words, with the file it concerns."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}"


@contextlib.contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Provide a temporary path beside `path`: renamed to it at the end, removed on any error.

    Errors inside name `path`, never the temporary name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    _UNFINISHED.add(partial)
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
        _UNFINISHED.discard(partial)


_UNFINISHED: set[Path] = set()
"""What this process is writing: a signal ends the process in the midst of its other threads."""


def discard_unfinished() -> None:
    """Remove what any thread of this process is writing. The process has to end at once then."""
    for partial in tuple(_UNFINISHED):
        partial.unlink(missing_ok=True)


def exchanged(files: Mapping[Path, Path]) -> None:
    """Put copies of files, target -> source, in place: all of them, or on any error none.

    Everything is copied first, beside its target; what stood there before comes back if a rename
    fails. The targets are renamed in the order given.
    """
    for target in files:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder is in the place of a file", str(target))
    with contextlib.ExitStack() as stack:
        ready = {}
        for target, source in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            ready[target] = _beside(target)
            stack.callback(ready[target].unlink, missing_ok=True)
            shutil.copyfile(source, ready[target])
        before: dict[Path, Path | None] = {}
        try:
            for target, partial in ready.items():
                before[target] = _beside(target) if target.exists() else None
                _keep(target, before[target])
                partial.replace(target)
        except BaseException:
            for target, kept in before.items():
                if kept is None:
                    target.unlink(missing_ok=True)
                elif kept.exists():
                    kept.replace(target)
                    kept.unlink(missing_ok=True)  # a second name of an untouched file stays
            raise
        for kept in before.values():
            if kept is not None:
                kept.unlink()


def _keep(target: Path, kept: Path | None) -> None:
    """Let `kept` be a second name of a file, or its only one where file systems have one only."""
    if kept is not None:
        try:
            kept.hardlink_to(target)
        except OSError:
            target.rename(kept)


def _beside(path: Path) -> Path:
    """Return a new hidden name beside `path`, with its suffix, which some writers go by."""
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")


_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems without locks say."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time in. Where the file system has no locks, all are let in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.info("The file system of %s has no locks: start one command at a time", path.parent)
        yield


@contextlib.contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """Provide an empty folder, removed at the end: in `parent`, or outside the project."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="htt-ml-", dir=parent) as folder:
        yield Path(folder)
