"""Programs that serve while a test runs, on ports that the system chooses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

STARTS = 5
"""How often: somebody else may take the free port before the server does, which then ends."""


@contextmanager
def started(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the folder of its log, and end it with everything it started."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers end with it
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(process.pid, signal.SIGKILL)  # workers take their time over a polite end
        process.wait()


_NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Without MLflow's own queue of jobs: six processes more, and nobody sends one."""


@contextmanager
def mlflow(command: str, folder: Path, *arguments: str) -> Iterator[str]:
    """Run `mlflow ui` or `mlflow server` in `folder`; yields its address when it answers."""
    program = str(Path(sys.executable).with_name("mlflow"))
    log = folder / f"{command}.log"
    for _ in range(STARTS):
        port = free_port()
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        with started([program, command, *where, *arguments], log, _NO_JOBS) as server:
            address = f"http://127.0.0.1:{port}"
            if answers(f"{address}/health", server):
                yield address
                return
    raise AssertionError(f"mlflow {command} ended {STARTS} times: {log.read_text()}")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers, or has ended."""
    while server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=10).close()
        except OSError:
            time.sleep(0.2)
        else:
            return server.poll() is None
    return False


def says(process: subprocess.Popen[bytes], log: Path, text: str) -> str:
    """Wait until a program's log has a line with a text, and return what follows it there."""
    line = re.compile(f"{re.escape(text)}(.*)\n")  # all of it: it may be under way
    while (found := line.search(log.read_text())) is None:
        if process.poll() is not None:
            raise AssertionError(f"{log.stem} ended: {log.read_text()}")
        time.sleep(0.1)
    return found[1].strip()
