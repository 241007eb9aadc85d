"""The electron-muon channel by the scripts."""

from __future__ import annotations

from pathlib import Path

from one_process import run_commands, succeed
from workspaces import copy_project


def test_em_is_preprocessed_trained_and_predicted(tmp_path: Path) -> None:
    workspace = copy_project(tmp_path / "project")
    prediction = ["--config-path", "configs/preprocess/prediction_data"]
    em = ["--config-name", "bbH_em.yaml", "year=2018"]
    few = "input_samples=[TTTo2L2Nu,GluGluHToTauTau_M125]"
    commands = [
        ["utils.toys", "--analysis", "bbH_em", "--year", "2018", "--n-events", "40000"],
        ["preprocess.py", *em],
        ["preprocess.py", *prediction, *em, few],
        ["train.py", "analysis=bbH_em", "year=2018", "model_param.num_iterations=3"],
        [
            *("predict.py", "--config-name", "for_datacards.yaml", "year=2018", "run_id=RUN"),
            "sample_names=[TTTo2L2Nu]",
        ],
    ]
    succeed(run_commands(workspace.folder, commands))
    assert [p.name for p in workspace.folder.glob("data/**/*_pred.root")] == ["TTTo2L2Nu_pred.root"]
