"""Results that are written and read again are the same bit for bit, and files run nothing."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import differences, make_evaluation, make_table
from hypothesis import given
from hypothesis import strategies as st

from utils.results import stored
from utils.results.evaluation import Evaluation
from utils.results.metrics.comparison import compare
from utils.results.options import EvaluationOptions
from utils.schema import ClassInfo

NO_RESULT = {"classes"}
"""What an evaluation has of its run."""


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    tables = [make_table(("a", "b"), 300, "test", seed) for seed in (7, 8)]
    other = replace(tables[1], target=tables[0].target, weight=tables[0].weight)
    compared = compare(tables[0], other, EvaluationOptions(n_bootstrap=5))
    return replace(make_evaluation(), comparison=compared)


@pytest.mark.parametrize("name", [f.name for f in fields(Evaluation) if f.name not in NO_RESULT])
def test_every_section_is_read_as_it_was_written(
    evaluation: Evaluation, tmp_path: Path, name: str
) -> None:
    made = getattr(evaluation, name)
    assert made is not None
    stored.write(tmp_path / "made.npz", made)
    assert differences(stored.read(tmp_path / "made.npz"), made) == []


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NUMPY = (
    st.floats().map(np.float64) | st.booleans().map(np.bool_) | st.floats(width=32).map(np.float32)
)
NESTED = st.recursive(
    PLAIN | NUMPY | st.lists(st.floats()).map(np.array),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.integers(), inner),
)


@given(value=NESTED)
def test_any_nesting_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "nested.npz"
    stored.write(path, value)
    assert differences(stored.read(path), value) == []


@pytest.mark.parametrize(
    "value", [ClassInfo(name="a"), {1, 2}, len, np.array([None, {}], object), {"a": [object()]}]
)
def test_what_is_no_result_is_not_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="not stored"):
        stored.write(tmp_path / "made.npz", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "tree",
    [
        {"of": ["os", "system"], "fields": [["command", "touch ran"]]},
        {"of": ["utils.results.stored", "importlib"], "fields": []},
        {"of": ["utils.results.evaluation", "evaluate"], "fields": []},
        {"of": ["utils.results.nowhere", "Evaluation"], "fields": []},
        {"of": ["utils.results.options", "EvaluationOptions"], "fields": [["colour", 1]]},
        {"array": "a7"},
        {"set": [1]},
        {"tuple": 3},
        {"a": 1, "b": 2},
    ],
)
def test_files_that_name_what_is_no_result_are_damaged(tmp_path: Path, tree: Any) -> None:
    arrays = {"tree": np.frombuffer(json.dumps(tree).encode(), np.uint8)}
    np.savez(tmp_path / "made.npz", sum=stored._checksum(arrays), **arrays)
    with pytest.raises(ValueError, match=r"made\.npz can't be read: (?!'sum'|it was changed)"):
        stored.read(tmp_path / "made.npz")
    assert not Path("ran").exists()


def test_damaged_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    stored.write(path, {"a": np.arange(100.0)})
    whole = path.read_bytes()
    for damaged in (b"", whole[:50], whole[:-30], whole[:200] + b"x" * 50 + whole[250:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"made\.npz can't be read"):
            stored.read(path)
    np.savez(path, tree=np.array([{}], object))  # pickled
    with pytest.raises(ValueError, match=r"made\.npz can't be read"):
        stored.read(path)


def test_no_changed_byte_gives_other_numbers(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    made = {"a": np.arange(12.0), "b": ("text", np.float32(0.5))}
    stored.write(path, made)
    whole, n_told = path.read_bytes(), 0
    for i in range(len(whole)):
        for changed in (whole[i] ^ 1, whole[i] ^ 64):
            path.write_bytes(whole[:i] + bytes([changed]) + whole[i + 1 :])
            try:
                found = stored.read(path)
            except ValueError:
                n_told += 1
            else:  # a byte that means nothing, such as a date
                assert differences(found, made) == []
    assert n_told > len(whole)
