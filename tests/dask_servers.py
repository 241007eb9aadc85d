"""A Dask scheduler and workers on loopback, as an administrator would start them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from distributed import Security
from patience import HANGS
from servers import says, started

from utils.schema import EngineConfig

Process = subprocess.Popen[bytes]
DASK = [sys.executable, "-m", "dask"]
_HTTP = ["--dashboard-address", "127.0.0.1:0"]
HERE = ["--host", "127.0.0.1", *_HTTP]
"""Where both listen; without a dashboard, there is still a server of theirs that speaks HTTP."""
BEHIND_A_WALL = [
    *("--listen-address", "tcp://127.0.0.1:0", "--contact-address", "tcp://127.0.0.1:9"),
    *_HTTP,
]
"""The same for a worker that the scheduler can't connect to."""


def certificates(folder: Path) -> dict[str, Path]:
    """Write a new certificate, its key and the authority that signed it; return the files."""
    made = Security.temporary().get_tls_config_for_role("scheduler")
    files = {name: folder / f"{name}.pem" for name in ("ca_file", "cert", "key")}
    for name, path in files.items():
        path.touch(mode=0o600)
        path.write_text(made[name])
    return files


class Running:
    """A scheduler that runs, and what starts workers for it.

    `dashboard` is whether the scheduler has one, `secured` options that it and its workers have.
    """

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        dashboard: bool = False,
        secured: Sequence[str] = (),
    ) -> None:
        self.folder, self.stack, self.n_workers = folder, stack, 0
        self.secured = secured
        shown = "--dashboard" if dashboard else "--no-dashboard"
        log = folder / "scheduler.log"
        command = [*DASK, "scheduler", *HERE, shown, "--port", "0", *secured]
        self.scheduler = stack.enter_context(started(command, log))
        # Not from a --scheduler-file: that is written after this line, and not at once.
        self.address = says(self.scheduler, log, "Scheduler at:")

    def worker(self, *options: str, here: Sequence[str] = HERE) -> Process:
        """Start a worker with one thread, which listens `here`, and wait until it is registered."""
        self.n_workers += 1
        log = self.folder / f"worker{self.n_workers}.log"
        command = [*DASK, "worker", self.address, *here, "--no-dashboard", "--nthreads", "1"]
        worker = self.stack.enter_context(started([*command, *self.secured, *options], log))
        says(worker, log, "Registered to:")
        return worker

    def config(self, wait: str = f"{HANGS} s") -> EngineConfig:
        return EngineConfig(kind="dask", address=self.address, wait=wait)
