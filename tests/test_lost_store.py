"""A tracking server that goes away while models train: nothing is trained twice, or lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS
from servers import mlflow
from small_channel import small_channel
from workspaces import Workspace

LONG = ("model_param.num_iterations=2000", "model_param.early_stopping_round=0", "n_splits=2")


@pytest.fixture(scope="module")
def analysis(shared_workspace: Workspace) -> str:
    given = f"analysis={small_channel(shared_workspace.folder / 'ntuples')}"
    shared_workspace.run("python", "preprocess.py", given)
    return given


@contextmanager
def changing(store: Path) -> Iterator[sqlite3.Connection]:
    """Provide a store to look at or change."""
    with closing(sqlite3.connect(store)) as connection, connection:
        yield connection


def n_parameters(store: Path) -> int:
    """Return how many parameters the server has stored: with them the run is there."""
    with changing(store) as connection:
        found: int = connection.execute("SELECT COUNT(*) FROM params").fetchone()[0]
    return found


def test_models_are_kept_and_delivered_when_the_server_is_back(
    shared_workspace: Workspace, analysis: str, tmp_path: Path
) -> None:
    stores = ("--backend-store-uri", f"sqlite:///{tmp_path}/server.db")
    kept = ("--artifacts-destination", str(tmp_path / "served"))
    log = tmp_path / "train.log"
    once = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    with mlflow("server", tmp_path, *stores, *kept) as uri, log.open("wb") as file:
        training = subprocess.Popen(
            [sys.executable, "train.py", analysis, *LONG],
            cwd=shared_workspace.folder,
            env={**once, "MLFLOW_TRACKING_URI": uri},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        while not n_parameters(tmp_path / "server.db"):
            assert training.poll() is None, log.read_text()
            time.sleep(0.05)
    said = log.read_text()
    assert training.poll() is None, f"it ended before the server did: {said}"
    assert training.wait(HANGS) == 1
    said = log.read_text()
    [error] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said
    assert error.startswith(f"error: the MLflow store {uri} can't take the data sets: ")
    assert "Retrying" in said  # nobody waits in silence
    assert "2 trained folds are kept in" in error
    run_id = said.split("MLflow run ")[1].split()[0]
    command = f"MLFLOW_TRACKING_URI={uri} python train.py resume={run_id}"
    assert f"'{command}' goes on and delivers them" in error
    with mlflow("server", tmp_path, *stores, *kept) as uri:
        there = {"MLFLOW_TRACKING_URI": uri}
        done = shared_workspace.run("python", "train.py", f"resume={run_id}", environment=there)
    assert [f"fold {i}: unchanged, skipped" in done.stderr for i in range(2)] == [True, True]
    assert f"Trained: run_id={run_id}" in done.stderr
    [recipe] = tmp_path.glob(f"served/*/{run_id}/artifacts/recipe")
    assert {"recipe.json", "model_0.txt", "model_1.txt"} <= {p.name for p in recipe.iterdir()}


def status_of(store: Path, run_id: str) -> str:
    """Return the status of a run in a server's store."""
    with changing(store) as connection:
        query = "SELECT status FROM runs WHERE run_uuid = ?"
        found: str = connection.execute(query, (run_id,)).fetchone()[0]
    return found


def test_a_server_hears_that_a_training_was_ended_and_has_it_whole_when_resumed(
    shared_workspace: Workspace, analysis: str, tmp_path: Path
) -> None:
    store = tmp_path / "server.db"
    stores = ("--backend-store-uri", f"sqlite:///{store}")
    kept = ("--artifacts-destination", str(tmp_path / "served"))
    with mlflow("server", tmp_path, *stores, *kept) as uri:
        there = {"MLFLOW_TRACKING_URI": uri}

        def ended_by(number: signal.Signals, *command: str) -> tuple[int, str]:
            """Train until the run is there and RUNNING, and end it."""
            log = tmp_path / f"{number}.log"
            with log.open("wb") as file:
                training = subprocess.Popen(
                    [sys.executable, "train.py", *command],
                    cwd=shared_workspace.folder,
                    env={**os.environ, **there},
                    stderr=file,
                )
            while not (found := re.search(r"MLflow run (\w+)", log.read_text())):
                assert training.poll() is None, log.read_text()
                time.sleep(0.05)
            while not n_parameters(store) or status_of(store, found[1]) != "RUNNING":
                assert training.poll() is None, log.read_text()
                time.sleep(0.05)
            training.send_signal(number)
            return training.wait(HANGS), found[1]

        status, run_id = ended_by(signal.SIGTERM, analysis, *LONG)
        assert status == 143
        assert status_of(store, run_id) == "KILLED"
        resume = f"resume={run_id}"
        assert ended_by(signal.SIGKILL, resume) == (-signal.SIGKILL, run_id)
        assert status_of(store, run_id) == "RUNNING"
        done = shared_workspace.run("python", "train.py", resume, environment=there)
        assert f"Run {run_id}, whose training died, is KILLED now" in done.stderr
        assert status_of(store, run_id) == "FINISHED"
    [recipe] = tmp_path.glob(f"served/*/{run_id}/artifacts/recipe")
    assert {"recipe.json", "model_0.txt", "model_1.txt"} <= {p.name for p in recipe.iterdir()}


