"""A Dask cluster that units of work are sent to, and whether it is still there."""

from __future__ import annotations

import logging
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.schema import ConfigError, EngineConfig, PipelineError
from utils.system.clusters.jobs import TOLD_EVERY, Jobs
from utils.system.clusters.options import (
    SUBMITS,
    batch_cluster,
    check_submits,
    local_cluster,
    log_folder,
    log_of_job,
    remove_certificates,
    security,
)
from utils.system.interrupts import ended_by, last_words
from utils.system.processes import kill

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds without any worker, unless `engine.wait` says otherwise, and at least for an answer."""

_PATIENCE_HERE = 600.0
"""The same for workers of this machine, which their keepers start anew, slowly if it is busy."""

FULL_FOR = 60.0
"""Seconds that workers may be too full to begin what a command waits for.

Dask pauses workers above a part of their memory; what fills it by itself does not go again, and
what has been given to such a worker is not given to another.
"""

ARRIVES_WITHIN = 1800.0
"""Seconds that a result may take from a worker to here.

One that the scheduler can't connect to computes all the same, and Dask asks it again without end.
"""

_LOOK_EVERY = 1.0


@dataclass
class Cluster:
    """A connected cluster: `client` is Dask's, `jobs` what its workers run in, on a batch system.

    `patience` is how many seconds it may be without a worker; None: as long as jobs wait. `bound`
    is how many units of work may be sent at most, `memory` how many bytes one unit has on the
    smallest worker that was seen last; None: no limit is known.
    """

    client: Any
    address: str
    patience: float | None
    bound: int | None = None
    jobs: Jobs | None = None
    clock: Callable[[], float] = time.monotonic
    workers: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: int | None = None
    _looked: float = float("-inf")
    _awaited: frozenset[str] = frozenset()
    _losses: Counter[str] = field(default_factory=Counter)
    _alone_since: float | None = None
    _stuck: frozenset[str] = frozenset()
    _stuck_since: float = float("inf")
    _told: float = float("-inf")

    def check(self, awaited: Sequence[tuple[Any, Any]] = (), at_once: bool = False) -> None:
        """Look, once a second at most, who is there.

        `awaited` are tasks with their futures, without which the command does not go on. Raises
        PipelineError where the scheduler is gone, no worker is there for too long or can come,
        those that should begin what is awaited have been too full for it for long, or too many
        ended that held the result of one.
        """
        self._awaited = frozenset(future.key for _, future in awaited)
        now = self.clock()
        if not at_once and now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        self.workers = self._ask("identity", n_workers=-1)["workers"]
        self.memory = self._least_memory() or self.memory
        if self.jobs is not None:
            self.jobs.look(len(self.workers))
        self._check_losses(awaited)
        if self.workers:
            self._alone_since = None
            self._check_room(now, awaited)
            return
        self._stuck = frozenset()
        if self._alone_since is None:
            self._alone_since = self._told = now
        if self.patience is not None and now - self._alone_since >= self.patience:
            waiting = f"; Slurm says: {self.jobs.waiting()}" if self.jobs is not None else ""
            raise PipelineError(
                f"no Dask worker at {self.address} for {self.patience:g} s{waiting}: start workers "
                "and run the command again, or let it wait longer (engine.wait=1h)"
            )
        if self.jobs is None and now - self._told >= TOLD_EVERY:
            self._told, minutes = now, (now - self._alone_since) / 60
            log.info("No Dask worker at %s for %.0f min", self.address, minutes)

    def hear(self, event: tuple[float, Any]) -> None:
        """Take note where what is awaited was lost with its worker, from what Dask tells all.

        It is made again, which may take no time, so that looking sees nothing of it.
        """
        _, told = event
        if told.get("action") == "remove-worker" and not told["expected"]:
            self._losses.update(self._awaited.intersection(told["lost-computed-tasks"]))

    def _check_losses(self, awaited: Sequence[tuple[Any, Any]]) -> None:
        """Bound what Dask does not: it counts only workers that end in the midst of a task."""
        import dask

        allowed = dask.config.get("distributed.scheduler.allowed-failures")
        for task, future in awaited:
            if (n_lost := self._losses[future.key]) > allowed:
                raise PipelineError(
                    f"{task}: the {n_lost} workers that held its result ended before it had "
                    f"arrived: too little memory ({self.memory_text}) is the usual reason"
                )

    def arrives(self, task: Any, future: Any) -> Callable[[], None]:
        """Return what looks whether a result that is asked for comes.

        It raises what `check` does, and PipelineError where the result has not come for too long.
        """
        since = told = self.clock()

        def look() -> None:
            nonlocal since, told
            self.check([(task, future)])
            # The future won't do: it forgets that it is done each time that asking a worker fails.
            held = " or ".join(self._ask("who_has", keys=[future.key])[future.key])
            now = self.clock()
            if not held:  # it was lost, and is made again
                since = told = now
            if now - told < TOLD_EVERY:
                return
            told, minutes = now, f"{(now - since) / 60:.0f} min"
            if now - since >= ARRIVES_WITHIN:
                raise PipelineError(
                    f"{task}: done, but its result has not come from the worker at {held} for "
                    f"{minutes}: the scheduler at {self.address} must be able to connect to "
                    "workers: a firewall or engine.cluster_options.interface is the usual reason"
                )
            log.info(
                "%s: done, waiting for its result for %s; can the scheduler connect to the worker "
                "at %s?",
                *(task, minutes, held),
            )

        return look

    def _check_room(self, now: float, awaited: Sequence[tuple[Any, Any]]) -> None:
        full = {address for address, worker in self.workers.items() if _is_full(worker)}
        stuck = frozenset(future.key for _, future in awaited if full and not future.done())
        if stuck and len(full) < len(self.workers):
            given = self._ask("processing")
            if not stuck.issubset(key for address in full for key in given.get(address, [])):
                stuck = frozenset()
        if stuck != self._stuck:
            self._stuck, self._stuck_since = stuck, now
        elif stuck and now - self._stuck_since >= FULL_FOR:
            raise PipelineError(
                f"Dask has paused {len(full)} of {len(self.workers)} workers at {self.address} for "
                f"{FULL_FOR:g} s, whose memory ({self.memory_text}) is too full to begin what the "
                "command waits for: give workers more memory"
            )

    def _ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Return the scheduler's answer, which may take a while, however short `engine.wait` is."""
        client, patience = self.client, max(self.patience or 0, PATIENCE)
        try:
            if client.status != "running":
                raise OSError(f"the connection is {client.status}")
            question = getattr(client.scheduler, what)
            answer: dict[str, Any] = client.sync(question, callback_timeout=patience, **more)
        except Exception as error:  # Dask tells a lost connection in many ways
            said = " ".join(str(error).split()) or type(error).__name__
            raise PipelineError(
                f"the Dask scheduler at {self.address} is gone ({said[-200:]}): run the command "
                "again when one is there"
            ) from None
        return answer

    def wait(self) -> None:
        """Wait for the first worker, within the patience."""
        while True:
            self.check(at_once=True)
            if self.workers:
                return
            time.sleep(_LOOK_EVERY)

    @property
    def n_threads(self) -> int:
        return sum(worker["nthreads"] for worker in self.workers.values())

    @property
    def n_open(self) -> int:
        """How many units may be under way: two a thread, so that none waits for the next."""
        return max(1, self.bound or 2 * self.n_threads)

    def _least_memory(self) -> int | None:
        limits = [
            worker["memory_limit"] // max(1, worker["nthreads"])
            for worker in self.workers.values()
            if worker.get("memory_limit")
        ]
        return min(limits) if limits else None

    @property
    def memory_text(self) -> str:
        return f"{self.memory / 1e9:.2g} GB for each" if self.memory else "of any size"

    def where(self, worker: Any) -> str:
        """Return a worker's address, with its job and log where it has one."""
        job = self.jobs.of_worker(str(worker.name)) if self.jobs is not None else None
        if self.jobs is None or job is None:
            return f"at {worker.address}"
        return f"in Slurm job {job}, log {self.jobs.log_of(job)}"


