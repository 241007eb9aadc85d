"""Choosing among trainings and runs in a notebook, on a small channel that is trained once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas
import pytest
import uproot
from one_process import refusal, run_commands, run_id, succeed
from sklearn.metrics import log_loss
from small_channel import CLASSES, small_channel
from workspaces import Workspace, last_run

import htt_ml
from utils.formats import runs
from utils.schema import PROJECT

SWEEP = ("model_param.max_depth=1,nonsense,4", "n_splits=3", "model_param.learning_rate=0.3")


@pytest.fixture(scope="module")
def trained(shared_workspace: Workspace) -> tuple[Workspace, str, list[str], str]:
    """A workspace, its analysis, the ids that a multirun printed, and what it logged."""
    analysis = f"analysis={small_channel(shared_workspace.folder / 'ntuples')}"
    made = shared_workspace.run("python", "preprocess.py", analysis)
    skims = [Path(line) for line in made.stdout.splitlines()]
    assert [p.name for p in skims] == ["train.h5", "test.h5"]
    assert all(p.is_file() for p in skims)
    done = shared_workspace.run("python", "train.py", "-m", analysis, *SWEEP, check=False)
    assert done.returncode == 1  # one of the three can't be trained
    return shared_workspace, analysis, done.stdout.splitlines(), done.stderr


@pytest.fixture
def store(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained[0].folder / 'mlflow.db'}")


def test_a_multirun_prints_its_runs_best_first_and_survives_a_failing_one(trained, store) -> None:
    _, _, ids, said = trained
    assert len(ids) == 2
    found = runs.logged(ids)
    assert [run.name for run in found] == ["max_depth=4", "max_depth=1"]
    assert {run.parameters["sorted_by"] for run in found} == {"out_of_fold/multi_logloss"}
    values = [run.metrics["out_of_fold/multi_logloss"] for run in found]
    assert values[0] < values[1]
    table = said.splitlines()[-3:]
    assert table[0].split() == [
        *("run", "out_of_fold/multi_logloss", "best/validation/multi_logloss"),
        *("best_iteration", "run_id"),
    ]
    for line, run, value in zip(table[1:], found, values, strict=True):
        assert line.split()[0] == run.name
        assert line.split()[1] == f"{value:.6g}"
        assert line.split()[-1] == run.run_id
    [failure] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "max_depth" in failure


def test_the_numbers_of_a_run_are_means_over_folds_and_out_of_fold(trained, store) -> None:
    workspace, _, ids, _ = trained
    [run] = runs.logged(ids[:1])
    curves = run.metrics
    folds = [curves[f"fold_{i}/best/validation/multi_logloss"] for i in range(3)]
    assert len(set(folds)) == 3
    assert curves["best/validation/multi_logloss"] == pytest.approx(np.mean(folds), abs=1e-12)
    done = workspace.run(
        "python", "predict.py", "--config-name", "for_evaluation.yaml", f"run_id={ids[0]}"
    )
    [path] = [p for p in done.stdout.splitlines() if p.endswith("train.parquet")]
    table = pandas.read_parquet(path)
    proba = table[[f"pred_class_{i}_proba" for i in range(3)]].to_numpy()
    weight = table["training_weight"].to_numpy()
    wrong = (proba.argmax(axis=1) != table["target"]).to_numpy()
    assert curves["out_of_fold/multi_logloss"] == pytest.approx(
        log_loss(table["target"], proba, sample_weight=weight), rel=1e-6
    )
    assert curves["out_of_fold/multi_error"] == pytest.approx(
        np.average(wrong, weights=weight), rel=1e-6
    )


def test_inner_validation_and_areas_are_out_of_fold_too(trained, store) -> None:
    """Rows that no model validated on are scored anew."""
    workspace, analysis, _, _ = trained
    results = run_commands(
        workspace.folder,
        [
            ["train.py", analysis, "validation=inner"],
            ["predict.py", "--config-name", "for_evaluation.yaml", "run_id=last"],
        ],
    )
    succeed(results)
    [run] = runs.logged([run_id(results[0][1])])
    assert run.name == "small mu 2018 lightgbm"
    path = re.findall(r"^(/.*/train\.parquet)$", results[1][1], re.MULTILINE)[0]
    table = pandas.read_parquet(path)
    proba = table[[f"pred_class_{i}_proba" for i in range(3)]].to_numpy()
    expected = log_loss(table["target"], proba, sample_weight=table["training_weight"])
    assert run.metrics["out_of_fold/multi_logloss"] == pytest.approx(expected, rel=1e-6)
    assert run.metrics["best/validation/multi_logloss"] != pytest.approx(expected, rel=1e-3)


def test_last_is_the_newest_run_everywhere_and_outputs_are_told(trained) -> None:
    workspace, analysis, _, _ = trained
    prediction = ["--config-path", "configs/preprocess/prediction_data"]
    ids = last_run(workspace)["run_id"]
    succeed(run_commands(workspace.folder, [["preprocess.py", *prediction, analysis]]))
    friends = ["predict.py", "--config-name", "for_datacards.yaml", "sample_names=[H]"]
    done = workspace.run("python", *friends, "run_id=last")
    [friend] = done.stdout.splitlines()
    assert Path(friend).is_file()
    assert ids in friend
    results = run_commands(
        workspace.folder,
        [
            ["utils.proof", "ntuples/H.root", friend, "--scores", "last"],
            ["predict.py", "--config-name", "for_evaluation.yaml", "run_id=last"],
            ["evaluate.py", "run_id=last", "against=last", "sections=[scores]", "n_bootstrap=2"],
            ["utils.tracking", "adopt", "last"],
        ],
    )
    succeed(results[:3])
    assert f"scores those of run {ids}" in results[0][1]
    report = re.findall(r"^(/.*/report\.html)$", results[2][1], re.MULTILINE)[0]
    assert Path(report).is_file()
    assert ids in refusal(results[3])


def test_last_is_refused_where_there_is_none_or_it_is_elsewhere(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = trained[0]
    monkeypatch.setattr(runs, "LAST_RUN", tmp_path / "none.json")
    with pytest.raises(runs.RunError, match="no training has finished"):
        runs.open_run("last")
    assert runs.newest_of("small") is None
    monkeypatch.setattr(runs, "LAST_RUN", workspace.folder / "outputs" / "last_run.json")
    said = json.loads(runs.LAST_RUN.read_text())
    assert runs.newest_of(said["analysis_name"]) == said["run_id"]
    assert runs.newest_of("another") is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert runs.newest_of(said["analysis_name"]) is None
    with pytest.raises(runs.RunError, match="is in the store of the project, not in sqlite"):
        runs.open_run("last")
    assert not (tmp_path / "other.db").exists()


# --- a notebook ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def friend(trained) -> dict[str, np.ndarray]:
    """The columns of a friend tree in double precision, made from the ntuple by predict.py."""
    workspace, _, ids, _ = trained
    done = workspace.run(
        *("python", "predict.py", "--config-name", "for_datacards.yaml", f"run_id={ids[0]}"),
        *("source=ntuples", "sample_names=[DY]", "double_precision=true"),
        f"output_path={workspace.folder}/double",
    )
    [path] = done.stdout.splitlines()
    return uproot.open(f"{path}:pred").arrays(library="np")


def test_scores_of_columns_are_those_of_the_friend_tree(trained, store, friend) -> None:
    """Bit for bit, from each kind of container; the folds, clips and missing values are there."""
    workspace, _, ids, _ = trained
    run = htt_ml.open_run(ids[0])
    assert run.classes == list(CLASSES)
    assert sorted(run.columns) == ["evt", "n", "run", "x", "y", "z"]
    tree = uproot.open(f"{workspace.folder}/ntuples/DY.root:events")
    assert len(set(friend["fold"])) == 3
    arrays = tree.arrays(run.columns, library="np")
    assert (arrays["y"] == -10).any()
    assert (arrays["x"] < -1.5).any()
    structured = np.empty(len(arrays["x"]), [(n, a.dtype) for n, a in arrays.items()])
    for name, column in arrays.items():
        structured[name] = column
    frame = tree.arrays(run.columns, library="pd").set_index(pandas.RangeIndex(7, 7 + 400))
    for given in (arrays, structured, frame, tree.arrays(run.columns, library="ak")):
        proba = run.score(given)
        assert list(proba.columns) == run.classes
        for i, name in enumerate(run.classes):
            assert np.array_equal(proba[name].to_numpy(), friend[f"pred_class_{i}_proba"])
    assert list(run.score(frame).index) == list(frame.index)
    # Any events in any order: each has its own model.
    rows = [17, 3, 399]
    some = run.score({name: column[rows] for name, column in arrays.items()})
    assert np.array_equal(some.to_numpy(), proba.to_numpy()[rows])


def test_what_can_not_be_scored_is_refused(trained, store) -> None:
    run = htt_ml.open_run(trained[2][0])
    n = 3
    events = {name: np.ones(n) for name in run.columns}
    assert len(run.score(events)) == n
    refused: list[tuple[object, str]] = [
        ({**events, "x": np.ones(2)}, "different lengths: "),
        ({k: v for k, v in events.items() if k != "z"}, "'z'.* is not in the given columns"),
        ({**events, "y": np.array(["a", "b", "c"])}, "'y' of the given columns holds no numbers"),
        ({**events, "evt": np.array([1.5, 2, 3])}, "evt"),
        ({**events, "x": np.array([np.inf, 1, 1])}, "x"),
        ({**events, "y": np.ma.masked_equal([1.0, 2.0, 3.0], 2.0)}, "masked entries"),
        ([1, 2, 3], "given as list"),
        ({"label": ["a"]}, "hold no numbers"),
    ]
    for given, message in refused:
        with pytest.raises(htt_ml.InputError, match=message):
            run.score(given)
    with pytest.raises(htt_ml.RunError, match="there is no run"):
        htt_ml.open_run("0" * 32)


def test_an_evaluation_is_objects_and_writes_nothing(trained, store) -> None:
    workspace, _, ids, _ = trained
    predict = ["predict.py", "--config-name", "for_evaluation.yaml", f"run_id={ids[0]}"]
    evaluate = ["evaluate.py", f"run_id={ids[0]}", "sections=[scores,confusion]", "n_bootstrap=5"]
    succeed(run_commands(workspace.folder, [predict, evaluate]))
    [logged] = runs.logged(ids[:1])
    run = htt_ml.open_run(ids[0])
    before = sorted(str(p) for p in workspace.folder.rglob("*"))
    shown = run.evaluate("test", sections=["scores", "confusion"], n_bootstrap=5)
    for name, value in logged.metrics.items():
        if name.startswith("test/"):
            assert shown.numbers[name] == value
    scores = shown.tables["scores"].set_index(["view", "metric", "class"])["value"]
    assert scores["balanced", "roc_auc_macro", "all"] == logged.metrics["test/roc_auc_macro"]
    assert scores["balanced", "roc_auc", "top"] == logged.metrics["test/roc_auc_top"]
    confusion = shown.tables["confusion/norm_true/balanced"]
    assert confusion.loc["top", "dy"] == logged.metrics["test/cm_normtrue_top/dy"]
    assert all(type(figure).__name__ == "Figure" for figure in shown.figures.values())
    assert shown.figures
    table = run.table("test")
    assert len(table) == logged.metrics["test/n_events"]
    assert sorted(str(p) for p in workspace.folder.rglob("*")) == before


def test_the_module_alone_is_installed_and_takes_no_name(tmp_path: Path) -> None:
    """The environment gets `htt_ml`; `utils` is the project's in its own process only."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["py-modules"] == ["htt_ml"]
    assert project["tool"]["setuptools"]["packages"] == []
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "htt_ml.py").symlink_to(PROJECT / "htt_ml.py")
    use = """
import site, sys
site.addsitedir(sys.argv[1])
def there(name):
    from importlib.util import find_spec
    return find_spec(name) is not None
print(there("utils"), there("train"), there("tests"))
import htt_ml
print(sys.modules["utils"].__file__, htt_ml.open_run.__module__)
"""
    done = subprocess.run(
        [sys.executable, "-c", use, str(tmp_path / "site")],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    first, second = done.stdout.splitlines()
    assert first == "False False False"
    assert second == f"{PROJECT / 'utils' / '__init__.py'} utils.stages.notebook.opened_run"
    (tmp_path / "utils.py").write_text("mine = 1")
    mixed = "import sys, site; site.addsitedir(sys.argv[1]); import utils, htt_ml"
    done = subprocess.run(
        [sys.executable, "-c", mixed, str(tmp_path / "site")],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1].startswith(
        f"ImportError: another package 'utils' is imported already ({tmp_path}/utils.py)"
    )


# --- check=true ----------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, int]:
    """What is in a folder, without Hydra's logs and what Python and numba compile."""
    own = ("outputs", "__pycache__")
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if not set(own) & set(p.parts)}


