"""Which trainings are kept for `resume`, and which are removed: in doubt they stay."""

from __future__ import annotations

import errno
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils.schema import PROJECT, PipelineError, TrainConfig, portable
from utils.system import units
from utils.system.processes import Process

keeping = importlib.import_module("utils.stages.training.keeping")  # not the function of that name


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keeping, "TRAININGS", tmp_path / "trainings")
    monkeypatch.setattr(units, "RECORDS", tmp_path / "done")
    (tmp_path / "trainings").mkdir()
    return tmp_path / "trainings"


@pytest.fixture(scope="module")
def dead() -> Process:
    """A process of this machine that has ended."""
    said = "from utils.system.processes import Process; print(Process.current())"
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    found = Process.named_in(done.stdout)
    assert found is not None
    return found


def kept(folder: Path, name: str, owner: Process, run: str | None) -> Path:
    """Write a training with one fold, of a process and with the text of its `run.json`."""
    training = folder / name
    training.mkdir()
    (training / "owner.json").write_text(json.dumps({"process": str(owner)}))
    (training / "fold_0.json").write_text("{}")
    if run is not None:
        (training / "run.json").write_text(run)
    return training


def test_trainings_that_nothing_goes_on_with_are_removed_and_no_others(
    trainings: Path, dead: Process
) -> None:
    lost = [kept(trainings, "lost", dead, None), trainings / f"{dead}-early"]
    lost[1].mkdir()  # killed before anything was in it
    others = [
        kept(trainings, "resumable", dead, '{"run_id": "0123"}'),
        kept(trainings, "unreadable", dead, ""),
        kept(trainings, "living", Process.current(), None),
    ]
    (trainings / ".DS_Store").write_text("")
    (trainings / "note.txt").write_text("")
    with keeping.keeping(TrainConfig(), ()) as training:
        assert [p for p in lost if p.exists()] == []
        assert [p for p in others if not p.is_dir()] == []
        assert training.folder.is_dir()
        training.drop()
        assert not training.folder.exists()
    assert {p.name for p in trainings.iterdir()} >= {".DS_Store", "note.txt"}


def test_a_removed_training_leaves_no_record_of_its_folds(trainings: Path, dead: Process) -> None:
    lost = kept(trainings, "lost", dead, None)
    fold = lost / "fold_0.json"
    unit = units.UnitOfWork("fold 0", portable(fold), "utils.stages.training", 1, 2, [fold])
    units.record(unit, True)
    assert units.recall(unit) is True
    with keeping.keeping(TrainConfig(), ()) as training:
        training.drop()
    assert list(units.RECORDS.glob("*.json")) == []


def test_folds_that_a_full_disk_kept_from_the_store_are_told(
    trainings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def meet_a_full_disk() -> None:
        with keeping.keeping(TrainConfig(), ()) as training:
            (training.folder / "run.json").write_text('{"run_id": "0123"}')
            (training.folder / "fold_0.json").write_text("{}")
            raise OSError(errno.ENOSPC, "No space left on device", "/store/x")

    said = "No space left on device: /store/x .*; 1 trained folds are kept in .*: 'python train.py "
    with pytest.raises(PipelineError, match=f"{said}resume=0123' goes on and delivers them"):
        meet_a_full_disk()
    assert list(trainings.glob("*/fold_0.json"))


def test_a_fold_follows_from_every_key_but_what_only_names_and_carries_it(tmp_path: Path) -> None:
    skim = SimpleNamespace(path=tmp_path / "train.h5", stamp=(1, 2))
    training = keeping.KeptTraining(tmp_path, TrainConfig())
    unit = training.unit(skim, 0)
    stated = set(TrainConfig().model_dump(by_alias=True))
    assert stated - set(unit.configuration) == {"engine", "experiment_name", "run_name"}
    for changed in ({"seed": 7}, {"model_param": {"num_iterations": 7}}, {"n_splits": 7}):
        other = keeping.KeptTraining(tmp_path, TrainConfig(**changed))
        assert units.changed(other.unit(skim, 0), unit.made_from, False)
    skim.stamp = (1, 3)
    assert units.changed(training.unit(skim, 0), unit.made_from, False) == "its input changed"
