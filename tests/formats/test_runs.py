"""A run is changed by complete artifacts only, and its status by nothing but its own training."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.formats import runs
from utils.schema import PROJECT, ClassInfo, FoldRule, Recipe, RunError

# MLflow's own imports warn of what it uses of other libraries; nothing here can mend that.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
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
    source, manifest = store / "a.csv", store / "manifest.json"
    source.write_text("old")
    manifest.write_text("{}")
    run.publish({"pred/a.csv": source, "pred/manifest.json": manifest})
    assert run.artifact("pred/a.csv", "table").read_text() == "old"
    run.log_metrics({f"m{i}": float(i) for i in range(1500)} | {"undefined": float("nan")})
    assert len(run.client.get_run(run.run_id).data.metrics) == 1501
    source.write_text("new")
    with pytest.raises(FileNotFoundError):
        run.publish({"pred/a.csv": source, "pred/manifest.json": store / "none.json"})
    # What was made again is there, complete; the manifest does not speak for half of it.
    assert run.artifact("pred/a.csv", "table").read_text() == "new"
    assert run.artifacts("pred") == ["pred/a.csv"]
    assert status(store, run.run_id) == "FINISHED"


def test_a_failed_training_is_marked_failed(store: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        runs.training_run("an experiment", None, {}) as run,
    ):
        _ = 1 / 0
    assert status(store, run.run_id) == "FAILED"


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
    with pytest.raises(RunError, match="is damaged"):
        run.trained_identities(0)


def test_a_model_is_found_by_its_number_whatever_its_ending(tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "model_1.json").write_text("one")
    (folder / "model_11.txt").write_text("eleven")
    run = runs.Run("r", "0", str(tmp_path))
    assert (run.model_text(1), run.model_text(11)) == ("one", "eleven")
    with pytest.raises(RunError, match="run r has no model 0"):
        run.model_text(0)
    (folder / "model_1.txt").write_text("another")
    with pytest.raises(RunError, match="run r has more than one model 1"):
        run.model_text(1)


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
    with pytest.raises(RunError, match=f"the recipe of run r can't be read: {said}"):
        _ = runs.Run("r", "0", str(tmp_path)).recipe
