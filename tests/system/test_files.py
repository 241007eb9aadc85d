"""Files are complete or absent, and what the system says of them is told in words."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from utils.schema import InputError, PipelineError, ProofError
from utils.system import files, processes
from utils.system.files import complete, scratch, system_message
from utils.system.processes import Process


def test_a_file_appears_under_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.h5"
    with complete(path) as partial:
        assert (partial.parent, partial.suffix) == (path.parent, ".h5")
        partial.write_text("half")
        assert not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_keeps_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.h5"
    path.write_text("earlier")

    def interrupted(partial: Path) -> None:
        partial.write_text("half")
        raise error

    with pytest.raises(error), complete(path) as partial:
        interrupted(partial)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    with complete(path) as first, complete(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # whoever ends last
    assert list(tmp_path.iterdir()) == [path]


def test_scratch_is_empty_and_goes_with_all_it_holds(tmp_path: Path) -> None:
    with scratch(tmp_path / "there") as folder:
        assert folder.parent == tmp_path / "there"
        assert list(folder.iterdir()) == []
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    assert list((tmp_path / "there").iterdir()) == []
    with pytest.raises(ValueError, match="in it"), scratch() as folder:
        raise ValueError("in it")
    assert not folder.exists()


def test_an_error_of_the_system_names_its_file() -> None:
    assert system_message(PermissionError(13, "Permission denied", "/there")) == (
        "Permission denied: /there"
    )
    full = (errno.ENOSPC, "No space left on device")
    temporary = tempfile.gettempdir()
    assert system_message(OSError(*full)) == (
        f"No space left on device: {temporary} (on {files.disk_of(Path(temporary))})"
    )
    copied = OSError(*full, "/source/x.root", None, "/target/x.root")
    assert "No space left on device: /target/x.root (on the disk " in system_message(copied)


@pytest.mark.parametrize("error", [InputError, ProofError])
def test_an_error_names_the_file_and_never_the_temporary_one(
    tmp_path: Path, error: type[PipelineError]
) -> None:
    path = tmp_path / "out.root"
    with pytest.raises(error) as told, complete(path) as partial:
        raise error(f"{partial} holds nothing, and {partial.name} never did")
    assert str(told.value) == f"{path} holds nothing, and out.root never did"


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    with pytest.raises(OSError, match="denied") as told, complete(path) as partial:
        raise PermissionError(errno.EACCES, "Permission denied", str(partial))
    assert system_message(told.value) == f"Permission denied: {path}"


def test_a_full_disk_is_named_by_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    with pytest.raises(OSError, match="No space left") as told, complete(path):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/source.root")
    assert system_message(told.value) == (
        f"No space left on device: {path} (on {files.disk_of(path)})"
    )
    assert os.path.ismount(files.disk_of(path).removeprefix("the disk mounted at "))


def left_by(process: Process, folder: Path, suffix: str = "") -> Path:
    """Return a file that a process left unfinished."""
    path = folder / f".out.{process}-0123abcd.tmp{suffix}"
    path.write_text("half")
    return path


def test_what_a_dead_process_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    mine = Process.current()
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    gone = [
        left_by(replace(mine, pid=child.pid), tmp_path, ".h5"),
        left_by(replace(mine, started=mine.started - 1), tmp_path),  # its number was given again
    ]
    elsewhere = replace(mine, machine="0" * 12)
    silent = left_by(elsewhere, tmp_path, ".root")
    os.utime(silent, (time.time() - 700,) * 2)
    (tmp_path / "deep").mkdir()
    stay = [
        left_by(mine, tmp_path),
        left_by(replace(elsewhere, pid=1), tmp_path),
        left_by(replace(mine, pid=child.pid), tmp_path / "deep"),
        *(tmp_path / name for name in ("out.h5", ".out.0123abcd.tmp.h5", ".hidden")),
    ]
    for path in stay:
        path.touch()
    files.discard_abandoned(tmp_path, tmp_path / "none")
    assert not any(path.exists() for path in (*gone, silent))
    assert all(path.exists() for path in stay)
    assert set(files.unfinished_below(tmp_path)) == {tmp_path, tmp_path / "deep"}


def test_a_process_of_another_user_that_is_hidden_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where /proc is mounted with hidepid; it is dead when it gave no sign of life."""
    mine = Process.current()
    path = left_by(replace(mine, pid=1, started=1), tmp_path)
    monkeypatch.setattr(processes, "_PROC", tmp_path / "hidden")
    monkeypatch.setattr(processes, "_machine", lambda: mine.machine)
    files.discard_abandoned(tmp_path)
    assert path.exists()
    os.utime(path, (time.time() - 700,) * 2)
    files.discard_abandoned(tmp_path)
    assert not path.exists()


def test_what_is_being_written_is_touched_as_long_as_its_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "HEARTBEAT_ENDS", 0.1)
    monkeypatch.setattr(files, "_BEATING", threading.Lock())
    with complete(tmp_path / "out.h5") as partial:
        partial.write_text("half")
        os.utime(partial, (0, 0))
        for _ in range(1000):
            if partial.stat().st_mtime > 0:
                break
            time.sleep(0.01)
        assert time.time() - partial.stat().st_mtime < 60


def test_a_file_system_without_locks_lets_all_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with files.locked(tmp_path / "deep" / "lock"):
        assert (tmp_path / "deep" / "lock").exists()
