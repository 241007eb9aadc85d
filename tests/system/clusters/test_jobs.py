"""What is told of jobs, and when a command ends on their account."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import pytest

from utils.schema import PipelineError
from utils.system.clusters.jobs import Jobs, JobState

WAITS = JobState("PENDING", "Priority")
RUNS = JobState("RUNNING", "None")


class Queue:
    """A batch system that says what it is told to say, and a clock that is set by hand."""

    def __init__(self, *states: JobState) -> None:
        self.now, self.asked = 0.0, 0
        self.said: dict[str, JobState] | None = {str(i): s for i, s in enumerate(states, 1)}
        names = {str(i): f"w-{i}" for i, _ in enumerate(states, 1)}
        self.jobs = Jobs(lambda: names, lambda i: Path(f"/logs/{i}"), self.states, lambda: self.now)

    def states(self, ids: Iterable[str]) -> dict[str, JobState] | None:
        self.asked += 1
        return self.said

    def look(self, after: float, n_workers: int = 0) -> None:
        self.now += after
        self.jobs.look(n_workers)


def test_the_reason_is_shown_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    queue = Queue(WAITS, WAITS, JobState("PENDING", "Resources"))
    for _ in range(120):
        queue.look(1)
    line = "Waiting for Slurm: 2 jobs PENDING (Priority), 1 job PENDING (Resources)"
    assert [record.getMessage() for record in caplog.records] == [line] * 2
    assert queue.asked <= 9


def test_a_reason_that_is_not_known_yet_is_asked_for_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    queue = Queue(JobState("PENDING", "None"))
    queue.look(1)
    assert caplog.records == []
    queue.said = {"1": WAITS}
    queue.look(1)
    assert "1 job PENDING (Priority)" in caplog.text


def test_a_reason_that_stays_unknown_is_told_as_none_and_asked_for_less_and_less(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    queue = Queue(JobState("PENDING", "None"))
    for _ in range(120):
        queue.look(1)
    line = "Waiting for Slurm: 1 job PENDING"
    assert [record.getMessage() for record in caplog.records] == [line] * 2
    assert queue.asked <= 12


def test_jobs_that_wait_while_others_work_are_told_each_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    queue = Queue(RUNS, WAITS)
    for _ in range(120):
        queue.look(1, n_workers=1)
    line = "Waiting for Slurm: 1 job PENDING (Priority)"
    assert [record.getMessage() for record in caplog.records] == [line] * 2
    assert queue.asked == 2
    queue.said = {"1": RUNS, "2": JobState("PENDING", "Resources")}
    queue.look(60, n_workers=1)
    assert "1 job PENDING (Resources)" in caplog.text
    queue.said = {"1": RUNS, "2": RUNS}
    queue.look(60, n_workers=2)
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    ("reason", "ends"),
    [
        ("PartitionTimeLimit", True),
        ("QOSMaxMemoryPerJob", True),
        ("AssocMaxWallDurationPerJobLimit", True),
        ("PartitionDown", False),
        ("ReqNodeNotAvail, UnavailableNodes:n1", False),
        ("AssocGrpCpuLimit", False),
        ("JobHeldUser", False),
    ],
)
def test_only_a_reason_that_can_not_pass_ends_the_command(reason: str, ends: bool) -> None:
    queue = Queue(JobState("PENDING", reason))
    if not ends:
        queue.look(1)
        return
    with pytest.raises(PipelineError, match=rf"will not start .* job 1 PENDING \({reason}\)"):
        queue.look(1)


def test_a_job_that_could_run_keeps_the_others_waiting() -> None:
    queue = Queue(JobState("PENDING", "PartitionTimeLimit"), WAITS)
    queue.look(1)


def test_an_ended_job_is_told_once_with_its_log(caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue(RUNS, RUNS)
    queue.look(1, n_workers=2)
    queue.said = {"1": JobState("OUT_OF_MEMORY", "None"), "2": RUNS}
    for _ in range(100):
        queue.look(1, n_workers=1)
    [record] = caplog.records
    assert record.getMessage() == "Warning: Slurm job 1 has ended: OUT_OF_MEMORY; its log: /logs/1"
    queue.said = dict.fromkeys("12", JobState("FAILED", "NonZeroExitCode"))
    with pytest.raises(PipelineError, match=r"every Slurm job has ended: job 1 .*, log /logs/1;"):
        queue.look(1, n_workers=0)


def test_a_batch_system_that_does_not_answer_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    queue = Queue(WAITS)
    said, queue.said = queue.said, None
    queue.look(1)
    queue.look(20)
    assert [record.getMessage() for record in caplog.records] == [
        "Warning: squeue does not answer; it is asked again"
    ]
    queue.said = said
    queue.look(60)
    assert "1 job PENDING (Priority)" in caplog.text


def test_a_worker_s_job_is_known_by_its_name() -> None:
    queue = Queue(RUNS)
    queue.look(1, n_workers=1)
    assert queue.jobs.of_worker("w-1-3") == "1"  # the third process of a job
    assert queue.jobs.of_worker("w-10") is None
