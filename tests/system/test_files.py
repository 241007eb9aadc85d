"""Files are complete or absent, and what the system says of them is told in words."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from utils.schema import InputError, PipelineError, ProofError
from utils.system import files
from utils.system.files import complete, scratch, system_message


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
    assert system_message(OSError(28, "No space left on device")) == "No space left on device"


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
    with pytest.raises(OSError, match="No space left") as told, complete(path) as partial:
        raise OSError(28, "No space left on device", str(partial))
    assert system_message(told.value) == f"No space left on device: {path}"


def test_files_are_exchanged_together_or_not_at_all(tmp_path: Path) -> None:
    for name in ("a", "b", "new_a", "new_b"):
        (tmp_path / name).write_text(name)
    a, b = tmp_path / "a", tmp_path / "b"

    def texts() -> dict[str, str]:
        return {p.name: p.read_text() for p in tmp_path.iterdir() if not p.name.startswith("new")}

    before = texts()
    with pytest.raises(FileNotFoundError):
        files.exchanged({a: tmp_path / "new_a", b: tmp_path / "new_none"})
    assert texts() == before
    with pytest.MonkeyPatch.context() as patch:
        replace = Path.replace

        def fails_at_b(self: Path, target: Path) -> Path:
            if target == b and ".tmp" in self.name and self.read_text() == "new_b":
                raise KeyboardInterrupt
            return replace(self, target)

        patch.setattr(Path, "replace", fails_at_b)
        with pytest.raises(KeyboardInterrupt):
            files.exchanged({a: tmp_path / "new_a", tmp_path / "c": a, b: tmp_path / "new_b"})
    assert texts() == before
    files.exchanged({a: tmp_path / "new_a", b: tmp_path / "new_b"})
    assert texts() == {"a": "new_a", "b": "new_b"}


def test_a_file_system_without_locks_lets_all_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with files.locked(tmp_path / "deep" / "lock"):
        assert (tmp_path / "deep" / "lock").exists()
