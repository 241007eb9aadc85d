"""The four stages as users run them, in a copy of the project, chained on toy ntuples."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import uproot
from one_process import refusal, run_commands, succeed
from recomputed import physics_numbers
from servers import mlflow
from workspaces import Workspace, copy_project, last_run, toys

from utils.formats.tables import METADATA

GOLDEN = Path(__file__).parent / "golden" / "chain.json"
N_EVENTS = 40_000

pytestmark = pytest.mark.usefixtures("chain")


TELL_MODULES = """
import atexit, json, os, sys

def tell():
    modules = [name for name in os.environ["ASKED"].split() if name in sys.modules]
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps([sys.argv, modules]) + chr(10))

atexit.register(tell)
"""
"""A sitecustomize.py: each process writes which of the modules in question it has imported."""


@pytest.fixture(scope="module")
def chain(shared_workspace: Workspace) -> Workspace:
    """Run the whole chain once, with the commands users know."""
    w = shared_workspace
    (w.folder / "told").mkdir()
    (w.folder / "told" / "sitecustomize.py").write_text(TELL_MODULES)
    spied = {
        "PYTHONPATH": str(w.folder / "told"),
        "TOLD": str(w.folder / "told" / "modules.jsonl"),
        "ASKED": " ".join(set().union(*IMPORTED.values())),
    }
    toys(w, N_EVENTS, "--seed", "7")
    analysis = ("--config-name", "bbH_tt.yaml", "year=2018")
    w.run("python", "preprocess.py", *analysis, environment=spied)
    prediction = ("--config-path", "configs/preprocess/prediction_data")
    w.run("python", "preprocess.py", *prediction, *analysis, environment=spied)
    parameters = ("-P", "n_splits=2", "-P", "num_iterations=20")
    w.run("mlflow", "run", "-e", "main", *parameters, "--env-manager=local", ".", environment=spied)
    ids = last_run(w)
    both = [f"experiment_id={ids['experiment_id']}", f"run_id={ids['run_id']}"]
    for name in ("for_evaluation.yaml", "for_datacards.yaml"):
        w.run(
            *("python", "predict.py", "--config-name", name, "year=2018", *both), environment=spied
        )
    w.run("python", "evaluate.py", *both, "dataset=test", "n_bootstrap=20")
    return w


IMPORTED = {
    "preprocess.py": {"uproot", "tables"},
    "train.py": {"tables", "lightgbm", "mlflow", "pandas", "scipy", "pyarrow"},
    "for_evaluation.yaml": {"uproot", "tables", "numba", "scipy", "pyarrow"},
    "for_datacards.yaml": {"uproot", "tables", "numba", "scipy", "pyarrow", "awkward.contents"},
    "nobody": {"sklearn", "plotly", "distributed"},
}
"""Which of all these a script may import: what it works with, and what that brings along."""


def test_no_script_imports_what_it_does_not_use(chain: Workspace) -> None:
    told = (chain.folder / "told" / "modules.jsonl").read_text().splitlines()
    seen = set()
    for arguments, modules in map(json.loads, told):
        for script, expected in IMPORTED.items():
            if script == Path(arguments[0]).name or script in arguments:
                seen.add(script)
                assert set(modules) <= expected, arguments
    assert seen == IMPORTED.keys() - {"nobody"}


def artifacts(workspace: Workspace) -> Path:
    (folder,) = workspace.folder.glob(f"mlruns/*/{last_run(workspace)['run_id']}/artifacts")
    return folder


def metrics(workspace: Workspace) -> dict[str, float]:
    with sqlite3.connect(workspace.folder / "mlflow.db") as store:
        rows = store.execute(
            "SELECT key, value FROM latest_metrics WHERE run_uuid = ?",
            (last_run(workspace)["run_id"],),
        )
        return dict(rows.fetchall())


def test_the_numbers_are_the_golden_ones(chain: Workspace, request: pytest.FixtureRequest) -> None:
    """`pytest tests/test_chain.py --regenerate-golden` writes them anew."""
    found = {
        name: value
        for name, value in metrics(chain).items()
        if name.startswith(("test/roc_auc_", "test/pr_average_prec_", "test/cm_normtrue"))
        or name == "test/log_loss"
    }
    flow = pd.read_csv(chain.folder / "data/bbH/tt/2018/skims/training/cut_flow_training.csv")
    found |= {f"cut_flow/{r.sample}/{r.process}": float(r.n_selected) for r in flow.itertuples()}
    if request.config.getoption("--regenerate-golden"):
        GOLDEN.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert found.keys() == golden.keys()
    for name, value in golden.items():
        # Counts are exact; scores may differ with the platform's arithmetic.
        tolerance = 0 if name.startswith("cut_flow") else 0.005
        assert found[name] == pytest.approx(value, abs=tolerance), name


def test_the_run_is_complete(chain: Workspace) -> None:
    folder = artifacts(chain)
    recipe = json.loads((folder / "recipe/recipe.json").read_text())
    assert recipe["audit_passed"] is True
    assert recipe["fold"] == {"kind": "modulo", "columns": ["evt"], "n_splits": 2}
    for name in ("audit.csv", "importances.csv", "curves.json", "model_1.txt", "trained_1.npy"):
        assert (folder / "recipe" / name).is_file()
    with sqlite3.connect(chain.folder / "mlflow.db") as store:
        (status,) = store.execute(
            "SELECT status FROM runs WHERE run_uuid = ?", (last_run(chain)["run_id"],)
        ).fetchone()
        names = {r[0] for r in store.execute("SELECT name FROM logged_models")}
    assert status == "FINISHED"
    assert names == {"model_0", "model_1"}
    logged = metrics(chain)
    assert "fold_0/validation/multi_logloss" in logged
    assert "fold_1/train/multi_logloss" in logged
    assert {"test/roc_auc_H_sig", "test/pr_average_prec_Fakes"} <= logged.keys()
    assert any(name.startswith("test/cm_") for name in logged)


def test_logged_models_load_with_signature_and_example(chain: Workspace) -> None:
    code = (
        "import mlflow, json;"
        "i = json.load(open('outputs/last_run.json'))['run_id'];"
        "m = mlflow.pyfunc.load_model(f'runs:/{i}/model_1');"
        "e = m.metadata.load_input_example();"
        "print(m.metadata.signature.inputs.input_names()[0], m.predict(e).shape[1])"
    )
    done = chain.run("python", "-W", "ignore", "-c", code)
    assert done.stdout.split()[-2:] == ["pt_1", "4"]


def test_friend_trees_are_logged_as_they_are(chain: Workspace) -> None:
    logged = sorted((artifacts(chain) / "pred").glob("*_pred.root"))
    assert len(logged) == 33
    written = chain.folder / "data/bbH/tt/2018/friends" / last_run(chain)["run_id"]
    for path in logged:
        assert path.read_bytes() == (written / path.name).read_bytes()
    for path in logged:
        manifest = json.loads(path.with_name(f"manifest_friend_{path.stem}.json").read_text())
        assert manifest["friend"] == path.name


def test_friend_rows_are_scores_of_their_entries_by_the_model_of_their_fold(
    chain: Workspace,
) -> None:
    """LightGBM itself, on features read from the skim by pandas, gives every score."""
    import lightgbm

    name = "GluGluHToTauTau_M125"
    skim = chain.folder / f"data/bbH/tt/2018/skims/prediction/{name}.h5"
    features = pd.concat(
        [pd.read_hdf(skim, "cont_features"), pd.read_hdf(skim, "cat_features")], axis=1
    )
    recipe = json.loads((artifacts(chain) / "recipe/recipe.json").read_text())
    with uproot.open(artifacts(chain) / f"pred/{name}_pred.root") as file:
        friend = file["pred"].arrays(library="np")
    with uproot.open(chain.folder / f"data/bbH/tt/2018/ntuples/{name}.root") as file:
        original = file["TauCheck"].arrays(["run", "evt"], library="np")
    np.testing.assert_array_equal(friend["evt"], original["evt"])
    np.testing.assert_array_equal(friend["fold"], original["evt"] % 2)
    expected = np.empty((len(features), 4))
    for i in range(2):
        booster = lightgbm.Booster(model_file=str(artifacts(chain) / f"recipe/model_{i}.txt"))
        mine = friend["fold"] == i
        expected[mine] = booster.predict(features.loc[mine, recipe["features"]])
    for i in range(4):
        np.testing.assert_array_equal(
            friend[f"pred_class_{i}_proba"], expected[:, i].astype(np.float32)
        )
    np.testing.assert_array_equal(friend["pred_class"], expected.argmax(axis=1))


def test_ntuples_give_the_same_friend_trees_as_skims(chain: Workspace) -> None:
    run_id, names = last_run(chain)["run_id"], "[VBFHToTauTau_M125,Tau_Run2018B]"
    chain.run(
        *("python", "predict.py", "--config-name", "for_datacards.yaml", f"run_id={run_id}"),
        *("source=ntuples", f"sample_names={names}", "output_path=data/fused"),
    )
    for name in ("VBFHToTauTau_M125", "Tau_Run2018B"):
        with (
            uproot.open(chain.folder / f"data/fused/{name}_pred.root") as fused,
            uproot.open(artifacts(chain) / f"pred/{name}_pred.root") as stepped,
        ):
            a, b = fused["pred"].arrays(library="np"), stepped["pred"].arrays(library="np")
            assert a.keys() == b.keys()
            for column in a:
                np.testing.assert_array_equal(a[column], b[column], strict=True)


def test_a_prediction_cut_leaves_fillers(chain: Workspace) -> None:
    run_id = last_run(chain)["run_id"]
    chain.run(
        *("python", "predict.py", "--config-name", "for_datacards.yaml", f"run_id={run_id}"),
        *("source=ntuples", "sample_names=[TTTo2L2Nu]", "output_path=data/cut", "cut='pt_1 > 60'"),
    )
    with (
        uproot.open(chain.folder / "data/cut/TTTo2L2Nu_pred.root") as cut,
        uproot.open(artifacts(chain) / "pred/TTTo2L2Nu_pred.root") as whole,
        uproot.open(chain.folder / "data/bbH/tt/2018/ntuples/TTTo2L2Nu.root") as original,
    ):
        kept = original["TauCheck"]["pt_1"].array(library="np").astype(np.float64) > 60
        assert 0 < kept.sum() < len(kept)
        a, b = cut["pred"].arrays(library="np"), whole["pred"].arrays(library="np")
    for column in ("run", "evt", "fold"):
        np.testing.assert_array_equal(a[column], b[column])
    np.testing.assert_array_equal(a["pred_class"], np.where(kept, b["pred_class"], -1))
    for i in range(4):
        name = f"pred_class_{i}_proba"
        np.testing.assert_array_equal(a[name], np.where(kept, b[name], np.float32("nan")))


def test_the_proof_holds_and_recomputes_the_scores(chain: Workspace) -> None:
    run_id = last_run(chain)["run_id"]
    ntuple = "data/bbH/tt/2018/ntuples/VVTo2L2Nu.root"
    friend = f"data/bbH/tt/2018/friends/{run_id}/VVTo2L2Nu_pred.root"
    done = chain.run("python", "-m", "utils.proof", ntuple, friend, "--scores", run_id)
    assert "proved" in done.stdout + done.stderr
    other = ntuple.replace("VVTo2L2Nu", "TTTo2L2Nu")
    failed = chain.run("python", "-m", "utils.proof", other, friend, check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr


def test_tables_hold_what_evaluation_needs(chain: Workspace) -> None:
    folder = artifacts(chain) / "pred"
    train, test = pd.read_parquet(folder / "train.parquet"), pd.read_csv(folder / "test.csv")
    proba = [f"pred_class_{i}_proba" for i in range(4)]
    assert {*proba, "pred_class", "pred_class_proba", "evt", "run", "fold"} <= set(test.columns)
    assert {"process", "class", "weights/weight", "feature/m_sv"} <= set(train.columns)
    np.testing.assert_allclose(train[proba].sum(axis=1), 1, atol=1e-6)
    infold = train[[f"infold_class_{i}_proba" for i in range(4)]].to_numpy()
    assert not np.array_equal(infold, train[proba].to_numpy())
    np.testing.assert_array_equal(train["fold"], train["evt"] % 2)
    described = pyarrow.parquet.read_schema(folder / "test.parquet").metadata[METADATA]
    shares = json.loads(described)["process_fractions"]
    assert set(shares) == set(train["process"])
    assert all(0 < share < 0.5 for share in shares.values())


def test_every_physics_number_follows_from_the_table(chain: Workspace) -> None:
    table = pd.read_parquet(artifacts(chain) / "pred" / "test.parquet")
    logged = {
        name.removeprefix("test/physics/"): value
        for name, value in metrics(chain).items()
        if name.startswith("test/physics/") and "overtraining" not in name
    }
    slugs = [n.removeprefix("brier_") for n in logged if n.startswith("brier_")]
    slugs.sort(key=lambda name: table.loc[table["class"] == name, "target"].iloc[0])
    found = physics_numbers(table, slugs)
    assert found.keys() == logged.keys()
    for name, value in logged.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    described = pyarrow.parquet.read_schema(artifacts(chain) / "pred" / "test.parquet").metadata
    shares = json.loads(described[METADATA])["process_fractions"]
    scaled = table["weights/weight"] / table["process"].astype(str).map(shares)
    np.testing.assert_allclose(table["scaled_weight"], scaled, rtol=1e-12)


def test_figures_are_pages_and_papers(chain: Workspace) -> None:
    folder = artifacts(chain) / "plots/test"
    pages = {p.stem for p in folder.glob("*.html")} - {"report"}
    papers = {p.stem for p in (folder / "pdf").glob("*.pdf")}
    assert pages < papers
    report = (folder / "report.html").read_text()
    assert len(papers) == report.count('<div class="plot"')  # the report keeps everything
    assert sum(p.stat().st_size for p in folder.rglob("*")) < 9_000_000
    for name in ("H_sig", "H_bkgr", "Fakes", "Taus"):
        assert f"score_{name}" in pages
    assert any("roc" in p for p in pages)
    assert any("precision_recall" in p for p in pages)
    for path in (folder / "pdf").glob("*.pdf"):
        assert path.read_bytes()[:5] == b"%PDF-"
    assert 'src="http' not in report
    assert last_run(chain)["run_id"] in report


def test_training_again_gives_the_same_models(chain: Workspace) -> None:
    before = [(artifacts(chain) / f"recipe/model_{i}.txt").read_text() for i in range(2)]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{chain.folder}/again.db"}
    ids = (chain.folder / "outputs/last_run.json").read_text()
    chain.run(
        *("python", "train.py", "year=2018", "n_splits=2", "model_param.num_iterations=20"),
        environment=store,
    )
    again = last_run(chain)["run_id"]
    (chain.folder / "outputs/last_run.json").write_text(ids)
    folders = list(chain.folder.glob(f"**/{again}/artifacts/recipe"))
    assert len(folders) == 1
    assert before == [(folders[0] / f"model_{i}.txt").read_text() for i in range(2)]


def test_two_runs_are_compared_on_the_same_events(chain: Workspace) -> None:
    ids = (chain.folder / "outputs/last_run.json").read_text()
    first = last_run(chain)["run_id"]
    try:
        results = run_commands(
            chain.folder,
            [
                ("train.py", "year=2018", "n_splits=2", "model_param.num_iterations=3"),
                (
                    *("predict.py", "--config-name", "for_evaluation.yaml", "year=2018"),
                    *("run_id=RUN", "sample_names=[test]"),
                ),
                (
                    *("evaluate.py", "run_id=RUN", f"against={first}", "dataset=test"),
                    *("n_bootstrap=20", "sections=[comparison]"),
                ),
            ],
        )
        short = last_run(chain)["run_id"]
    finally:
        (chain.folder / "outputs/last_run.json").write_text(ids)
    succeed(results)
    assert f"{first[:8]} is better" in results[2][1]
    (folder,) = chain.folder.glob(f"mlruns/*/{short}/artifacts/plots/test")
    assert {p.stem for p in folder.glob("comparison_*.html")} >= {"comparison_log_loss"}
    assert {p.stem.split("_")[0] for p in folder.glob("*.html")} == {"comparison", "report"}


def test_the_same_from_another_folder(chain: Workspace, tmp_path: Path) -> None:
    """Absolute paths to the scripts, another working directory: same skims, same place."""
    skims = chain.folder / "data/bbH/tt/2018/skims/training"
    before = pd.read_hdf(skims / "test.h5", "cont_features")
    modified = (skims / "test.h5").stat().st_mtime_ns
    script = str(chain.folder / "preprocess.py")
    command = (sys.executable, script, "--config-name", "bbH_tt.yaml", "year=2018")
    chain.run(*command, cwd=tmp_path)
    assert (skims / "test.h5").stat().st_mtime_ns == modified  # nothing has changed
    chain.run(*command, "force=true", cwd=tmp_path)
    assert (skims / "test.h5").stat().st_mtime_ns != modified
    pd.testing.assert_frame_equal(pd.read_hdf(skims / "test.h5", "cont_features"), before)
    assert list(tmp_path.iterdir()) == []


def test_a_moved_project_still_finds_its_run(chain: Workspace, tmp_path: Path) -> None:
    import shutil

    moved = copy_project(tmp_path / "moved")
    for name in ("mlruns", "data", "outputs"):
        shutil.copytree(chain.folder / name, moved.folder / name)
    shutil.copy(chain.folder / "mlflow.db", moved.folder)
    away = chain.folder.with_name("away")
    chain.folder.rename(away)  # what still pointed to the old place would fail now
    try:
        run_id = last_run(moved)["run_id"]
        moved.run(
            *("python", "predict.py", "--config-name", "for_datacards.yaml", f"run_id={run_id}"),
            "sample_names=[WZTo3LNu]",
        )
        done = moved.run("python", "-m", "utils.tracking", "rebase", str(chain.folder))
    finally:
        away.rename(chain.folder)
    assert "locations now start with" in done.stderr
    with sqlite3.connect(moved.folder / "mlflow.db") as store:
        (uri,) = store.execute(
            "SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)
        ).fetchone()
    assert Path(uri.removeprefix("file://")).is_dir()


def test_an_http_store_serves_all_scripts(chain: Workspace, tmp_path: Path) -> None:
    ids = (chain.folder / "outputs/last_run.json").read_text()
    stores = ("--backend-store-uri", f"sqlite:///{tmp_path}/server.db")
    kept = ("--artifacts-destination", str(tmp_path / "served"))
    tables = ("predict.py", "--config-name", "for_evaluation.yaml")
    try:
        with mlflow("server", tmp_path, *stores, *kept) as uri:
            commands = [
                ("train.py", "year=2018", "experiment_name=served"),
                (*tables, "run_id=RUN", "sample_names=[test]"),
                ("evaluate.py", "run_id=RUN", "dataset=test", "n_bootstrap=5"),
            ]
            succeed(run_commands(chain.folder, commands, {"MLFLOW_TRACKING_URI": uri}))
            run_id = last_run(chain)["run_id"]
    finally:
        (chain.folder / "outputs/last_run.json").write_text(ids)
    [plots] = tmp_path.glob(f"served/*/{run_id}/artifacts/plots/test")
    assert len(list(plots.glob("*/report.html"))) == 1  # under the name that the manifest gives
    assert "/report.html" in (plots / "manifest.json").read_text(encoding="utf-8")


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("evaluate.py", "run_id=RUN", "dataset=tset"), "no table 'tset'; nearest: 'test'"),
    (("evaluate.py", "run_id=0123"), "there is no run '0123'"),
    (("evaluate.py", "run_id=RUN", "experiment_id=7"), "is in experiment 0, not 7"),
    (("evaluate.py", "run_id=RUN", "datset=test"), "unknown key 'datset'; nearest: 'dataset'"),
    (
        ("predict.py", "run_id=RUN"),
        "add --config-name for_datacards.yaml or for_evaluation.yaml",
    ),
    (
        ("predict.py", "--config-name", "for_datacards", "run_id=RUN", "sample_names=[TTToX]"),
        "TTToX.h5",
    ),
    (
        ("predict.py", "--config-name", "for_datacards", "run_id=RUN", "year=2017"),
        "trained for year 2018, not 2017",
    ),
    (
        ("evaluate.py", "run_id=RUN", "year=2017"),
        "trained for year 2018, not 2017: leave year out",
    ),
    (("train.py", "year=2018", "cont_features=[pt_3]", "training_features=[pt_3]"), "'pt_2'"),
    (("train.py", "year=2016"), "train.h5 does not exist"),
    (("train.py", "year=2018", "weight_name=w_cq"), "'w_cq'"),
    (("train.py", "year=2018", "model_param.objective=regression"), "no class probabilities"),
    (("preprocess.py", "year=2018", "cat_features=[njetz]"), "nearest: 'njets'"),
    (("preprocess.py", "year=2018", "common_cut='pt_1 > 1e6'"), "has no events"),
    (("preprocess.py", "year=2018", "common_cut='pt_9 > 1'"), "pt_9"),
    (("preprocess.py", "year=2018", "input_tree_name=TauChek"), "nearest: 'TauCheck'"),
    (("preprocess.py", "--config-name", "bbH_tx", "year=2018"), "nearest: 'bbH_tt'"),
]


@pytest.fixture(scope="module")
def refused(chain: Workspace) -> list[tuple[int, str]]:
    """Make every mistake, in one process: each must leave all data as they were."""

    def files() -> set[Path]:
        found = {p for p in (chain.folder / "data").rglob("*") if p.is_file()}
        return {p for p in found if p.name != "cut_flow_training.csv"}

    before = files()
    results = run_commands(chain.folder, [command for command, _ in MISTAKES])
    assert files() == before
    return results


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda i: " ".join(MISTAKES[i][0]))
def test_a_mistake_ends_in_one_line(refused: list[tuple[int, str]], number: int) -> None:
    assert MISTAKES[number][1] in refusal(refused[number])
