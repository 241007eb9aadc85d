"""Units of work on real Dask workers: in order, elsewhere, and what is told when these die.

Functions of a test travel by value, so what they use they import.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from dask_servers import BEHIND_A_WALL, Running
from distributed import LocalCluster
from patience import HANGS

from utils.schema import PROJECT, EngineConfig, InputError, PipelineError
from utils.system import engine
from utils.system.clusters import cluster
from utils.system.clusters.cluster import Cluster


@pytest.fixture(scope="module")
def one_worker() -> Iterator[engine.Engine]:
    """A worker process of this machine, with one thread, and a keeper that starts it anew."""
    options = {"memory_limit": "1 GB"}
    config = EngineConfig(kind="dask", n_workers=1, cluster_options=options, wait=f"{HANGS} s")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        engine.start(config) as workers,
    ):
        yield workers


def test_one_thread_works_elsewhere_and_in_order(one_worker: engine.Engine) -> None:
    def work(number: int) -> tuple[int, int]:
        import os

        return number, os.getpid()

    found = list(one_worker.map(work, range(5)))
    assert list(one_worker.map(work, [])) == []
    assert [number for number, _ in found] == [0, 1, 2, 3, 4]
    assert os.getpid() not in {pid for _, pid in found}


def test_a_worker_that_comes_later_takes_part(
    running: Running, tmp_path: Path, waits_for: Callable[[Path], None]
) -> None:
    """Two tasks that wait for each other end only where both run."""
    running.worker()
    folder = str(tmp_path)

    def meet(number: int) -> int:
        import pathlib
        import time

        mine, other = (pathlib.Path(folder) / f"task{n}" for n in (number, 1 - number))
        mine.touch()
        while not other.exists():
            time.sleep(0.05)
        return number

    def join() -> None:
        waits_for(tmp_path / "task0")
        running.worker()

    later = threading.Thread(target=join)
    with engine.start(running.config()) as workers:
        later.start()
        assert list(workers.map(meet, [0, 1])) == [0, 1]
    later.join()


def test_after_an_error_nothing_new_is_sent(one_worker: engine.Engine, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def work(number: int) -> None:
        import pathlib

        from utils.schema import InputError

        pathlib.Path(folder, f"task{number}").touch()
        if number == 1:
            raise InputError("number one")

    with pytest.raises(InputError, match=r"^number one$"):
        list(one_worker.map(work, range(100)))
    # Two a thread may be under way, and twice as many wait for one that is slow.
    assert len(list(tmp_path.glob("task*"))) <= 6


def test_an_unexpected_error_tells_where_it_happened(one_worker: engine.Engine) -> None:

    def work(number: int) -> float:
        return 1 / number

    with pytest.raises(RuntimeError, match="0: ZeroDivisionError") as raised:
        list(one_worker.map(work, [0]))
    [note] = raised.value.__notes__
    assert "in work" in note
    assert "on a Dask worker on " in note


LONG_WORK = """
import pathlib, sys, time
from utils.schema import EngineConfig, PipelineError
from utils.system import engine
def work(begun):
    pathlib.Path(begun).touch()
    time.sleep(1800)
if __name__ == "__main__":
    try:
        with engine.start(EngineConfig(kind="dask", address=sys.argv[1], wait="1 s")) as workers:
            list(workers.map(work, sys.argv[2:]))
    except PipelineError as error:
        sys.exit(f"error: {error}")
