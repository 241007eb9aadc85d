"""Which process something belongs to, and whether it is dead: by evidence, never a guess."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

HEARTBEAT_ENDS = 600.0
"""Seconds after which a process of another host is dead that has given no sign of life."""

_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process of any host: its machine, as long as that is up, its number and when it started.

    `machine` is a digest of host name, boot and space of process numbers (containers have their
    own). `started` is in the kernel's ticks since the boot, 0 where the system does not say.
    """

    machine: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.machine}-{self.pid}-{self.started}"

    @classmethod
    def current(cls) -> Self:
        started = None
        with suppress(OSError):  # a system without /proc
            started = _started(os.getpid())
        return cls(_machine(), os.getpid(), started or 0)

    @classmethod
    def named_in(cls, text: str) -> Self | None:
        """Return the process whose `str` is part of a text, None where there is none."""
        found = re.search(r"\b([0-9a-f]{12})-(\d+)-(\d+)\b", text)
        return cls(found[1], int(found[2]), int(found[3])) if found else None

    def is_dead(self, heartbeat: float) -> bool:
        """Tell whether there is evidence that the process has ended.

        On this machine: that no process has its number and start. On any other, and where
        processes of other users are hidden: that its last sign of life, `heartbeat` (seconds since
        the epoch), is older than ten minutes.
        """
        if self.machine == _machine() and self.started:
            with suppress(OSError):
                return _started(self.pid) != self.started
        return time.time() - heartbeat > HEARTBEAT_ENDS


def kill(pids: Iterable[int], seconds: float = 0.5) -> None:
    """Kill processes of this machine at once, and wait until they are dead, but no longer."""
    left, over = set(pids), time.monotonic() + seconds
    for pid in left:
        with suppress(OSError):  # dead, or another user's
            os.kill(pid, signal.SIGKILL)
    while left and time.monotonic() < over:
        with suppress(OSError):  # a system without /proc
            left = {pid for pid in left if _started(pid) is not None}
        time.sleep(0.01)


@cache
def _machine() -> str:
    parts = [socket.gethostname()]
    for name in ("sys/kernel/random/boot_id", "self/ns/pid"):
        path = _PROC / name
        try:
            link = path.is_symlink()
            parts.append(str(path.readlink()) if link else path.read_text(encoding="ascii"))
        except OSError:
            parts.append("")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _started(pid: int) -> int | None:
    """Return when a living process of this machine started, None where there is none.

    Raises OSError where that can't be seen (other users' processes may be hidden).
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        try:
            os.kill(pid, 0)  # asks only
        except ProcessLookupError:
            return None
        raise
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])
