"""Jobs that wait, that can't run and that are killed, on a real Slurm."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch import ask
from one_process import refusal, run_commands
from patience import HANGS
from workspaces import Workspace, toys

ENGINE = ["preprocess.py", "year=2018", "engine=slurm", "engine.n_workers=1"]
OPTIONS = "engine.cluster_options"
LOOPBACK = [f"{OPTIONS}.interface=lo", f"{OPTIONS}.memory=1 GB"]


@pytest.fixture(scope="module")
def ended(shared_workspace: Workspace, slurm: dict[str, str]) -> list[tuple[int, str]]:
    """What commands with jobs that do not run ended with."""
    toys(shared_workspace, 2_000)
    return run_commands(
        shared_workspace.folder,
        [
            [*ENGINE, *LOOPBACK, f"{OPTIONS}.job_mem=100M"],
            [*ENGINE, *LOOPBACK, f"{OPTIONS}.queue=closed", "engine.wait=3s"],
            [*ENGINE, *LOOPBACK, f"{OPTIONS}.queue=short", f"{OPTIONS}.walltime='02:00:00'"],
            [*ENGINE, *LOOPBACK, f"{OPTIONS}.queue=nowhere"],
            [*ENGINE, "engine.dry_run=true"],
        ],
        slurm,
    )


def test_a_job_that_slurm_kills_is_told_with_its_log(
    ended: list[tuple[int, str]], shared_workspace: Workspace
) -> None:
    """Its limit is below what the worker's interpreter takes."""
    line = refusal(ended[0])
    found = re.search(r"every Slurm job has ended: job (\d+) .*, log (\S+)", line)
    assert found is not None, line
    log = Path(found[2])
    assert log.is_relative_to(shared_workspace.folder / "outputs" / "jobs")
    assert log.name == f"slurm-{found[1]}.log"
    assert "exceeded memory limit" in log.read_text()


def test_while_a_job_waits_its_reason_is_shown(ended: list[tuple[int, str]]) -> None:
    line = refusal(ended[1])
    assert "no Dask worker" in line
    assert "for 3 s; Slurm says: 1 job PENDING (PartitionDown)" in line
    assert "Waiting for Slurm: 1 job PENDING (PartitionDown)" in ended[1][1].splitlines()


def test_a_reason_that_does_not_pass_ends_the_command(ended: list[tuple[int, str]]) -> None:
    assert re.search(r"Slurm will not start .* \(PartitionTimeLimit\)", refusal(ended[2]))


def test_what_sbatch_refuses_is_said_in_its_words(ended: list[tuple[int, str]]) -> None:
    line = refusal(ended[3])
    assert "sbatch refuses the jobs: sbatch: error: invalid partition specified: nowhere" in line


def test_a_dry_run_submits_nothing(
    ended: list[tuple[int, str]], slurm: dict[str, str], shared_workspace: Workspace
) -> None:
    status, said = ended[4]
    assert status == 0
    assert "#SBATCH -t 04:00:00" in said
    assert "Reading" not in said
    assert (
        ask(slurm, "squeue", "--noheader", "--states=PENDING,RUNNING") == ""
    )  # nor do others stay
    assert list(shared_workspace.folder.rglob("*.pem")) == []


def test_the_script_is_one_that_slurm_takes(
    ended: list[tuple[int, str]], slurm: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "job.sh"
    script.write_text(ended[4][1].lstrip())
    done = subprocess.run(
        ["sbatch", "--test-only", str(script)],
        env=slurm | {"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_interrupted_command_takes_its_jobs_along(
    ended: list[tuple[int, str]], shared_workspace: Workspace, slurm: dict[str, str], tmp_path: Path
) -> None:
    said = tmp_path / "said"
    with said.open("wb") as file:
        command = subprocess.Popen(
            [sys.executable, *ENGINE, *LOOPBACK, f"{OPTIONS}.queue=closed"],
            cwd=shared_workspace.folder,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **slurm},
            stderr=file,
        )
        while "Waiting for the first worker" not in said.read_text():
            assert command.poll() is None, said.read_text()
            time.sleep(0.1)
        command.send_signal(signal.SIGTERM)
        assert command.wait(HANGS) == 143
    assert said.read_text().count("error: ") == 1
    while ask(slurm, "squeue", "--noheader", "--states=PENDING,RUNNING"):
        time.sleep(0.1)
    assert list(shared_workspace.folder.rglob("*.pem")) == []
