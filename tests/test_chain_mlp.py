"""The chain with multilayer perceptrons, beside boosted trees on the same events."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uproot
from one_process import run_commands, run_id, succeed
from workspaces import Workspace, copy_project

from utils.models import mlp
from utils.schema import Recipe

SAMPLE = "GluGluHToTauTau_M125"
YEAR = "year=2018"
TRAIN = ("train.py", YEAR, "model=mlp", "model_param.num_iterations=4")


@dataclass(frozen=True)
class Chain:
    workspace: Workspace
    trees: str
    network: str
    said: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The artifacts of the run of perceptrons."""
        [folder] = self.workspace.folder.glob(f"mlruns/*/{self.network}/artifacts")
        return folder

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_json((self.folder / "recipe/recipe.json").read_text())


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    workspace = copy_project(tmp_path_factory.mktemp("mlp") / "project")
    analysis = ("--config-name", "bbH_tt.yaml", YEAR)
    tables = ("predict.py", "--config-name", "for_evaluation.yaml", "run_id=RUN")
    first = run_commands(
        workspace.folder,
        [
            ("utils.toys", "--year", "2018", "--n-events", "20000", "--seed", "5"),
            ("preprocess.py", *analysis),
            (
                *("preprocess.py", "--config-path", "configs/preprocess/prediction_data"),
                *(*analysis, f"input_samples=[{SAMPLE}]"),
            ),
            ("train.py", YEAR, "model_param.num_iterations=3"),
            (*tables, "sample_names=[test]"),
        ],
    )
    succeed(first)
    trees = run_id(first[3][1])
    ntuple = f"data/bbH/tt/2018/ntuples/{SAMPLE}.root"
    second = run_commands(
        workspace.folder,
        [
            TRAIN,
            tables,
            (
                *("predict.py", "--config-name", "for_datacards.yaml", "run_id=RUN"),
                f"sample_names=[{SAMPLE}]",
            ),
            (
                *("utils.proof", ntuple, f"data/bbH/tt/2018/friends/RUN/{SAMPLE}_pred.root"),
                *("--scores", "RUN"),
            ),
            ("evaluate.py", "run_id=RUN", f"against={trees}", "n_bootstrap=10"),
        ],
    )
    succeed(second)
    return Chain(workspace, trees, run_id(second[0][1]), tuple(said for _, said in second))


def test_what_training_leaves(chain: Chain) -> None:
    assert re.search(
        r"Model 0: 4 epochs from \d+ events in .* validation/multi_logloss", chain.said[0]
    )
    recipe = chain.recipe
    assert (recipe.model_kind, recipe.objective) == ("mlp", "multiclass")
    stored = {p.name for p in (chain.folder / "recipe").iterdir()}
    assert {"model_0.json", "model_1.json"} <= stored
    assert not {name for name in stored if name.endswith(".txt")}
    for model in recipe.models:
        text = (chain.folder / f"recipe/model_{model['index']}.json").read_text()
        assert mlp.open_model(text).fingerprint == model["fingerprint"]
        assert mlp.open_model(text).feature_names == recipe.features
    assert "scikit-learn" in json.loads((chain.folder / "recipe/environment.json").read_text())
    with sqlite3.connect(chain.workspace.folder / "mlflow.db") as store:
        logged = dict(store.execute("SELECT name, source_run_id FROM logged_models").fetchall())
        parameters = dict(
            store.execute("SELECT key, value FROM params WHERE run_uuid = ?", (chain.network,))
        )
        steps = store.execute(
            "SELECT step FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step",
            (chain.network, "fold_0/validation/multi_logloss"),
        ).fetchall()
    assert set(logged.values()) == {chain.trees}  # MLflow would pickle a perceptron
    assert parameters["model_kind"] == "mlp"
    assert parameters["model_hidden_layer_sizes"] == "[64, 64]"
    assert [step for (step,) in steps] == [1, 2, 3, 4]


