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
from one_process import refusal, run_commands, run_id, succeed
from workspaces import Workspace, unpack

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

    def prediction(self, folder: str, *more: str) -> tuple[str, ...]:
        return (
            *("predict.py", "--config-name", "for_datacards.yaml", f"run_id={self.run_id}"),
            *(f"sample_names=[{self.expected['sample']}]", f"output_path={folder}", *more),
        )

    def assert_same_friend(self, path: Path | str) -> None:
        found, stored = self.read(path), self.read(self.friend)
        assert list(found) == list(stored)
        for name, values in stored.items():
            np.testing.assert_array_equal(found[name], values, strict=True)


@pytest.fixture(scope="module")
def earlier(shared_workspace: Workspace) -> Earlier:
    unpack(VERSION / "version-1.tar.xz", shared_workspace.folder)
    return Earlier(shared_workspace, json.loads((VERSION / "expected.json").read_text()))


@pytest.fixture(scope="module")
def ended(earlier: Earlier) -> dict[str, tuple[int, str]]:
    """What users do with files of an earlier version, in one process."""
    sample = earlier.expected["sample"]
    proof = (PROOF, earlier.ntuple, earlier.friend)
    run = f"run_id={earlier.run_id}"
    evaluation = ("evaluate.py", run, "sections=[scores]", "n_bootstrap=10")
    commands = {
        "table refused": ("predict.py", "--config-name", "for_evaluation.yaml", run),
        "friend refused": ("predict.py", "--config-name", "for_datacards.yaml", run),
        "evaluation refused": ("evaluate.py", "dataset=test", run),
        "adopted": ("utils.tracking", "adopt", earlier.run_id),
        "proof": proof,
        "recomputed": (*proof, "--scores", earlier.run_id),
        "shown": (PROOF, "--show", earlier.friend),
        "preprocessed": (
            *("preprocess.py", "--config-path", "configs/preprocess/prediction_data"),
            *("--config-name", "bbH_tt.yaml", "year=2018", "output_path=data/again"),
            f"input_samples=[{{sample: {sample}, group: Tau_Run2018}}]",
        ),
        "skims": earlier.prediction("data/skims", "source=skims"),
        "ntuples": earlier.prediction("data/ntuples", "source=ntuples"),
        "train": (*evaluation, "dataset=train"),
        "test": (*evaluation, "dataset=test"),
        "tables": ("predict.py", "--config-name", "for_evaluation.yaml", run),
        "trained": ("train.py", "year=2018", "n_splits=2", "model_param.num_iterations=3"),
    }
    results = run_commands(earlier.workspace.folder, list(commands.values()))
    return dict(zip(commands, results, strict=True))


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


def test_the_feature_pipeline_gives_the_stored_prediction_skim(
    earlier: Earlier, ended: dict[str, tuple[int, str]]
) -> None:
    succeed([ended["preprocessed"]])
    folder, sample = earlier.workspace.folder, earlier.expected["sample"]
    stored = open_skim(folder / f"{DATA}/skims/prediction/{sample}.h5").read()
    again = open_skim(folder / f"data/again/{sample}.h5").read()
    assert sum(map(len, stored.values())) > 30
    for group, columns in stored.items():
        assert list(again[group]) == list(columns)
        for name, values in columns.items():
            np.testing.assert_array_equal(again[group][name], values, strict=True)


def test_models_can_be_trained_on_a_skim(
    earlier: Earlier, ended: dict[str, tuple[int, str]]
) -> None:
    succeed([ended["trained"]])
    last = json.loads((earlier.workspace.folder / "outputs" / "last_run.json").read_text())
    assert last["run_id"] == run_id(ended["trained"][1]) != earlier.run_id


# --- adoption -----------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", ["table refused", "friend refused", "evaluation refused"])
def test_a_run_without_a_manifest_is_refused_with_the_command_that_adopts_it(
    earlier: Earlier, ended: dict[str, tuple[int, str]], refused: str
) -> None:
    adoption = f"'python -m utils.tracking adopt {earlier.run_id}' checks its models"
    assert adoption in refusal(ended[refused])
    succeed([ended["adopted"]])
    assert "11 files fit its recipe" in ended["adopted"][1]


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


def test_the_friend_tree_is_proved(earlier: Earlier, ended: dict[str, tuple[int, str]]) -> None:
    succeed([ended["proof"], ended["recomputed"]])
    said = ended["proof"][1]
    assert said.startswith("proved")
    assert f"{earlier.expected['friend']['n_entries']} entries" in said
    # Computed anew by today's code, from the ntuple and the run.
    said = ended["recomputed"][1]
    assert said.rstrip().endswith(f"scores those of run {earlier.run_id} within 0")


def test_a_friend_tree_says_what_it_was_made_from(
    earlier: Earlier, ended: dict[str, tuple[int, str]]
) -> None:
    succeed([ended["shown"]])
    described = json.loads(ended["shown"][1])
    assert described["run_id"] == earlier.run_id
    assert described["models"] == [m["fingerprint"] for m in earlier.expected["models"]]
    assert described["input"]["n_entries"] == earlier.expected["friend"]["n_entries"]


@pytest.mark.parametrize("source", ["skims", "ntuples"])
def test_a_prediction_gives_the_stored_scores(
    earlier: Earlier, ended: dict[str, tuple[int, str]], source: str
) -> None:
    succeed([ended[source]])
    earlier.assert_same_friend(f"data/{source}/{Path(earlier.friend).name}")


def test_a_store_elsewhere_is_given_by_its_uri(earlier: Earlier, tmp_path: Path) -> None:
    unpack(VERSION / "version-1.tar.xz", tmp_path)
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
    there = ("source=ntuples", f"input_path={tmp_path / DATA / 'ntuples'}")
    commands = [
        ("utils.tracking", "adopt", earlier.run_id),
        earlier.prediction(str(tmp_path / "friends"), *there),
    ]
    store_uri = f"sqlite:///{tmp_path}/mlflow.db"
    succeed(run_commands(earlier.workspace.folder, commands, {"MLFLOW_TRACKING_URI": store_uri}))
    earlier.assert_same_friend(tmp_path / "friends" / Path(earlier.friend).name)


# --- tables and evaluation ----------------------------------------------------------------------


def test_the_tables_are_made_again_with_the_stored_scores(
    earlier: Earlier, ended: dict[str, tuple[int, str]], tmp_path: Path
) -> None:
    succeed([ended["tables"]])
    unpack(VERSION / "version-1.tar.xz", tmp_path)
    for name in ("train", "test"):
        again = earlier.artifacts / f"pred/{name}.parquet"
        stored = pd.read_parquet(tmp_path / again.relative_to(earlier.workspace.folder))
        pd.testing.assert_frame_equal(pd.read_parquet(again)[stored.columns], stored)


@pytest.mark.parametrize("dataset", ["train", "test"])
def test_a_stored_table_is_evaluated(
    earlier: Earlier, ended: dict[str, tuple[int, str]], dataset: str
) -> None:
    succeed([ended[dataset]])
    with closing(sqlite3.connect(earlier.workspace.folder / "mlflow.db")) as store:
        (log_loss,) = store.execute(
            "SELECT value FROM latest_metrics WHERE run_uuid = ? AND key = ?",
            (earlier.run_id, f"{dataset}/log_loss"),
        ).fetchone()
    assert log_loss == pytest.approx(earlier.expected["log_loss"][dataset], rel=1e-9)
    assert (earlier.artifacts / f"plots/{dataset}/report.html").is_file()
