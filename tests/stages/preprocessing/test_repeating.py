"""What a repeated preprocessing takes over, and what it must read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from small_analysis import config

from preprocess import make_training_skims
from utils.schema import InputError
from utils.stages.preprocessing import reading, training_skims
from utils.stages.preprocessing.repeating import rows_unit
from utils.system import units


def write(path: Path, n: int = 3) -> None:
    columns = {"run": np.ones(n, "i4"), "evt": np.arange(n, dtype="u8"), "x": np.arange(float(n))}
    with uproot.recreate(path) as file:
        file.mktree("T", {name: c.dtype for name, c in columns.items()}).extend(columns)


def test_rows_are_not_taken_over_where_their_file_has_another_number(tmp_path: Path) -> None:
    """Rows hold the number of their file among all: it changes with the samples before."""
    for name in ("A", "B", "C"):
        write(tmp_path / f"{name}.root")

    def unit_of_b(*files: str) -> str:
        samples = [{"A": {"p": {"class": 0}}}, {"B": {"q": {"class": 1}}}]
        described = {"A": {"files": list(files)}}
        analysis = config(tmp_path, training_samples=samples, samples=described)
        plan = reading.plan(analysis, analysis.read_samples)
        return rows_unit(analysis, plan, 1).fingerprint

    assert unit_of_b("A.root") == unit_of_b("C.root")
    assert unit_of_b("A.root") != unit_of_b("A.root", "C.root")


def test_what_was_read_is_kept_where_what_fails_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is gone, a full disk: what was read before need not be read again."""
    monkeypatch.setattr(units, "RECORDS", tmp_path / "done")
    for name in ("A", "B"):
        write(tmp_path / f"{name}.root", 40)
    samples = [{"A": {"p": {"class": 0}}}, {"B": {"q": {"class": 1}}}]
    analysis = config(tmp_path, training_samples=samples, engine={"kind": "serial"})
    read, put = reading.read, training_skims.write
    names: list[str] = []

    def reads(unit: Any) -> Any:
        names.append(unit.info.path.stem)
        if gone and unit.info.path.stem == "B":
            raise InputError("B.root: could not read 8 bytes at 0: the server is gone")
        return read(unit)

    def writes(*given: Any) -> None:
        if full:
            raise InputError("the disk is full")
        put(*given)

    monkeypatch.setattr(reading, "read", reads)
    monkeypatch.setattr(training_skims, "write", writes)
    gone, full = True, False
    with pytest.raises(InputError, match="the server is gone"):
        make_training_skims(analysis)
    gone, full = False, True
    with pytest.raises(InputError, match="the disk is full"):
        make_training_skims(analysis)
    full = False
    paths = make_training_skims(analysis)
    assert names == ["A", "B", "B"]
    assert all(path.is_file() for path in paths)
    assert not training_skims.kept_folder(analysis).exists()


def test_an_input_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "RECORDS", tmp_path / "done")
    path = tmp_path / "S.root"
    write(path, 40)
    analysis, read, names = config(tmp_path), reading.read, []

    def reads(unit: Any) -> Any:
        names.append(unit.info.path.stem)
        done = read(unit)
        if len(names) == 1:
            os.utime(path, (1, 1))
        return done

    monkeypatch.setattr(reading, "read", reads)
    for _ in range(3):
        make_training_skims(analysis)
    assert names == ["S", "S"]
