"""What the disk says of places before anything is written there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from workspaces import copy_project

from utils.formats import runs
from utils.schema import ConfigError, InputError
from utils.system import places


def test_a_place_is_judged_without_making_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.check_writable(tmp_path / "a" / "b" / "c.h5", "the skim")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the skim .*/file/x can't be written: .*file is a file"):
        places.check_writable(tmp_path / "file" / "x", "the skim")
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for anybody but root
    with pytest.raises(ConfigError, match=rf"{tmp_path} is not writable for you"):
        places.check_writable(tmp_path / "new" / "x", "the skim")


def test_space(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert "of" in places.check_space(tmp_path / "later", 1e3, "skims")
    with pytest.raises(ConfigError, match=r"skims take about .* free"):
        places.check_space(tmp_path / "later", free * 2.0, "skims")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (80, "80 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert places.duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(10, "10 bytes"), (1500, "2 kB"), (2.5e9, "2 GB"), (3e12, "3.0 TB")]
)
def test_sizes(n: float, text: str) -> None:
    assert places.size(n) == text


@pytest.mark.parametrize("sign", ["#", "?", "%", "'"])
def test_a_folder_that_addresses_can_t_hold_is_refused(tmp_path: Path, sign: str) -> None:
    """MLflow put artifacts beside such a project, or nothing started."""
    workspace = copy_project(tmp_path / f"my{sign}20project")
    for command in ("preprocess.py", "train.py"):
        said = workspace.fails("python", command, "year=2018")
        assert f"{workspace.folder}: a {sign} in a path" in said
    assert [p.name for p in tmp_path.iterdir()] == [workspace.folder.name]
    assert not (workspace.folder / "outputs").exists()


@pytest.mark.parametrize("sign", ["#", "%"])
def test_a_store_in_such_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    folder = tmp_path / f"store{sign}1"
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/runs.db")
    with pytest.raises(InputError, match=rf"the MLflow store is .*store{sign}1: a {sign}"):
        runs.client()
    assert list(folder.iterdir()) == []