@pytest.fixture(scope="module")
def checked(trained) -> tuple[list[tuple[int, str]], dict[str, int], dict[str, int]]:
    """Each script's check on what is there, and what the folder held before and after."""
    workspace, analysis, ids, _ = trained
    prediction = ["--config-path", "configs/preprocess/prediction_data"]
    predict, checking = ["predict.py", "--config-name"], [f"run_id={ids[0]}", "check=true"]
    tables = [*predict, "for_evaluation.yaml", f"run_id={ids[0]}"]
    succeed(run_commands(workspace.folder, [tables]))
    before = contents(workspace.folder)
    results = run_commands(
        workspace.folder,
        [
            ["preprocess.py", analysis, "check=true"],
            ["preprocess.py", *prediction, analysis, "check=true"],
            ["train.py", analysis, "check=true"],
            [*predict, "for_datacards.yaml", "source=ntuples", *checking],
            [*predict, "for_evaluation.yaml", *checking],
            ["evaluate.py", *checking],
        ],
    )
    return results, before, contents(workspace.folder)


def test_checks_tell_what_would_be_done_and_write_nothing(checked) -> None:
    results, before, after = checked
    succeed(results)
    assert before == after
    for _, said in results:
        assert "Checked; nothing was written" in said
    training = results[0][1]
    assert re.search(r"^H +signal +400 +\d+ +\d+ ", training, re.MULTILINE)
    assert "All entries were read" in training
    assert re.search(r"Class top: about 3\d\d events", training)
    assert "Disk: about" in training
    assert "Would train 2 models of up to 8 trees from 4 features" in results[2][1]
    assert "Of 1200 entries that were read" in results[3][1]
    assert "Class top:" in results[5][1]
    assert re.search(r"Time: about \d+ s for the numbers", results[5][1])
    assert "Disk: about 15.0 MB of" in results[5][1] or "Disk: about 15 MB of" in results[5][1]