def _is_full(worker: dict[str, Any]) -> bool:
    """Return whether a worker is paused and does nothing that could end and leave it room.

    A unit of work goes on where its client has gone ("cancelled").
    """
    tasks = worker["metrics"]["task_counts"]
    works = any(map(tasks.get, ("executing", "long-running", "cancelled", "resumed")))
    return worker["status"] == "paused" and not works


@contextmanager
def connected(config: EngineConfig, n_workers: int) -> Iterator[Cluster]:
    """Provide the configured cluster with a worker at least, and close what was started for it.

    `n_workers` is how many workers are started where the configuration does not say.
    Raises ConfigError where a scheduler does not answer or a cluster can't be started, and
    PipelineError where no worker comes.
    """
    import dask

    _quiet()
    # Tasks carry their rows, where Dask would warn; code that is not there must not be waited for.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        if config.address:
            opened = _running(config)
        elif config.cluster in SUBMITS:
            opened = _on_batch_system(config, config.n_workers or n_workers)
        else:
            opened = _on_this_machine(config, config.n_workers or n_workers)
        with opened as cluster:
            cluster.client.subscribe_topic("all", cluster.hear)
            log.info("Waiting for the first worker of %s", cluster.address)
            cluster.wait()
            link = _dashboard(config, cluster)
            n_now = len(cluster.workers)
            said = f"{n_now} {'worker' if n_now == 1 else 'workers'} now{link}"
            log.info("Dask cluster at %s: %s", cluster.address, said)
            yield cluster


@contextmanager
def _running(config: EngineConfig) -> Iterator[Cluster]:
    address = str(config.address)
    with _client(config, address, security(config)) as client:
        yield Cluster(client, address, config.wait_seconds or PATIENCE, bound=config.n_workers)