@contextmanager
def deaf() -> Iterator[str]:
    """The address of a server that lets one connect, and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_does_not_answer_is_asked_some_times_and_told(
    shared_workspace: Workspace, analysis: str
) -> None:
    seconds = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
    with deaf() as uri:
        done = shared_workspace.run(
            *("python", "train.py", analysis, "n_splits=2"),
            check=False,
            environment={**seconds, "MLFLOW_TRACKING_URI": uri},
        )
    assert done.returncode == 1
    said = done.stderr
    assert said.splitlines()[-1].startswith(f"error: the MLflow store {uri} can't be opened: ")
    assert "Traceback" not in said
    assert said.count("Retrying") == 5


def test_waiting_for_a_server_is_no_longer_than_half_a_minute_and_can_be_cut_off(
    shared_workspace: Workspace, analysis: str, tmp_path: Path
) -> None:
    asked = "import os; from utils.formats import runs; print(os.environ[runs._TIMEOUT])"
    assert shared_workspace.run("python", "-c", asked).stdout == "30\n"
    log = tmp_path / "train.log"
    with deaf() as uri, log.open("wb") as file:
        training = subprocess.Popen(
            [sys.executable, "train.py", analysis, "n_splits=2"],
            cwd=shared_workspace.folder,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": uri,
                "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "9",
                "TMPDIR": str(tmp_path),
            },
            stderr=file,
        )
        while "Retrying" not in log.read_text():
            assert training.poll() is None, log.read_text()
            time.sleep(0.05)
        training.send_signal(signal.SIGTERM)
        assert training.wait(HANGS) == 143
    assert log.read_text().splitlines()[-1].startswith("error: interrupted; ")
    assert list(tmp_path.iterdir()) == [log]


def test_a_training_goes_on_while_the_store_takes_nothing(
    shared_workspace: Workspace, analysis: str
) -> None:
    store = shared_workspace.folder / "mlflow.db"
    train = ("python", "train.py", analysis, "n_splits=2", "model_param.num_iterations=5")
    shared_workspace.run(*train)  # makes the store
    with changing(store) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON params "
            "BEGIN SELECT RAISE(ABORT, 'no space is left'); END"
        )
    failed = shared_workspace.run(*train, check=False)
    with changing(store) as connection:
        connection.execute("DROP TRIGGER full")
    assert failed.returncode == 1
    said = failed.stderr
    assert "Traceback" not in said
    assert re.search(r"Warning: .* can't take the parameters.*; the training goes on", said)
    assert "Trained 2 models" in said
    [error] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "2 trained folds are kept in" in error
    run_id = said.split("MLflow run ")[1].split()[0]
    done = shared_workspace.run("python", "train.py", f"resume={run_id}")
    assert [f"fold {i}: unchanged, skipped" in done.stderr for i in range(2)] == [True, True]
    with changing(store) as connection:
        [(found,)] = connection.execute(
            "SELECT value FROM params WHERE run_uuid = ? AND key = 'n_splits'", (run_id,)
        )
    assert found == "2"


def test_what_can_t_be_resumed_is_refused(shared_workspace: Workspace, analysis: str) -> None:
    refused: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
        (("resume=0123",), {"MLFLOW_RUN_ID": "0" * 32}, "resume is not for mlflow run"),
        (("resume=0123", analysis), {}, "leave analysis out"),
        (("resume=0123", "n_splits=3"), {}, "leave n_splits out"),
    ]
    for keys, environment, expected in refused:
        assert expected in shared_workspace.fails(
            "python", "train.py", *keys, environment=environment
        )
