"""A worker computes with the code of the command, or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cloudpickle
from dask_servers import Running
from patience import HANGS
from workspaces import copy_project

from utils.schema import PROJECT
from utils.system.clusters.code import fingerprint, own_code, why_not
from utils.system.clusters.units import _unit

COMMAND = """
import sys
from functools import partial
from utils.schema import EngineConfig, PipelineError
from utils.system import engine
from utils.system.clusters import code
if __name__ == "__main__":
    try:
        with engine.start(EngineConfig(kind="dask", address=sys.argv[1])) as workers:
            [found] = workers.map(code.fingerprint, [code.PROJECT])
            assert found == code.fingerprint(code.PROJECT)
    except PipelineError as error:
        sys.exit(str(error))
"""


def said_by(project: Path, address: str) -> str:
    """Return what a command of a copy of the project ends with."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, address],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1] if done.returncode else ""


def test_a_worker_serves_one_copy_of_the_project(running: Running, tmp_path: Path) -> None:
    first, second = (copy_project(tmp_path / name).folder for name in ("first", "second"))
    running.worker()
    assert said_by(first, running.address) == ""
    line = said_by(second, running.address)
    assert f"has loaded the copy of the project in {first}, not that in {second}" in line
    assert "start its workers anew" in line
    assert said_by(first, running.address) == ""
    source = first / "utils" / "system" / "threads.py"
    source.write_text(source.read_text() + "\n")
    assert f"has loaded other code of {first} than this command" in said_by(first, running.address)


def test_a_worker_that_does_not_see_the_project_says_so(tmp_path: Path) -> None:
    packed = tmp_path / "unit"
    packed.write_bytes(cloudpickle.dumps(_unit("/elsewhere", own_code())))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))(b'')[2])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(packed)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=HANGS,
    )
    assert "does not see the project folder /elsewhere, or lacks its packages" in done.stdout


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    first = fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("no code")
    assert fingerprint(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    changed = fingerprint(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, changed, fingerprint(tmp_path)}) == 3


def test_this_process_has_its_own_code() -> None:
    assert why_not(str(PROJECT), own_code()) is None
    assert "other code" in str(why_not(str(PROJECT), "another"))
    assert "not that in /elsewhere" in str(why_not("/elsewhere", own_code()))
