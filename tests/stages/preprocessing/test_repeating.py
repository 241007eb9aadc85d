"""What a repeated preprocessing takes over, and what it must read again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from small_analysis import config

from preprocess import make_prediction_skims, make_training_skims
from utils.formats.skims import open_skim
from utils.schema import InputError
from utils.stages.preprocessing import reading, training_skims
from utils.stages.preprocessing.repeating import rows_unit, training_unit
from utils.system import engine, units


def write(path: Path, n: int = 3) -> None:
    columns = {"run": np.ones(n, "i4"), "evt": np.arange(n, dtype="u8"), "x": np.arange(float(n))}
    columns["y"] = -columns["x"]
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


SAMPLES = [{"A": {"p": {"class": 0, "cut": "x > 1"}}}, {"B": {"q": {"class": 1}}}]
CUT_ELSEWHERE = [{"A": {"p": {"class": 0, "cut": "x > 2"}}}, SAMPLES[1]]


@pytest.mark.parametrize(
    ("changed", "rows", "skims"),
    [
        ({}, "", False),
        ({"common_cut": "x > 0"}, "AB", True),
        ({"training_samples": CUT_ELSEWHERE}, "A", True),
        ({"weight": "x + 1"}, "AB", True),
        ({"cont_features": ["x", "y"]}, "AB", True),
        ({"misc_features": ["y"]}, "AB", True),
        ({"derived_features": {"z": "2 * x"}, "misc_features": ["z"]}, "AB", True),
        ({"missing": -99.0}, "AB", True),
        ({"clip": {"x": [0, 5]}}, "AB", True),
        ({"seed": 2}, "", True),
        ({"train_size": 0.5}, "", True),
        ({"duplicates": "error"}, "", True),
        ({"scaler": {"with_std": False}}, "", True),
        ({"pca": {"n_components": 1}}, "", True),
        ({"class_to_info": {0: {"name": "a"}, 1: {"name": "b"}}}, "", True),
        ({"chunk_size": 1000}, "", False),
        ({"engine": {"kind": "serial"}}, "", False),
        ({"force": True}, "", False),
    ],
    ids=lambda value: str(next(iter(value), "nothing")) if isinstance(value, dict) else "",
)
def test_what_a_changed_key_makes_done_again(
    tmp_path: Path, changed: dict[str, Any], rows: str, skims: bool
) -> None:
    assert redone(tmp_path, lambda: None, **changed) == (rows, skims)


def test_what_a_changed_input_or_step_makes_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert redone(tmp_path, lambda: os.utime(tmp_path / "B.root", (1, 1))) == ("B", True)
    assert redone(tmp_path, lambda: write(tmp_path / "A.root")) == ("A", True)

    def edited() -> None:
        monkeypatch.setattr(units, "code_of", lambda step: f"{step}, edited")

    assert redone(tmp_path, edited) == ("AB", True)


def redone(folder: Path, happens: Callable[[], object], **changed: Any) -> tuple[str, bool]:
    """Return which samples are read again after a change, and whether the skims are made again."""

    def fingerprints(**keys: Any) -> list[str]:
        analysis = config(folder, **{"training_samples": SAMPLES, **keys})
        plan = reading.plan(analysis, analysis.read_samples)
        made = [rows_unit(analysis, plan, code) for code in range(2)]
        made.append(training_unit(analysis, [plan], [analysis.skim_file("train")]))
        return [unit.fingerprint for unit in made]

    for name in ("A", "B"):
        write(folder / f"{name}.root")
    before = fingerprints()
    happens()
    differ = [one != other for one, other in zip(before, fingerprints(**changed), strict=True)]
    return "".join(name for name, differs in zip("AB", differ[:2], strict=True) if differs), differ[
        2
    ]


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
    # What is done behind the reading may change meanwhile.
    analysis = analysis.model_copy(update={"seed": 2})
    paths = make_training_skims(analysis)
    assert names == ["A", "B", "B"]
    assert not training_skims.kept_folder(analysis).exists()
    repeated = [open_skim(path).read() for path in paths]
    make_training_skims(analysis.model_copy(update={"force": True}))
    assert names == ["A", "B", "B", "A", "B"]
    for path, found in zip(paths, repeated, strict=True):
        for group, columns in open_skim(path).read().items():
            for name, column in columns.items():
                np.testing.assert_array_equal(found[group][name], column, strict=True)


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


@pytest.mark.parametrize(("memory", "sizes"), [(None, [40]), (1, [7] * 5 + [5])])
def test_what_is_read_at_once_fits_into_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int | None, sizes: list[int]
) -> None:
    monkeypatch.setattr(units, "RECORDS", tmp_path / "done")
    monkeypatch.setattr(reading, "_LEAST_ROWS", 7)
    write(tmp_path / "S.root", 40)
    analysis = config(tmp_path)
    whole, read, stream = engine.start, reading.read, reading.stream
    found: list[int] = []

    @contextmanager
    def small(given: Any) -> Iterator[engine.Engine]:
        with whole(given) as workers:
            yield replace(workers, memory=memory)

    def reads(unit: Any) -> Any:
        found.append(unit.entries.size)
        return read(unit)

    def streams(unit: Any) -> Iterator[Any]:
        for part in stream(unit):
            found.append(part.n_read)
            yield part

    monkeypatch.setattr(engine, "start", small)
    with monkeypatch.context() as training:
        training.setattr(reading, "read", reads)
        make_training_skims(analysis)
    assert found == sizes
    found.clear()
    monkeypatch.setattr(reading, "stream", streams)
    keys = {
        "for_training": False,
        "input_samples": ["S"],
        "input_pipe_file": str(analysis.pipe_file),
    }
    make_prediction_skims(config(tmp_path, **keys))
    assert found == sizes
