"""Where units of work run: this process, local workers, or a Dask cluster.

A unit of work is one call of a module-level function with one picklable task (a range of a file, a
fold, a sample). Threads of this process are joblib's, other processes and machines are Dask's
(`clusters/`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from utils.schema import ConfigError, EngineConfig, PipelineError
from utils.system.files import share, system_message

if TYPE_CHECKING:
    from tqdm import tqdm

    from utils.system.clusters import Cluster

# What is left of tasks when their consumer fails is joblib's advice to nobody.
warnings.filterwarnings("ignore", r"\d+ tasks (have been|which were) ")

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Engine:
    """A place to run `n_workers` units of work side by side, on `cores` cores of this machine.

    `shares_memory`: tasks may use this process's threads. `memory` is how many bytes one unit of
    work may take; None: no limit is known. `cluster` is Dask's, where `kind` is dask.
    """

    kind: str
    n_workers: int
    cores: int = 1
    memory: int | None = None
    cluster: Cluster | None = None

    def threads(self, n_tasks: int) -> int:
        """Return how many threads each of `n_tasks` tasks may compute in."""
        return max(1, self.cores // min(n_tasks, self.n_workers)) if n_tasks else 1

    @property
    def shares_memory(self) -> bool:
        return self.kind != "dask"

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], folders: Iterable[Path] = ()
    ) -> Iterator[R]:
        """Yield `function(task)` for each task, in the order of the tasks, as they complete.

        `folders` are those that the tasks write in.

        The local engine's workers are threads of this process, for functions that release the
        interpreter lock. An error of a worker is raised here: a PipelineError as it is, any other
        as a RuntimeError that names the task as its `str` does.
        """
        run = partial(_described, function)
        n_jobs = min(self.n_workers, len(tasks))
        if self.cluster is not None:
            from utils.system import clusters

            share(folders)
            yield from clusters.results(self.cluster, run, tasks)
        elif self.kind == "serial" or n_jobs <= 1:
            yield from map(run, tasks)
        else:
            yield from _on_threads(run, tasks, n_jobs)


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


def _on_threads(run: Callable[[Any], Any], tasks: Iterable[Any], n_jobs: int) -> Iterator[Any]:
    from joblib import Parallel, delayed, parallel_config

    # Never more than a few results wait for the consumer, so memory stays flat.
    with parallel_config(backend="threading", n_jobs=n_jobs):
        parallel = Parallel(return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
        yield from parallel(delayed(run)(task) for task in tasks)


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

    Raises ConfigError where a Dask scheduler does not answer or a cluster can't be started, and
    PipelineError where no worker comes.
    """
    if config.kind != "dask":
        if config.address:
            raise ConfigError(f"engine.address is for engine=dask, not for engine={config.kind}")
        cores = cores_of(config)
        yield Engine(config.kind, 1 if config.kind == "serial" else cores, cores)
        return
    from utils.system import clusters

    with clusters.connected(config, available_cores()) as cluster:
        n_workers = config.n_workers or max(1, cluster.n_threads)
        yield Engine("dask", n_workers, memory=cluster.memory, cluster=cluster)


def progress(total: int, unit: str, label: str) -> tqdm[Any]:
    """Return a progress bar (rate and time left) that shows on a terminal only."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, desc=label, unit_scale=True, disable=None, leave=False)
