"""A channel that is not in the repository: its starting file, and all stages from it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import uproot
from omegaconf import DictConfig, OmegaConf
from one_process import run_commands, run_id, succeed
from workspaces import Workspace

from utils import new_analysis
from utils.columns.expressions import FUNCTIONS, parse
from utils.formats.skims import open_skim
from utils.proof import prove_alignment
from utils.schema import PROJECT, PipelineError, PreprocessConfig
from utils.system.program import typed
from utils.toys import write_ntuples

PREDICTION = ("--config-path", "configs/preprocess/prediction_data")

CHANNEL = """\
# @package _global_
analysis_name: lab
input_path: {lab}
skim_path: {lab}/skims
input_tree_name: TauCheck
identity: [run, evt]
xtrain_split_feature: evt
class_to_info:
  0: {{name: top, color: 'rgb(86, 110, 174)'}}
  1: {{name: higgs, color: 'rgb(194, 71, 92)'}}
signal_classes: [higgs]
cuts:
  opposite_sign: q_1 * q_2 < 0
  central: (abs(eta_1) < 2) && (abs(eta_2) < 2)
common_cut: opposite_sign & central
training_samples:
  - sample: signal
    files: sig_*.root
    factor: 2 * 59.8 / 1000
    processes: {{ggH: {{cut: pt_ratio > 0.9, class: 1}}}}
  - sample: top
    files: lists/top.txt
    tree: Tops
    weight: weight * btagweight
    processes: {{TT: {{class: 0}}}}
prediction_samples:
  - {{sample: signal, files: sig_*.root}}
  - {{sample: other, files: other.root, never_trained: true}}
cont_features: [pt_1, pt_2, m_vis, jpt_1, mjj, pt_ratio]
cat_features: [njets]
misc_features: [evt, pt_ratio]
derived_features:
  pt_ratio: pt_1 / pt_2
missing: -10
feature_info:
  mjj: {{label: m(jj), unit: GeV, missing: {{values: -10, to: 0}}}}
