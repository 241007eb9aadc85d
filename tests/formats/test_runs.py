"""A run is changed by complete artifacts only, and its status by nothing but its own training."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import input_servers
import mlflow
import numpy as np
import pytest
import servers

from utils.formats import runs
from utils.schema import PROJECT, ClassInfo, FoldRule, Recipe, RunError
from utils.system import interrupts
from utils.system.processes import Process

# MLflow's own imports warn of what it uses of other libraries; nothing here can mend that.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(runs, "RUNNING", tmp_path / "running")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new_run() -> str:
    with runs.training_run("an experiment", "a run", {"analysis": "x"}) as run:
        run.log_parameters({"n_splits": 2, "long": "x" * 10_000})
        run.log_curves({"fold_0/train/logloss": [(1, 0.5), (2, 0.25)]})
    return run.run_id


def status(store: Path, run_id: str) -> str:
    with sqlite3.connect(store / "mlflow.db") as database:
        query = "SELECT status FROM runs WHERE run_uuid = ?"
        return str(database.execute(query, (run_id,)).fetchone()[0])


def test_a_run_takes_files_and_metrics_and_keeps_its_status(store: Path) -> None:
    run = runs.open_run(new_run())
    source, other = store / "a.csv", store / "a.parquet"
    source.write_text("old")
    other.write_text("old too")
    run.publish({"pred/a.csv": source, "pred/a.parquet": other})
    assert run.artifact("pred/a.csv", "table").read_text() == "old"
    run.log_metrics({f"m{i}": float(i) for i in range(1500)} | {"undefined": float("nan")})
    assert len(run.client.get_run(run.run_id).data.metrics) == 1501
    source.write_text("new")
    with pytest.raises(FileNotFoundError):
        run.publish({"pred/a.csv": source, "pred/a.parquet": store / "none"})
    # The earlier publication stands as it was.
    assert run.artifact("pred/a.csv", "table").read_text() == "old"
    assert run.artifacts("pred") == [
        *("pred/a.csv", "pred/a.parquet", "pred/manifest_table_a.json")
    ]
    assert status(store, run.run_id) == "FINISHED"


def metrics_of(run: runs.Run) -> dict[str, float]:
    return {k: v for k, v in run.client.get_run(run.run_id).data.metrics.items() if k[:4] == "test"}


def test_metrics_follow_their_manifest_and_vanish_with_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.open_run(new_run())
    source = store / "a.html"
    source.write_text("a figure")
    files = {"plots/test/a.html": source}
    run.publish(files, {"metrics": {"test/a": 1.0, "test/b": 2.0}})
    assert metrics_of(run) == {"test/a": 1.0, "test/b": 2.0}
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_log_metrics", lambda *_: 1 / 0)  # cut off before the metrics
        with pytest.raises(ZeroDivisionError):
            run.publish(files, {"metrics": {"test/a": 3.0}})
    assert metrics_of(run) == {"test/a": 1.0, "test/b": 2.0}
    for repaired in (run.mend, lambda: run.publish(files, {"metrics": {"test/a": 3.0}}), run.mend):
        repaired()
        found = metrics_of(run)
        assert found["test/a"] == 3.0
        assert np.isnan(found["test/b"])
    monkeypatch.setattr(runs, "_sqlite_file", lambda: None)  # as a server is asked
    assert runs._same(found["test/b"], run._logged_metrics()["test/b"])
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_log_metrics", lambda *_: 1 / 0)  # all is there: nothing to do
        run.mend()
    run.publish(files, {"metrics": {"test/a": 3.0, "test/b": 4.0}})
    assert metrics_of(run) == {"test/a": 3.0, "test/b": 4.0}


def local_run(folder: Path, **texts: str) -> runs.Run:
    """Return a run of a local store with a table `t` of files with these endings."""
    run = runs.Run("r", "0", str(folder / "run" / "artifacts"))
    publish(run, folder, **texts)
    return run


def publish(run: runs.Run, folder: Path, **texts: str) -> None:
    for suffix, text in texts.items():
        (folder / f"t.{suffix}").write_text(text)
    run.publish({f"pred/t.{suffix}": folder / f"t.{suffix}" for suffix in texts})


def text_of(run: runs.Run, path: str) -> str:
    return run.artifact(path, "table").read_text()


def test_what_no_manifest_lists_is_not_read(tmp_path: Path) -> None:
    run = local_run(tmp_path, csv="1")
    folder = tmp_path / "run" / "artifacts" / "pred"
    (folder / "u.csv").write_text("2")
    (folder / "t.parquet").write_text("3")
    assert run.lists("pred/t.csv")
    assert not run.lists("pred/u.csv")
    assert not run.lists("pred/t.parquet")
    with pytest.raises(RunError, match=r"pred/u\.csv of run r has no pred/manifest_table_u\.json"):
        text_of(run, "pred/u.csv")
    with pytest.raises(RunError, match=r"pred/t\.parquet is not in pred/manifest_table_t\.json"):
        text_of(run, "pred/t.parquet")


@pytest.mark.parametrize("text", ["2", "12", ""])
def test_what_differs_from_its_manifest_is_refused_by_name(tmp_path: Path, text: str) -> None:
    run = local_run(tmp_path, csv="1", parquet="1")
    (tmp_path / "run" / "artifacts" / "pred" / "t.csv").write_text(text)
    with pytest.raises(RunError, match=r"pred/t\.csv of run r is not what .*_t\.json lists"):
        text_of(run, "pred/t.csv")
    assert text_of(run, "pred/t.parquet") == "1"


def test_files_of_an_earlier_publication_go_and_others_stay(tmp_path: Path) -> None:
    run = local_run(tmp_path, csv="1", parquet="1")
    (tmp_path / "run" / "artifacts" / "pred" / "mine.csv").write_text("mine")
    publish(run, tmp_path, csv="2")
    assert run.artifacts("pred") == ["pred/manifest_table_t.json", "pred/mine.csv", "pred/t.csv"]
    assert text_of(run, "pred/t.csv") == "2"


def test_a_publication_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    run = local_run(tmp_path, csv="1", parquet="1")
    folder = tmp_path / "run" / "artifacts" / "pred"
    there = run.artifacts("pred")
    (folder / "t.parquet").unlink()
    (folder / "t.parquet").mkdir()
    with pytest.raises(IsADirectoryError):
        publish(run, tmp_path, csv="2", parquet="2")
    assert text_of(run, "pred/t.csv") == "1"
    assert run.artifacts("pred") == there


@pytest.mark.parametrize("at_file", [0, 1])
def test_a_disk_that_is_full_while_files_get_their_names_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_file: int
) -> None:
    """The new publication stands by then; where no links can be made, files are copied."""
    run = local_run(tmp_path, csv="1", parquet="1", txt="1")
    left, linked = [at_file], runs._linked

    def full(source: Path, target: Path) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        left[0] -= 1
        linked(source, target)

    monkeypatch.setattr(runs, "_linked", full)
    with pytest.raises(OSError, match="No space left"):
        publish(run, tmp_path, csv="2", parquet="2")
    monkeypatch.setattr(runs, "_linked", linked)
    assert [text_of(run, f"pred/t.{suffix}") for suffix in ("csv", "parquet")] == ["2", "2"]
    publish(run, tmp_path, csv="3", parquet="3")
    assert [text_of(run, f"pred/t.{suffix}") for suffix in ("csv", "parquet")] == ["3", "3"]
    assert not run.lists("pred/t.txt")
    assert "pred/t.txt" not in run.artifacts("pred")


def test_nothing_is_read_or_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "t.csv").write_text("precious")
    run = local_run(tmp_path, csv="1")
    artifacts = tmp_path / "run" / "artifacts"
    (artifacts / "pred").rename(tmp_path / "kept")
    (artifacts / "pred").symlink_to(victim)
    for use in (lambda: text_of(run, "pred/t.csv"), lambda: publish(run, tmp_path, csv="2")):
        with pytest.raises(RunError, match="is a symbolic link"):
            use()
    (artifacts / "pred").unlink()
    (tmp_path / "kept").rename(artifacts / "pred")
    (artifacts / "pred" / "t.csv").unlink()
    (artifacts / "pred" / "t.csv").symlink_to(victim / "t.csv")
    with pytest.raises(RunError, match="is a symbolic link"):
        publish(run, tmp_path, csv="2")
    for whole in (artifacts, artifacts.parent):
        whole.rename(tmp_path / "elsewhere")
        whole.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(RunError, match="is a symbolic link"):
            publish(run, tmp_path, csv="2")
        whole.unlink()
        (tmp_path / "elsewhere").rename(whole)
    assert (victim / "t.csv").read_text() == "precious"
    assert [p.name for p in victim.iterdir()] == ["t.csv"]


def test_only_the_users_own_places_outside_a_run_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, disk = tmp_path / "project", tmp_path / "disk"
    monkeypatch.setattr(runs, "PROJECT", project)
    monkeypatch.setattr(runs, "PLACES", project / "outputs" / "places")
    monkeypatch.setattr(runs, "LAST_RUN", project / "outputs" / "last_run.json")
    inside = f"{project}/data/skims"
    runs.remember("mine", "0", [str(disk / "skims"), inside, ""])

    def counts(run_id: str, path: str) -> bool:
        try:
            runs.Run(run_id, "0", "").place(Path(path), "its skims", "input_path=FOLDER")
        except RunError as error:
            return "add input_path=FOLDER to the command" not in str(error)
        return True

    assert counts("mine", f"{disk}/skims/training/train.h5")
    assert not counts("mine", f"{disk}/skims/../other")
    assert not counts("mine", f"{disk}/skims2")
    assert counts("theirs", f"{project}/data/x.h5")
    assert not counts("theirs", f"{project}/../disk/skims")
    assert not counts("theirs", f"{disk}/skims")
    # In a copy of the project, what was inside the original is the original's.
    (project / "outputs").rename(tmp_path / "outputs")
    monkeypatch.setattr(runs, "PROJECT", tmp_path / "copy")
    monkeypatch.setattr(runs, "PLACES", tmp_path / "outputs" / "places")
    assert counts("mine", f"{disk}/skims")
    assert not counts("mine", inside)


@pytest.mark.parametrize("spelt", ["mlflow.db", "outputs/../mlflow.db"])
@pytest.mark.parametrize("resumed", [False, True])
def test_what_a_copied_project_trains_stays_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool, spelt: str
) -> None:
    """Also of a run that `mlflow run` has opened there, or that a copied training goes on with."""
    original, copy = tmp_path / "original", tmp_path / "copy"

    def stand_in(project: Path) -> None:
        monkeypatch.setattr(runs, "PROJECT", project)
        monkeypatch.setattr(runs, "RUNNING", project / "outputs" / "running")
        monkeypatch.chdir(project)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/{spelt}")

    def contents() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in original.rglob("*") if p.is_file()}

    (original / "outputs").mkdir(parents=True)
    stand_in(original)
    run_id = new_run()
    with mlflow.start_run(run_id=run_id):
        mlflow.pyfunc.log_model(
            name="model_0", python_model=lambda model_input: model_input, pip_requirements=[]
        )
    shutil.copytree(original, copy)
    before = contents()
    stand_in(copy)
    if not resumed:  # what the command mlflow run does first, in the copy
        run_id = runs.client().create_run("1").info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    source = tmp_path / "recipe.json"
    source.write_text("{}")
    with runs.training_run(None, None, {}, run_id if resumed else None) as run:
        runs.opened_run(run).publish({"recipe/recipe.json": source})
    assert Path(run.artifact_uri).is_relative_to(copy)
    assert list(copy.rglob(f"{run_id}/artifacts/recipe/recipe.json"))
    assert contents() == before


@pytest.mark.parametrize("path", ["../x.csv", "/etc/x.csv", "pred/../../x.csv", "recipe/x"])
def test_a_manifest_that_names_other_places_is_refused(tmp_path: Path, path: str) -> None:
    run = local_run(tmp_path, csv="1")
    manifest = tmp_path / "run" / "artifacts" / "pred" / "manifest_table_t.json"
    for raw in ({"files": {path: {"bytes": 1, "sha256": ""}}, "format": "manifest-1"},
                {"files": {"pred/t.csv": {"bytes": 1, "sha256": "", "kept": path}}, "format": "x"},
                {"files": [path]}, {"files": {}, "format": "manifest-9"}, [], 1):  # fmt: skip
        manifest.write_text(json.dumps(raw))
        with pytest.raises(RunError, match=r"manifest_table_t\.json of run r can't be read"):
            publish(run, tmp_path, csv="2")
    assert (manifest.parent / "t.csv").read_text() == "1"


def test_a_deleted_run_or_experiment_is_told(store: Path) -> None:
    run = runs.open_run(new_run())
    run.client.delete_run(run.run_id)
    with pytest.raises(RunError, match=f"was deleted: .*mlflow runs restore --run-id {run.run_id}"):
        runs.open_run(run.run_id)
    run.client.restore_run(run.run_id)
    assert runs.open_run(run.run_id) == run
    run.client.delete_experiment(run.experiment_id)
    with pytest.raises(RunError, match=r"was deleted: .*mlflow "):
        runs.open_run(run.run_id)
    with pytest.raises(RunError, match="experiment 'an experiment' was deleted"):
        new_run()


def test_a_store_of_artifacts_that_takes_none_is_told(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its errors are of the protocol's own library; so it is where that is not installed."""
    from mlflow.store.artifact import s3_artifact_repo

    with input_servers.s3() as (_, environment, _):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", environment["AWS_ENDPOINT_URL"])
        runs.client().create_experiment("an experiment", "s3://nobody-made-this-bucket/runs")
        run = runs.open_run(new_run())
        source = store / "a.csv"
        source.write_text("1")
        # As where a bucket may be listed, but not written to.
        repository = s3_artifact_repo.S3ArtifactRepository
        monkeypatch.setattr(repository, "list_artifacts", lambda *_: [])
        with pytest.raises(RunError, match=r"can't take .*NoSuchBucket"):
            run.publish({"pred/a.csv": source})
        s3_artifact_repo._cached_get_s3_client.cache_clear()
        monkeypatch.setitem(sys.modules, "boto3", None)
        with pytest.raises(RunError, match=r"can't .*boto3"):
            runs.open_run(run.run_id).publish({"pred/a.csv": source})


