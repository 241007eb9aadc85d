"""Skims, a run and a friend tree of earlier versions are read as they were written.

What an earlier version made is in `fixtures/version-1`, whose README.md tells of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import tarfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import uproot
from numpy.typing import NDArray
from workspaces import Workspace

from utils.formats.skims import open_skim

VERSION = Path(__file__).parent / "fixtures" / "version-1"
DATA = "data/bbH/tt/2018"
PROOF = "utils.proof"

pytestmark = pytest.mark.usefixtures("earlier")


@dataclass(frozen=True)
class Earlier:
    """A copy of today's project with an earlier version's data and store in it."""

    workspace: Workspace
    expected: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        return str(self.expected["run_id"])

    @property
    def artifacts(self) -> Path:
        return self.workspace.folder / "mlruns" / "0" / self.run_id / "artifacts"

    @property
    def ntuple(self) -> str:
        return f"{DATA}/ntuples/{self.expected['sample']}.root"

    @property
    def friend(self) -> str:
        return f"{DATA}/friends/{self.run_id}/{self.expected['sample']}_pred.root"

    def read(self, path: Path | str) -> dict[str, NDArray[Any]]:
        with uproot.open(self.workspace.folder / path) as file:
            columns: dict[str, NDArray[Any]] = file["pred"].arrays(library="np")
        return columns

    def predict(self, folder: str, *more: str, environment: dict[str, str] | None = None) -> None:
        self.workspace.run(
            *("python", "predict.py", "--config-name", "for_datacards.yaml"),
            *(f"run_id={self.run_id}", f"sample_names=[{self.expected['sample']}]"),
            *(f"output_path={folder}", *more),
            environment=environment,
        )

    def assert_same_friend(self, path: Path | str) -> None:
        found, stored = self.read(path), self.read(self.friend)
        assert list(found) == list(stored)
        for name, values in stored.items():
            np.testing.assert_array_equal(found[name], values, strict=True)


def unpack(folder: Path) -> None:
    with tarfile.open(VERSION / "version-1.tar.xz") as archive:
        archive.extractall(folder, filter="data")


@pytest.fixture(scope="module")
def earlier(shared_workspace: Workspace) -> Earlier:
    unpack(shared_workspace.folder)
    return Earlier(shared_workspace, json.loads((VERSION / "expected.json").read_text()))


def sha256(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def test_the_archive_holds_plain_files_with_relative_names() -> None:
    with tarfile.open(VERSION / "version-1.tar.xz") as archive:
        members = archive.getmembers()
    assert all(m.isreg() and ".." not in Path(m.name).parts for m in members)
    assert not any(Path(m.name).is_absolute() for m in members)


# --- skims --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["training/train", "training/test", "prediction/Tau_Run2018B"])
def test_a_skim_opens_with_its_values(earlier: Earlier, name: str) -> None:
    expected = earlier.expected["skims"][f"{name}.h5"]
    skim = open_skim(earlier.workspace.folder / f"{DATA}/skims/{name}.h5")
    assert skim.n_rows == expected["n_rows"]
    assert skim.metadata["pipeline"]["fingerprint"] == earlier.expected["pipeline"]
    found = skim.read({group: list(names) for group, names in expected["columns"].items()})
    n_columns = 0
    for group, columns in expected["columns"].items():
        for column, its in columns.items():
            n_columns += 1
            values = found[group][column]
            assert values.dtype.str == its["dtype"], f"{group}/{column}"
            assert sha256(values) == its["sha256"], f"{group}/{column}"
    assert n_columns > 8


def test_the_feature_pipeline_gives_the_stored_prediction_skim(earlier: Earlier) -> None:
    sample = earlier.expected["sample"]
    earlier.workspace.run(
        *("python", "preprocess.py", "--config-path", "configs/preprocess/prediction_data"),
        *("--config-name", "bbH_tt.yaml", "year=2018", "output_path=data/again"),
        f"input_samples=[{{sample: {sample}, group: Tau_Run2018}}]",
    )
    folder = earlier.workspace.folder
    stored = open_skim(folder / f"{DATA}/skims/prediction/{sample}.h5").read()
    again = open_skim(folder / f"data/again/{sample}.h5").read()
    assert sum(map(len, stored.values())) > 30
    for group, columns in stored.items():
        assert list(again[group]) == list(columns)
        for name, values in columns.items():
            np.testing.assert_array_equal(again[group][name], values, strict=True)


def test_models_can_be_trained_on_a_skim(earlier: Earlier, tmp_path: Path) -> None:
    last = earlier.workspace.folder / "outputs" / "last_run.json"
    before = last.read_text()
    earlier.workspace.run(
        *("python", "train.py", "year=2018", "n_splits=2", "model_param.num_iterations=3"),
        environment={"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
    )
    after = last.read_text()
    last.write_text(before)
    assert json.loads(before)["run_id"] == earlier.run_id
    assert json.loads(after)["run_id"] != earlier.run_id


# --- friend trees and predictions ---------------------------------------------------------------


def test_the_stored_files_are_those_that_were_made(earlier: Earlier) -> None:
    expected = earlier.expected["friend"]
    friend = earlier.read(earlier.friend)
    assert {name: sha256(values) for name, values in friend.items()} == expected["sha256"]
    for name, total in expected["sums"].items():
        assert math.fsum(friend[name].tolist()) == total
    assert np.bincount(friend["pred_class"], minlength=4).tolist() == expected["n_of_class"]
    recipe = json.loads((earlier.artifacts / "recipe/recipe.json").read_text())
    for i, model in enumerate(earlier.expected["models"]):
        text = (earlier.artifacts / f"recipe/model_{i}.txt").read_bytes()
        assert hashlib.sha256(text).hexdigest() == model["sha256"]
        assert recipe["models"][i]["fingerprint"] == model["fingerprint"]


def test_the_friend_tree_is_proved(earlier: Earlier) -> None:
    proof = ("python", "-m", PROOF, earlier.ntuple, earlier.friend)
    said = earlier.workspace.run(*proof).stdout
    assert said.startswith("proved")
    assert f"{earlier.expected['friend']['n_entries']} entries" in said
    # Computed anew by today's code, from the ntuple and the run.
    said = earlier.workspace.run(*proof, "--scores", earlier.run_id).stdout
    assert said.rstrip().endswith(f"scores those of run {earlier.run_id} within 0")


def test_a_friend_tree_says_what_it_was_made_from(earlier: Earlier) -> None:
    done = earlier.workspace.run("python", "-m", PROOF, "--show", earlier.friend)
    described = json.loads(done.stdout)
    assert described["run_id"] == earlier.run_id
    assert described["models"] == [m["fingerprint"] for m in earlier.expected["models"]]
    assert described["input"]["n_entries"] == earlier.expected["friend"]["n_entries"]


@pytest.mark.parametrize("source", ["skims", "ntuples"])
def test_a_prediction_gives_the_stored_scores(earlier: Earlier, source: str) -> None:
    earlier.predict(f"data/{source}", f"source={source}")
    earlier.assert_same_friend(f"data/{source}/{Path(earlier.friend).name}")


def test_a_store_elsewhere_is_given_by_its_uri(earlier: Earlier, tmp_path: Path) -> None:
    unpack(tmp_path)
    locations = {
        "experiments": "artifact_location",
        "runs": "artifact_uri",
        "logged_models": "artifact_location",
    }
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        for table, column in locations.items():
            store.execute(
                f"UPDATE {table} SET {column} = replace({column}, '/version-1', ?)",
                (str(tmp_path),),
            )
    earlier.predict(
        str(tmp_path / "friends"),
        *("source=ntuples", f"input_path={tmp_path / DATA / 'ntuples'}"),
        environment={"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
    )
    earlier.assert_same_friend(tmp_path / "friends" / Path(earlier.friend).name)


# --- tables and evaluation ----------------------------------------------------------------------


def test_the_tables_are_made_again_with_the_stored_scores(earlier: Earlier) -> None:
    names = ("train", "test")
    stored = {n: pd.read_parquet(earlier.artifacts / f"pred/{n}.parquet") for n in names}
    earlier.workspace.run(
        *("python", "predict.py", "--config-name", "for_evaluation.yaml"),
        f"run_id={earlier.run_id}",
    )
    for name, table in stored.items():
        again = pd.read_parquet(earlier.artifacts / f"pred/{name}.parquet")
        pd.testing.assert_frame_equal(again[table.columns], table)


@pytest.mark.parametrize("dataset", ["train", "test"])
def test_a_stored_table_is_evaluated(earlier: Earlier, dataset: str) -> None:
    unpack(earlier.workspace.folder)  # the tables as they were, whatever was made since
    earlier.workspace.run(
        *("python", "evaluate.py", f"run_id={earlier.run_id}", f"dataset={dataset}"),
        *("sections=[scores]", "n_bootstrap=10"),
    )
    with closing(sqlite3.connect(earlier.workspace.folder / "mlflow.db")) as store:
        (log_loss,) = store.execute(
            "SELECT value FROM latest_metrics WHERE run_uuid = ? AND key = ?",
            (earlier.run_id, f"{dataset}/log_loss"),
        ).fetchone()
    assert log_loss == pytest.approx(earlier.expected["log_loss"][dataset], rel=1e-9)
    assert (earlier.artifacts / f"plots/{dataset}/report.html").is_file()
