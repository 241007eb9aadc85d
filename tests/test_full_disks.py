"""Whole commands that meet a full disk: the disk is named, and nothing is lost or left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_channel import small_channel
from workspaces import Workspace, last_run

QUICK = ("n_bootstrap=2", "engine.n_workers=1")


@dataclass(frozen=True)
class Disk:
    """A small disk that is mounted at `folder`."""

    folder: Path

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes."""
        filler = self.folder / "filler"
        filler.unlink(missing_ok=True)
        status = os.statvfs(self.folder)
        size = status.f_bavail * status.f_frsize - left
        with filler.open("wb") as file:
            file.write(bytes(size))

    def empty(self) -> None:
        (self.folder / "filler").unlink()

    @property
    def files(self) -> set[str]:
        """What is on it."""
        below = self.folder.rglob("*")
        names = {p.relative_to(self.folder).as_posix() for p in below if p.is_file()}
        return names - {"filler"}

    @property
    def named(self) -> str:
        return f"the disk mounted at {self.folder}"


@pytest.fixture
def disk(mounted: Disk) -> Disk:
    """A small disk with nothing on it."""
    for path in mounted.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return mounted


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"only the superuser may mount a small disk: {done.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def analysis(shared_workspace: Workspace) -> str:
    given = f"analysis={small_channel(shared_workspace.folder / 'ntuples', 4000)}"
    shared_workspace.run("python", "preprocess.py", given)
    return given


@pytest.fixture(scope="module")
def trained(shared_workspace: Workspace, analysis: str) -> str:
    """A run, with its tables and an evaluation."""
    shared_workspace.run("python", "train.py", analysis, "n_splits=2")
    run = f"run_id={last_run(shared_workspace)['run_id']}"
    shared_workspace.run("python", "predict.py", "--config-name", "for_evaluation", run)
    return run


def test_skims(shared_workspace: Workspace, analysis: str, disk: Disk) -> None:
    command = ("python", "preprocess.py", analysis, f"skim_path={disk.folder}/skims")
    for left in (0, 100_000):  # not even a name, and not all rows
        disk.fill(left)
        line = shared_workspace.fails(*command)
        assert disk.named in line
        assert "train.h5" in line or ".npz" in line
        assert {name for name in disk.files if not name.endswith(".npz")} == set()
    disk.empty()
    done = shared_workspace.run(*command)
    assert "train.h5" in done.stdout
    assert not [name for name in disk.files if name.endswith((".npz", ".tmp"))]


def test_friend_trees(shared_workspace: Workspace, analysis: str, trained: str, disk: Disk) -> None:
    where = f"output_path={disk.folder}/friends"
    command = ("python", "predict.py", "--config-name", "for_datacards", "source=ntuples", trained)
    disk.fill(50_000)
    before = disk.files
    line = shared_workspace.fails(*command, where)
    assert disk.named in line
    assert "_pred.root" in line
    assert disk.files == before
    disk.empty()
    shared_workspace.run(*command, where)
    assert disk.files > before


def test_temporary_files(
    shared_workspace: Workspace, analysis: str, trained: str, disk: Disk
) -> None:
    """Models are kept; they are delivered when there is space."""
    temporary = disk.folder / "tmp"
    temporary.mkdir()
    there = {"TMPDIR": str(temporary)}
    disk.fill(20_000)
    line = shared_workspace.fails("python", "train.py", analysis, "n_splits=2", environment=there)
    assert disk.named in line
    assert "2 trained folds are kept" in line
    assert list(temporary.iterdir()) == []
    resume = line.partition("'python ")[2].partition("'")[0].split()
    table = shared_workspace.fails(
        *("python", "evaluate.py", trained, *QUICK, "sections=[confusion]"), environment=there
    )
    assert disk.named in table
    disk.empty()
    done = shared_workspace.run("python", *resume, environment=there)
    assert [f"fold {i}: unchanged, skipped" in done.stderr for i in range(2)] == [True, True]
    assert list(temporary.iterdir()) == []


def test_the_store(shared_workspace: Workspace, analysis: str, disk: Disk) -> None:
    """Models that the store's disk does not hold are kept; an evaluation leaves the earlier one."""
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{disk.folder}/mlflow.db"}
    train = ("python", "train.py", analysis, "n_splits=2")
    shared_workspace.run(*train, environment=store)
    run = f"run_id={last_run(shared_workspace)['run_id']}"
    shared_workspace.run(
        *("python", "predict.py", "--config-name", "for_evaluation", run), environment=store
    )
    evaluate = ("python", "evaluate.py", run, *QUICK, "sections=[features]")
    shared_workspace.run(*evaluate, environment=store)
    earlier = published(disk)
    disk.fill(100_000)
    line = shared_workspace.fails(*evaluate[:-1], "sections=[confusion]", environment=store)
    assert disk.named in line
    assert published(disk) == earlier
    line = shared_workspace.fails(*train, environment=store)
    assert str(disk.folder) in line
    assert "2 trained folds are kept" in line
    disk.empty()
    resume = line.partition(" python ")[2].partition("'")[0].split()
    done = shared_workspace.run("python", *resume, environment=store)
    assert [f"fold {i}: unchanged, skipped" in done.stderr for i in range(2)] == [True, True]


def published(disk: Disk) -> dict[str, bytes]:
    """Return the evaluations on a disk."""
    return {
        str(path): path.read_bytes()
        for path in disk.folder.rglob("artifacts/plots/**/*")
        if path.is_file()
    }