def test_friend_trees_hold_the_scores_of_the_stored_networks(chain: Chain) -> None:
    """Computed here by BLAS from the numbers in the JSON; the proof found the very same bits."""
    skim = chain.workspace.folder / f"data/bbH/tt/2018/skims/prediction/{SAMPLE}.h5"
    features = pd.concat(
        [pd.read_hdf(skim, "cont_features"), pd.read_hdf(skim, "cat_features")], axis=1
    )[list(chain.recipe.features)].to_numpy(float)
    with uproot.open(chain.folder / f"pred/{SAMPLE}_pred.root") as file:
        friend = file["pred"].arrays(library="np")
    for index in range(2):
        content = json.loads((chain.folder / f"recipe/model_{index}.json").read_text())
        values = (features - content["mean"]) / content["scale"]
        missing = np.isnan(values)
        values = np.hstack([np.where(missing, 0, values), missing[:, content["indicators"]]])
        for k, layer in enumerate(content["layers"]):
            values = (np.maximum(values, 0) if k else values) @ layer["weights"] + layer["biases"]
        values = np.exp(values - values.max(axis=1, keepdims=True))
        proba = values / values.sum(axis=1, keepdims=True)
        mine = friend["fold"] == index
        for c in range(4):
            np.testing.assert_allclose(friend[f"pred_class_{c}_proba"][mine], proba[mine, c], 1e-6)


def test_what_evaluation_shows(chain: Chain) -> None:
    said = chain.said[4]
    assert "shap: models of this kind (Multilayer perceptron) have no contributions" in said
    assert "gain importance: models of this kind (Multilayer perceptron) record no gain" in said
    assert re.search(rf"({chain.trees[:8]}|{chain.network[:8]}|neither)", said)
    folder = chain.folder / "plots/test"
    pages = {p.stem for p in folder.glob("pdf/*.pdf")}
    assert {"importance_permutation", "comparison_log_loss"} <= pages
    assert any(page.startswith("learning_curve") for page in pages)
    assert not {page for page in pages if page.startswith("shap") or page == "importance_gain"}
    report = (folder / "report.html").read_text()
    assert "Multilayer perceptron parameters" in report
    assert "LightGBM" not in report
    manifest = json.loads((folder / "manifest.json").read_text())
    assert 0.5 < manifest["metrics"]["test/roc_auc_macro"] < 1


def test_training_again_gives_the_same_networks_on_any_engine(chain: Chain) -> None:
    folder = chain.workspace.folder
    [(status, said)] = run_commands(folder, [(*TRAIN, "engine=serial")])
    assert status == 0, said
    for index in range(2):
        paths = folder.glob(f"mlruns/*/*/artifacts/recipe/model_{index}.json")
        assert len({path.read_bytes() for path in paths}) == 1


def test_mistakes_end_in_one_line(chain: Chain, tmp_path: Path) -> None:
    model = chain.folder / "recipe/model_1.json"
    text = model.read_text()
    model.write_text(text[: len(text) // 2])
    friends = ("predict.py", "--config-name", "for_datacards.yaml", f"run_id={chain.network}")
    try:
        results = run_commands(
            chain.workspace.folder,
            [
                ("train.py", YEAR, "model=mlp", "model_param.max_depth=3"),
                ("train.py", YEAR, "model=mpl"),
                ("train.py", YEAR, "model_kind=mpl"),
                ("train.py", YEAR, "model=mlp", "cont_features=[pt_3]", "training_features=[pt_3]"),
                (*friends, f"sample_names=[{SAMPLE}]", f"output_path={tmp_path}"),
            ],
        )
    finally:
        model.write_text(text)
    for (status, said), message in zip(
        results,
        [
            "a multilayer perceptron has no parameter model_param.max_depth",
            "mlp",
            "there is no model kind 'mpl'; nearest: 'mlp'",
            "'pt_3'",
            "is not what recipe/manifest.json lists",
        ],
        strict=True,
    ):
        assert status == 1
        [line] = [x for x in said.splitlines() if x.startswith("error: ")]
        assert message in line
        assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
