"""Files for all four scripts in the words that groups have: composed from each other by `..`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import uproot
from one_process import run_commands, succeed
from workspaces import Workspace, last_run, toys

GROUPS = Path(__file__).parent / "groups"
YEAR = "year=2018"


def command(script: str, folder: str, name: str, *more: str) -> list[str]:
    return [script, "--config-path", str(GROUPS / folder), "--config-name", name, YEAR, *more]


IDS = ("experiment_id=0", "run_id=RUN")


@pytest.fixture(scope="module")
def said(shared_workspace: Workspace) -> list[str]:
    """What the whole chain says with a group's files, unchanged."""
    toys(shared_workspace, 20_000)
    results = run_commands(
        shared_workspace.folder,
        [
            command("preprocess.py", "preprocess/training_data", "bbH_tt"),
            command("preprocess.py", "preprocess/prediction_data", "bbH_tt.yaml"),
            command("train.py", "train", "train"),
            command("predict.py", "predict", "for_datacards", *IDS),
            command("predict.py", "predict", "for_evaluation", *IDS),
            command("evaluate.py", "", "evaluate", *IDS, "n_bootstrap=10"),
        ],
    )
    succeed(results)
    return [text for _, text in results]


def test_skims_get_their_suffix(shared_workspace: Workspace, said: list[str]) -> None:
    skims = shared_workspace.folder / "data/bbH/tt/2018/skims"
    assert {p.name for p in (skims / "groups").glob("t*")} == {"train.h5", "test.h5"}
    made = {p.name for p in (skims / "groups_prediction").glob("*.h5")}
    assert made == {"GluGluHToTauTau_M125.h5", "TTTo2L2Nu.h5"}


def test_parameters_of_the_command_line_are_told_once(said: list[str]) -> None:
    assert said[2].count("Without effect here: ") == 1
    for name in ("verbosity", "metric_freq", "is_training_metric"):
        assert f"model_param.{name}" in said[2]
    assert "num_threads" not in said[2]


def test_friend_trees_follow_the_composed_preprocessing_file(
    shared_workspace: Workspace, said: list[str]
) -> None:
    path = shared_workspace.folder / "data/bbH/tt/2018/groups_friends/TTTo2L2Nu_pred.root"
    with uproot.open(path) as file:
        friend = file["TauCheck"].arrays(library="np")
    np.testing.assert_array_equal(friend["fold"], friend["evt"] % 2)
    run = last_run(shared_workspace)
    artifacts = shared_workspace.folder / "mlruns/0" / run["run_id"] / "artifacts"
    assert (artifacts / "pred/test.parquet").is_file()
    assert (artifacts / "plots/test/report.html").is_file()
    recipe = json.loads((artifacts / "recipe/recipe.json").read_text())
    assert [c["name"] for c in recipe["classes"]] == ["H_sig", "H_bkgr", "VBF"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cat_features=[njets,nbtag]", "cat_features is [njets, nbtag], but run"),
        ("preprocess_cfg.cont_features=[pt_1]", "preprocess_cfg.cont_features is [pt_1], but run"),
    ],
)
def test_other_features_than_the_run_s_are_refused_with_both(
    shared_workspace: Workspace, said: list[str], override: str, message: str
) -> None:
    [(status, text)] = run_commands(
        shared_workspace.folder, [command("predict.py", "predict", "for_datacards", *IDS, override)]
    )
    assert status == 1
    assert f"error: {message}" in text
    assert "[pt_1, pt_2, m_sv, m_vis, puppimet]" in text or "[njets]" in text


def test_two_bounds_on_one_number_of_threads_are_refused(
    shared_workspace: Workspace, said: list[str]
) -> None:
    [(status, text)] = run_commands(
        shared_workspace.folder,
        [command("train.py", "train", "train", "model_param.num_threads=3", "engine.n_workers=2")],
    )
    assert status == 1
    assert "error: model_param.num_threads and engine.n_workers bound the same threads" in text