def test_checks_refuse_what_the_commands_refuse_and_make_no_store(trained, tmp_path: Path) -> None:
    workspace, analysis, ids, _ = trained
    (tmp_path / "file").write_text("")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/new.db"}
    wrong = [
        (["preprocess.py", analysis, "cont_features=[x,yy]"], "branch 'yy' is not in tree"),
        (["preprocess.py", analysis, "common_cut='x > 99'"], "has no events"),
        (["preprocess.py", analysis, f"skim_path={tmp_path}/file"], "is a file, not a folder"),
        (["train.py", analysis, "model_param.max_depht=3"], "no parameter model_param.max_depht"),
        (["evaluate.py", f"run_id={ids[0]}", "sections=[rok]"], "'rok' is no section"),
        (["evaluate.py", f"run_id={ids[0]}", "dataset=tset"], "no table 'tset'"),
    ]
    commands = [[*command, "check=true"] for command, _ in wrong]
    for result, (_, message) in zip(run_commands(workspace.folder, commands), wrong, strict=True):
        assert message in refusal(result)
    [(status, said)] = run_commands(
        workspace.folder, [["train.py", analysis, "check=true"]], environment=store
    )
    assert status == 0, said
    assert not (tmp_path / "new.db").exists()


def test_a_check_names_suspicious_features(tmp_path: Path, trained) -> None:
    """Of a large file it reads a part, and expects of the whole what is there."""
    workspace = trained[0]
    n = 150_000
    for code, name in enumerate(("A", "B")):
        rng = np.random.default_rng(code)
        x = rng.normal(code, 1, n)
        columns = {
            **{"run": np.ones(n, np.int32), "evt": np.arange(n), "x": x, "copy": x},
            **{"flat": np.ones(n), "kind": np.full(n, code, np.int32)},
            **{"DNN_output": rng.random(n), "xsec": np.full(n, 1.5 + code)},
        }
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            tree = file.mktree("T", {key: column.dtype for key, column in columns.items()})
            tree.extend(columns)
    (tmp_path / "odd.yaml").write_text(
        f"""
input_path: {tmp_path}
skim_path: {tmp_path}/skims
input_tree_name: T
common_cut: x > 0.5
training_samples: [{{A: {{a: {{class: 0}}}}}}, {{B: {{b: {{class: 1}}}}}}]
class_to_info: {{0: {{name: a}}, 1: {{name: b}}}}
cont_features: [x, copy, flat, DNN_output, xsec]
cat_features: [kind]
weight: xsec
"""
    )
    [(status, said)] = run_commands(
        workspace.folder, [["preprocess.py", f"analysis={tmp_path}/odd.yaml", "check=true"]]
    )
    assert status == 0, said
    told = dict(re.findall(r"feature (\w+) is suspicious: (.*)", said))
    assert set(told) == {"copy", "flat", "DNN_output", "xsec", "kind"}
    assert told["copy"] == "equal to x in every event"
    assert told["flat"].startswith("constant")
    assert "another classifier's output" in told["DNN_output"]
    assert "gives the class away" in told["kind"]
    assert "gives the class away" in told["xsec"]
    assert "from a sample of the entries" in said
    [(entries, selected, total)] = re.findall(
        r"^A +a +(\d+) +\d+ +(\d+) +(\S+)$", said, re.MULTILINE
    )
    truth = np.count_nonzero(np.random.default_rng(0).normal(0, 1, n) > 0.5)
    assert int(entries) == n
    assert int(selected) == pytest.approx(truth, rel=0.03)
    assert float(total) == pytest.approx(1.5 * truth, rel=0.03)
    assert not (tmp_path / "skims").exists()