"""


@pytest.mark.parametrize("lost", ["workers", "scheduler"])
def test_a_lost_cluster_is_one_line(
    running: Running, tmp_path: Path, waits_for: Callable[[Path], None], lost: str
) -> None:
    worker = running.worker()
    script, begun = tmp_path / "script.py", [tmp_path / "task0", tmp_path / "task1"]
    script.write_text(LONG_WORK)
    command = subprocess.Popen(
        [sys.executable, str(script), running.address, *map(str, begun)],
        env={"PYTHONPATH": str(PROJECT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    waits_for(begun[0])
    os.killpg((worker if lost == "workers" else running.scheduler).pid, signal.SIGKILL)
    _, said = command.communicate(timeout=HANGS)
    expected = {
        "workers": r"error: no Dask worker at .* for 1 s: start workers .*",
        "scheduler": r"error: the Dask scheduler at .* is gone .*",
    }[lost]
    assert re.fullmatch(expected + r"\n", said), said
    assert command.returncode == 1


def ends_its_worker(once: str | None) -> Callable[[Any], object]:
    """Return work that is done when its worker ends: as soon as the result is asked for.

    `once` is a file that is made then, and where it is no further worker ends; None: each does.
    """

    def work(number: int) -> object:
        import os
        import pathlib
        import signal

        class Result:
            def __reduce__(self) -> tuple[type[int], tuple[int]]:
                if once is None or not pathlib.Path(once).exists():
                    if once is not None:
                        pathlib.Path(once).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return int, (number,)

        return Result()

    return work


def test_a_result_that_is_lost_with_the_last_worker_is_not_waited_for(
    running: Running, tmp_path: Path
) -> None:
    running.worker("--no-nanny")
    with (
        engine.start(running.config(wait="1 s")) as workers,
        pytest.raises(PipelineError, match=r"^no Dask worker at .* for 1 s: start workers "),
    ):
        list(workers.map(ends_its_worker(str(tmp_path / "once")), [0]))
    assert (tmp_path / "once").exists()


def test_a_result_that_is_lost_with_its_worker_is_made_again(
    one_worker: engine.Engine, tmp_path: Path
) -> None:
    work = ends_its_worker(str(tmp_path / "once"))
    assert list(one_worker.map(work, [0, 1, 2])) == [0, 1, 2]
    assert (tmp_path / "once").exists()


def test_a_result_that_ends_all_that_hold_it_is_named(one_worker: engine.Engine) -> None:
    said = (
        r"^sample S: the \d+ workers that held its result ended before it had arrived: "
        r"too little memory \(1 GB for each\) is the usual reason$"
    )
    with pytest.raises(PipelineError, match=said):
        list(one_worker.map(ends_its_worker(None), ["sample S"]))


def test_a_worker_that_is_not_reached_is_named(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may connect to the scheduler, but not the other way round, as behind a firewall."""
    running.worker("--no-nanny", here=BEHIND_A_WALL)
    monkeypatch.setattr(cluster, "TOLD_EVERY", 1.0)
    monkeypatch.setattr(cluster, "ARRIVES_WITHIN", 2.0)

    def same(number: int) -> int:
        return number

    said = (
        r"^7: done, but its result has not come from the worker at tcp://127.0.0.1:9 for \d+ min: "
        rf"the scheduler at {running.address} must be able to connect to workers: "
    )
    with engine.start(running.config()) as workers, pytest.raises(PipelineError, match=said):
        list(workers.map(same, [7]))


def test_a_worker_that_dies_once_is_replaced(one_worker: engine.Engine, tmp_path: Path) -> None:
    """Its keeper starts it anew, and the task is done again."""
    once = str(tmp_path / "once")

    def work(number: int) -> int:
        import os
        import pathlib
        import signal

        if number == 1 and not pathlib.Path(once).exists():
            pathlib.Path(once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    assert list(one_worker.map(work, [0, 1, 2])) == [0, 1, 2]
    assert Path(once).exists()


def test_a_task_that_kills_its_workers_is_named(one_worker: engine.Engine) -> None:

    def work(_: str) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    assert one_worker.memory == 1_000_000_000
    said = r"sample S, entries 0-9: the 2 workers that tried it .* memory \(1 GB for each\)"
    with pytest.raises(PipelineError, match=said):
        list(one_worker.map(work, ["sample S, entries 0-9"]))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_worker_that_stays_paused_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_workers: int
) -> None:
    """Also where another has room, which is not given what the first can't begin."""
    monkeypatch.setattr(cluster, "FULL_FOR", 2.0)
    folder = str(tmp_path)

    def fill(number: int) -> int:
        import contextlib
        import os
        import pathlib
        import sys
        import time

        with contextlib.suppress(FileExistsError):
            pathlib.Path(folder, "full").touch(exist_ok=False)
            n_pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
            more = 450_000_000 - n_pages * os.sysconf("SC_PAGE_SIZE")
            sys.filled = b"x" * more  # type: ignore[attr-defined]
        time.sleep(2)  # Dask looks a few times a second
        return number

    config = EngineConfig(
        kind="dask",
        n_workers=n_workers,
        cluster_options={"memory_limit": "500 MB"},
        wait=f"{HANGS} s",
    )
    said = (
        rf"^Dask has paused 1 of {n_workers} workers at .* for 2 s, "
        r"whose memory \(0.5 GB for each\) is too full to begin "
    )
    with engine.start(config) as workers, pytest.raises(PipelineError, match=said):
        list(workers.map(fill, range(60)))


def with_workers(
    looks: list[list[dict[str, Any]]],
    times: Iterable[float],
    given: Mapping[int, list[str]] | None = None,
    holders: Iterable[list[str]] = (),
) -> Cluster:
    """Return a cluster whose scheduler tells of these workers, one look after the other.

    `given` are the keys of the units that it has given to each of them, `holders` the addresses of
    those that have the result of unit "a".
    """
    identity, clock, held = iter(looks), iter(times), iter(holders)

    def sync(question: str, **_: object) -> object:
        if question == "processing":
            return given
        if question == "who_has":
            return {"a": next(held)}
        return {"workers": dict(enumerate(next(identity)))}

    scheduler = SimpleNamespace(identity="identity", processing="processing", who_has="who_has")
    client = SimpleNamespace(status="running", scheduler=scheduler, sync=sync)
    return Cluster(client, "tls://here", None, clock=lambda: next(clock))


def with_tasks(status: str, state: str) -> dict[str, Any]:
    return {"status": status, "nthreads": 1, "metrics": {"task_counts": {state: 1}}}


