"""A Dask scheduler and workers on loopback, as an administrator would start them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from patience import HANGS
from servers import says, started

from utils.schema import EngineConfig

Process = subprocess.Popen[bytes]
DASK = [sys.executable, "-m", "dask"]
HERE = ["--host", "127.0.0.1", "--no-dashboard"]


class Running:
    """A scheduler that runs, and what starts workers for it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.n_workers = folder, stack, 0
        log = folder / "scheduler.log"
        command = [*DASK, "scheduler", *HERE, "--port", "0"]
        self.scheduler = stack.enter_context(started(command, log))
        # Not from a --scheduler-file: that is written after this line, and not at once.
        self.address = says(self.scheduler, log, "Scheduler at:")

    def worker(self, *options: str) -> Process:
        """Start a worker with one thread and wait until it is registered."""
        self.n_workers += 1
        log = self.folder / f"worker{self.n_workers}.log"
        command = [*DASK, "worker", self.address, *HERE, "--nthreads", "1", *options]
        worker = self.stack.enter_context(started(command, log))
        says(worker, log, "Registered to:")
        return worker

    def config(self, wait: str = f"{HANGS} s") -> EngineConfig:
        return EngineConfig(kind="dask", address=self.address, wait=wait)
