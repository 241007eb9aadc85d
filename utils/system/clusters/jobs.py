"""What a batch system says of the jobs in which workers run."""

from __future__ import annotations

import logging
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from utils.schema import PipelineError

log = logging.getLogger(__name__)

ASKED_EVERY = 15.0
"""Seconds between two questions to the batch system while no worker is there, at most."""

TOLD_EVERY = 60.0
"""Seconds between two lines on jobs that wait."""

_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
"""Slurm's states of jobs that do not come back (job state codes of squeue's manual)."""

_FOR_EVER = {
    *("AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount"),
    *("InvalidQOS", "JobHoldMaxRequeue", "MaxMemPerLimit", "PartitionTimeLimit"),
    *("QOSNotAllowed", "ReservationDeleted", "launch_failed_requeued_held"),
}
"""Slurm's reasons that do not pass by waiting (job reason codes of squeue's manual).

Those of a limit on a single job belong to them too; those on nodes that are down, on sums over
many jobs, and holds may pass.
"""

_PER_JOB = ("PerJob", "PerJobLimit")


@dataclass(frozen=True)
class JobState:
    """A job's state and the reason that the batch system gives for it."""

    state: str
    reason: str

    @property
    def ended(self) -> bool:
        return self.state in _ENDED

    @property
    def waits_for_ever(self) -> bool:
        known = self.reason in _FOR_EVER or self.reason.endswith(_PER_JOB)
        return self.state == "PENDING" and known

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason not in ("", "None") else self.state


GONE = JobState("COMPLETED", "no longer known to Slurm")


def squeue(ids: Iterable[str]) -> dict[str, JobState] | None:
    """Return what Slurm says of jobs, also of those that ended; None where it does not answer."""
    ids = sorted(ids, key=int)
    command = [
        "squeue",
        "--noheader",
        "--states=all",
        "--format=%i|%T|%r",
        f"--jobs={','.join(ids)}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0 and "Invalid job id" not in done.stderr:
        return None
    said = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
    return {**dict.fromkeys(ids, GONE), **{i: JobState(s, r) for i, s, r in said if i in ids}}


@dataclass
class Jobs:
    """The jobs of one command: which workers they hold, and what became of them.

    `current` tells the worker's name by the id of its job, of jobs there are now (one that ended is
    forgotten by Dask), `log_of` the file that a job writes to, `states` what the batch system says.
    """

    current: Callable[[], Mapping[str, str]]
    log_of: Callable[[str], Path]
    states: Callable[[Iterable[str]], dict[str, JobState] | None] = squeue
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, str] = field(default_factory=dict)
    _ended: dict[str, JobState] = field(default_factory=dict)
    _asked: float = float("-inf")
    _told: float = float("-inf")
    _n_workers: int = 0
    _soon: float = 0.5  # seconds to the next question where Slurm has no reason yet, doubled first

    def look(self, n_workers: int) -> None:
        """Tell of jobs that ended, and each minute why others wait.

        Raises PipelineError when no worker is left and none can come: every job has ended, or
        waits for something that does not come by waiting.
        """
        self._known |= self.current()
        lost, self._n_workers = n_workers < self._n_workers, n_workers
        now = self.clock()
        pause = ASKED_EVERY if not n_workers else TOLD_EVERY
        if not self._known or not (lost or now - self._asked >= pause):
            return
        self._asked = now
        said = self.states(self._known)
        if said is None:
            if now - self._told >= TOLD_EVERY:
                log.warning("Warning: squeue does not answer; it is asked again")
                self._told = now
            return
        for i, state in said.items():
            if state.ended and i not in self._ended:
                self._ended[i] = state
                log.warning(
                    "Warning: Slurm job %s has ended: %s; its log: %s", i, state, self.log_of(i)
                )
        left = {i: state for i, state in said.items() if not state.ended}
        if n_workers:
            left = {i: state for i, state in left.items() if state.state == "PENDING"}
        elif not left:
            raise PipelineError(f"every Slurm job has ended: {self._described(said)}")
        elif all(state.waits_for_ever for state in left.values()):
            raise PipelineError(
                f"Slurm will not start what was asked for: {self._described(left)}: change "
                "engine.cluster_options"
            )
        elif any(state.state == "PENDING" and state.reason == "None" for state in left.values()):
            self._soon *= 2  # Slurm has not looked at them yet
            if self._soon < pause:
                self._asked = now - pause + self._soon
                return
        if left and now - self._told >= TOLD_EVERY:
            self._told = now
            log.info("Waiting for Slurm: %s", self.waiting(left))

    def waiting(self, left: Mapping[str, JobState] | None = None) -> str:
        """Return, in a line, how many jobs are in which state for which reason."""
        left = (self.states(self._known) or {}) if left is None else left
        counts = Counter(map(str, left.values()))
        return ", ".join(f"{n} {'job' if n == 1 else 'jobs'} {said}" for said, n in counts.items())

    def of_worker(self, name: str) -> str | None:
        """Return the job of a worker, or None where it is not known."""
        ids = [
            i for i, known in self._known.items() if name == known or name.startswith(f"{known}-")
        ]
        return ids[-1] if ids else None

    def _described(self, states: Mapping[str, JobState]) -> str:
        listed = list(states.items())
        said = [
            f"job {i} {state}" + (f", log {self.log_of(i)}" if state.ended else "")
            for i, state in listed[:3]
        ]
        return "; ".join(said) + (f"; and {len(listed) - 3} more" if len(listed) > 3 else "")
