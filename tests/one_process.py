"""Several commands of a user in one process: each would spend seconds on imports alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from patience import HANGS

DRIVER = r"""
import json, os, pathlib, runpy, sys
sys.path.insert(0, os.getcwd())
from utils.results.report import pdf
# PDFs have tests of their own; kaleido takes a second for each.
class Drawer(pdf._Worker):
    def __init__(self, patience): pass
    def draw(self, path, figure):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%PDF-")
    def end(self): pass
pdf._Worker = Drawer
for number, command in enumerate(json.load(sys.stdin)):
    if any("RUN" in word for word in command):
        run_id = json.loads(pathlib.Path("outputs/last_run.json").read_text())["run_id"]
        command = [word.replace("RUN", run_id) for word in command]
    for stream in (sys.stdout, sys.stderr):
        stream.write(f"\n### {number}\n")
    sys.argv = list(command)
    try:
        if command[0].endswith(".py"):
            runpy.run_path(os.path.abspath(command[0]), run_name="__main__")
        else:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    for stream in (sys.stdout, sys.stderr):
        stream.write(f"\n### status {status}\n")
        stream.flush()
"""


class Ended(NamedTuple):
    """How a command ended, and what it wrote to standard error and to standard output."""

    status: int
    said: str
    shown: str


def run_commands(
    folder: Path, commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None
) -> list[Ended]:
    """Run commands (a script or module, and its arguments) in a copy of the project.

    `RUN` in an argument becomes the id of the newest run.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([list(c) for c in commands]),
        cwd=folder,
        env={**env, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    pattern = r"\n### (\d+)\n(.*?)\n### status (\d+)\n"
    said, shown = (re.findall(pattern, text, re.DOTALL) for text in (done.stderr, done.stdout))
    if len(said) < len(commands) or len(shown) < len(commands):
        raise AssertionError(f"{' '.join(commands[len(shown)])}\n{done.stdout}\n{done.stderr}")
    return [
        Ended(int(status), text, its)
        for (_, text, status), (_, its, _) in zip(said, shown, strict=True)
    ]


def succeed(results: Sequence[Ended]) -> None:
    for status, said, _ in results:
        assert status == 0, said


def refusal(result: Ended) -> str:
    """Return the one line that a command which must fail has ended with."""
    status, said, _ = result
    assert status == 1, said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == lines[0]
    return lines[0].removeprefix("error: ")


def run_id(said: str) -> str:
    """Return the id of the run that a training said it made."""
    return re.findall(r"run_id=(\w+)", said)[-1]