def unit(key: str, done: bool = False) -> tuple[str, SimpleNamespace]:
    return f"task {key}", SimpleNamespace(key=key, done=lambda: done)


PAUSED, RUNS = with_tasks("paused", "ready"), with_tasks("running", "ready")
IS_PAUSED = r"^Dask has paused 1 of {} workers at .* for 60 s"


@pytest.mark.parametrize(
    "between",
    [
        [],
        [RUNS],
        *(
            [with_tasks("paused", state)]
            for state in ("executing", "long-running", "cancelled", "resumed")
        ),
    ],
)
def test_a_paused_worker_that_can_go_on_is_waited_for(between: list[dict[str, Any]]) -> None:
    looks = [[PAUSED], between, [PAUSED], [PAUSED], [PAUSED]]
    looked = with_workers(looks, [0.0, 61.0, 122.0, 181.0, 182.0])
    for _ in range(4):
        looked.check([unit("a")])
    with pytest.raises(PipelineError, match=IS_PAUSED.format(1)):
        looked.check([unit("a")])


def test_only_what_a_paused_worker_has_ends_the_command() -> None:
    given = {0: ["a", "b"], 1: ["c"]}
    looked = with_workers([[PAUSED, RUNS]] * 12, [61.0 * n for n in range(12)], given)
    goes_on = [[unit("c")], [unit("a"), unit("c")], [unit("a", done=True)], []]
    for awaited in goes_on:  # the other has it, or one of them; it is on its way; nothing is
        looked.check(awaited)
        looked.check(awaited)
    looked.check([unit("a")])
    looked.check([unit("b")])  # the other came meanwhile
    looked.check([unit("a"), unit("b")])
    with pytest.raises(PipelineError, match=IS_PAUSED.format(2)):
        looked.check([unit("a"), unit("b")])


def test_only_awaited_results_that_died_with_their_workers_count() -> None:
    def ended(*lost: str, expected: bool = False) -> tuple[float, dict[str, Any]]:
        told = {"action": "remove-worker", "expected": expected, "lost-computed-tasks": set(lost)}
        return 0.0, told

    looked = with_workers([[RUNS]] * 4, [0.0, 2.0, 4.0, 6.0])
    looked.hear(ended("a", "b"))
    looked.check([unit("a"), unit("b")])
    for _ in range(3):
        looked.hear(ended("a", "b"))
    looked.hear((0.0, {"action": "add-worker"}))
    looked.hear(ended("a", expected=True))
    said = r"^task b: the 4 workers that held its result ended before it had arrived: "
    with dask.config.set({"distributed.scheduler.allowed-failures": 3}):
        looked.check([unit("a"), unit("b")])
        looked.hear(ended("b"))
        looked.check([unit("a")])
        with pytest.raises(PipelineError, match=said):
            looked.check([unit("a"), unit("b")])


def test_a_result_that_does_not_come_is_told_each_minute_and_ends_the_command(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From when it was made last, and whatever its future says of itself."""
    seconds = [0, 30, 60, 120, 150, 160, 1860, 1920]
    times = [0.0, *(float(at) for at in seconds for _ in range(2))]
    holders = [["here"], ["here"], ["here"], [], ["there"], ["there"], ["there"], ["there"]]
    looked = with_workers([[RUNS]] * len(seconds), times, holders=holders)
    look = looked.arrives(*unit("a"))
    with caplog.at_level("INFO"):
        for _ in seconds[:-1]:
            look()
    begin = "task a: done, waiting for its result for {} min; can the scheduler connect to the "
    assert caplog.messages == [
        begin.format(minutes) + f"worker at {there}?"
        for minutes, there in ((1, "here"), (29, "there"))
    ]
    with pytest.raises(PipelineError, match=r"^task a: .* the worker at there for 30 min: "):
        look()


def test_a_command_that_waits_for_ever_says_so_each_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As with HTCondor, which is not asked whether any job is left."""
    looked = with_workers([[]] * 5, [0.0, 30.0, 61.0, 90.0, 122.0])
    with caplog.at_level("INFO"):
        for _ in range(5):
            looked.check()
    said = "No Dask worker at tls://here for {} min"
    assert caplog.messages == [said.format(1), said.format(2)]


def test_work_stays_done_where_its_cluster_does_not_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    close = LocalCluster.close

    def too_slow(self: LocalCluster, *given: object, **more: object) -> None:
        close(self, *given, **more)
        raise TimeoutError("workers are busy")

    def double(number: int) -> int:
        return 2 * number

    monkeypatch.setattr(LocalCluster, "close", too_slow)
    config = EngineConfig(kind="dask", n_workers=1, wait=f"{HANGS} s")
    with caplog.at_level("WARNING"), engine.start(config) as workers:
        found = list(workers.map(double, [1, 2]))
    assert found == [2, 4]
    assert "the Dask cluster did not close (TimeoutError: workers are busy)" in caplog.text
