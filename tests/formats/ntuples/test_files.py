"""Files of a sample: named, matched or listed, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.formats.ntuples import find_files
from utils.schema import InputError, Sample


def sample(*files: str | Path) -> Sample:
    return Sample("DY", tuple(map(str, files)), "t", ())


def test_files_are_paths_patterns_or_lists(tmp_path):
    for name in ("b.root", "a.root", "c.root", "d[1].root"):
        (tmp_path / name).touch()
    assert find_files(sample(tmp_path / "b.root", tmp_path / "a.root")) == (
        tmp_path / "a.root",
        tmp_path / "b.root",
    )
    assert find_files(sample(tmp_path / "[ab].root")) == (tmp_path / "a.root", tmp_path / "b.root")
    assert find_files(sample(tmp_path / "d[1].root")) == (tmp_path / "d[1].root",)
    listed = tmp_path / "files.txt"
    listed.write_text(f"# run A\n{tmp_path}/c.root  # the last\n\n{tmp_path}/[ab].root\n")
    assert [p.name for p in find_files(sample(listed))] == ["a.root", "b.root", "c.root"]


def test_files_that_are_not_there_are_named(tmp_path):
    (tmp_path / "a.root").touch()
    (tmp_path / "empty.list").write_text("# nothing\n")
    (tmp_path / "wrong.txt").write_text(f"{tmp_path}/z.root\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xff")
    for entry, said in [
        ("aa.root", "there is no file .*aa.root; nearest: 'a.root'.*sample 'DY'"),
        ("x*.root", "no file matches .*sample 'DY'"),
        ("no/a.root", "nor a folder"),
        ("", "is a folder .*write .*/\\*.root"),
        ("empty.list", "names no file"),
        ("wrong.txt", "no file .*z.root.*wrong.txt, sample 'DY'"),
        ("none.txt", "no file .*none.txt.*list of files of sample 'DY'"),
        ("binary.txt", "not a readable text file"),
    ]:
        with pytest.raises(InputError, match=said):
            find_files(sample(tmp_path / entry))


def test_a_file_named_twice_is_refused(tmp_path):
    (tmp_path / "a.root").touch()
    with pytest.raises(InputError, match=r"names .*a.root twice"):
        find_files(sample(tmp_path / "*.root", tmp_path / "a.root"))
