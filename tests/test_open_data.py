"""Real data from ntuples to evaluation: CMS open data, each channel from its one analysis file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uproot
from one_process import run_commands, run_id, succeed
from real_data import DATA
from recomputed import roc_auc
from workspaces import Workspace

from utils import new_analysis
from utils.columns.identity import hash64
from utils.proof import prove_alignment
from utils.schema import PROJECT

CMS, HZZ = DATA / "cms_htt_skim", DATA / "hzz4mu"
PREDICTION = ("--config-path", "configs/preprocess/prediction_data")

pytestmark = pytest.mark.skipif(
    not (CMS.is_dir() and HZZ.is_dir()),
    reason=f"the CMS open data are not in {DATA}: name their folder as HEP_DATA",
)

SELECTED = {
    ("GluGluToHToTauTau", "ggH"): 486,
    ("VBF_HToTauTau", "VBF"): 611,
    ("DYJetsToLL", "ZTT"): 3582,
    ("DYJetsToLL", "ZLL"): 256,
    ("TTbar", "TT"): 397,
    ("W1JetsToLNu", "W"): 196,
    ("W2JetsToLNu", "W"): 345,
    ("W3JetsToLNu", "W"): 201,
}
"""Events after the cuts; the entries of the histograms published with these files agree."""


SHIFTS = {"tauESUp": 1.03, "tauESDown": 0.97}
COPIES = ("Run2012B_TauPlusX", "Run2012C_TauPlusX")
"""Whose names hand-made shifted copies have: those of samples that are never trained on."""

SCORES = ("pred_class", "pred_class_proba", *(f"pred_class_{i}_proba" for i in range(6)))


@pytest.fixture(scope="module")
def cms(shared_workspace: Workspace) -> list[tuple[int, str]]:
    """All four stages of cms_htt with a variation, predictions of re-made input files, and hzz4mu.

    Declaring a variation changes nothing nominal.
    """
    remade = shared_workspace.folder / "remade"
    remade.mkdir()
    name = "GluGluToHToTauTauSkim.root"
    with uproot.open(CMS / name) as file, uproot.recreate(remade / name) as copy:
        columns = file["Events"].arrays(library="np")
        copy.mktree("Events", {k: v.dtype for k, v in columns.items()}).extend(columns)
    for (_, scale), sample in zip(SHIFTS.items(), COPIES, strict=True):
        write_shifted_copy(remade / f"{sample}Skim.root", scale)
    here = ("analysis=cms_htt_tauES", f"input_path={CMS}", "engine=serial")
    friends = ("predict.py", "--config-name", "for_datacards.yaml", "run_id=RUN", "engine=serial")
    tables = ("predict.py", "--config-name", "for_evaluation.yaml", "run_id=RUN", "engine=serial")
    again = (f"input_path={remade}", "sample_names=[GluGluToHToTauTau]", "source=ntuples")
    copies = (f"input_path={remade}", f"sample_names=[{','.join(COPIES)}]", "source=ntuples")
    split = (f"analysis={hzz4mu(shared_workspace.folder.parent)}", "engine=serial")
    return run_commands(
        shared_workspace.folder,
        [
            ("preprocess.py", *here),
            ("preprocess.py", *PREDICTION, *here),
            (
                "train.py",
                "analysis=cms_htt_tauES",
                "engine=serial",
                "model_param.num_iterations=20",
            ),
            friends,
            tables,
            ("evaluate.py", "run_id=RUN", "n_bootstrap=5"),
            (*friends, *again),
            (*friends, *copies, f"output_path={remade}"),
            *(proof_of(name) for name in ("DYJetsToLL", "Run2012B_TauPlusX")),
            ("preprocess.py", *split, f"input_path={HZZ}"),
            ("train.py", *split, "model_param.num_iterations=5"),
            (*friends, "source=ntuples", f"input_path={HZZ}"),
        ],
    )


def proof_of(sample: str) -> tuple[str, ...]:
    friend = f"data/friends/RUN/{sample}_pred.root"
    return ("utils.proof", f"{CMS}/{sample}Skim.root", friend, "--scores", "RUN")


def write_shifted_copy(path: Path, scale: float) -> None:
    """Write DYJetsToLL as a user makes it by hand: the tau's energy is `scale` times as large.

    So are the components of its four-momentum, where a generated tau is matched.
    """
    with uproot.open(CMS / "DYJetsToLLSkim.root") as file:
        columns = file["Events"].arrays(library="np")
    k = np.where(columns["gen_match"], scale, 1.0)
    old = {n: columns[n].astype(np.float64) for n in ("pt_1", "m_1", "pt_2", "m_2", "mt_2")}
    vis = {n: columns[n].astype(np.float64) for n in ("m_vis", "pt_vis")}
    made = {
        "pt_2": k * old["pt_2"],
        "m_2": k * old["m_2"],
        "mt_2": np.sqrt(k) * old["mt_2"],
        # |p1 + k p2|^2 of |p1 + p2|^2, by the product of p1 and p2 that is in the latter.
        "m_vis": np.sqrt(
            old["m_1"] ** 2
            + (k * old["m_2"]) ** 2
            + k * (vis["m_vis"] ** 2 - old["m_1"] ** 2 - old["m_2"] ** 2)
        ),
        "pt_vis": np.sqrt(
            old["pt_1"] ** 2
            + (k * old["pt_2"]) ** 2
            + k * (vis["pt_vis"] ** 2 - old["pt_1"] ** 2 - old["pt_2"] ** 2)
        ),
    }
    columns |= {name: values.astype(columns[name].dtype) for name, values in made.items()}
    with uproot.recreate(path) as copy:
        copy.mktree("Events", {k: v.dtype for k, v in columns.items()}).extend(columns)


def hzz4mu(folder: Path) -> Path:
    """Write the shipped analysis with two classes to train on, split by the lighter Z's mass."""
    text = (PROJECT / "configs/analysis/hzz4mu.yaml").read_text()
    changes = {
        "{sample: gg, never_trained: true}": "gg",
        "f_Z1mass, f_Z2mass, ": "",
        "f_mass4l, ": "",
    }
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "split.yaml"
    path.write_text(
        f"{text}class_to_info: {{0: {{name: light}}, 1: {{name: heavy}}}}\n"
        "common_cut: f_njets_pass == 0\n"
        "training_samples:\n"
        "  - gg:\n"
        "      light: {cut: f_Z2mass < 28, class: 0}\n"
        "      heavy: {cut: f_Z2mass >= 28, class: 1}\n"
    )
    return path


