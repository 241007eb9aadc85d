"""What a process holds shows that it lives, and nothing that it has let go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS

from utils.schema import PROJECT

BEATS = """
import importlib, os, sys, time
from pathlib import Path
from utils.system import files
files.HEARTBEAT_ENDS = 0.2

here = Path(sys.argv[1])
other = here / "other"
other.touch()

def beats():
    # All that is held is touched in turn: within two touches of another, each was.
    with files.kept_alive(other):
        for _ in range(2):
            os.utime(other, (1, 1))
            while other.stat().st_mtime == 1:
                time.sleep(0.005)

def is_touched(path):
    beats()  # the turn that began when it was held yet
    os.utime(path, (1, 1))
    beats()
    return path.stat().st_mtime != 1
"""
"""Waits for ever where no heart beats at all."""

FILE = """
path = here / "file"
with files.kept_alive(path):
    path.touch()  # later than it was named
    assert is_touched(path)
assert not is_touched(path)
"""

FOLDER = """
with files.unfinished(here / "folder") as path:
    path.mkdir()
    assert is_touched(path)
path.mkdir()  # as another command may that goes on with it
assert not is_touched(path)
"""

FAILED = """
try:
    with files.complete(here / "file") as path:
        path.touch()
        assert is_touched(path)
        raise ValueError
except ValueError:
    path.touch()
assert not is_touched(path)
"""

SCRATCH = """
with files.scratch(here) as first, files.scratch(here) as second:
    assert is_touched(first)
    assert is_touched(second)
    first.rename(here / "away")
    assert is_touched(second)  # what is gone stops nothing
"""

MARK = """
from utils.formats import runs
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{here}/mlflow.db"
runs.RUNNING = here / "running"
with runs.training_run(None, None, {}):
    [mark] = runs.RUNNING.glob("*.json")
    assert is_touched(mark)
mark.touch()
assert not is_touched(mark)
"""

KEPT_TRAINING = """
keeping = importlib.import_module("utils.stages.training.keeping")
from utils.schema import TrainConfig
from utils.system import units
keeping.TRAININGS, units.RECORDS = here / "trainings", here / "done"
with keeping.keeping(TrainConfig(), ()) as kept:
    owner = kept.folder / "owner.json"
    assert is_touched(owner)
assert not is_touched(owner)
"""


@pytest.mark.parametrize(
    "held",
    [FILE, FOLDER, FAILED, SCRATCH, MARK, KEPT_TRAINING],
    ids=["file", "folder", "failed", "scratch", "mark", "training"],
)
def test_what_is_held_is_touched_until_it_is_let_go(tmp_path: Path, held: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEATS + held, str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
