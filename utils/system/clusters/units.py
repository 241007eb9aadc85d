"""Units of work on a Dask cluster: sent a few at a time, their results in the order of the tasks.

What is sent is bytes, unpacked on the worker after it was seen that the worker computes with the
very code of this command. The scheduler unpacks nothing of ours, so it needs neither the project
nor its code.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import suppress
from typing import Any

from utils.schema import PROJECT, ConfigError, PipelineError
from utils.system.clusters.cluster import Cluster
from utils.system.clusters.code import own_code

log = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds after which waiting looks whether the cluster is still there."""


def results(cluster: Cluster, run: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
    """Yield `run(task)` for each task in order; after an error nothing new is sent.

    What is under way then ends first, so that nobody writes into folders that are gone. Raises what
    a task raised, ConfigError where a worker has other code, and PipelineError where the scheduler
    or the last worker is gone or the workers of a task, or of its result, died one after the other.
    """
    import cloudpickle

    unit = _unit(str(PROJECT), own_code())
    todo = iter(tasks)
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sent: deque[tuple[Any, Any]] = deque()
    n_open = 0

    def one_ended(timeout: float) -> None:
        nonlocal n_open
        with suppress(queue.Empty):
            ended.get(timeout=timeout)
            n_open -= 1

    try:
        more = True
        while True:
            while not ended.empty():
                one_ended(0)
            # Results wait on the workers; when twice as many do as can run, the first is slow.
            while more and n_open < cluster.n_open and len(sent) < 2 * cluster.n_open:
                task = next(todo, ended)
                if task is ended:
                    more = False
                    break
                future = cluster.client.submit(
                    unit, cloudpickle.dumps((run, task)), key=f"unit-{uuid.uuid4().hex}"
                )
                future.add_done_callback(ended.put)
                sent.append((task, future))
                n_open += 1
            if not sent:
                return
            if sent[0][1].done():
                task, future = sent.popleft()
                yield _outcome(cluster, task, future)
            else:
                one_ended(_LOOK)
                cluster.check([sent[0]])
    except Exception:
        with suppress(PipelineError):
            while under_way := [unit for unit in sent if not unit[1].done()]:
                one_ended(_LOOK)
                cluster.check(under_way)
        raise


def _outcome(cluster: Cluster, task: Any, future: Any) -> Any:
    """Return the result of a task that has ended, or raise its error."""
    from distributed import KilledWorker

    try:
        result, error, refusal = _arrived(cluster, task, future)
    except PipelineError:
        raise
    except KilledWorker as lost:
        raise PipelineError(
            f"{task}: the {lost.allowed_failures + 1} workers that tried it ended in the midst of "
            f"it, the last one {cluster.where(lost.last_worker)}: too little memory "
            f"({cluster.memory_text}) is the usual reason"
        ) from None
    except Exception as lost:  # errors of tasks are returned, so this is the cluster's
        cluster.check(at_once=True)
        said = " ".join(str(lost).split()) or type(lost).__name__
        raise PipelineError(
            f"{task}: the Dask cluster lost it ({said[-200:]}): run the command again"
        ) from lost
    if refusal is not None:
        raise ConfigError(refusal)
    if error is not None:
        raise error
    return result


def _arrived(cluster: Cluster, task: Any, future: Any) -> Any:
    """Return what a worker holds, looking meanwhile whether the cluster is still there.

    A result whose worker ends before it has arrived is made again, and `future.result()` would wait
    for ever where no worker comes, or where each ends that is asked for it, or can't be. Raises
    what that would, and PipelineError.
    """
    client = cluster.client
    gathered = client.gather(future, asynchronous=True)
    arriving = asyncio.run_coroutine_threadsafe(gathered, client.loop.asyncio_loop)
    look = cluster.arrives(task, future)
    try:
        while not wait([arriving], timeout=_LOOK).done:
            look()
        return arriving.result()
    finally:
        arriving.cancel()


def _unit(project: str, code: str) -> Callable[[bytes], tuple[Any, Any, Any]]:
    """Return the function that a worker calls with a packed (function, task).

    It returns (result, error, refusal). It is nested and travels by value: a worker can't import
    this project before it ran, and may have imported another.
    """

    def unit(packed: bytes) -> tuple[Any, Any, Any]:
        import importlib
        import os
        import pickle
        import socket
        import sys
        import traceback

        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if "utils" not in sys.modules and project not in sys.path:
            sys.path.insert(0, project)
        where = f"a Dask worker on {socket.gethostname()} (process {os.getpid()})"
        anew = "start its workers anew, or leave out engine.address"
        try:
            there = importlib.import_module("utils.system.clusters.code")
        except ImportError:
            loaded = getattr(sys.modules.get("utils"), "__file__", None)
            if loaded:
                return None, None, f"{where} has loaded {loaded} as 'utils': {anew}"
            return (
                None,
                None,
                (
                    f"{where} does not see the project folder {project}, or lacks its packages: "
                    "workers need both, on a shared disk"
                ),
            )
        why = there.why_not(project, code)
        if why:
            return None, None, f"{where} {why}: {anew}"
        schema = importlib.import_module("utils.schema")
        try:
            function, task = pickle.loads(packed)  # noqa: S301, the client may run code here
            return function(task), None, None
        except schema.PipelineError as error:
            return None, error, None
        except Exception as error:
            error.add_note(f"on {where}:\n{traceback.format_exc()}")
            return None, error, None

    return unit
