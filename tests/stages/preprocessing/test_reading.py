"""What is read, and what would be read in a way that nobody means."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from small_analysis import config

from utils.schema import ConfigError, InputError, PreprocessConfig, load
from utils.stages.preprocessing import reading


def ntuple(path: Path) -> None:
    with uproot.recreate(path) as file:
        columns = {
            "run": np.ones(4, np.int32),
            "evt": np.arange(4),
            "x": np.arange(4.0),
            "weight": np.full(4, 0.5),
        }
        file.mktree("T", {name: values.dtype for name, values in columns.items()})
        file["T"].extend(columns)


def config_of(folder: Path, *samples: Any, **keys: Any) -> PreprocessConfig:
    base = {"input_path": str(folder), "input_tree_name": "T", "cont_features": ["x"]}
    return load(PreprocessConfig, {**base, "input_samples": list(samples), **keys})


def sample(name: str, class_id: int, **more: Any) -> dict[str, Any]:
    return {"sample": name, "processes": {name: {"class": class_id}}, **more}


def test_balance_by_weight_reads_the_weight(tmp_path: Path) -> None:
    ntuple(tmp_path / "A.root")
    config = config_of(tmp_path, sample("A", 0), class_balance="weight")
    [unit] = reading.plan(config, config.read_samples).units
    assert reading.read(unit).groups["weights"]["weight"].tolist() == [0.5] * 4


@pytest.mark.parametrize("copied", [False, True])
def test_two_samples_of_the_same_events_are_refused(tmp_path: Path, copied: bool) -> None:
    ntuple(tmp_path / "A.root")
    shutil.copy(tmp_path / "A.root", tmp_path / "B.root")
    other = sample("B", 1, files="B.root" if copied else "A.root")
    config = config_of(tmp_path, sample("A", 0), other)
    with pytest.raises(InputError, match="samples A and B read the same events"):
        reading.plan(config, config.read_samples)
    config = config_of(tmp_path, {**sample("A", 0), "group": "AB"}, {**other, "group": "AB"})
    assert len(reading.plan(config, config.read_samples).units) == 2


@pytest.mark.parametrize("for_training", [True, False])
def test_a_copied_file_in_a_sample_is_refused(tmp_path: Path, for_training: bool) -> None:
    ntuple(tmp_path / "A1.root")
    shutil.copy(tmp_path / "A1.root", tmp_path / "A2.root")
    ntuple(tmp_path / "A3.root")  # the same events, written anew: nothing tells
    of = sample("A", 0) if for_training else {"sample": "A"}
    for files, refused in (("A?.root", True), (["A1.root", "A3.root"], False)):
        config = config_of(tmp_path, {**of, "files": files}, for_training=for_training)
        if refused:
            with pytest.raises(
                InputError, match=r"A1\.root and .*A2\.root of sample 'A' hold the same"
            ):
                reading.plan(config, config.read_samples)
        else:
            assert len(reading.plan(config, config.read_samples).units) == 2


def test_a_sample_without_files_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"sample": "A", "files": []}, for_training=False)
    with pytest.raises(InputError, match="files of sample 'A' is an empty list"):
        reading.plan(config, config.read_samples)


def write(path: Path, columns: Mapping[str, Any]) -> None:
    columns = {name: np.asarray(values) for name, values in columns.items()}
    with uproot.recreate(path) as file:
        file.mktree("T", {n: (v.dtype, v.shape[1:]) for n, v in columns.items()}).extend(columns)


def read(config: PreprocessConfig) -> reading.Selected:
    plan = reading.plan(config, config.read_samples)
    return reading.join([reading.read(unit) for unit in plan.units])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path / "S.root",
        {
            "run": np.ones(4, "i4"),
            "evt": np.arange(4, dtype="u8"),
            "x": np.array([1, 2, 3, 4], "f4"),
            "jpt_1": np.array([50, -999, -999, 60], "f4"),
            "jpt_2": np.array([25, 30, -999, -10], "f4"),
            "jet": np.array([[1, 2], [3, -999], [-999, 6], [7, 8]], "f4"),
        },
    )
    return tmp_path


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"clip": {"xx": [0, 5]}}, "clip names 'xx', which is no feature and no branch"),
        ({"feature_info": {"jpt_3": {"missing": -10}}}, "nearest: 'jpt_[12]'"),
        ({"profile_features": ["y"]}, "profile_features names 'y'"),
    ],
)
def test_a_misspelt_column_is_no_silent_nothing(
    folder: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config(folder, **keys))


def test_what_is_said_of_a_branch_that_is_not_read_now_may_stay(folder: Path) -> None:
    read(config(folder, clip={"jpt_1": [0, 5]}, feature_info={"jpt_2": {"label": "x"}}))


DERIVED = {"ratio": "jpt_1 / jpt_2", "both": "leading + 1", "first": "log(jet[0])"}


def test_a_derived_feature_is_missing_where_a_branch_is(folder: Path) -> None:
    """-999 / -999 is no ratio of 1, and log(-999) no NaN that nobody declared."""
    keys = {"derived_features": DERIVED, "cuts": {"leading": "jpt_1 > 55"}, "missing": -999}
    selected = read(config(folder, cont_features=list(DERIVED), **keys))
    columns = selected.groups["cont_features"]
    nan = float("nan")
    np.testing.assert_array_equal(columns["ratio"], np.array([2, nan, nan, -6], "f4"))
    np.testing.assert_array_equal(columns["both"], np.array([1, nan, nan, 2], "f4"))
    np.testing.assert_allclose(columns["first"], np.log([1, 3, nan, 7]), rtol=1e-6)
    assert selected.n_missing == {"both": 2, "first": 1, "ratio": 2}


def test_the_policy_of_the_branch_is_that_of_what_is_made_from_it(folder: Path) -> None:
    of_branch = {"jpt_2": {"missing": {"values": [-10, -999], "to": 7}}}
    keys = {"cont_features": ["ratio"], "derived_features": {"ratio": DERIVED["ratio"]}}
    columns = read(config(folder, feature_info=of_branch, **keys)).groups["cont_features"]
    np.testing.assert_allclose(columns["ratio"], [2, -999 / 30, 7, 7], rtol=1e-6)
    refusing = {"jpt_2": {"missing": {"values": [-10], "to": "refuse"}}}
    with pytest.raises(InputError, match="1 of 4 values of 'ratio' are the missing value -10"):
        read(config(folder, feature_info=refusing, **keys))


def test_an_event_number_is_no_float_in_one_file_and_an_integer_in_another(folder: Path) -> None:
    """Joined as float64, a float32 number above 2^24 would look exact."""
    write(
        folder / "S2.root",
        {"run": np.ones(2, "i4"), "evt": np.array([3e7, 3e7 + 2], "f4"), "x": np.ones(2, "f4")},
    )
    both = config(
        folder,
        training_samples=[{"sample": "S", "files": "S*.root", "processes": {"p": {"class": 0}}}],
    )
    with pytest.raises(InputError, match="'evt' is float32 in one input and uint64 in another"):
        read(both)


def test_units_fit_into_a_worker_and_keep_the_order_of_rows(tmp_path: Path) -> None:
    ntuple(tmp_path / "A.root")
    two = {"sample": "A", "processes": {"p": {"class": 0}, "q": {"class": 1, "cut": "x > 0"}}}
    config = config_of(tmp_path, two, chunk_size=1)
    [whole] = reading.plan(config, config.read_samples).units
    assert reading.within([whole], None) == reading.within([whole], 10**9) == [whole]
    n_columns = len(whole.roles.columns())
    two_chunks = 400_000_000 + 2 * 4 * 8 * (n_columns + 8)
    for memory, spans in ((two_chunks, [(0, 2), (2, 4)]), (1, [(0, 1), (1, 2), (2, 3), (3, 4)])):
        cut = reading.within([whole], memory)
        assert [tuple(unit.entries) for unit in cut] == spans
        joined = reading.join([reading.read(unit) for unit in cut])
        expected = reading.read(whole)
        assert joined.n_selected == expected.n_selected
        for group, columns in expected.groups.items():
            for name, column in columns.items():
                np.testing.assert_array_equal(joined.groups[group][name], column, strict=True)


def test_chunks_fit_into_a_worker() -> None:
    assert reading.rows_within(None, 100, 24_576) == 24_576
    assert reading.rows_within(4_000_000_000, 100, 24_576) == 24_576
    few = reading.rows_within(500_000_000, 1_000, 24_576)
    assert 400_000_000 + few * 4 * 8 * 1_008 <= 500_000_000
    assert few > 3_000
    assert reading.rows_within(1, 1_000, 24_576) == 1_000
    assert reading.rows_within(1, 1_000, 10) == 10


@pytest.mark.parametrize("order", [("A", "B"), ("B", "A")])
def test_events_of_samples_with_one_and_two_processes_are_all_counted(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    for name, first in (("A", 0), ("B", 10)):
        columns = {"run": np.ones(4, "i4"), "evt": np.arange(4) + first, "x": np.arange(4.0)}
        write(tmp_path / f"{name}.root", columns)
    two = {"p": {"class": 0, "cut": "x > 0"}, "q": {"class": 1, "cut": "x <= 0"}}
    samples = {"A": sample("A", 1), "B": {"sample": "B", "processes": two}}
    joined = read(config_of(tmp_path, *(samples[name] for name in order)))
    assert joined.n_rows == len(joined.groups["targets"]["target"]) == 8
