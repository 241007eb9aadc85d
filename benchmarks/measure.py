"""Running a command and measuring it: wall time, and peak memory of all its processes together."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLING = 0.05
"""Seconds between two looks at the memory of a command's processes."""

ENOUGH = 12.0
"""Seconds after which a command is not repeated any more, unless it ran once only."""


class CommandError(Exception):
    """A measured command failed; the text holds its last lines."""


@dataclass(frozen=True)
class Run:
    """One run of a command: wall time in seconds, peak memory in MB, and what it printed."""

    seconds: float
    megabytes: float
    output: str


def run(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> Run:
    """Run `command` in `folder` to its end.

    Its memory is the largest sum of the proportional set sizes of its processes (shared pages
    counted once), or the kernel's own maximum for a single process if that is larger. Raises
    CommandError if it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        sampler.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode != 0:
        last = "\n".join(text.strip().split("\n")[-5:])
        raise CommandError(f"{' '.join(map(str, command))}\n{last}")
    return Run(seconds, max(sampler.peak, usage.ru_maxrss * _RSS_UNIT) / 1e6, text)


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class _Sampler(threading.Thread):
    """Looks at the memory of a process and its descendants every now and then."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self._done = pid, 0, threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLING):
            self.peak = max(self.peak, sum(map(_memory, _family(self.pid))))

    def stop(self) -> None:
        self._done.set()
        self.join()


def _family(pid: int) -> list[int]:
    family = [pid]
    for member in family:
        try:
            for children in list(Path(f"/proc/{member}/task").glob("*/children")):
                family += map(int, children.read_text().split())
        except OSError:  # it ended meanwhile
            continue
    return family


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
    except OSError:  # it ended, or there is no such file on this system
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def interleaved(sides: Mapping[str, Callable[[], Run]], repeats: int) -> dict[str, list[Run]]:
    """Run the sides in turn, `repeats` times, so that a noisy minute hurts all alike.

    A side whose runs took longer than ENOUGH together is not repeated, but each runs twice: one run
    tells nothing of the noise.
    """
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            if len(runs[name]) < 2 or sum(r.seconds for r in runs[name]) < ENOUGH:
                runs[name].append(side())
    return runs


def seconds(runs: Sequence[Run]) -> float:
    """Return the median wall time."""
    return statistics.median(r.seconds for r in runs)


def megabytes(runs: Sequence[Run]) -> float:
    """Return the median of the peak memories."""
    return statistics.median(r.megabytes for r in runs)


def own_peak() -> float:
    """Return this process's own peak memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e6
