"""Where units of work run: this process, local workers, or a Dask cluster.

A unit of work is one call of a module-level function with one picklable task (a range of a file, a
fold, a sample). The engine is joblib throughout; Dask is joblib's own backend for it.
"""

from __future__ import annotations

import collections
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from utils.schema import PROJECT, ConfigError, EngineConfig, PipelineError
from utils.system.files import system_message

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Engine:
    """A place to run `n_workers` units of work side by side, on `cores` cores of this machine.

    `shares_memory`: tasks may use this process's threads.
    """

    kind: str
    n_workers: int
    cores: int = 1

    def threads(self, n_tasks: int) -> int:
        """Return how many threads each of `n_tasks` tasks may compute in."""
        return max(1, self.cores // min(n_tasks, self.n_workers)) if n_tasks else 1

    @property
    def shares_memory(self) -> bool:
        return self.kind != "dask"

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Yield `function(task)` for each task, in the order of the tasks, as they complete.

        The local engine's workers are threads of this process, for functions that release the
        interpreter lock. An error of a worker is raised here: a PipelineError as it is, any other
        as a RuntimeError that names the task as its `str` does.
        """
        run = partial(_described, function)
        n_jobs = min(self.n_workers, len(tasks))
        if self.kind == "serial" or (n_jobs <= 1 and self.kind == "local"):
            yield from map(run, tasks)
            return
        if self.kind == "dask":
            yield from _map_on_dask(run, tasks, n_jobs)
        else:
            yield from _parallel(run, tasks, n_jobs, "threading")


def _described(function: Callable[[T], R], task: T) -> R:
    """Return `function(task)`; an unexpected error says which task it belongs to."""
    try:
        return function(task)
    except PipelineError:
        raise
    except OSError as error:
        if error.errno is None:
            raise RuntimeError(f"{task}: {error}") from error
        raise PipelineError(f"{task}: {system_message(error)}") from error
    except Exception as error:
        raise RuntimeError(f"{task}: {type(error).__name__}: {error}") from error


def _settled(run: Callable[[T], R], task: T) -> tuple[R | None, Exception | None]:
    """Return (result, error) of `run(task)` instead of raising the error."""
    try:
        return run(task), None
    except Exception as error:
        return None, error


def _parallel(
    run: Callable[[Any], Any], tasks: Iterable[Any], n_jobs: int, backend: str
) -> Iterator[Any]:
    from joblib import Parallel, delayed, parallel_config

    # Never more than a few results wait for the consumer, so memory stays flat.
    with parallel_config(backend=backend, n_jobs=n_jobs):
        parallel = Parallel(return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
        yield from parallel(delayed(run)(task) for task in tasks)


def _map_on_dask(run: Callable[[Any], Any], tasks: Sequence[Any], n_jobs: int) -> Iterator[Any]:
    """Yield the results of all tasks; after an error nothing new is sent.

    What is under way then ends first: Dask's client, closed while it fetches a result, would write
    a traceback of its own beside the one line that explains the failure.
    """
    stopped = False
    until_stopped = itertools.takewhile(lambda _: not stopped, tasks)
    outcomes = _as_they_arrive(_parallel(partial(_settled, run), until_stopped, n_jobs, "dask"))
    try:
        for result, error in outcomes:
            if error is not None:
                raise error
            yield result
    finally:
        stopped = True
        collections.deque(outcomes, maxlen=0)


def _as_they_arrive(outcomes: Iterator[Any]) -> Iterator[Any]:
    """Yield what a cluster gives back: errors of tasks are among it, so others are the cluster's.

    Raises PipelineError where the scheduler or a task's workers are gone.
    """
    try:
        yield from outcomes
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise PipelineError(
            f"the Dask cluster is gone or lost a task ({said[-200:]}): run the command again"
        ) from error


def available_cores() -> int:
    """Return the number of cores this process may use (a batch job's, not the machine's)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_of(config: EngineConfig) -> int:
    """Return the number of cores that a command may compute on in this process."""
    return config.n_workers or available_cores()


@contextmanager
def start(config: EngineConfig) -> Iterator[Engine]:
    """Provide the configured engine, and close what was started for it.

    Raises ConfigError where a Dask scheduler does not answer or a cluster can't be started.
    """
    if config.kind != "dask":
        if config.address:
            raise ConfigError(f"engine.address is for engine=dask, not for engine={config.kind}")
        cores = cores_of(config)
        yield Engine(config.kind, 1 if config.kind == "serial" else cores, cores)
        return
    with _dask_client(config) as client:
        prepare = _prepare_worker(str(PROJECT))
        try:
            # The scheduler unpacks tasks too, and waits for ever when it can't import the project.
            client.run_on_scheduler(prepare)
            client.register_worker_callbacks(prepare)  # also workers that join later
            workers = client.scheduler_info(n_workers=-1)["workers"]
        except Exception as error:  # Dask tells a lost connection in many ways
            raise ConfigError(f"the Dask cluster does not answer any more: {error}") from error
        n_workers = config.n_workers or sum(w["nthreads"] for w in workers.values())
        log.info("Dask cluster at %s: %d workers", client.scheduler.address, len(workers))
        yield Engine("dask", max(1, n_workers))


@contextmanager
def _dask_client(config: EngineConfig) -> Iterator[Any]:
    from distributed import Client

    # What they say of a lost connection, in tracebacks, is told in the one line of the error.
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if config.address:
        try:
            client = Client(config.address)  # waits as Dask's own settings say
        except (OSError, ValueError, TimeoutError) as error:
            raise ConfigError(
                f"no Dask scheduler answers at engine.address={config.address}: "
                f"start one with 'dask scheduler' ({error})"
            ) from None
        with client:
            log.info("Waiting for the first worker of %s", config.address)
            client.wait_for_workers(1)
            yield client
        return
    n_workers = config.n_workers or available_cores()
    cluster = _cluster(config, n_workers)
    with cluster, Client(cluster) as client:
        log.info("Waiting for the first of %d workers", n_workers)
        client.wait_for_workers(1)
        yield client


def _cluster(config: EngineConfig, n_workers: int) -> Any:
    """Return a cluster that was started: on this machine, or on the batch system's nodes."""
    if config.cluster == "local":
        from distributed import LocalCluster

        defaults = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
        logging.getLogger("distributed.nanny").addFilter(_tells_more_than_a_slow_end)
        options = {**defaults, **config.cluster_options}
        try:
            return LocalCluster(n_workers=n_workers, processes=True, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"engine.cluster_options for a local cluster: {error}") from None
    import dask_jobqueue

    kind, command = {
        "htcondor": ("HTCondorCluster", "condor_submit"),
        "slurm": ("SLURMCluster", "sbatch"),
    }[config.cluster]
    if shutil.which(command) is None:
        raise ConfigError(
            f"engine.cluster={config.cluster} submits jobs with {command}, which is not on "
            "this machine: run on a submit node, or give the address of a running scheduler"
        )
    try:
        cluster = getattr(dask_jobqueue, kind)(**config.cluster_options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"engine.cluster_options for {config.cluster}: {error}") from None
    cluster.scale(n_workers)
    return cluster


def _tells_more_than_a_slow_end(record: logging.LogRecord) -> bool:
    """Drop the warning of a worker that was killed as it took its time to end on a busy machine.

    The results are there by then, and users can't mend it.
    """
    return "still alive after" not in record.getMessage()


def _prepare_worker(project: str) -> Callable[[], None]:
    # A nested function travels by value: the workers can't import this project before it ran.
    def prepare() -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if project not in sys.path:
            sys.path.insert(0, project)

    return prepare


def progress(total: int, unit: str, label: str) -> tqdm[Any]:
    """Return a progress bar (rate and time left) that shows on a terminal only."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, desc=label, unit_scale=True, disable=None, leave=False)
