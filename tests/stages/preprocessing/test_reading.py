"""What is read, and what would be read in a way that nobody means."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from utils.schema import InputError, PreprocessConfig, load
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


def test_a_sample_without_files_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"sample": "A", "files": []}, for_training=False)
    with pytest.raises(InputError, match="files of sample 'A' is an empty list"):
        reading.plan(config, config.read_samples)