def friends_of(workspace: Workspace, training: str) -> Path:
    return workspace.folder / "data/friends" / run_id(training)


def test_one_file_runs_all_stages(cms: list[tuple[int, str]], shared_workspace: Workspace) -> None:
    succeed(cms[:6])
    folder = shared_workspace.folder / "data/cms_htt_skims/training"
    flow = pd.read_csv(folder / "cut_flow_training.csv")
    assert {(r.sample, r.process): r.n_selected for r in flow.itertuples()} == SELECTED
    assert "Declared missing values" in cms[0][1]
    assert "mjj 73.6%" in cms[0][1]
    (run,) = shared_workspace.folder.glob(f"mlruns/*/{run_id(cms[2][1])}")
    assert (run / "artifacts/plots/test/report.html").is_file()


def test_training_weights_and_classes(
    cms: list[tuple[int, str]], shared_workspace: Workspace
) -> None:
    """The physics weight of the nine files is constant per file and travels with each event."""
    from utils.formats.skims import open_skim

    skim = open_skim(shared_workspace.folder / "data/cms_htt_skims/training/test.h5")
    columns = skim.read({"weights": ["weight"], "provenance": ["sample"], "targets": ["target"]})
    for code, sample in enumerate(skim.metadata["samples"]):
        with uproot.open(CMS / f"{sample['name']}Skim.root") as file:
            (expected,) = set(file["Events"]["weight"].array(library="np"))
        mine = columns["provenance"]["sample"] == code
        assert set(columns["weights"]["weight"][mine]) == {np.float64(expected)}
    assert set(columns["targets"]["target"]) == set(range(6))


