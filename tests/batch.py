"""A real Slurm on loopback, where Debian's packages are installed (slurm-wlm, munge)."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from servers import STARTS, free_port, started

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")

CONFIGURATION = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=2
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes={host} MaxTime=1 State=UP
PartitionName=closed Nodes={host} State=DOWN
"""
"""Jobs that use more memory than they asked for are killed; `short` takes jobs of a minute, and
`closed` starts none. Two jobs of a core run side by side, also where the machine has one."""


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """Run munged, slurmctld and slurmd; yields the environment of commands that use them."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: Debian's slurm-wlm and munge bring them")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs as root only")
    for _ in range(STARTS):
        # Not the test's own folder: the path of a socket has 107 characters.
        folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        try:
            with ExitStack() as stack:
                environment = _start(folder, stack)
                if environment is not None:
                    yield environment
                    _end_jobs(environment)
                    return
            said = "\n".join(log.read_text() for log in sorted(folder.glob("*.out")))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    raise AssertionError(f"Slurm ended {STARTS} times: {said}")


def _start(folder: Path, stack: ExitStack) -> dict[str, str] | None:
    """Start what Slurm consists of; None if one of it ended, as where its port was taken."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            controller=free_port(),
            node=free_port(),
            folder=folder,
            cpus=max(2, os.cpu_count() or 1),
        )
    )
    munged = [
        *(_needed("munged"), "--foreground", "--force", f"--key-file={key}"),
        *(f"--socket={folder}/munge.sock", f"--pid-file={folder}/munged.pid"),
        *(f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munged.log"),
    ]
    configured = ["-D", "-f", str(configuration)]
    running = []
    for name, command in (
        ("munged", munged),
        ("slurmctld", [_needed("slurmctld"), *configured]),
        ("slurmd", [_needed("slurmd"), *configured]),
    ):
        server = stack.enter_context(started(command, folder / f"{name}.out"))
        running.append(server)
        while name == "munged" and server.poll() is None and not (folder / "munge.sock").exists():
            time.sleep(0.05)
    environment = {"SLURM_CONF": str(configuration)}
    while all(server.poll() is None for server in running):
        if "idle" in ask(environment, "sinfo", "--noheader", "--format=%T"):
            return environment
        time.sleep(0.1)
    return None


def _end_jobs(environment: dict[str, str]) -> None:
    """End all jobs: their processes would outlive slurmd."""
    ask(environment, "scancel", "--user=root")
    while ask(environment, "squeue", "--noheader"):
        time.sleep(0.1)


def ask(environment: dict[str, str], *command: str) -> str:
    """Return what a command of Slurm writes."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _needed(name: str) -> str:
    found = _program(name)
    assert found is not None
    return found