def test_a_broken_store_is_told(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = runs.open_run(new_run())
    run.connect()
    with sqlite3.connect(store / "mlflow.db") as database:
        database.execute("DROP TABLE metrics")
    capfd.readouterr()
    with pytest.raises(RunError, match=r"can't take the metrics: .* no such table: metrics"):
        run.log_metrics({"a": 1.0})
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_has_time_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which it passes on before it answers; a user's own longer time counts."""
    seen: list[str] = []
    timeout = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    run = runs.Run("r", "0", "mlflow-artifacts:/r")
    log_artifact = lambda *_: seen.append(os.environ[timeout])  # noqa: E731
    run.__dict__["client"] = SimpleNamespace(log_artifact=log_artifact)
    source = tmp_path / "a.csv"
    source.touch()
    for given in ("30", "600"):
        monkeypatch.setenv(timeout, given)
        run._send(source, "pred/a.csv", tmp_path)
        assert os.environ[timeout] == given
    assert seen == ["120", "600"]


def cut_off_after(n_files: int) -> Callable[..., None]:
    """Return what sends so many files to a server, and is interrupted then."""
    send, sent = mlflow.MlflowClient.log_artifact, []

    def cut_off(self: Any, run_id: str, path: str, folder: str) -> None:
        if len(sent) == n_files:
            raise KeyboardInterrupt
        sent.append(path)
        send(self, run_id, path, folder)

    return cut_off


def test_a_server_keeps_publications_and_its_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with servers.mlflow("server", tmp_path, "--backend-store-uri", store) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        run = runs.open_run(new_run())
        assert run.artifact_uri.startswith("mlflow-artifacts:")
        source = tmp_path / "a.html"
        for text in ("old", "new"):
            source.write_text(text)
            run.publish({"plots/test/a.html": source}, {"metrics": {"test/a": 1.0}})
            assert run.artifact("plots/test/a.html", "figure").read_text() == text
        kept = [p for p in run.artifacts("plots/test") if not p.endswith(".json")]
        assert len(kept) == 2  # each publication under a name of its own
        assert run.lists("plots/test/a.html")
        source.write_text("newer")
        for n_sent in range(2):  # of the figure and the manifest
            with monkeypatch.context() as patched:
                patched.setattr(mlflow.MlflowClient, "log_artifact", cut_off_after(n_sent))
                with pytest.raises(KeyboardInterrupt):
                    run.publish({"plots/test/a.html": source}, {"metrics": {"test/a": 2.0}})
            assert run.artifact("plots/test/a.html", "figure").read_text() == "new"
            assert run._logged_metrics()["test/a"] == 1.0
    with pytest.raises(RunError, match=f"the MLflow store {address} can't"):
        run.log_metrics({"a": 1.0})
    with pytest.raises(RunError, match=f"the MLflow store {address} can't"):
        run.publish({"plots/test/a.html": source})


def test_a_training_that_is_ended_while_its_run_is_made_is_marked_killed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = mlflow.start_run

    def made_and_interrupted(**how: Any) -> None:
        start(**how)
        mlflow.end_run("RUNNING")  # as if it were not known yet
        raise KeyboardInterrupt

    monkeypatch.setattr(mlflow, "start_run", made_and_interrupted)
    with pytest.raises(KeyboardInterrupt), runs.training_run("an experiment", None, {}):
        pass
    with sqlite3.connect(store / "mlflow.db") as database:
        assert database.execute("SELECT status FROM runs").fetchall() == [("KILLED",)]
    assert list(runs.RUNNING.iterdir()) == []


def test_a_failed_training_is_marked_failed(store: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        runs.training_run("an experiment", None, {}) as run,
    ):
        _ = 1 / 0
    assert status(store, run.run_id) == "FAILED"


def test_a_training_whose_interrupt_became_another_error_is_marked_killed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "_TOLD", [15])
    with (
        pytest.raises(ZeroDivisionError),
        runs.training_run("an experiment", None, {}) as run,
    ):
        _ = 1 / 0
    assert status(store, run.run_id) == "KILLED"


