"""Variations by the scripts: they change nothing nominal, and their scores are those of a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import uproot
import yaml
from one_process import refusal, run_commands, run_id, succeed
from workspaces import Workspace

from utils.formats.tables import METADATA
from utils.schema import PROJECT, EvaluateConfig, Recipe
from utils.stages.evaluation.scored_events import read_table

PREDICTION = ("--config-path", "configs/preprocess/prediction_data")
SCORES = ("pred_class", "pred_class_proba", "pred_class_0_proba", "pred_class_1_proba")
N = 3_000

VARIATIONS: dict[str, Any] = {
    "tauES": {
        "up": "{branch}__tauESUp",
        "down": "{branch}__tauESDown",
        "samples": ["simulation"],
        "nuisance": "CMS_scale_t",
    },
    "met": {"up": {"met": "met * 1.1"}, "down": {"met": "met * 0.9"}},
    "tune": {"samples_up": {"S": "S_tune"}, "one_sided": True},
    "btag": {"weight_up": "w_up / w", "weight_down": "w / w_up", "samples": ["simulation"]},
}


def write_sample(path: Path, seed: int, slope: float, has_shifts: bool = True) -> None:
    rng = np.random.default_rng(seed)
    pt = (20 + rng.exponential(20 * slope, N)).astype("f4")
    columns = {
        **{"run": np.ones(N, "i4"), "evt": np.arange(N, dtype="u8") + 1, "pt": pt},
        **{"met": rng.exponential(30 / slope, N).astype("f4"), "eta": rng.normal(0, 1, N)},
        **{"w": rng.uniform(0.5, 1.5, N)},
    }
    columns["w_up"] = columns["w"] * rng.uniform(1, 1.2, N)
    if has_shifts:
        columns["pt__tauESUp"], columns["pt__tauESDown"] = pt * 1.1, pt * 0.9
    with uproot.recreate(path) as file:
        file.mktree("T", {k: v.dtype for k, v in columns.items()}).extend(
            {k: v.astype(columns[k].dtype) for k, v in columns.items()}
        )


def write_analysis(path: Path, folder: Path, variations: dict[str, Any]) -> Path:
    tagged = {"tags": ["simulation"]} if variations else {}
    content = {
        **{"input_path": str(folder), "skim_path": str(folder / "skims"), "input_tree_name": "T"},
        "class_to_info": {0: {"name": "sig"}, 1: {"name": "bkg"}},
        "common_cut": "pt > 30",
        "training_samples": [{"S": {"s": {"class": 0}}}, {"B": {"b": {"class": 1}}}],
        "prediction_samples": ["S", "B", "D"],
        "samples": {"S": {"factor": 2.0, **tagged}, "B": {"factor": 0.5, **tagged}},
        "derived_features": {"sum": "pt + met"},
        **{"cont_features": ["pt", "met", "eta", "sum"], "misc_features": ["pt"], "weight": "w"},
        **{"scaler": {"with_mean": True, "with_std": True}, "train_size": 0.7},
        "model_param": {"num_iterations": 8, "num_leaves": 6},
        "engine": "serial",
    }
    if variations:
        content["variations"] = variations
    if "tune" in variations:
        content["samples"]["S_tune"] = {"factor": 1.5}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def ran(shared_workspace: Workspace) -> dict[str, Any]:
    """Both preprocessings, trainings of each, tables, friend trees of either source, proofs."""
    folder = shared_workspace.folder / "data" / "own"
    folder.mkdir(parents=True)
    for seed, (name, slope) in enumerate({"S": 1.5, "B": 0.8, "D": 1.0, "S_tune": 1.4}.items()):
        write_sample(folder / f"{name}.root", seed, slope, has_shifts=name != "D")
    plain = write_analysis(folder / "plain.yaml", folder, {})
    shifted = write_analysis(folder / "shifted.yaml", folder, VARIATIONS)
    skims, kept = folder / "skims" / "training", folder / "kept"

    def run(*commands: tuple[str, ...]) -> list[str]:
        results = run_commands(shared_workspace.folder, commands)
        succeed(results)
        return [said for _, said in results]

    first = run(("preprocess.py", f"analysis={plain}"), ("train.py", f"analysis={plain}"))
    plain_run = run_id(first[-1])
    shutil.copytree(skims, kept)
    said = run(
        ("preprocess.py", f"analysis={shifted}"),
        ("preprocess.py", *PREDICTION, f"analysis={shifted}", "common_cut='pt > 30'"),
        ("train.py", f"analysis={shifted}"),
        ("predict.py", "--config-name", "for_evaluation", "run_id=RUN"),
        ("predict.py", "--config-name", "for_datacards", "run_id=RUN"),
        (
            *("predict.py", "--config-name", "for_datacards", "run_id=RUN", "source=ntuples"),
            *("cut='pt > 30'", f"output_path={folder / 'direct'}"),
        ),
        (
            *("predict.py", "--config-name", "for_datacards", f"run_id={plain_run}"),
            *("source=ntuples", "cut='pt > 30'", f"analysis={shifted}"),
            f"output_path={folder / 'given'}",
        ),
        ("evaluate.py", "run_id=RUN", "n_bootstrap=20", "sections=[roc,variations]"),
        ("predict.py", "--config-name", "for_evaluation", f"run_id={plain_run}"),
    )
    this_run = run_id(said[2])
    friends = folder / "friends" / this_run
    proofs = run(
        *(
            ("utils.proof", f"{folder}/{name}.root", f"{friends}/{name}_pred.root", "--scores", of)
            for name, of in (("S", this_run), ("D", this_run))
        )
    )
    [tables] = shared_workspace.folder.glob(f"mlruns/*/{this_run}/artifacts/pred")
    return {
        **{"folder": folder, "kept": kept, "skims": skims, "tables": tables, "friends": friends},
        **{"evaluated": said[-2], "proofs": proofs, "runs": (plain_run, this_run)},
        "workspace": shared_workspace,
    }


def groups(path: Path) -> dict[str, pd.DataFrame]:
    with h5py.File(path) as file:
        names = [name for name in file if name != "metadata"]
    return {name: pd.read_hdf(path, name) for name in names}


def branches(path: Path) -> dict[str, Any]:
    with uproot.open(path) as file:
        found: dict[str, Any] = file["pred"].arrays(library="np")
    return found


def test_declaring_variations_changes_nothing_nominal(ran: dict[str, Any]) -> None:
    before, after = ran["kept"], ran["skims"]
    assert (before / "pipe.json").read_bytes() == (after / "pipe.json").read_bytes()
    assert (before / "cut_flow_training.csv").read_bytes() == (
        after / "cut_flow_training.csv"
    ).read_bytes()
    train, now = groups(before / "train.h5"), groups(after / "train.h5")
    assert train.keys() == now.keys()
    for name, frame in train.items():
        pd.testing.assert_frame_equal(frame, now[name], check_exact=True)
    test, now = groups(before / "test.h5"), groups(after / "test.h5")
    marks = now.pop("shifted")["selected"].to_numpy()
    assert test.keys() == now.keys()
    assert marks[: len(test["targets"])].all()  # the marked rows are the last
    assert not marks[len(test["targets"]) :].any()
    for name, frame in test.items():
        pd.testing.assert_frame_equal(frame, now[name][marks], check_exact=True)
    models = [
        sorted(
            p.read_text() for p in ran["tables"].parents[2].glob(f"{r}/artifacts/recipe/model_*")
        )
        for r in ran["runs"]
    ]
    assert models[0] == models[1]
    assert len(models[0]) == 2


def test_marked_events_are_tested_by_the_same_share(ran: dict[str, Any]) -> None:
    shifted = groups(ran["skims"] / "test.h5")["shifted"]
    n_marked = int((~shifted["selected"]).sum())
    every = 0
    for name in ("S", "B"):
        with uproot.open(ran["folder"] / f"{name}.root") as file:
            pt = file["T"].arrays(["pt", "pt__tauESUp"], library="np")
        every += int(((pt["pt"] <= 30) & (pt["pt__tauESUp"] > 30)).sum())
    assert abs(n_marked - 0.3 * every) <= 2 < n_marked


def test_the_table_has_shifted_scores_features_and_factors(ran: dict[str, Any]) -> None:
    table = pyarrow.parquet.read_table(ran["tables"] / "test.parquet").to_pandas()
    csv = pd.read_csv(ran["tables"] / "test.csv")
    nominal = table[table["selected"]]
    assert len(csv) == len(nominal) < len(table)
    assert not [name for name in csv if "__" in name or name == "selected"]
    assert np.isnan(table.loc[~table["selected"], "pred_class_0_proba"]).all()
    up = table["selected__tauESUp"]
    assert (table["pred_class__tauESUp"] >= 0).equals(up)
    with np.errstate(all="ignore"):
        ratio = table["feature/pt__tauESUp"] / table["feature/pt"]
    assert np.allclose(ratio[up], 1.1, rtol=1e-5)
    assert np.isnan(table.loc[~up, "feature/pt__tauESUp"]).all()
    assert "feature/eta__tauESUp" not in table
    assert "feature/met__tauESUp" not in table
    # A weight has a factor and no scores.
    assert "pred_class__btagUp" not in table
    assert np.allclose(table["weight_factor__btagUp"] * table["weight_factor__btagDown"], 1)
    train = pyarrow.parquet.read_table(ran["tables"] / "train.parquet").column_names
    assert not [name for name in train if "__" in name]


def test_scores_of_the_table_are_those_of_the_friend(ran: dict[str, Any]) -> None:
    table = pyarrow.parquet.read_table(ran["tables"] / "test.parquet").to_pandas()
    friend = branches(ran["friends"] / "S_pred.root")
    mine = table[table["process"] == "s"]
    rows = mine["evt"].to_numpy().astype(int) - 1
    for suffix in ("", "__tauESUp", "__tauESDown", "__metUp", "__metDown"):
        for name in SCORES:
            assert mine[name + suffix].to_numpy().tobytes() == friend[name + suffix][rows].tobytes()


def test_all_ways_to_a_friend_tree_give_the_same(ran: dict[str, Any]) -> None:
    for name in ("S", "B", "D"):
        found = branches(ran["friends"] / f"{name}_pred.root")
        for other in ("direct", "given"):
            its = branches(ran["folder"] / other / f"{name}_pred.root")
            assert its.keys() == found.keys()
            for branch, values in found.items():
                assert values.tobytes() == its[branch].tobytes(), branch
        # Only simulation is declared to have another tau energy.
        assert ("pred_class__tauESUp" in found) == (name != "D")
        assert "pred_class__metUp" in found


def test_proofs_recompute_every_shift(ran: dict[str, Any]) -> None:
    of_s, of_d = ran["proofs"]
    assert "and under tauESUp, tauESDown, metUp, metDown; scores those of run" in of_s
    assert "and under metUp, metDown; scores those of run" in of_d


def test_an_evaluation_counts_nominal_events_only(ran: dict[str, Any]) -> None:
    csv = pd.read_csv(ran["tables"] / "test.csv")
    assert f"test: {len(csv)} events\n" in ran["evaluated"]


def test_a_run_without_variations_keeps_marked_rows_out(ran: dict[str, Any]) -> None:
    """Its skims were made again with some since: rows that these admit are no rows of a test."""
    plain_run, _ = ran["runs"]
    [path] = ran["tables"].parents[2].glob(f"{plain_run}/artifacts/pred/test.parquet")
    recipe = Recipe.from_json((path.parents[1] / "recipe/recipe.json").read_text())
    its, _ = read_table(path, recipe, "test")
    mine, _ = read_table(ran["tables"] / "test.parquet", recipe, "test")
    assert not [n for n in pyarrow.parquet.read_schema(path).names if "__" in n]
    assert np.isfinite(its.proba).all()
    np.testing.assert_array_equal(its.proba, mine.proba)
    for name, values in mine.features.items():
        np.testing.assert_array_equal(its.features[name], values)


def test_an_evaluation_says_what_each_shift_does(ran: dict[str, Any]) -> None:
    """Recomputed from the table that the evaluation read."""
    table = pyarrow.parquet.read_table(ran["tables"] / "test.parquet").to_pandas()
    manifest = json.loads((ran["tables"].parent / "plots/test/manifest.json").read_text())
    metrics = {n: v for n, v in manifest["metrics"].items() if "/variations/" in n}
    # All processes of a test are there by one share: it cancels in relative yields.
    nominal = table[table["selected"]]
    before = np.bincount(nominal["pred_class"], weights=nominal["scaled_weight"], minlength=2)
    for suffix in ("tauESUp", "tauESDown", "metUp", "metDown"):
        mark = f"selected__{suffix}"
        admitted = table[table[mark if mark in table else "selected"]]
        after = np.bincount(
            admitted[f"pred_class__{suffix}"], weights=admitted["scaled_weight"], minlength=2
        )
        for name, change in zip(("sig", "bkg"), after / before - 1, strict=True):
            found = metrics[f"test/variations/{suffix}/yield_{name}"]
            assert found == pytest.approx(change, abs=1e-9), suffix
        assert metrics[f"test/variations/{suffix}/moved"] > 0
    factor = nominal["weight_factor__btagUp"] * nominal["scaled_weight"]
    after = np.bincount(nominal["pred_class"], weights=factor, minlength=2)
    found = [metrics[f"test/variations/btagUp/yield_{name}"] for name in ("sig", "bkg")]
    np.testing.assert_allclose(found, after / before - 1, atol=1e-9)
    assert metrics["test/variations/btagUp/roc_auc_macro"] == 0
    # The alternative sample is generated anew with another factor, which may outweigh any shift.
    verdict = (
        r"(tauES moves the classifier most: .*; driven by pt\.|tune moves the classifier most)"
    )
    assert re.search(verdict, ran["evaluated"]), ran["evaluated"]


def test_an_alternative_sample_is_one_of_its_own(ran: dict[str, Any]) -> None:
    table = pyarrow.parquet.read_table(ran["tables"] / "S_tune.parquet")
    described = json.loads(table.schema.metadata[METADATA])
    known = {"variation": "tune", "direction": "Up", "nuisance": "tune", "of": "S"}
    assert described["alternative"] == known
    assert "shifts" not in described
    frame = table.to_pandas()
    assert set(frame["process"]) == {"s"}
    assert set(frame["target"]) == {0}
    with uproot.open(ran["folder"] / "S_tune.root") as file:
        columns = file["T"].arrays(["pt", "w"], library="np")
    kept = columns["pt"] > 30
    assert np.allclose(np.sort(frame["weights/weight"]), np.sort(1.5 * columns["w"][kept]))
    for folder in (ran["friends"], ran["folder"] / "given"):
        with uproot.open(folder / "S_tune_pred.root") as file:
            assert json.loads(str(file["pred_metadata"]))["alternative"] == known
            assert (file["pred"]["pred_class"].array(library="np") >= 0).tolist() == kept.tolist()


def test_refusals_are_one_line_each(ran: dict[str, Any]) -> None:
    folder, (_, this_run) = ran["folder"], ran["runs"]
    everyone = {"tauES": {k: v for k, v in VARIATIONS["tauES"].items() if k != "samples"}}
    bad = write_analysis(folder / "bad.yaml", folder, everyone)
    friends = ("predict.py", "--config-name", "for_datacards", f"run_id={this_run}")
    results = run_commands(
        ran["workspace"].folder,
        [
            ("preprocess.py", *PREDICTION, f"analysis={bad}"),
            (*friends, "source=ntuples", f"analysis={bad}", f"output_path={folder / 'no'}"),
            (*friends, f"analysis={folder / 'none.yaml'}"),
            ("train.py", f"analysis={bad}", f"train_file={ran['skims'] / 'test.h5'}"),
        ],
    )
    for result in results[:2]:
        assert "matches no branch of tree 'T' of" in refusal(result)
    assert "there is no analysis file" in refusal(results[2])
    assert "rows that only variations admit" in refusal(results[3])
    assert not (folder / "no").exists()


def test_components_of_shifted_features_are_those_of_a_shifted_copy(ran: dict[str, Any]) -> None:
    """With a PCA every column that a model sees moves with each shift."""
    folder = ran["folder"] / "components"
    (folder / "copy").mkdir(parents=True)
    shifted = write_analysis(folder / "shifted.yaml", ran["folder"], VARIATIONS)
    plain = write_analysis(folder / "plain.yaml", ran["folder"], {})
    with uproot.open(ran["folder"] / "S.root") as file:
        columns = file["T"].arrays(library="np")
    columns["pt"] = columns["pt__tauESUp"]
    with uproot.recreate(folder / "copy" / "S.root") as file:
        file.mktree("T", {k: v.dtype for k, v in columns.items()}).extend(columns)
    skims = f"skim_path={folder / 'skims'}"
    components = ("pca.n_components=3", "pca.whiten=true")
    friends = ("predict.py", "--config-name", "for_datacards", "run_id=RUN", "sample_names=[S]")
    direct = ("source=ntuples", "cut='pt > 30'")
    results = run_commands(
        ran["workspace"].folder,
        [
            ("preprocess.py", f"analysis={shifted}", skims, *components),
            ("preprocess.py", *PREDICTION, f"analysis={shifted}", skims, "common_cut='pt > 30'"),
            ("train.py", f"analysis={shifted}", skims),
            (*friends, f"output_path={folder / 'by_skims'}"),
            (*friends, *direct, f"output_path={folder / 'by_ntuples'}"),
            (
                *(*friends, *direct, f"analysis={plain}", f"input_path={folder / 'copy'}"),
                f"output_path={folder / 'of_copy'}",
            ),
        ],
    )
    succeed(results)
    pipe = json.loads((folder / "skims" / "training" / "pipe.json").read_text())
    assert pipe["outputs"] == ["pca_0", "pca_1", "pca_2"]
    by_skims, by_ntuples, of_copy = (
        branches(folder / name / "S_pred.root") for name in ("by_skims", "by_ntuples", "of_copy")
    )
    assert by_skims.keys() == by_ntuples.keys()
    for name, values in by_skims.items():
        assert values.tobytes() == by_ntuples[name].tobytes(), name
    for name in SCORES:
        assert by_skims[f"{name}__tauESUp"].tobytes() == of_copy[name].tobytes(), name
        assert by_skims[f"{name}__tauESUp"].tobytes() != by_skims[name].tobytes()


# --- evaluations, section by section --------------------------------------------------------------

SECTIONS_DRIVER = r"""
import json, logging, sys
sys.path[:0] = [sys.argv[1], "."]
from evaluations import differences
from utils.formats.runs import open_run
from utils.schema import EvaluateConfig
from utils.stages.evaluation import evaluate_dataset, kept_sections