weight: weight
weight_name: w_class_imbalance * abs(weight)
train_size: 0.7
scaler: {{with_mean: true, with_std: true}}
model_param: {{num_iterations: 5}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder far from the repository: ntuples, a list of paths and a channel's one file."""
    folder = tmp_path_factory.mktemp("lab")
    signal = {"GluGluHToTauTau_M125": 1.0, "VBFHToTauTau_M125": 1.0, "WZTo3LNu": 1.0}
    for sample, path in write_ntuples(folder, signal, 4500, seed=5).items():
        path.rename(folder / {"W": "other.root"}.get(sample[0], f"sig_{sample}.root"))
    (folder / "lists").mkdir()
    tops = write_ntuples(
        folder / "tops", {"TTTo2L2Nu": 1, "TTToHadronic": 1}, 3000, seed=6, tree="Tops"
    )
    lines = ["# tops", *(str(path) for path in tops.values())]
    (folder / "lists/top.txt").write_text("\n".join(lines))
    (folder / "my_channel.yaml").write_text(CHANNEL.format(lab=folder))
    return folder


@pytest.fixture(scope="module")
def started(lab: Path) -> str:
    """The text of a starting file for the tops and for the signal under one tree."""
    files = sorted(str(p) for p in lab.glob("*.root"))
    assert new_analysis.main([*files, "-o", str(lab / "started.yaml")]) == 0
    return (lab / "started.yaml").read_text()


@pytest.fixture(scope="module")
def outcome(shared_workspace: Workspace, lab: Path, started: str) -> list[tuple[int, str]]:
    mine = (f"analysis={lab / 'my_channel.yaml'}", "engine=serial")
    new = (f"analysis={lab / 'started.yaml'}", "engine=serial", f"skim_path={lab}/started")
    run = ("run_id=RUN", "engine=serial")
    return run_commands(
        shared_workspace.folder,
        [
            ("preprocess.py", *mine),
            ("preprocess.py", *PREDICTION, *mine),
            ("train.py", *mine),
            ("predict.py", "--config-name", "for_datacards.yaml", *run),
            ("predict.py", "--config-name", "for_evaluation.yaml", *run),
            ("evaluate.py", "run_id=RUN", "n_bootstrap=5"),
            ("preprocess.py", *new),
            ("train.py", *new, "model_param.num_iterations=2"),
        ],
    )


def test_all_stages_run_from_one_file_outside(
    outcome: list[tuple[int, str]], shared_workspace: Workspace
) -> None:
    succeed(outcome[:6])
    run = run_id(outcome[2][1])
    (folder,) = shared_workspace.folder.glob(f"mlruns/*/{run}/artifacts")
    assert (folder / "plots/test/report.html").is_file()


def test_columns_mean_what_the_file_says(outcome: list[tuple[int, str]], lab: Path) -> None:
    """Recomputed by hand: cuts, derived feature, missing values, weights and factors."""
    succeed(outcome[:1])
    skim = open_skim(lab / "skims/training/train.h5")
    paths = [*sorted(lab.glob("sig_*.root")), *sorted((lab / "tops").glob("*.root"))]
    names = ["evt", "pt_1", "pt_2", "q_1", "q_2", "eta_1", "eta_2", "mjj", "weight", "btagweight"]
    frames = []
    for path in paths:
        with uproot.open(path) as file:
            tree = file["Tops" if path.parent.name == "tops" else "TauCheck"]
            frames.append(pd.DataFrame(tree.arrays(names, library="np")))
    columns: dict[str, dict[str, Any]] = skim.read(
        {
            "provenance": ["file", "entry"],
            "targets": ["target"],
            "weights": ["weight"],
            "misc_features": ["evt", "pt_ratio"],
        }
    )
    found = pd.DataFrame({n: c for group in columns.values() for n, c in group.items()})
    for code, frame in enumerate(frames):
        signal = code < 2
        frame = frame.astype(dict.fromkeys(names[1:], "float64"))
        frame["ratio"] = frame.pt_1 / frame.pt_2
        kept = (frame.q_1 * frame.q_2 < 0) & (frame.eta_1.abs() < 2) & (frame.eta_2.abs() < 2)
        kept &= (frame.ratio > 0.9) | (not signal)
        mine = found[found.file == code].set_index("entry")
        assert set(mine.index) <= set(frame.index[kept])
        assert len(mine) > 0.5 * kept.sum()
        expected = frame.loc[mine.index]
        np.testing.assert_array_equal(mine.evt, expected.evt)
        np.testing.assert_array_equal(mine.pt_ratio, expected.ratio)
        factor = (
            expected.weight * 2 * 59.8 / 1000 if signal else expected.weight * expected.btagweight
        )
        np.testing.assert_allclose(mine.weight, factor, rtol=1e-12)
        assert set(mine.target) == {int(signal)}
    features = skim.read({"cont_features": ["jpt_1", "mjj"]})["cont_features"]
    assert np.isnan(features["jpt_1"]).any()
    assert np.isfinite(features["mjj"]).all()


def test_friends_mirror_the_files(outcome: list[tuple[int, str]], lab: Path) -> None:
    succeed(outcome[:4])
    friends = lab / "friends" / run_id(outcome[2][1])
    inputs = [*lab.glob("sig_*.root"), lab / "other.root"]
    assert {p.name for p in friends.iterdir()} == {f"{p.stem}_pred.root" for p in inputs}
    for path in inputs:
        friend = friends / f"{path.stem}_pred.root"
        assert prove_alignment(path, friend).n_entries == 1500
        with uproot.open(friend) as file:
            assert np.isfinite(file["pred"]["pred_class_1_proba"].array(library="np")).all()


# --- the starting file ----------------------------------------------------------------------------


def config(text: str) -> PreprocessConfig:
    return typed(DictConfig(OmegaConf.create(text)), PreprocessConfig)


def test_the_starting_file_runs_as_it_is(outcome: list[tuple[int, str]], started: str) -> None:
    succeed(outcome[6:])
    found = config(started)
    assert found.identity == ["run", "lumi", "evt"]
    assert (found.fold_rule, found.xtrain_split_feature) == ("modulo", "evt")
    assert found.input_tree_name == "TauCheck"
    assert len(found.classes) == 3
    assert {"pt_1", "m_vis"} <= set(found.cont_features)
    assert {"njets", "q_1"} <= set(found.cat_features)
    assert found.missing_values(["jpt_1"])["jpt_1"].values == (-10.0,)
    features = {*found.cont_features, *found.cat_features}
    assert not features & {"run", "evt", "weight", "puweight", "gen_match_1", "genbosonpt"}
    assert "puweight: a weight by its name" in started
    assert "genbosonpt: generator information by its name" in started


def columns_file(path: Path, **columns: Any) -> Path:
    with uproot.recreate(path) as file:
        file.mktree("T", {k: (v.dtype, v.shape[1:]) for k, v in columns.items()}).extend(columns)
    return path


@pytest.fixture
def odd(tmp_path: Path) -> list[Path]:
    """Two files with everything that makes a branch suspicious."""
    rng = np.random.default_rng(1)
    n = 500
    paths = []
    for k, name in enumerate(("ttbar", "Run2018_data")):
        paths.append(
            columns_file(
                tmp_path / f"{name}.root",
                x=rng.normal(size=n),
                y=np.where(rng.random(n) < 0.2, -999, rng.random(n)).astype("f4"),
                z=np.where(np.arange(n) == 3, np.nan, rng.random(n)),
                flag=rng.random(n) < 0.5,
                one=np.ones(n),
                xs=np.full(n, 0.5 + k),
                period=rng.integers(10 * k, 10 * k + 5, n),
                serial=rng.permutation(n).astype("u8") * 7,
                jet=rng.random((n, 3)),
                **({"gone": rng.random(n)} if k else {}),
            )
        )
    return paths


def test_suspicious_branches_are_left_out_and_said_why(odd: list[Path], tmp_path: Path) -> None:
    text = new_analysis.write(odd, None, tmp_path / "odd.yaml")
    found = config(text)
    assert found.cont_features == ["x", "y", "z"]
    assert found.cat_features == ["flag"]
    assert found.fold_rule == "entry"
    assert found.weight is None
    for line in (
        "one: constant: 1",
        "xs: constant in each file, different among them: gives the process away",
        "period: ranges of the files do not overlap: gives the process away",
        "serial: unique in every event",
        "gone: not in ttbar.root",
        "jet has 3 values per entry: jet_0: jet[0]",
    ):
        assert f"#   {line}" in text
    missing = found.missing_values(["y"])["y"].values
    assert missing[0] == -999
    assert np.isnan(missing[1])
    assert {s.name: s.never_trained for s in config(f"{text}for_training: false").read_samples} == {
        "ttbar": False,
        "Run2018_data": True,
    }
    assert [s.name for s in found.read_samples] == ["ttbar"]
    assert "EDIT: a training needs a second class" in text


@pytest.mark.parametrize(
    ("step", "repeat", "rule"), [(1, 1, "modulo"), (2, 1, "hash"), (1, 4, "entry")]
)
def test_the_fold_rule_follows_the_event_numbers(
    tmp_path: Path, step: int, repeat: int, rule: str
) -> None:
    number = np.arange(2000) // repeat * step
    path = columns_file(tmp_path / "a.root", event=number, x=number * 0.5)
    assert config(new_analysis.write([path], "T", tmp_path / "a.yaml")).fold_rule == rule


def test_nothing_is_overwritten(
    odd: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mine.yaml"
    output.write_text("mine")
    assert new_analysis.main([str(odd[0]), "-o", str(output)]) == 1
    assert "is not overwritten" in capsys.readouterr().err
    assert output.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.root"], "there is no file"),
        (["text.root"], "not a ROOT file"),
        (["two.root", "odd.root"], "odd.root has no tree like those of the other files"),
        (["two.root", "--tree", "C"], "known: A, B"),
        (["empty.root"], "no entries"),
    ],
)
def test_a_mistake_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "text.root").write_text("no ROOT file, but a long enough text")
    with uproot.recreate(tmp_path / "two.root") as file:
        for name in "AB":
            file.mktree(name, {"x": "f4"}).extend({"x": np.ones(3, "f4")})
    with uproot.recreate(tmp_path / "odd.root") as file:
        for name in "CD":
            file.mktree(name, {"pt": "f4"}).extend({"pt": np.ones(3, "f4")})
    with uproot.recreate(tmp_path / "empty.root") as file:
        file.mktree("T", {"x": "f4"})
    named = [str(tmp_path / a) if a.endswith(".root") else a for a in arguments]
    output = tmp_path / "out.yaml"
    assert new_analysis.main([*named, "-o", str(output)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_shifted_branches_become_variations_and_no_features(tmp_path: Path) -> None:
    names = ["TTTo2L2Nu", "TTTo2L2Nu_tuneUp", "TTTo2L2Nu_tuneDown", "VBFHToTauTau_M125"]
    shifts = ["tauES", "btag"]
    paths = [
        *write_ntuples(tmp_path, names, 400, shifts=shifts).values(),
        *write_ntuples(tmp_path, ["Tau_Run2018A"], 100, shifts=shifts).values(),
    ]
    text = new_analysis.write(paths, None, tmp_path / "shifts.yaml")
    simulated = "[TTTo2L2Nu, VBFHToTauTau_M125]"
    for line in (
        "tune: {samples_up: {TTTo2L2Nu: TTTo2L2Nu_tuneUp}, "
        "samples_down: {TTTo2L2Nu: TTTo2L2Nu_tuneDown}}",
        "tauES: {up: '{branch}__tauESUp', down: '{branch}__tauESDown', "
        f"samples: {simulated}}}",
        "btag: {weight_up: 'btagweight__btagUp / btagweight', "
        f"weight_down: 'btagweight__btagDown / btagweight', samples: {simulated}}}",
    ):
        assert f"\n  {line}\n" in text
    found = config(text)
    assert not any("__" in n for n in (*found.cont_features, *found.cat_features))
    assert "__" not in text.split("# Left out of the features:")[1].split("# --- systematic")[0]
    assert [c.name for c in found.classes.values()] == ["TTTo2L2Nu", "VBFHToTauTau_M125"]
    assert [s.name for s in found.read_samples] == ["TTTo2L2Nu", "VBFHToTauTau_M125"]
    predicted = config(f"{text}for_training: false").prediction_samples
    assert len(predicted) == 3
    assert {n: v.kind for n, v in found.variations.items()} == {
        "tune": "samples",
        "tauES": "branches",
        "btag": "weight",
    }


def test_branches_of_the_nosys_kind_become_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    names = ("pt_NOSYS", "pt_JES__1up", "pt_JES__1down", "m_NOSYS", "m_RES__1up", "eta")
    columns = {name: rng.random(200) for name in names}
    columns_file(tmp_path / "a.root", **columns)
    text = new_analysis.write([tmp_path / "a.root"], None, tmp_path / "a.yaml")
    assert "  JES: {up: {pt_NOSYS: pt_JES__1up}, down: {pt_NOSYS: pt_JES__1down}}\n" in text
    assert "  RES: {up: {m_NOSYS: m_RES__1up}, one_sided: true}\n" in text
    found = config(text)
    assert found.cont_features == ["pt_NOSYS", "m_NOSYS", "eta"]
    assert {v.kind for v in found.variations.values()} == {"expressions"}


# --- the page ------------------------------------------------------------------------------------

PAGE = (PROJECT / "docs/new_analysis.md").read_text()


def test_the_page_says_what_is_refused() -> None:
    table = PAGE.split("| refused | answer |")[1]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \|$", table, re.MULTILINE)
    assert len(rows) == 11
    for text, answer in rows:
        with pytest.raises(PipelineError) as error:
            parse(text).evaluate(dict.fromkeys(["a", "b", "c", "pt_1"], np.ones(2)))
        assert answer in str(error.value)


def test_the_page_names_functions_and_keys_that_exist() -> None:
    language = PAGE.split("## The language")[1].split("Operands are")[0]
    named = set(re.findall(r"[a-z][a-z0-9]+", language))
    assert set(FUNCTIONS) <= named
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        keys = set(re.findall(r"^(\w+):", block, re.MULTILINE))
        assert keys <= set(PreprocessConfig.model_fields), block


def test_trees_of_one_file_are_samples_and_signal_is_guessed(tmp_path: Path) -> None:
    """Trees of the same branches are classes, others are told; colours are all different."""
    rng = np.random.default_rng(4)
    names = ["HToTauTau", *(f"bkg_{i}" for i in range(8))]
    with uproot.recreate(tmp_path / "all.root") as file:
        for code, name in enumerate(names):
            columns = {"run": np.ones(60, "i4"), "evt": np.arange(60), "x": rng.random(60)}
            columns |= {"classID": rng.integers(0, 3, 60), "kind": np.full(60, code) + 1000}
            columns |= {"myBDT": rng.random(60), "y": rng.random(60), "x_again": columns["x"]}
            columns |= {"sort": np.where(rng.random(60) < 0.5, code, 40 - code)}
            file.mktree(name, {n: c.dtype for n, c in columns.items()}).extend(columns)
        file.mktree("MetaData", {"version": "i4"}).extend({"version": np.ones(1, "i4")})
    text = new_analysis.write([tmp_path / "all.root"], None, tmp_path / "all.yaml")
    found = config(text)
    assert [c.name for c in found.classes.values()] == names
    assert found.signal_classes == ["HToTauTau"]
    assert "left out, of other branches: MetaData" in text
    colors = [c.color for c in found.classes.values()]
    assert len(set(colors)) == len(names)
    samples = found.read_samples
    assert [(s.name, s.tree) for s in samples] == [(name, name) for name in names]
    assert [*found.cont_features, *found.cat_features] == ["x", "y"]
    for line in (
        "classID: a label by its name",
        "myBDT: another classifier's output by its name",
        "x_again: equal to x in every event",
        "kind: constant in each file",
        "sort: no value of it is in two files",
    ):
        assert f"#   {line}" in text
    assert f"# yaml-language-server: $schema={PROJECT}/docs/schema/analysis.json" in text


def test_trees_of_several_files_are_samples_of_both(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        with uproot.recreate(tmp_path / f"{stem}.root") as file:
            for name in ("sig", "bkg"):
                columns = {"evt": np.arange(50), "x": np.arange(50) * 0.5}
                file.mktree(name, {n: c.dtype for n, c in columns.items()}).extend(columns)
    paths = [tmp_path / "a.root", tmp_path / "b.root"]
    found = config(new_analysis.write(paths, None, tmp_path / "all.yaml"))
    samples = found.read_samples
    assert [s.name for s in samples] == ["a_sig", "a_bkg", "b_sig", "b_bkg"]
    assert [s.tree for s in samples] == ["sig", "bkg", "sig", "bkg"]
    assert found.signal_classes == ["a_sig", "b_sig"]


@pytest.mark.parametrize(
    ("name", "is_signal"),
    [
        *[(n, True) for n in ("GluGluHToTauTau_M125", "VBF_HToTauTauSkim", "ggH", "signal_1")],
        *[(n, True) for n in ("SUSYGluGluToBBHToTauTau_powheg_M125", "ZHToTauTau", "ttH", "sig")],
        *[(n, True) for n in ("TreeS", "events_S", "TreeSig")],
        *[(n, False) for n in ("DYJetsToLL_M-50", "TTTo2L2Nu", "WZTo3LNu", "W1JetsToLNuSkim")],
        *[(n, False) for n in ("TreeB", "Trees", "events_B", "trees")],
        *[(n, False) for n in ("ST_t-channel_top", "Tau_Run2018A", "signet", "TTbarSkim", "WW")],
    ],
)
def test_signal_by_name(name: str, is_signal: bool) -> None:
    assert bool(new_analysis._SIGNAL.search(name)) == is_signal


def test_no_two_classes_have_one_colour() -> None:
    for n in range(1, 40):
        assert len({new_analysis.color(i, n) for i in range(n)}) == n


def test_the_printed_commands_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my files"
    folder.mkdir()
    columns_file(folder / "a.root", evt=np.arange(30), x=np.arange(30) * 0.5)
    assert new_analysis.main([str(folder / "a.root"), "-o", str(folder / "a b.yaml")]) == 0
    commands = capsys.readouterr().out.splitlines()[1:]
    for command in commands:
        assert shlex.split(command)[-1] == f"analysis={folder}/a b.yaml"