def test_an_interrupted_training_is_marked_killed(store: Path) -> None:
    seen = []

    def interrupted(run: runs.NewRun) -> None:
        seen.append((status(store, run.run_id), len(list(runs.RUNNING.iterdir())), run.run_id))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), runs.training_run("an experiment", None, {}) as run:
        interrupted(run)
    [(before, n_marks, run_id)] = seen
    assert (before, n_marks) == ("RUNNING", 1)
    assert status(store, run_id) == "KILLED"
    assert list(runs.RUNNING.iterdir()) == []


def test_notes_that_a_dead_command_had_not_finished_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = tmp_path / "outputs"
    monkeypatch.setattr(runs, "RUNNING", outputs / "running")
    monkeypatch.setattr(runs, "PLACES", outputs / "places")
    monkeypatch.setattr(runs, "LAST_RUN", outputs / "last_run.json")
    monkeypatch.setattr(runs.servers, "SERVERS", outputs / "places" / "servers")
    mine = Process.current()
    dead = replace(mine, started=mine.started - 1)
    places = [outputs, outputs / "running", outputs / "places", outputs / "places" / "servers"]
    notes = [place / f".note.{dead}-0123abcd.tmp.json" for place in places]
    for note in notes:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text("half")
    runs.end_dead_runs()
    assert [note for note in notes if note.exists()] == []


