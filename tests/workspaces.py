"""A copy of the project to run in, as a user has it: what its scripts write stays there."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patience import HANGS

from utils.schema import PROJECT

PARTS = ("configs", "utils", "htt_ml.py", "MLproject", "conda.yaml", "requirements.txt")
SCRIPTS = ("preprocess.py", "train.py", "predict.py", "evaluate.py")


@dataclass(frozen=True)
class Workspace:
    """A copy of the project in an empty folder: what its scripts write stays there."""

    folder: Path

    def run(
        self,
        *command: str,
        check: bool = True,
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user types it: `python` and `mlflow` are this environment's."""
        programs = Path(sys.executable).parent
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTEST"))}
        env |= {"PATH": f"{programs}{os.pathsep}{env['PATH']}", **(environment or {})}
        done = subprocess.run(
            list(command),
            cwd=cwd or self.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=HANGS,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
        return done

    def fails(
        self, *command: str, status: int = 1, environment: dict[str, str] | None = None
    ) -> str:
        """Run a command that must fail with one line on standard error, and return that line."""
        done = self.run(*command, check=False, environment=environment)
        assert done.returncode == status, done.stdout + done.stderr
        lines = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert done.stderr.splitlines()[-1] == lines[0], done.stderr
        return lines[0].removeprefix("error: ")


def copy_project(folder: Path) -> Workspace:
    """Copy what the scripts need into `folder`."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in (*PARTS, *SCRIPTS):
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    copy_compiled(folder)
    return Workspace(folder)


def copy_compiled(folder: Path) -> None:
    """Give a copy what is compiled already: the forest's machine code alone takes 4 s to make.

    Python and numba go by the times of the sources, which copies keep. Other tests may be writing
    these files: what is gone or half of a pair is compiled anew.
    """
    for source in (PROJECT / "utils").rglob("__pycache__/*"):
        if source.suffix in (".pyc", ".nbi", ".nbc"):
            copy = folder / source.relative_to(PROJECT)
            copy.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(source, copy)


def last_run(workspace: Workspace) -> dict[str, str]:
    """Return the ids of the newest run of a workspace."""
    import json

    ids: dict[str, str] = json.loads((workspace.folder / "outputs" / "last_run.json").read_text())
    return ids


def unpack(packed: Path, folder: Path) -> None:
    """Unpack an archive as data: what leads out of the folder is refused."""
    with tarfile.open(packed) as archive:
        # As an argument of extractall it is unknown to Python 3.11.2, which Debian 12 has.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)


def toys(workspace: Workspace, n_events: int, *more: str) -> None:
    """Write toy ntuples into a workspace."""
    arguments: Sequence[str] = ("--year", "2018", "--n-events", str(n_events), *more)
    workspace.run("python", "-m", "utils.toys", *arguments)