# --- what is typed, and where it goes ------------------------------------------------------------


def test_keys_are_added_and_taken_away_by_the_command(trained) -> None:
    """A helper key that an interpolation uses, and a key of the file that no longer counts."""
    workspace, analysis, _, _ = trained
    commands = [
        ["preprocess.py", analysis, "check=true", "+h=0", 'common_cut="y < ${h}"'],
        ["preprocess.py", analysis, "check=true", "~common_cut"],
        ["train.py", analysis, "check=true", "~model_param.min_data_in_leaf", "++n_splits=4"],
    ]
    helper, without, training = run_commands(workspace.folder, commands)
    succeed([helper, without, training])
    y = uproot.open(f"{workspace.folder}/ntuples/TT.root:events")["y"].array(library="np")
    expected = rf"^TT +top +400 +{np.count_nonzero(y < 0)} "
    assert re.search(expected, helper[1], re.MULTILINE)
    assert re.search(r"^TT +top +400 +400 ", without[1], re.MULTILINE)
    assert "Would train 4 models" in training[1]


def test_a_new_store_keeps_its_artifacts_beside_it_and_each_round_has_a_point(
    trained, tmp_path: Path
) -> None:
    workspace, analysis, _, _ = trained
    (tmp_path / "kept").mkdir()
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/kept/runs.db"}
    before = sorted(workspace.folder.glob("mlruns/*/*"))
    compressed = ["output_compression=ZLIB", "source=ntuples", "sample_names=[H]"]
    results = run_commands(
        workspace.folder,
        [
            ["train.py", analysis],
            ["predict.py", "--config-name", "for_datacards.yaml", "run_id=last", *compressed],
        ],
        environment=store,
    )
    succeed(results)
    made = run_id(results[0][1])
    [recipe] = (tmp_path / "kept" / "mlruns").glob(f"*/{made}/artifacts/recipe")
    assert sorted(workspace.folder.glob("mlruns/*/*")) == before
    for curves in json.loads((recipe / "curves.json").read_text()).values():
        for name in ("train/multi_logloss", "validation/multi_logloss"):
            assert [step for step, _ in curves[name]] == list(range(1, 9))
    [friend] = re.findall(r"^(/.*_pred\.root)$", results[1][1], re.MULTILINE)
    with uproot.open(friend) as file:
        assert type(file.file.compression).__name__ == "ZLIB"