def test_the_run_of_a_dead_training_is_ended_and_no_other(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Process.current()
    dead = replace(mine, started=mine.started - 1)
    elsewhere = replace(mine, machine="0" * 12)

    def training(process: Process) -> str:
        monkeypatch.setattr(Process, "current", lambda: process)
        run_id: str = runs.client().create_run("0").info.run_id
        mark = runs.RUNNING / f"{process}-0123abcd.json"
        runs._write_mark(mark, "KILLED")
        runs.client().set_tag(run_id, "trained_by", mark.stem)
        monkeypatch.undo()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
        monkeypatch.setattr(runs, "RUNNING", store / "running")
        return run_id

    trainings = [training(process) for process in (dead, mine, elsewhere)]
    finished = new_run()
    runs.end_dead_runs()
    assert [status(store, r) for r in trainings] == ["KILLED", "RUNNING", "RUNNING"]
    os.utime(runs.RUNNING / f"{elsewhere}-0123abcd.json", (time.time() - 700,) * 2)
    runs.end_dead_runs()
    assert [status(store, r) for r in trainings] == ["KILLED", "RUNNING", "KILLED"]
    assert status(store, finished) == "FINISHED"
    assert [p.name for p in runs.RUNNING.iterdir()] == [f"{mine}-0123abcd.json"]


def test_a_run_is_found_without_mlflow_and_is_what_mlflow_finds(store: Path) -> None:
    run_id = new_run()
    found = runs._run_of_client(run_id)
    assert runs._run_in_sqlite(run_id) == found
    assert runs._run_in_sqlite(run_id[:-1] + "x") is None
    code = f"import sys; from utils.formats.runs import *; print(open_run('{run_id}'))"
    command = [sys.executable, "-c", f"{code}; sys.exit('mlflow' in sys.modules)"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(found)), done.stderr


def test_what_is_not_there_is_named(store: Path) -> None:
    run_id = new_run()
    with pytest.raises(RunError, match=f"nearest: '{run_id}'"):
        runs.open_run(run_id[:-1] + "x")
    with pytest.raises(RunError, match="is in experiment 1, not 5"):
        runs.open_run(run_id, "5")
    with pytest.raises(RunError, match="has no recipe"):
        _ = runs.open_run(run_id).recipe
    with pytest.raises(RunError, match="has no table"):
        runs.open_run(run_id).artifact("pred/x.csv", "table")


def test_a_store_that_can_not_be_opened_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(RunError, match="can't be opened"):
        runs.client()


def test_rebase_changes_every_location(store: Path) -> None:
    run_id = new_run()
    assert runs.rebase(str(store), Path("/somewhere/else")) >= 2
    with sqlite3.connect(store / "mlflow.db") as database:
        (uri,) = database.execute(
            "SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)
        ).fetchone()
    assert "/somewhere/else/mlruns/" in uri


@pytest.mark.parametrize("content", [np.zeros(0, np.uint64), np.zeros(2), np.array(["a"]), None])
def test_damaged_identities_are_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "recipe" / "trained_0.npy"
    path.parent.mkdir()
    if content is None:
        path.write_bytes(b"")
    else:
        np.save(path, content)
    run = runs.Run("r", "0", str(tmp_path))
    run.seal(["recipe/trained_0.npy"], {})
    with pytest.raises(RunError, match="is damaged"):
        run.trained_identities(0)


def test_a_model_is_found_by_its_number_whatever_its_ending(tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "model_1.json").write_text("one")
    (folder / "model_11.txt").write_text("eleven")
    run = runs.Run("r", "0", str(tmp_path))
    run.seal(run.artifacts("recipe"), {})
    assert (run.model_text(1), run.model_text(11)) == ("one", "eleven")
    with pytest.raises(RunError, match="run r has no model 0"):
        run.model_text(0)
    (folder / "model_1.txt").write_text("another")
    (folder / "manifest.json").unlink()
    run.seal(run.artifacts("recipe"), {})
    with pytest.raises(RunError, match="run r has more than one model 1"):
        run.model_text(1)


def test_models_take_numbers_as_pandas_reads_them(store: Path) -> None:
    import lightgbm
    import mlflow
    import pandas as pd

    random = np.random.default_rng(0)
    matrix = random.normal(size=(300, 3)).astype(np.float32)
    matrix[:, 2] = np.round(3 * matrix[:, 2])
    data = lightgbm.Dataset(matrix, matrix[:, 0] > 0, feature_name=list("abc"))
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(settings, data, 5)
    with runs.training_run("an experiment", None, {}) as run:
        run.log_models("lightgbm", [model.model_to_string()], list("abc"), matrix[:5])
    loaded = mlflow.pyfunc.load_model(f"runs:/{run.run_id}/model_0")
    frame, expected = pd.DataFrame(matrix, columns=list("abc")), model.predict(matrix)
    path = store / "events.csv"
    frame.to_csv(path, index=False)
    counts = frame.assign(c=frame["c"].astype("int64"))
    for given in (frame, frame.astype("float64"), pd.read_csv(path), counts, frame[list("cba")]):
        np.testing.assert_array_equal(loaded.predict(given), expected)
    with pytest.raises(mlflow.MlflowException, match="missing"):
        loaded.predict(frame[["a", "b"]])


RECIPE = Recipe(
    analysis={},
    training={},
    classes=(ClassInfo(name="a"), ClassInfo(name="b")),
    features=("x",),
    pipeline={},
    fold=FoldRule("modulo", ("evt",), 2),
    weight="1",
    objective="binary",
    models=({"index": 0, "fingerprint": "f", "best_iteration": 1},),
    samples=({"name": "s", "group": "s", "processes": []},),
    files=({"name": "s.root", "n_entries": 1, "uuid": "u"},),
    skims={"train": "t", "test": "t", "origin": "o", "test_origin": "o"},
    audit=(),
    audit_passed=True,
)


def test_a_recipe_comes_back_as_it_was() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("analysis", None, "'analysis' is no mapping"),
        ("samples", [{}], "an entry of 'samples' lacks one of group, name, processes"),
        ("classes", "a, b", "'classes' is no list of mappings"),
        ("skims", {"train": "t"}, "an entry of 'skims' lacks one of origin"),
        ("models", [None], "'models' is no list of mappings"),
    ],
)
def test_a_damaged_recipe_is_refused(tmp_path: Path, part: str, value: Any, said: str) -> None:
    path = tmp_path / "recipe" / "recipe.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**json.loads(RECIPE.to_json()), part: value}))
    run = runs.Run("r", "0", str(tmp_path))
    run.seal(["recipe/recipe.json"], {})
    with pytest.raises(RunError, match=f"the recipe of run r can't be read: {said}"):
        _ = run.recipe
