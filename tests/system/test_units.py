"""A unit is done again where anything changed that it follows from, and only there."""

from __future__ import annotations

import ast
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from utils.schema import PROJECT
from utils.system import units
from utils.system.units import UnitOfWork, code_of, recall, record, sources_of


@dataclass(frozen=True)
class Cut:
    text: str
    where: Path


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnitOfWork:
    monkeypatch.setattr(units, "RECORDS", tmp_path / "done")
    path = tmp_path / "out.h5"
    path.write_text("made")
    return UnitOfWork(
        name="sample S",
        key="skim out.h5",
        step="utils.columns.folds",
        inputs=[{"size": 3, "uuid": "u"}, [1.5, float("nan"), None]],
        configuration={"cut": Cut("x > 0", tmp_path), "names": {"b", "a"}, 1: True},
        files=[path],
    )


def test_what_is_done_and_unchanged_is_skipped(
    unit: UnitOfWork, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert recall(unit) is None
    assert caplog.messages == []
    record(unit, {"rows": 3})
    assert recall(replace(unit, configuration={**unit.configuration})) == {"rows": 3}
    assert caplog.messages == ["sample S: unchanged, skipped"]
    assert recall(unit, force=True) is None
    assert caplog.messages[1:] == ["sample S: done again, as asked for"]
    assert recall(replace(unit, key="skim other.h5")) is None
    units.forget(unit.key)
    assert recall(unit) is None


def test_code_that_changes_during_the_work_is_not_what_it_was_done_by(
    unit: UnitOfWork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def forget_sources() -> None:
        for cached in (units.code_of, units.sources_of, units._source):
            cached.cache_clear()

    step = "utils.columns.weights"  # which no other test has looked at in this process
    forget_sources()
    read = Path.read_bytes
    begun = replace(unit, step=step)
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"# mended")
    record(begun, 1)
    forget_sources()
    try:
        assert recall(replace(unit, step=step)) is None
    finally:
        monkeypatch.undo()
        forget_sources()
    assert caplog.messages == ["sample S: done again, the code changed"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": [{"size": 4, "uuid": "u"}]}, "its input changed"),
        ({"configuration": {"cut": Cut("x > 1", Path())}}, "its configuration changed"),
        ({"step": "utils.columns.weights"}, "the code changed"),
        ({"inputs": 1, "configuration": 2}, "its input and its configuration changed"),
    ],
)
def test_what_changed_is_named(
    unit: UnitOfWork, caplog: pytest.LogCaptureFixture, change: dict[str, Any], said: str
) -> None:
    caplog.set_level(logging.INFO)
    record(unit, True)
    assert recall(replace(unit, **change)) is None
    assert caplog.messages == [f"sample S: done again, {said}"]


def test_files_that_changed_or_went_are_made_again(unit: UnitOfWork) -> None:
    [path] = unit.files
    record(unit, True)
    path.write_text("Made")
    assert recall(unit) is None
    record(unit, True)
    assert recall(unit)
    path.unlink()
    assert recall(unit) is None


def test_a_damaged_record_is_none(unit: UnitOfWork) -> None:
    record(unit, True)
    for text in ("", "[]", json.dumps({"made_from": {}})):
        unit._record.write_text(text)
        assert recall(unit) is None


def test_values_without_a_text_of_their_own_are_no_part_of_a_fingerprint(unit: UnitOfWork) -> None:
    with pytest.raises(TypeError, match="a object is no part"):
        record(replace(unit, inputs=object()), True)


def test_code_is_what_a_step_imports_wherever_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(**changed: str) -> str:
        texts = {
            "__init__": "",
            "step": "from utils.own import a\ndef f():\n    from utils.late.deep import g\n",
            "own/__init__": "",
            "own/a": "import utils.below\n",
            "below": "",
            "late/__init__": "",
            "late/deep": "",
            "other": "",
        }
        for name, text in {**texts, **changed}.items():
            path = tmp_path / "utils" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        forget_sources()
        return code_of("utils.step")

    monkeypatch.setattr(units, "PROJECT", tmp_path)
    before = step()
    assert step(other="x = 1") == before
    for name in ("step", "own/__init__", "own/a", "below", "late/__init__", "late/deep"):
        assert step(**{name: "x = 1\nimport utils.below, utils.own.a, utils.late.deep\n"}) != before
    assert step() == before
    with monkeypatch.context() as patch:
        patch.setattr(units.versions, "version", lambda name: f"{name} 0")
        units.code_of.cache_clear()
        assert code_of("utils.step") != before
    forget_sources()


def forget_sources() -> None:
    for cached in (units._modules, units._source, units.sources_of, units.code_of):
        cached.cache_clear()


def parsed(source: bytes) -> set[str]:
    """Return what `units.imported` does, by Python's own parser."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = [name.split(".") for name in named if name.split(".")[0] == "utils"]
    return {".".join(parts[:n]) for parts in own for n in range(1, len(parts) + 1)}


def test_imports_are_those_that_the_parser_finds() -> None:
    sources = {path: path.read_bytes() for path in PROJECT.joinpath("utils").rglob("*.py")}
    assert len(sources) > 100
    for path, source in sources.items():
        assert units.imported(source) == parsed(source), path
    text = b"import os, utils.a as x\nfrom utils import (  # some\n    b as c,\n    d,\n)\n"
    assert units.imported(text) == {"utils", "utils.a", "utils.b", "utils.d"}


def test_the_code_of_a_stage_is_not_that_of_a_later_one() -> None:
    stages = PROJECT / "utils" / "stages"
    assert stages / "preprocessing" / "reading.py" in sources_of("utils.stages.preprocessing")
    assert stages / "preprocessing" / "reading.py" in sources_of("utils.stages.prediction")
    assert not any(p.parent.name == "prediction" for p in sources_of("utils.stages.preprocessing"))