@pytest.mark.parametrize("path", sorted(CMS.glob("*Skim.root")), ids=lambda p: p.stem)
def test_friend_trees_of_all_files(
    cms: list[tuple[int, str]], shared_workspace: Workspace, path: Path
) -> None:
    """Nine of them, collision data too, aligned, with entry folds."""
    succeed(cms[:4])
    name = path.name.replace("Skim.root", "_pred.root")
    proof = prove_alignment(path, friends_of(shared_workspace, cms[2][1]) / name)
    with uproot.open(friends_of(shared_workspace, cms[2][1]) / name) as file:
        friend = file["pred"].arrays(library="np")
    with uproot.open(path) as file:
        run = file["Events"]["run"].array(library="np")
    assert proof.n_entries == len(run)
    np.testing.assert_array_equal(friend["run"], run)
    np.testing.assert_array_equal(friend["fold"], np.arange(len(run)) % 2)
    total = sum(friend[f"pred_class_{i}_proba"].astype(np.float64) for i in range(6))
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_remade_file_is_refused(cms: list[tuple[int, str]]) -> None:
    status, said = cms[6]
    (line,) = [x for x in said.splitlines() if x.startswith("error: ")]
    assert status == 1
    assert "GluGluToHToTauTauSkim.root" in line
    assert "never_trained: true" in line


def branches_of(path: Path, tree: str) -> dict[str, np.ndarray]:
    with uproot.open(path) as file:
        found: dict[str, np.ndarray] = file[tree].arrays(library="np")
    return found


@pytest.mark.parametrize(("shift", "sample"), [*zip(SHIFTS, COPIES, strict=True)])
def test_shifted_scores_are_those_of_a_shifted_copy(
    cms: list[tuple[int, str]], shared_workspace: Workspace, shift: str, sample: str
) -> None:
    """Bit for bit, and those of entries without a generated tau are the nominal ones."""
    succeed(cms[7:8])
    friend = branches_of(friends_of(shared_workspace, cms[2][1]) / "DYJetsToLL_pred.root", "pred")
    copy = branches_of(shared_workspace.folder / "remade" / f"{sample}_pred.root", "pred")
    is_tau = branches_of(CMS / "DYJetsToLLSkim.root", "Events")["gen_match"]
    np.testing.assert_array_equal(friend["fold"], copy["fold"])
    for name in SCORES:
        shifted = friend[f"{name}__{shift}"]
        np.testing.assert_array_equal(shifted, copy[name], strict=True)
        np.testing.assert_array_equal(shifted[~is_tau], friend[name][~is_tau], strict=True)
    moved = friend[f"pred_class_proba__{shift}"] != friend["pred_class_proba"]
    assert moved[is_tau].mean() > 0.5


def four_momentum(c: dict[str, np.ndarray], leg: int) -> np.ndarray:
    pt, eta, phi, m = (c[f"{name}_{leg}"] for name in ("pt", "eta", "phi", "m"))
    energy = np.hypot(pt * np.cosh(eta), m)
    return np.array([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])


@pytest.mark.parametrize("sample", COPIES)
def test_a_shifted_copy_has_the_masses_of_its_four_momenta(
    cms: list[tuple[int, str]], shared_workspace: Workspace, sample: str
) -> None:
    """What derives from the tau's energy is what the scaled four-momentum gives."""
    columns = branches_of(shared_workspace.folder / "remade" / f"{sample}Skim.root", "Events")
    c = {name: values.astype(np.float64) for name, values in columns.items()}
    energy, px, py, pz = four_momentum(c, 1) + four_momentum(c, 2)
    np.testing.assert_allclose(c["m_vis"], np.sqrt(energy**2 - px**2 - py**2 - pz**2), rtol=1e-5)
    np.testing.assert_allclose(c["pt_vis"], np.hypot(px, py), rtol=2e-5)
    angle = c["phi_2"] - c["phi_met"]
    expected = np.sqrt(2 * c["pt_2"] * c["pt_met"] * (1 - np.cos(angle)))
    np.testing.assert_allclose(c["mt_2"], expected, rtol=1e-5, atol=1e-3)


def test_collision_data_have_no_shifted_scores(
    cms: list[tuple[int, str]], shared_workspace: Workspace
) -> None:
    succeed(cms[:4])
    for path in sorted(friends_of(shared_workspace, cms[2][1]).glob("*_pred.root")):
        shifted = {name for name in branches_of(path, "pred") if "__" in name}
        simulated = {f"{name}__{shift}" for name in SCORES for shift in SHIFTS}
        assert shifted == (set() if path.name.startswith("Run2012") else simulated), path


