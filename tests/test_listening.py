"""What listens where, as docs/clusters.md says, and that the dashboard is where a command says."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dask_servers import Running
from patience import HANGS
from workspaces import Workspace

from utils.schema import EngineConfig
from utils.system import engine

LOOPBACK = {"127.0.0.1", "::1"}

COMMAND = """
import json, sys
from utils.schema import EngineConfig
from utils.system import engine

def listening(above=False):
    "Return the addresses at which this process, or the one above, and its children listen."
    import psutil
    first = psutil.Process().parent() if above else psutil.Process()
    return [
        (connection.laddr.ip, connection.laddr.port)
        for process in (first, *first.children(recursive=True))
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]

if __name__ == "__main__":
    with engine.start(EngineConfig(**json.loads(sys.argv[1]))) as workers:
        [at_work, _] = workers.map(listening, [workers.cluster is not None] * 2)
        scheduler = workers.cluster.address if workers.cluster else None
        print(json.dumps({"here": listening(), "at_work": at_work, "scheduler": scheduler}))
"""
"""Says where it listens while an engine runs, and where a worker with its keeper does."""


def listening(
    project: Path, config: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what a command of a copy of the project says while it has an engine."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, json.dumps(config)],
        cwd=project,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def hosts(addresses: Sequence[tuple[str, int]]) -> set[str]:
    return {host for host, _ in addresses}


def ports(addresses: Sequence[tuple[str, int]]) -> set[int]:
    return {port for _, port in addresses}


@pytest.mark.parametrize("kind", ["local", "serial"])
def test_engines_of_one_process_do_not_listen(shared_workspace: Workspace, kind: str) -> None:
    said = listening(shared_workspace.folder, {"kind": kind, "n_workers": 2})
    assert said == {"here": [], "at_work": [], "scheduler": None}


def test_a_cluster_of_this_machine_listens_to_it_alone(shared_workspace: Workspace) -> None:
    said = listening(shared_workspace.folder, {"kind": "dask", "n_workers": 1})
    assert port_of(said["scheduler"]) in ports(said["here"])
    assert ports(said["at_work"]) == ports(said["here"])  # the keeper is this command
    assert hosts(said["here"]) <= LOOPBACK


@pytest.fixture(scope="module")
def with_jobs(shared_workspace: Workspace, slurm: dict[str, str]) -> dict[str, Any]:
    """What a command says whose worker is a job that was given the loopback interface."""
    options = {"cores": 1, "memory": "1 GB", "interface": "lo"}
    config = {"kind": "dask", "cluster": "slurm", "n_workers": 1, "security": True}
    return listening(shared_workspace.folder, {**config, "cluster_options": options}, slurm)


def test_a_command_with_jobs_listens_on_the_interface_that_was_given(
    with_jobs: dict[str, Any],
) -> None:
    assert port_of(with_jobs["scheduler"]) in ports(with_jobs["here"])
    assert hosts(with_jobs["here"]) <= LOOPBACK


def dashboard(config: EngineConfig, caplog: pytest.LogCaptureFixture) -> tuple[str, int, str]:
    """Return the address that is told of a dashboard, and the status and text of what is there."""
    with caplog.at_level(logging.INFO), engine.start(config):
        [told] = re.findall(r"dashboard: (\S+)", caplog.text)
        with urllib.request.urlopen(told, timeout=HANGS) as answer:
            return told, answer.status, answer.read().decode()


def test_the_dashboard_of_this_machine_s_cluster_is_where_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = EngineConfig(kind="dask", n_workers=1, wait=f"{HANGS} s")
    told, status, page = dashboard(config, caplog)
    assert told.startswith("http://127.0.0.1:")
    assert status == 200
    assert "Dask" in page


def test_the_dashboard_of_a_scheduler_is_where_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        running = Running(tmp_path, stack, dashboard=True)
        running.worker()
        told, status, page = dashboard(running.config(), caplog)
    assert told.startswith("http://127.0.0.1:")
    assert status == 200
    assert "Dask" in page
