"""Flat channel files as users have them, outside the project, run unchanged through the chain."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uproot
from one_process import run_commands, succeed
from workspaces import Workspace, toys

FLAT = Path(__file__).parent / "flat"


@pytest.fixture(scope="module")
def flat(shared_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Run the four stages with flat files that lie in a folder of the user's own."""
    w = shared_workspace
    folder = tmp_path_factory.mktemp("mine")
    shutil.copytree(FLAT, folder, dirs_exist_ok=True)
    toys(w, 20_000)
    path = ("--config-path", str(folder), "--config-name")
    results = run_commands(
        w.folder,
        [
            ("preprocess.py", *path, "train_tt.yaml", "year=2018", "engine=serial"),
            ("preprocess.py", *path, "predict_tt.yaml", "year=2018", "chunk_size=300"),
            ("train.py", *path, "fit_tt.yaml", "year=2018", "engine.n_workers=1"),
            (
                *("predict.py", "--config-name", "for_datacards.yaml", "run_id=RUN"),
                "sample_names=[GluGluHToTauTau_M125,TTTo2L2Nu]",
                *("input_path=data/bbH/tt/2018/flat_prediction", "output_path=data/friends"),
                *("output_tree_name=TauCheck", "misc_features=[evt,run]"),
            ),
        ],
    )
    succeed(results)
    return w


def test_training_skims_hold_what_the_file_names(flat: Workspace) -> None:
    skim = flat.folder / "data/bbH/tt/2018/flat/train.h5"
    cont = pd.read_hdf(skim, "cont_features")
    misc = pd.read_hdf(skim, "misc_features")
    assert list(cont.columns) == ["pt_1", "pt_2", "m_sv", "m_vis"]
    assert list(misc.columns) == ["evt", "run", "w_class_imbalance", "w_cp", "target"]
    np.testing.assert_allclose(cont.mean(), 0, atol=1e-4)
    np.testing.assert_allclose(cont.std(), 1, atol=1e-2)
    target = pd.read_hdf(skim, "targets")["target"]
    counts = target.value_counts()
    expected = target.map(len(target) / counts)
    np.testing.assert_allclose(misc["w_class_imbalance"], expected)
    assert set(target) == {0, 1}
    assert pd.read_hdf(skim, "cat_features")["njets"].between(0, 5).all()


def test_the_cp_weight_is_of_all_selected_events(flat: Workspace) -> None:
    folder = flat.folder / "data/bbH/tt/2018/flat"
    parts = [
        pd.concat([pd.read_hdf(folder / f"{n}.h5", g) for g in ("weights", "targets")], axis=1)
        for n in ("train", "test")
    ]
    both = pd.concat(parts, ignore_index=True)
    per_class = both["weight"].sum() / both.groupby("target")["weight"].sum()
    np.testing.assert_allclose(both["w_cp"], both["weight"].abs() * both["target"].map(per_class))


def test_the_prediction_skim_is_in_input_order(flat: Workspace) -> None:
    folder = flat.folder / "data/bbH/tt/2018"
    misc = pd.read_hdf(folder / "flat_prediction/TTTo2L2Nu.h5", "misc_features")
    with uproot.open(folder / "ntuples/TTTo2L2Nu.root") as file:
        original = file["TauCheck"].arrays(["evt", "run", "pt_1"], library="np")
    np.testing.assert_array_equal(misc["evt"], original["evt"])
    pipe = json.loads((folder / "flat/pipe.json").read_text())
    cont = pd.read_hdf(folder / "flat_prediction/TTTo2L2Nu.h5", "cont_features")
    expected = (original["pt_1"].astype(np.float64) - pipe["mean"][0]) / pipe["scale"][0]
    np.testing.assert_allclose(cont["pt_1"], expected, rtol=1e-6, atol=1e-6)
    targets = pd.read_hdf(folder / "flat_prediction/TTTo2L2Nu.h5", "targets")
    assert (targets["target"] == -1).all()


def test_classes_are_named_after_their_processes(flat: Workspace) -> None:
    (path,) = flat.folder.glob("mlruns/*/*/artifacts/recipe/recipe.json")
    recipe = json.loads(path.read_text())
    assert [c["name"] for c in recipe["classes"]] == ["H_sig", "H_bkgr"]
    assert recipe["weight"] == "w_cp"
    assert recipe["fold"]["n_splits"] == 3


def test_friend_trees_come_where_and_as_named(flat: Workspace) -> None:
    with uproot.open(flat.folder / "data/friends/TTTo2L2Nu_pred.root") as file:
        friend = file["TauCheck"].arrays(library="np")
    assert {"evt", "run", "fold", "pred_class", "pred_class_1_proba"} <= friend.keys()
    np.testing.assert_array_equal(friend["fold"], friend["evt"] % 3)


def test_a_pickled_pipeline_is_refused(flat: Workspace, tmp_path: Path) -> None:
    old = tmp_path / "old.pkl"
    old.write_bytes(pickle.dumps({"scaler": 1}))
    shutil.copytree(FLAT, tmp_path, dirs_exist_ok=True)
    line = flat.fails(
        *("python", "preprocess.py", "--config-path", str(tmp_path), "--config-name"),
        *("predict_tt.yaml", "year=2018", f"input_pipe_file={old}"),
    )
    assert "preprocess.py" in line
    assert "pickle" in line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("compute_w_Cp: true", "unknown key 'compute_w_Cp'; nearest: 'compute_w_CP'"),
        ("trainsize: 0.5", "unknown key 'trainsize'; nearest: 'train_size'"),
    ],
)
def test_a_misspelt_key_is_refused(
    flat: Workspace, tmp_path: Path, line: str, message: str
) -> None:
    text = (FLAT / "train_tt.yaml").read_text()
    (tmp_path / "wrong.yaml").write_text(f"{text}{line}\n")
    found = flat.fails(
        *("python", "preprocess.py", "--config-path", str(tmp_path), "--config-name"),
        *("wrong.yaml", "year=2018"),
    )
    assert found == message


def test_a_missing_branch_of_the_list_is_named(flat: Workspace, tmp_path: Path) -> None:
    text = (FLAT / "train_tt.yaml").read_text().replace("[evt, run, pt_1,", "[evt, run, pt_11,")
    (tmp_path / "wrong.yaml").write_text(text)
    found = flat.fails(
        *("python", "preprocess.py", "--config-path", str(tmp_path), "--config-name"),
        *("wrong.yaml", "year=2018"),
    )
    assert "'pt_11'" in found
    assert "nearest: 'pt_1'" in found
