"""Tasks on every engine: in order, with their errors told, and nothing left running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS

from utils.schema import PROJECT, ConfigError, EngineConfig, InputError, PipelineError
from utils.system import engine


def double(number: int) -> int:
    if number == 3:
        raise InputError("three is refused in sample S, file f.root, entries 0-10")
    if number == 4:
        raise ZeroDivisionError("four")
    return 2 * number


@pytest.mark.parametrize("kind", ["serial", "local"])
def test_results_come_in_the_order_of_the_tasks(kind: str) -> None:
    with engine.start(EngineConfig(kind=kind, n_workers=2)) as workers:
        assert list(workers.map(double, [5, 0, 2])) == [10, 0, 4]
        assert list(workers.map(double, [])) == []


@pytest.mark.parametrize("kind", ["serial", "local"])
def test_errors_of_workers_reach_the_user(kind: str) -> None:
    with engine.start(EngineConfig(kind=kind, n_workers=2)) as workers:
        with pytest.raises(InputError, match=r"sample S, file f\.root, entries 0-10"):
            list(workers.map(double, [1, 3]))
        with pytest.raises(RuntimeError, match="4: ZeroDivisionError: four"):
            list(workers.map(double, [1, 4]))


def test_what_belongs_to_dask_is_refused_elsewhere() -> None:
    config = EngineConfig(kind="local", address="tcp://127.0.0.1:1")
    with (
        pytest.raises(ConfigError, match=r"engine\.address is for engine=dask"),
        engine.start(config),
    ):
        pass


def test_no_progress_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with engine.progress(10, "events", "reading") as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""


def test_a_local_dask_cluster_is_started_on_request(tmp_path: Path) -> None:
    code = (
        "from utils.system import engine; from utils.schema import EngineConfig\n"
        "if __name__ == '__main__':\n"
        "    with engine.start(EngineConfig(kind='dask', n_workers=1)) as w:\n"
        "        assert list(w.map(abs, [-1, -2])) == [1, 2]\n"
    )
    script = tmp_path / "start.py"
    script.write_text(code)
    subprocess.run(
        [sys.executable, str(script)], check=True, timeout=HANGS, env={"PYTHONPATH": str(PROJECT)}
    )


def test_an_error_on_dask_is_told_without_the_client_s_tracebacks(tmp_path: Path) -> None:
    """While one task fails, others are under way and their results are being fetched."""
    script = tmp_path / "fail.py"
    script.write_text(
        "import sys, time\n"
        "from utils.system import engine\n"
        "from utils.schema import EngineConfig, InputError\n"
        "def work(number):\n"
        "    if number == 1:\n"
        "        raise InputError('number one')\n"
        "    time.sleep(0.002 * number)\n"
        "    return bytes(20_000_000)\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        with engine.start(EngineConfig(kind='dask', n_workers=2)) as workers:\n"
        "            for _ in workers.map(work, range(40)):\n"
        "                pass\n"
        "    except InputError as error:\n"
        "        sys.stderr.write(f'error: {error}\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=True,
        env={"PYTHONPATH": str(PROJECT)},
    )
    assert done.stderr == "error: number one\n"


@pytest.mark.parametrize("cluster", ["slurm", "htcondor"])
def test_a_batch_system_that_is_not_there_is_refused(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    config = EngineConfig(kind="dask", cluster=cluster)
    with pytest.raises(ConfigError, match="submits jobs with"), engine.start(config):
        pass


def _unwritable(_: int) -> None:
    raise PermissionError(13, "Permission denied", "/there")


def test_an_error_of_the_system_in_a_task_is_one_for_users() -> None:
    with (
        engine.start(EngineConfig(kind="serial")) as workers,
        pytest.raises(PipelineError, match="7: Permission denied: /there"),
    ):
        list(workers.map(_unwritable, [7]))
