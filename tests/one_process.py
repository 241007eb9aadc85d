"""Several commands of a user in one process: each would spend seconds on imports alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from patience import HANGS

DRIVER = r"""
import json, os, pathlib, runpy, sys
sys.path.insert(0, os.getcwd())
sys.stdout = sys.stderr
commands = json.load(sys.stdin)
if any(command[0] == "evaluate.py" for command in commands):
    # PDFs have tests of their own; kaleido takes a second for each.
    from utils.results.report import pdf
    class Drawer(pdf._Worker):
        def __init__(self, patience): pass
        def draw(self, path, figure):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%PDF-")
        def give_up(self): pass
        def end(self): pass
    pdf._Worker = Drawer
for number, command in enumerate(commands):
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


def run_commands(
    folder: Path, commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None
) -> list[tuple[int, str]]:
    """Run commands (a script or module, and its arguments) in a copy of the project.

    `RUN` in an argument becomes the id of the newest run. Returns each command's exit status and
    what it wrote, to either stream.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([list(c) for c in commands]),
        cwd=folder,
        env={**env, **(environment or {})},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=HANGS,
    )
    ended = re.findall(r"\n### \d+\n(.*?)\n### status (\d+)\n", done.stderr, re.DOTALL)
    if len(ended) < len(commands):
        raise AssertionError(f"{' '.join(commands[len(ended)])}\n{done.stderr}")
    return [(int(status), said) for said, status in ended]


def succeed(results: Sequence[tuple[int, str]]) -> None:
    for status, said in results:
        assert status == 0, said


def refusal(result: tuple[int, str]) -> str:
    """Return the one line that a command which must fail has ended with."""
    status, said = result
    assert status == 1, said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == lines[0]
    return lines[0].removeprefix("error: ")


def run_id(said: str) -> str:
    """Return the id of the run that a training said it made."""
    return re.findall(r"run_id=(\w+)", said)[-1]