order = json.load(sys.stdin)
run = open_run(order["run_id"])
always = {
    **{"run_id": order["run_id"], "n_bootstrap": 5, "engine": "serial", "luminosity": 50.0},
    **{"reference_luminosity": 50.0, "signal_classes": ["sig"]},
}
found = {}
for name, changed in order["changes"].items():
    for label, keys in (("first", {}), (name, changed)):
        config, redone = EvaluateConfig(**{**always, **keys}), []
        kept = kept_sections(run, config)
        def keeper(section, made_with, make):
            return kept(section, made_with, lambda: (redone.append(section), make())[1])
        repeated = evaluate_dataset(run, config, keeper).evaluation
    anew = evaluate_dataset(run, config).evaluation
    found[name] = [redone, differences(repeated, anew)]
print(json.dumps(found))
"""

INTERVALS = {"scores", "over_training", "variations"}
"""Sections with intervals of bootstraps (and `comparison`, where there is another run)."""

ALL = {
    *("scores", "densities", "over_training", "significance", "features", "correlations"),
    *("profiles", "importances", "shap", "variations"),
}

CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "seed": ({"seed": 2}, {*INTERVALS, "importances", "shap"}),
    "n_bootstrap": ({"n_bootstrap": 7}, INTERVALS),
    "luminosity": ({"luminosity": 100.0}, ALL),
    "reference": ({"reference_luminosity": 100.0}, ALL),
    "background": ({"background_uncertainty": 0.3}, {"significance"}),
    "signal_classes": (
        {"signal_classes": ["bkg"]},
        {*INTERVALS, "densities", "significance", "profiles", "shap"},
    ),
    "name": ({"class_to_info": {1: {"name": "other"}}}, ALL),
    "colour": ({"class_to_info": {0: {"color": "red"}}}, set()),
    "bins": (
        {"class_to_info": {0: {"bin_size": 0.2}}},
        {"densities", "over_training", "variations"},
    ),
    "labels": ({"feature_info": {"pt": {"label": "p"}}}, set()),
    "experiment_text": ({"experiment_text": "x", "center_of_mass_energy": 13.6}, set()),
    "stacked": ({"stacked": True}, set()),
    "sections": ({"sections": ["roc", "densities"]}, {"scores"}),
    "dataset": ({"dataset": "train"}, ALL),
    "against": ({"against": "PLAIN"}, {"comparison"}),
}
"""What a command changes of an evaluation, and the sections that follow from it."""


def test_kept_sections_are_those_made_anew_whatever_is_changed(ran: dict[str, Any]) -> None:
    plain, shifted = ran["runs"]
    said = {key for keys, _ in CHANGES.values() for key in keys}
    of_no_number = {"analysis_name", "run_id", "experiment_id", "year", "engine", "force", "check"}
    assert set(EvaluateConfig.model_fields) - said - of_no_number == set()
    changes = {
        n: json.loads(json.dumps(c).replace("PLAIN", plain)) for n, (c, _) in CHANGES.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", SECTIONS_DRIVER, str(PROJECT / "tests")],
        input=json.dumps({"run_id": shifted, "changes": changes}),
        cwd=ran["workspace"].folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, (_, expected) in CHANGES.items():
        redone, different = found[name]
        assert different == [], name
        assert set(redone) == expected, name
