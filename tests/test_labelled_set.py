"""A labelled set of one's own: transformed and scored as all events, and never trained on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import uproot
import yaml
from one_process import refusal, run_commands, succeed
from sklearn.metrics import roc_auc_score
from workspaces import Workspace, copy_project

from utils.columns.identity import identity_of_rows
from utils.formats.skims import open_skim, origin
from utils.schema import FoldRule

N = {"S": 900, "B": 1100, "S_given": 300, "B_given": 250}


def write(folder: Path, name: str, first_event: int = 1) -> None:
    """Write a sample whose signal is at 1 and background at 0, with its own event numbers."""
    rng, n = np.random.default_rng(N[name]), N[name]
    columns = {
        "run": np.ones(n, np.int32),
        "evt": np.arange(first_event, first_event + n, dtype=np.int64),
        "x": rng.normal(loc=float(name.startswith("S")), size=n),
        "y": rng.normal(size=n),
        "w": rng.uniform(0.5, 1.5, n),
    }
    with uproot.recreate(folder / f"{name}.root") as file:
        file.mktree("T", {k: v.dtype for k, v in columns.items()})
        file["T"].extend(columns)


def analysis(ntuples: Path, skims: Path, *labelled: dict[str, Any]) -> dict[str, Any]:
    return {
        "analysis_name": "given",
        "input_path": str(ntuples),
        "skim_path": str(skims),
        "input_tree_name": "T",
        "class_to_info": {0: {"name": "B"}, 1: {"name": "S"}},
        "signal_classes": ["S"],
        "training_samples": [
            {"S": {"S": {"class": 1}}}, {"B": {"B": {"class": 0}}}, *labelled
        ],
        "cont_features": ["x", "y"],
        "scaler": {},
        "weight": "w",
        "luminosity": 50.0,
        "reference_luminosity": 50.0,
        "model_param": {"objective": "binary", "num_iterations": 20, "num_leaves": 4},
    }  # fmt: skip


LABELLED = (
    {"sample": "S_given", "role": "test", "processes": {"S": {"class": 1, "cut": "y > -1"}}},
    # Numbered on from B and in its group: it might share events, which the audit then compares.
    {"sample": "B_given", "role": "test", "group": "B", "processes": {"B": {"class": 0}}},
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[tuple[int, str]]]:
    """Take one analysis without and with a labelled set through all four scripts."""
    workspace = copy_project(tmp_path_factory.mktemp("labelled") / "project")
    ntuples = workspace.folder / "ntuples"
    ntuples.mkdir()
    for name in N:
        write(ntuples, name, 5001 if name == "B_given" else 1)
    for name, listed in (("without", ()), ("given", LABELLED)):
        described = analysis(ntuples, workspace.folder / name, *listed)
        (workspace.folder / f"{name}.yaml").write_text(yaml.safe_dump(described))
    twice = analysis(ntuples, workspace.folder / "x",
                     {"sample": "again", "files": "S.root", "role": "test",
                      "processes": {"S": {"class": 1}}})  # fmt: skip
    (workspace.folder / "twice.yaml").write_text(yaml.safe_dump(twice))
    at = workspace.folder
    commands = [
        ["preprocess.py", f"analysis={at}/without.yaml"],
        ["preprocess.py", f"analysis={at}/given.yaml"],
        ["train.py", f"analysis={at}/given.yaml"],
        ["predict.py", "--config-name", "for_evaluation.yaml", "run_id=RUN"],
        [
            *("evaluate.py", "run_id=RUN", "dataset=labelled", "luminosity=150"),
            *("n_bootstrap=20", "sections=[scores,over_training,significance]"),
        ],
        ["preprocess.py", f"analysis={at}/twice.yaml"],
    ]
    return workspace, run_commands(workspace.folder, commands)


def test_it_goes_through_all_scripts(made: tuple[Workspace, list[tuple[int, str]]]) -> None:
    workspace, results = made
    succeed(results[:-1])
    n_signal = int(
        (
            uproot.open(workspace.folder / "ntuples/S_given.root")["T/y"].array(library="np") > -1
        ).sum()
    )
    n = n_signal + N["B_given"]
    assert f"labelled: {n} events scored" in results[3][1]
    assert "Leak audit of the prediction passed" in results[3][1]
    # B_given was compared with the training, S_given, of another group, could not be.
    assert f"{n_signal} of {N['S'] + N['B'] + n} predicted rows are of samples not" in results[3][1]
    assert f"labelled: {n} events" in results[4][1]
    assert "scaled from 50/fb" in results[4][1]
    assert "read the same events" in refusal(results[5])
    assert not (workspace.folder / "x").exists()


def test_train_and_test_are_as_without_it(made: tuple[Workspace, Any]) -> None:
    folder = made[0].folder
    for name in ("train", "test"):
        plain, beside = (
            open_skim(folder / w / f"training/{name}.h5") for w in ("without", "given")
        )
        assert origin(plain.metadata) == origin(beside.metadata)
        assert plain.metadata["pipeline"] == beside.metadata["pipeline"]
        assert [s["name"] for s in beside.metadata["samples"]] == ["S", "B"]
        for group in ("cont_features", "targets", "weights", "identity", "provenance"):
            pd.testing.assert_frame_equal(*(pd.read_hdf(s.path, group) for s in (plain, beside)))


def test_its_rows_are_the_selected_ones_transformed_alike(made: tuple[Workspace, Any]) -> None:
    folder = made[0].folder
    skim = open_skim(folder / "given/training/labelled.h5")
    assert skim.metadata["dataset"] == "labelled"
    trees = [uproot.open(folder / f"ntuples/{n}.root")["T"].arrays(library="np")
             for n in ("S_given", "B_given")]  # fmt: skip
    trees[0] = {k: v[trees[0]["y"] > -1] for k, v in trees[0].items()}
    raw = np.concatenate([np.stack([t["x"], t["y"]], axis=1) for t in trees])
    pipeline = skim.metadata["pipeline"]
    expected = (raw.astype(np.float32) - pipeline["mean"]) / pipeline["scale"]
    stored = pd.read_hdf(skim.path, "cont_features")
    np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-6)
    target = pd.read_hdf(skim.path, "targets")["target"]
    assert target.value_counts().to_dict() == {1: len(trees[0]["x"]), 0: N["B_given"]}


def test_no_model_knows_it_and_the_run_does(made: tuple[Workspace, Any]) -> None:
    folder = made[0].folder
    run_id = json.loads((folder / "outputs/last_run.json").read_text())["run_id"]
    artifacts = next(folder.glob(f"mlruns/*/{run_id}/artifacts"))
    recipe = json.loads((artifacts / "recipe/recipe.json").read_text())
    assert [s["name"] for s in recipe["samples"]] == ["S", "B"]
    assert [f["name"] for f in recipe["files"]] == ["S.root", "B.root"]
    skim = open_skim(folder / "given/training/labelled.h5")
    columns = skim.read({g: list(skim.groups[g]) for g in ("identity", "provenance")})
    rule = FoldRule("modulo", ("evt",), 2)
    mine = identity_of_rows(rule, columns["identity"], columns["provenance"],
                            skim.metadata["samples"], skim.metadata["files"])  # fmt: skip
    for index in range(2):
        trained = np.load(artifacts / f"recipe/trained_{index}.npy")
        assert not np.isin(mine, trained).any()
    table = pd.read_parquet(artifacts / "pred/labelled.parquet")
    assert len(table) == skim.n_rows
    manifest = json.loads((artifacts / "plots/labelled/manifest.json").read_text())
    metrics = manifest["metrics"]
    assert metrics["labelled/n_events"] == skim.n_rows
    auc = roc_auc_score(table["target"], table["pred_class_1_proba"])
    assert metrics["labelled/roc_auc"] == pytest.approx(auc, rel=1e-6)


def test_the_store_shows_description_and_data_sets(made: tuple[Workspace, Any]) -> None:
    folder = made[0].folder
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        rows = store.execute("SELECT value FROM tags WHERE key = 'mlflow.note.content'").fetchall()
        sets = store.execute("SELECT name, digest, dataset_profile FROM datasets").fetchall()
        used = store.execute("SELECT value FROM input_tags").fetchall()
        short = store.execute("SELECT value FROM latest_metrics WHERE key = 'auc_labelled'")
        [(auc,)] = short.fetchall()
    [(note,)] = rows
    assert "**Evaluation of labelled**" in note
    assert f"**{auc:.4f}**" in note
    assert "**Tables** in `pred/`: labelled, test, train" in note
    assert {name for name, _, _ in sets} == {"train", "test", "labelled"}
    assert {value for (value,) in used} == {"training", "testing", "evaluation"}
    assert len({digest for _, digest, _ in sets}) == 3  # also where skims have one origin
    for name, digest, profile in sets:
        skim = open_skim(folder / f"given/training/{name}.h5")
        assert len(digest) == 32
        assert json.loads(profile)["num_rows"] == skim.n_rows