def test_proofs_recompute_shifts_of_simulation(cms: list[tuple[int, str]]) -> None:
    succeed(cms[8:10])
    assert "and under tauESUp, tauESDown; scores those of run" in cms[8][1]
    assert "scores those of run" in cms[9][1]
    assert "tauES" not in cms[9][1]


def test_the_evaluation_says_what_the_tau_energy_does(
    cms: list[tuple[int, str]], shared_workspace: Workspace
) -> None:
    """Areas recomputed from the table; each side of a curve weighs the same whatever it holds."""
    (run,) = shared_workspace.folder.glob(f"mlruns/*/{run_id(cms[2][1])}/artifacts")
    table = pd.read_parquet(run / "pred/test.parquet")
    metrics = json.loads((run / "plots/test/manifest.json").read_text())["metrics"]
    one = np.ones(len(table))

    def macro(ending: str) -> float:
        scores = [table[f"pred_class_{i}_proba{ending}"].to_numpy() for i in range(6)]
        return float(np.mean([roc_auc(s, table["target"] == i, one) for i, s in enumerate(scores)]))

    for shift, scale in SHIFTS.items():
        ratio = (table[f"feature/pt_2__{shift}"] / table["feature/pt_2"]).to_numpy()
        matched = np.isclose(ratio, scale, rtol=1e-6)
        assert (matched | (ratio == 1)).all()
        assert matched[table["process"] == "ZTT"].all()
        assert not matched[table["process"] == "ZLL"].any()
        found = metrics[f"test/variations/{shift}/roc_auc_macro"]
        assert found == pytest.approx(macro(f"__{shift}") - macro(""), abs=1e-9)
        assert found != 0
    assert re.search(r"tauES moves the classifier most: .*; driven by \w+\.", cms[5][1])


def test_friends_are_not_one_for_all(
    cms: list[tuple[int, str]], shared_workspace: Workspace
) -> None:
    """The proof of one file's friend fails against another file."""
    from utils.schema import ProofError

    succeed(cms[:4])
    friend = friends_of(shared_workspace, cms[2][1]) / "TTbar_pred.root"
    with pytest.raises(ProofError, match="3783"):
        prove_alignment(CMS / "VBF_HToTauTauSkim.root", friend)


def test_the_starting_file_is_as_the_page_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (PROJECT / "docs/new_analysis.md").read_text()
    files = sorted(str(path) for path in CMS.glob("*Skim.root"))
    output = tmp_path / "my_channel.yaml"
    assert new_analysis.main([*files, "-o", str(output)]) == 0
    text = output.read_text()
    left_out = text.split("# Left out of the features:\n")[1].split("\n\n")[0]
    assert left_out in page
    assert "missing: {values: [-999], to: nan}" in text
    assert "missing: {values: [-999], to: nan}" in page
    assert f"edit its {text.count('EDIT:')} lines marked EDIT" in page
    dropped = re.findall(r"`(\w+)`", page.split("carries no information:")[1].split(".")[0])
    assert len(dropped) == 8
    for name in dropped:
        assert re.search(rf"^  - {name} ", text, re.MULTILINE)


def test_hzz4mu_has_real_identities_and_hash_folds(
    cms: list[tuple[int, str]], shared_workspace: Workspace
) -> None:
    """Two classes split by the mass of the lighter Z; of two cycles the highest is read."""
    succeed(cms[10:])
    proof = prove_alignment(
        HZZ / "ntuple_4mu_gg.root", friends_of(shared_workspace, cms[11][1]) / "gg_pred.root"
    )
    assert proof.n_entries == 22_344
    with uproot.open(friends_of(shared_workspace, cms[11][1]) / "gg_pred.root") as tree:
        friend = tree["pred"].arrays(library="np")
    with uproot.open(HZZ / "ntuple_4mu_gg.root") as tree:
        names = ["f_run", "f_lumi", "f_event"]
        columns = tree["HZZ4LeptonsAnalysisReduced;2"].arrays(names, library="np")
    for name in names:
        np.testing.assert_array_equal(friend[name], columns[name], strict=True)
    np.testing.assert_array_equal(friend["fold"], hash64(columns) % np.uint64(2))
    assert np.isfinite(friend["pred_class_0_proba"]).all()
