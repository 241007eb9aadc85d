"""Files that are complete or absent, scratch space, and what the system says of files.

Every module may import this one. What is unfinished has a name that says whose it is, and is
touched every minute as long as that process lives: so the next command knows what a dead one left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.schema import InputError, PipelineError
from utils.system.processes import HEARTBEAT_ENDS, Process

log = logging.getLogger(__name__)


_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_addressable(path: Path, what: str) -> None:
    """Raise InputError where a path has a sign that addresses of stores take for something else.

    MLflow writes beside a folder with one of them, or can't open its store; Hydra can't read it.
    """
    found = next((sign for sign in "#?%'" if sign in str(path)), None)
    if found is not None:
        raise InputError(
            f"{what} is {path}: a {found} in a path means something else in the addresses of "
            "MLflow's stores or in Hydra's keys, and files would go astray: rename that folder"
        )


def system_message(error: OSError) -> str:
    """Return an error of the operating system in words, with the file it concerns.

    Of a full disk that names no file it is the folder of temporary files: what libraries write
    there. What is ours has a name (`writing`).
    """
    if error.errno is None:  # a library's own, of which only its text is known
        return str(error)
    if is_full(error):  # of a copy, the second name is what could not be written
        name = error.filename2 or error.filename or tempfile.gettempdir()
        return f"{error.strerror}: {name} (on {disk_of(Path(name))})"
    return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)


def is_full(error: OSError) -> bool:
    """Tell whether an error says that a disk, or a user's share of it, is full."""
    return error.errno in _FULL


def disk_of(path: Path) -> str:
    """Return, in words, which disk a path is on: where it is mounted."""
    place = path.absolute()
    while place != place.parent and not (place.exists() and place.is_mount()):
        place = place.parent
    return f"the disk mounted at {place}"


def has_no_space(path: Path) -> bool:
    """Tell whether the disk of what is at `path` has less than a megabyte left."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path).free < 1_000_000
    return False


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let an error that says that a disk is full name `path`, which is being written."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Provide a temporary path beside `path`: renamed to it at the end, removed on any error.

    Errors inside name `path`, never the temporary name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(path) as partial:
        try:
            with writing(path):
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


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Provide a hidden name beside `path` for a file or folder, which is removed at the end.

    It keeps the suffix, which some writers go by. See `outlive`.
    """
    name = f".{path.stem[:100]}.{Process.current()}-{uuid.uuid4().hex[:8]}{_MARK}{path.suffix}"
    partial = path.with_name(name)
    _UNFINISHED.add(partial)
    with kept_alive(partial):
        try:
            yield partial
        except BaseException:
            if partial in _UNFINISHED:
                _remove(partial)
            raise
        else:
            _remove(partial)
        finally:
            _UNFINISHED.discard(partial)


def outlive(partial: Path) -> None:
    """Let what is `unfinished` stay if its work is cut off from now on: something names it.

    Whoever finishes that work then removes it.
    """
    _UNFINISHED.discard(partial)


_MARK = ".tmp"

_UNFINISHED: set[Path] = set()
"""What this process is writing: a signal ends the process in the midst of its other threads."""

_SHARED: set[Path] = set()
"""Folders in which other processes write for this one."""

_TOUCHED: set[Path] = set()
"""What shows by its time that this process lives."""

_BEATING = threading.Lock()
"""Held for ever by the thread that touches it."""


@contextlib.contextmanager
def kept_alive(path: Path) -> Iterator[None]:
    """Touch what is, or will be, at `path` every minute, as a sign of life."""
    _TOUCHED.add(path)
    if _BEATING.acquire(blocking=False):
        threading.Thread(target=_beat, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        _TOUCHED.discard(path)


def _beat() -> None:
    while True:
        threading.Event().wait(HEARTBEAT_ENDS / 10)
        for path in tuple(_TOUCHED):
            with contextlib.suppress(OSError):
                os.utime(path)


def _remove(partial: Path) -> None:
    if partial.is_dir() and not partial.is_symlink():
        for _ in range(3):  # a process that ends with this one may still write in it
            shutil.rmtree(partial, ignore_errors=True)
            if not partial.exists():
                break
    else:
        partial.unlink(missing_ok=True)


def share(folders: Iterable[Path]) -> None:
    """Say that other processes write in these folders for this one."""
    _SHARED.update(folders)


def discard_unfinished() -> None:
    """Remove what any thread of this process is writing. The process has to end at once then.

    So goes what dead processes left where others write for this one.
    """
    for partial in tuple(_UNFINISHED):
        with contextlib.suppress(OSError):
            _remove(partial)
    for _ in _discarded(tuple(_SHARED)):
        pass


def discard_abandoned(*folders: Path) -> None:
    """Remove what processes that are dead left unfinished in these folders (not below them)."""
    for path in _discarded(folders):
        log.info("Removed %s, which a command left that ended early", path)


def _discarded(folders: Iterable[Path]) -> Iterator[Path]:
    """Remove what dead processes left unfinished in folders, and yield it."""
    for folder in {*folders}:
        for path in unfinished_in(folder):
            with contextlib.suppress(OSError):  # another command may be as quick; others' own stay
                if is_abandoned(path):
                    _remove(path)
                    yield path


def unfinished_elsewhere() -> list[Path]:
    """Return the folders in which others write for this process and something is unfinished."""
    return sorted(folder for folder in tuple(_SHARED) if unfinished_in(folder))


def is_abandoned(partial: Path) -> bool:
    """Tell whether there is evidence that the process that was writing this is dead."""
    process = Process.named_in(partial.name)
    try:
        return process is not None and process.is_dead(partial.lstat().st_mtime)
    except FileNotFoundError:
        return False


def unfinished_in(folder: Path) -> list[Path]:
    """Return what processes, dead or alive, have not finished in a folder."""
    try:
        return [p for p in folder.iterdir() if p.name.startswith(".") and _MARK in p.name]
    except OSError:
        return []


def unfinished_below(folder: Path) -> list[Path]:
    """Return the folders, `folder` and those below, in which something is not finished."""
    found = []
    for place, folders, names in os.walk(folder):
        if any(name.startswith(".") and _MARK in name for name in (*folders, *names)):
            found.append(Path(place))
        folders[:] = [name for name in folders if not name.startswith(".")]
    return found


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
    """Provide an empty folder, removed at the end: in `parent`, or outside the project.

    What dead processes left there goes first.
    """
    place = parent or Path(tempfile.gettempdir())
    place.mkdir(parents=True, exist_ok=True)
    discard_abandoned(place)
    with unfinished(place / "htt-ml") as folder:
        with writing(folder):
            folder.mkdir(mode=0o700)
        yield folder
