"""Several commands of a user in one process: each would spend seconds on imports alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from patience import HANGS

DRIVER = r"""
import json, os, pathlib, runpy, sys
sys.path.insert(0, os.getcwd())
from utils.results.report import pdf
# PDFs have tests of their own; kaleido takes a second for each.
def draw(specs, patience):
    for path in specs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%PDF-")
pdf._draw = draw
for number, command in enumerate(json.load(sys.stdin)):
    if any("RUN" in word for word in command):
        run_id = json.loads(pathlib.Path("outputs/last_run.json").read_text())["run_id"]
        command = [word.replace("RUN", run_id) for word in command]
    sys.stderr.write(f"\n### {number}\n")
    sys.argv = list(command)
    try:
        if command[0].endswith(".py"):
            runpy.run_path(os.path.abspath(command[0]), run_name="__main__")
        else:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    sys.stderr.write(f"\n### status {status}\n")
"""


def run_commands(folder: Path, commands: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Run commands (a script or module, and its arguments) in a copy of the project.

    `RUN` in an argument becomes the id of the newest run. Returns each command's exit status and
    what it wrote to standard error.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([list(c) for c in commands]),
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    results = []
    for number in range(len(commands)):
        _, found, rest = done.stderr.partition(f"\n### {number}\n")
        said, ended, rest = rest.partition("\n### status ")
        if not (found and ended):
            raise AssertionError(f"{' '.join(commands[number])}\n{done.stdout}\n{done.stderr}")
        results.append((int(rest.split()[0]), said))
    return results


def succeed(results: Sequence[tuple[int, str]]) -> None:
    for status, said in results:
        assert status == 0, said


def run_id(said: str) -> str:
    """Return the id of the run that a training said it made."""
    return re.findall(r"run_id=(\w+)", said)[-1]
