"""A command that is told to end does so within seconds, whatever it is doing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import HANGS

from utils.schema import PROJECT
from utils.system import interrupts

DEAF = """
import os, signal, sys, threading, time
from pathlib import Path
from utils.system import interrupts
from utils.system.files import complete, scratch
interrupts.PATIENCE = 0.3
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # one under nohup this
interrupts.listen()
folder = Path(sys.argv[1])
def hangs(word):
    (folder / word).write_text("killed")
    time.sleep(60)
with (
    interrupts.last_words(lambda: hangs("told")),
    interrupts.last_words(lambda: hangs("told too")),
    complete(folder / "out.h5") as partial,
    scratch(folder) as deep,
):
    partial.write_text("half")
    (deep / "file").write_text("temporary")
    ended_by = getattr(signal, sys.argv[2])
    while True:
        try:
            os.kill(os.getpid(), ended_by)
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


@pytest.mark.parametrize(("signal", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_command_that_does_not_listen_is_ended_tidily(
    tmp_path: Path, signal: str, status: int
) -> None:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", DEAF, str(tmp_path), signal],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr == "error: interrupted; no incomplete output was left\n"
    assert {p.name for p in tmp_path.iterdir()} == {"told", "told too"}
    assert time.monotonic() - begin < 50  # the loop and the last words would take a minute


def test_a_command_that_nobody_listens_to_ends_in_the_same_way(tmp_path: Path) -> None:
    """As in a pipe whose reader was ended by the same Ctrl-C."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-c", DEAF, str(tmp_path), "SIGINT"],
        cwd=PROJECT,
        stdout=writing,
        stderr=writing,
        check=False,
        timeout=HANGS,
    )
    os.close(writing)
    assert ended.returncode == 130
    assert {p.name for p in tmp_path.iterdir()} == {"told", "told too"}


def test_all_is_over_within_five_seconds() -> None:
    assert interrupts.PATIENCE + interrupts.SAYING < 5