@contextmanager
def _on_this_machine(config: EngineConfig, n_workers: int) -> Iterator[Cluster]:
    from distributed.core import Status

    started = local_cluster(config, n_workers)

    def end_workers() -> None:
        # Now, so that what they write can go: else they would outlive this process for a while.
        keepers = [*started.workers.values()]
        pids = [getattr(keeper, "pid", None) for keeper in keepers]
        for keeper in keepers:
            keeper.status = Status.closing  # or it would start them anew
        kill(pid for pid in pids if pid)

    with _closed(started), _client(config, started, None) as client, _at_an_interrupt(end_workers):
        yield Cluster(client, started.scheduler_address, config.wait_seconds or _PATIENCE_HERE)


@contextmanager
def _on_batch_system(config: EngineConfig, n_workers: int) -> Iterator[Cluster]:
    check_submits(config)
    logs = log_folder()
    with ExitStack() as stack:
        stack.callback(remove_certificates, logs)
        started = batch_cluster(config, logs)
        stack.enter_context(_closed(started))
        client = stack.enter_context(_client(config, started, None))
        log.info("Submitting jobs of Dask workers (%d); their logs: %s", n_workers, logs)
        try:
            started.scale(n_workers)
            started.sync(_submitted, started)
        except RuntimeError as error:
            said = str(error).rpartition("stderr:")[2] or str(error)
            raise ConfigError(
                f"{SUBMITS[config.cluster]} refuses the jobs: {' '.join(said.split())}: change "
                "engine.cluster_options (engine.dry_run=true shows the job script)"
            ) from None

        def current() -> dict[str, str]:
            jobs = dict(started.workers).items()
            return {job.job_id: str(name) for name, job in jobs if job.job_id}

        def log_of(job: str) -> Path:
            return log_of_job(config, logs, started.job_name, job)

        jobs = Jobs(current, log_of) if config.cluster == "slurm" else None
        cluster = Cluster(client, started.scheduler_address, config.wait_seconds, jobs=jobs)

        def cancel() -> None:
            # Closing politely takes longer than batch systems give; workers end with their jobs.
            command = {"slurm": "scancel", "htcondor": "condor_rm"}[config.cluster]
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run([command, *current()], capture_output=True, check=False, timeout=2)
            remove_certificates(logs)

        with _at_an_interrupt(cancel):
            yield cluster


@contextmanager
def _at_an_interrupt(end_workers: Callable[[], None]) -> Iterator[None]:
    """Let workers end with a command that is told to end, however far its unwinding comes."""
    with last_words(end_workers):
        try:
            yield
        except BaseException as error:
            if ended_by(error) is not None:
                end_workers()
            raise


async def _submitted(cluster: Any) -> None:
    """Wait until all jobs are submitted, each tried twice. Raises RuntimeError for a refusal."""
    from distributed.core import Status

    await cluster  # what goes wrong here is forgotten by Dask
    try:
        for job in list(cluster.workers.values()):
            if not job.job_id:
                await job.start()
    except RuntimeError:
        for job in cluster.workers.values():
            if not job.job_id:
                job.status = Status.failed  # which closing the cluster takes for closed
        raise


@contextmanager
def _closed(started: Any) -> Iterator[None]:
    """Close a cluster at the end; after an interrupt its processes end with this one, at once.

    A cluster that does not close takes nothing back of what was done on it.
    """
    try:
        yield
    except BaseException as error:
        if ended_by(error) is None:
            with suppress(Exception):
                started.close(timeout=10)
        raise
    try:
        started.close()
    except Exception as error:  # of Dask, the system or a batch system
        log.warning(
            "Warning: the Dask cluster did not close (%s: %s); its workers end with this command",
            *(type(error).__name__, error),
        )


@contextmanager
def _client(config: EngineConfig, where: Any, secured: Any) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(
            where, security=secured, set_as_default=False
        )  # waits as Dask's settings say
    except (OSError, ValueError, TimeoutError, TypeError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at engine.address={config.address}: "
            f"start one with 'dask scheduler' ({error})"
        ) from None
    try:
        yield client
    except BaseException as error:
        if ended_by(error) is None:
            _close(client)
        raise
    _close(client)


def _close(client: Any) -> None:
    """Close a client; one that has lost its scheduler has nothing more to say."""
    with suppress(Exception):
        client.close(timeout=5)


def _dashboard(config: EngineConfig, cluster: Cluster) -> str:
    services = cluster.client.scheduler_info().get("services", {})
    if "dashboard" not in services:
        return ""
    if config.address:
        return f"; dashboard: {cluster.client.dashboard_link}"
    return f"; dashboard: http://127.0.0.1:{services['dashboard']}/status"


class _IntoFiles(logging.Handler):
    """Writes records into the log files of the command, not on the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)


def _quiet() -> None:
    """Send what Dask says for itself into the log file of the command.

    What users need of it is told in our own lines. Dask sets its loggers up when it is imported.
    """
    import distributed  # noqa: F401

    for name in list(logging.root.manager.loggerDict):
        parts = name.split(".")
        if parts[0] in ("asyncio", "bokeh", "dask_jobqueue", "distributed", "tornado"):
            logger = logging.getLogger(name)
            logger.handlers = [_IntoFiles()] if len(parts) == 1 else []
            logger.propagate = len(parts) > 1
