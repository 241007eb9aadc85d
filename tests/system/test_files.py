"""Files are complete or absent, and what the system says of them is told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.schema import InputError, PipelineError, ProofError
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
