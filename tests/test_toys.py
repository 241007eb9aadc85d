"""Toy ntuples are what the analyses read: their branches and types, seeded, plausible."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from utils import toys
from utils.columns.expressions import parse
from utils.schema import PROJECT, ConfigError, PreprocessConfig
from utils.system.program import typed
from utils.toys.__main__ import input_of

Columns = dict[str, NDArray[Any]]

SAMPLES = {
    "SUSYGluGluToBBHToTauTau_powheg_M125": 0.15,
    "GluGluHToTauTau_M125": 0.15,
    "VBFHToTauTau_M125": 0.15,
    "Tau_Run2018A": 0.25,
    "Tau_Run2018B": 0.1,
    "EmbeddedTauTau_Run2018A": 0.2,
}
N_EVENTS = 20_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return toys.write_ntuples(tmp_path_factory.mktemp("toys"), SAMPLES, N_EVENTS)


@pytest.fixture(scope="module")
def events(files: dict[str, Path]) -> dict[str, Columns]:
    return {name: read(path) for name, path in files.items()}


def read(path: Path) -> Columns:
    with uproot.open(path) as file:
        columns: Columns = file["TauCheck"].arrays(library="np")
    return columns


def described(analysis: str, *, for_training: bool) -> PreprocessConfig:
    config = DictConfig(OmegaConf.load(PROJECT / "configs" / "analysis" / f"{analysis}.yaml"))
    config["year"], config["for_training"] = 2018, for_training
    return typed(config, PreprocessConfig)


def selected(config: PreprocessConfig, cut: str | None, columns: Columns) -> NDArray[np.bool_]:
    mask = parse(config.common_cut or "1 > 0").mask(columns)
    return mask & parse(cut).mask(columns) if cut else mask


# --- files ----------------------------------------------------------------------------------------


def test_files_have_the_events_asked_for(events: dict[str, Columns]) -> None:
    for name, share in SAMPLES.items():
        assert len(events[name]["evt"]) == N_EVENTS * share


def test_trees_are_as_a_lab_has_them(files: dict[str, Path]) -> None:
    for path in files.values():
        with uproot.open(path) as file:
            assert file.classnames() == {"TauCheck;1": "TTree"}
            tree = file["TauCheck"]
            assert 90 <= len(tree.keys()) <= 115
            for branch in tree.branches:
                assert branch.num_baskets >= 4
                assert branch.interpretation.from_dtype.newbyteorder("=") in (
                    np.dtype("f4"),
                    np.dtype("i4"),
                    np.dtype("u8"),
                )
            assert file.file.fCompress == 101  # zlib, level 1, as ROOT writes by default


def test_every_value_is_finite(events: dict[str, Columns]) -> None:
    for name, columns in events.items():
        for branch, values in columns.items():
            assert np.isfinite(values).all(), f"{name}: {branch}"


def test_identity_of_simulation_and_of_data(events: dict[str, Columns]) -> None:
    simulation = events["GluGluHToTauTau_M125"]
    assert (simulation["run"] == 1).all()
    assert (simulation["evt"] == np.arange(1, len(simulation["evt"]) + 1)).all()
    data, later = events["Tau_Run2018A"], events["Tau_Run2018B"]
    assert data["run"].min() >= 315252
    assert data["run"].max() <= 316995 < later["run"].min()
    assert data["evt"].dtype == np.uint64
    assert data["evt"].max() > 2**32
    assert len(np.unique(data["evt"])) == len(data["evt"])
    # Both folds of `evt mod 2` get their half.
    assert abs((data["evt"] % 2).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(data["evt"]))


def test_only_simulation_knows_the_generator(events: dict[str, Columns]) -> None:
    knows = {name for name, columns in events.items() if "gen_nbjets_cut" in columns}
    assert knows == {name for name in SAMPLES if "Run" not in name}


def test_same_seed_same_events(tmp_path: Path, events: dict[str, Columns]) -> None:
    name = "VBFHToTauTau_M125"
    n = len(events[name]["evt"])
    alone = read(toys.write_ntuples(tmp_path / "again", [name], n)[name])
    for branch, values in alone.items():
        np.testing.assert_array_equal(values, events[name][branch], err_msg=branch)
    other = read(toys.write_ntuples(tmp_path / "other", [name], n, seed=2)[name])
    assert not np.array_equal(other["pt_1"], alone["pt_1"])
    assert np.array_equal(other["evt"], alone["evt"])


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    names = ["VBFHToTauTau_M125", "Tau_Run2018A"]
    one = toys.write_ntuples(tmp_path / "one", names, 200)
    two = toys.write_ntuples(tmp_path / "two", names, 200, n_workers=2)
    assert list(one) == list(two) == names
    for name in names:
        expected, found = read(one[name]), read(two[name])
        for branch, values in expected.items():
            np.testing.assert_array_equal(values, found[branch], err_msg=branch)


def test_the_same_on_every_platform(events: dict[str, Columns]) -> None:
    columns = events["GluGluHToTauTau_M125"]
    first = {
        "pt_1": [48.8521, 44.9265, 67.2519],
        "m_sv": [99.363, 107.75, 144.75],
        "jpt_1": [88.5118, 94.3504, 63.0778],
    }
    for name, golden in first.items():
        np.testing.assert_allclose(columns[name][:3], golden, rtol=1e-5, err_msg=name)


def test_spare_branches_fill_up(tmp_path: Path) -> None:
    [path] = toys.write_ntuples(tmp_path, ["Tau_Run2018A"], 40, n_branches=110).values()
    assert len(read(path)) == 110


def test_a_large_file_repeats_varied_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toys, "DISTINCT", 300)
    [path] = toys.write_ntuples(tmp_path, ["GluGluHToTauTau_M125"], 1000).values()
    columns = read(path)
    assert (columns["evt"] == np.arange(1, 1001)).all()
    assert len(np.unique(columns["pt_1"])) > 990
    assert columns["weight"].sum() == pytest.approx(1500, rel=0.1)
    absent = columns["njetspt20"] == 0
    assert (columns["jpt_1"][absent] == -10).all()
    assert (columns["jpt_1"][~absent] > 0).all()


# --- kinematics -----------------------------------------------------------------------------------


def test_masses_and_angles_follow_from_the_legs(events: dict[str, Columns]) -> None:
    for columns in events.values():
        pt_1, pt_2 = (columns[f"pt_{i}"].astype(float) for i in (1, 2))
        deta = columns["eta_1"].astype(float) - columns["eta_2"]
        dphi = columns["phi_1"].astype(float) - columns["phi_2"]
        dphi = np.minimum(abs(dphi), 2 * np.pi - abs(dphi))
        m_vis = np.sqrt(2 * pt_1 * pt_2 * (np.cosh(deta) - np.cos(dphi)))
        np.testing.assert_allclose(columns["m_vis"], m_vis, rtol=1e-3, atol=0.05)
        np.testing.assert_allclose(columns["dr_tt"], np.hypot(deta, dphi), rtol=1e-4, atol=1e-4)
        assert (pt_1 >= pt_2).all()


def test_absent_jets_stand_at_minus_ten(events: dict[str, Columns]) -> None:
    for columns in events.values():
        n_jets = columns["njetspt20"]
        for branch, needed in (("jpt_1", 1), ("jpt_2", 2), ("mjj", 2), ("jdeta", 2)):
            np.testing.assert_array_equal(columns[branch] == -10, n_jets < needed, err_msg=branch)
        np.testing.assert_array_equal(columns["mbb"] == -10, columns["nbtag"] < 2)
        assert (columns["njets"] <= n_jets).all()
        two = n_jets >= 2
        np.testing.assert_allclose(
            columns["jdeta"][two], abs(columns["jeta_1"] - columns["jeta_2"])[two], atol=1e-5
        )


def test_processes_differ_as_physics_says(events: dict[str, Columns]) -> None:
    ggh, vbf = events["GluGluHToTauTau_M125"], events["VBFHToTauTau_M125"]
    bbh, ztt = events["SUSYGluGluToBBHToTauTau_powheg_M125"], events["EmbeddedTauTau_Run2018A"]
    data = events["Tau_Run2018A"]
    assert np.median(ggh["m_sv"]) == pytest.approx(125, abs=3)
    assert np.median(ztt["m_sv"]) == pytest.approx(91, abs=3)
    assert np.median(ggh["m_vis"]) < 110  # neutrinos carry the rest away
    assert np.median(vbf["mjj"]) > 3 * max(np.median(ggh["mjj"]), 10)
    assert bbh["nbtag"].mean() > 4 * ggh["nbtag"].mean()
    assert (data["os"] < 0.5).mean() > 0.3  # jets that fake taus have random charges
    assert (ggh["os"] < 0.5).mean() < 0.02
    assert (ggh["njets"] > 0).mean() > 0.2
    assert ggh["njets"].max() <= 7


def test_the_legs_of_em_are_leptons(tmp_path: Path) -> None:
    paths = toys.write_ntuples(tmp_path, {"TTTo2L2Nu": 1, "ZHToTauTau": 1}, 2000, channel="em")
    top = read(paths["TTTo2L2Nu"])
    assert (top["pt_1"] < top["pt_2"]).mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(top["m_2"], 0.10566, rtol=1e-4)
    # D_zeta by another road: components along the bisector of the legs' azimuths.
    bisector = np.arctan2(
        np.sin(top["phi_1"]) + np.sin(top["phi_2"]), np.cos(top["phi_1"]) + np.cos(top["phi_2"])
    )
    miss = top["puppimet"] * np.cos(top["puppimetphi"] - bisector)
    vis = sum(top[f"pt_{i}"] * np.cos(top[f"phi_{i}"] - bisector) for i in (1, 2))
    np.testing.assert_allclose(top["pzeta"], miss - 0.85 * vis, atol=0.05)


# --- shifts ---------------------------------------------------------------------------------------

ALL_SHIFTS = ("tauES", "JES", "btag")
SHIFTED = {"TTTo2L2Nu": 1, "EmbeddedTauTau_Run2018A": 1, "Tau_Run2018A": 1}


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Columns]:
    folder = tmp_path_factory.mktemp("shifts")
    paths = toys.write_ntuples(folder, SHIFTED, 9000, seed=4, shifts=ALL_SHIFTS)
    return {name: read(path) for name, path in paths.items()}


def test_shifts_change_no_other_branch(tmp_path: Path, shifted: dict[str, Columns]) -> None:
    plain = toys.write_ntuples(tmp_path, SHIFTED, 9000, seed=4)
    for name, columns in shifted.items():
        nominal = read(plain[name])
        assert [n for n in columns if "__" not in n] == list(nominal)
        for branch, values in nominal.items():
            np.testing.assert_array_equal(values, columns[branch], err_msg=branch)
    assert not any("__" in n for n in shifted["Tau_Run2018A"])
    assert not any("__btag" in n for n in shifted["EmbeddedTauTau_Run2018A"])


def test_partners_have_the_type_of_their_branch(shifted: dict[str, Columns]) -> None:
    for columns in shifted.values():
        for name in [n for n in columns if "__" in n]:
            assert columns[name].dtype == columns[name.partition("__")[0]].dtype, name
            assert np.isfinite(columns[name]).all(), name


@pytest.mark.parametrize(("direction", "moved"), [("Up", 1.03), ("Down", 0.97)])
def test_tau_energies_move_all_that_derives_from_them(
    shifted: dict[str, Columns], direction: str, moved: float
) -> None:
    columns = {n: v.astype(float) for n, v in shifted["TTTo2L2Nu"].items()}
    after = {n: columns.get(f"{n}__tauES{direction}", v) for n, v in columns.items()}
    genuine = [columns[f"gen_match_{i}"] == 5 for i in (1, 2)]
    assert all(0.5 < g.mean() < 0.9 for g in genuine)
    scale = [np.where(g, moved, 1.0) for g in genuine]
    for i in (1, 2):
        for name in (f"pt_{i}", f"m_{i}"):
            np.testing.assert_allclose(after[name], columns[name] * scale[i - 1], rtol=1e-6)
    for name in ("m_vis", "m_sv"):
        expected = columns[name] * np.sqrt(scale[0] * scale[1])
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-3)

    def xy(c: Columns, pt: str, phi: str) -> NDArray[Any]:
        return np.stack([c[pt] * np.cos(c[phi]), c[pt] * np.sin(c[phi])])

    # Taus and missing momentum together stay what they were.
    for met, phi in (("puppimet", "puppimetphi"), ("met", "metphi")):
        sums = [
            sum(xy(c, f"pt_{i}", f"phi_{i}") for i in (1, 2)) + xy(c, met, phi)
            for c in (columns, after)
        ]
        np.testing.assert_allclose(sums[0], sums[1], atol=2e-3)
    np.testing.assert_allclose(after["pt_tt"], columns["pt_tt"], atol=2e-3)
    mt = np.sqrt(2 * after["pt_1"] * after["met"] * (1 - np.cos(after["phi_1"] - after["metphi"])))
    np.testing.assert_allclose(after["mt_1"], mt, atol=0.05)
    assert "njets__tauESUp" not in columns
    assert "eta_1__tauESUp" not in columns


def test_jets_enter_and_leave(shifted: dict[str, Columns]) -> None:
    columns = shifted["TTTo2L2Nu"]
    up, down = columns["njetspt20__JESUp"], columns["njetspt20__JESDown"]
    nominal = columns["njetspt20"]
    assert (down <= nominal).all()
    assert (nominal <= up).all()
    for some in (up > nominal, down < nominal):
        assert 0.01 < some.mean() < 0.3
    for direction in ("Up", "Down"):
        after = {n: columns.get(f"{n}__JES{direction}", v) for n, v in columns.items()}
        for branch, needed in (("jpt_1", 1), ("jpt_2", 2), ("mjj", 2), ("jeta_2", 2)):
            absent = after["njetspt20"] < needed
            np.testing.assert_array_equal(after[branch] == -10, absent, err_msg=branch)
        np.testing.assert_array_equal(after["mbb"] == -10, after["nbtag"] < 2)
        assert (after["jpt_1"] >= after["jpt_2"]).all()
        assert (after["pt_1"] == columns["pt_1"]).all()
        assert (after["puppimet"] != columns["puppimet"]).any()
    # The same jet leads in most events, and is 2 % or more harder.
    same = (nominal > 0) & (columns["jeta_1"] == columns["jeta_1__JESUp"])
    assert same.sum() > 0.9 * (nominal > 0).sum()
    expected = columns["jpt_1"] * (1.02 + 0.01 * abs(columns["jeta_1"]))
    np.testing.assert_allclose(columns["jpt_1__JESUp"][same], expected[same], rtol=1e-5)


def test_the_weight_moves_with_the_tagged_jets(shifted: dict[str, Columns]) -> None:
    columns = shifted["TTTo2L2Nu"]
    for direction, sign in (("Up", 1), ("Down", -1)):
        factor = columns[f"btagweight__btag{direction}"] / columns["btagweight"]
        np.testing.assert_allclose(factor, 1 + sign * 0.04 * columns["nbtag"], rtol=1e-5)


def test_another_tune_is_a_sample_with_other_jets(tmp_path: Path) -> None:
    names = ["TTTo2L2Nu", "TTTo2L2Nu_tuneUp", "TTTo2L2Nu_tuneDown"]
    paths = toys.write_ntuples(tmp_path, names, 9000)
    nominal, up, down = (read(paths[name]) for name in names)
    assert down["njets"].mean() + 0.2 < nominal["njets"].mean() < up["njets"].mean() - 0.2
    assert set(nominal) == set(up)
    assert nominal["weight"].sum() == pytest.approx(up["weight"].sum(), rel=1e-5)


def test_shifts_of_repeated_events_move_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toys, "DISTINCT", 300)
    [path] = toys.write_ntuples(tmp_path, ["TTTo2L2Nu"], 1000, shifts=["tauES", "JES"]).values()
    columns = read(path)
    ratio = columns["pt_1__tauESUp"] / columns["pt_1"]
    expected = np.where(columns["gen_match_1"] == 5, 1.03, 1.0)
    np.testing.assert_allclose(ratio, expected, rtol=1e-5)
    absent = columns["njetspt20__JESDown"] == 0
    assert (columns["jpt_1__JESDown"][absent] == -10).all()


# --- what the analyses need -----------------------------------------------------------------------


@pytest.mark.parametrize("analysis", ["bbH_tt", "bbH_em"])
def test_analyses_find_their_branches(tmp_path: Path, analysis: str) -> None:
    config = described(analysis, for_training=True)
    computed = {"w_class_imbalance", "w_cp", "target"}
    columns = {*config.cont_features, *config.cat_features, *config.misc_features} - computed
    everywhere = columns | {*config.identity_columns, str(config.weight)}
    everywhere |= parse(config.common_cut or "").names
    one_of_a_kind = {}
    for sample in config.read_samples:
        name = Path(sample.files[0]).stem
        needed = everywhere.union(*(parse(p.cut).names for p in sample.processes if p.cut))
        one_of_a_kind[toys.toy_of(name).origin, frozenset(needed)] = name
    channel = input_of(analysis, "2018")[1]
    paths = toys.write_ntuples(tmp_path, list(one_of_a_kind.values()), 60, channel=channel)
    for (_, needed), name in one_of_a_kind.items():
        with uproot.open(paths[name]) as file:
            assert needed <= set(file["TauCheck"].keys()), name


def test_the_training_selection_leaves_every_class_enough(events: dict[str, Columns]) -> None:
    config = described("bbH_tt", for_training=True)
    per_class = dict.fromkeys(config.classes, 0)
    for sample in config.read_samples:
        for file in sample.files:
            if (columns := events.get(Path(file).stem)) is None:
                continue
            for process in sample.processes:
                per_class[process.class_id] += selected(config, process.cut, columns).sum()
    total = sum(per_class.values())
    assert 0.05 * N_EVENTS < total < 0.3 * N_EVENTS
    assert min(per_class.values()) > 0.01 * N_EVENTS


@pytest.mark.parametrize(("analysis", "n_files"), [("bbH_tt", 33), ("bbH_em", 34)])
def test_all_samples_of_an_analysis_are_written(analysis: str, n_files: int) -> None:
    files, channel = input_of(analysis, "2018")
    assert len({path.name for path in files}) == n_files == len(files)
    assert {path.parent.parts[-4:] for path in files} == {("bbH", channel, "2018", "ntuples")}
    for path in files:
        toys.toy_of(path.stem)


# --- mistakes -------------------------------------------------------------------------------------


def test_an_unknown_sample_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'GluGluToHH'; nearest: 'GluGluHToTauTau'"):
        toys.write_ntuples(tmp_path, ["TTTo2L2Nu", "GluGluToHH"], 10)
    assert not list(tmp_path.iterdir())


def test_an_unknown_shift_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"toys have no shift 'tauEs'; nearest: 'tauES'"):
        toys.write_ntuples(tmp_path, ["TTTo2L2Nu"], 10, shifts=["tauEs"])
    assert not list(tmp_path.iterdir())


def test_an_interrupted_file_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(toys, "_identity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        toys.write_ntuples(tmp_path, ["TTTo2L2Nu"], 10)
    assert not list(tmp_path.iterdir())


def run_toys(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "utils.toys", *arguments],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_line_writes_what_an_analysis_reads(tmp_path: Path) -> None:
    analysis = tmp_path / "small.yaml"
    analysis.write_text(
        f"""
channel: tt
year: ???
input_path: {tmp_path}/${{year}}
input_tree_name: TauCheck
training_samples:
  - VBFHToTauTau_M125: {{signal: {{class: 0}}}}
  - sample: Tau_Run${{year}}
    files: ['Tau_Run${{year}}A.root']
    processes: {{fakes: {{class: 1}}}}
prediction_samples: [VBFHToTauTau_M125]
"""
    )
    done = run_toys("--analysis", str(analysis), "--n-events", "150", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "2018").iterdir())
    assert written == ["Tau_Run2018A.root", "VBFHToTauTau_M125.root"]
    assert sum(len(read(tmp_path / "2018" / name)["evt"]) for name in written) == 150


@pytest.mark.parametrize(
    ("analysis", "said"),
    [
        ("cms_hzz", "there is no analysis 'cms_hzz'; nearest: 'cms_htt'"),
        ("hzz4mu", "no toys for the channel '4mu'"),
    ],
)
def test_command_line_mistakes_are_one_line(tmp_path: Path, analysis: str, said: str) -> None:
    done = run_toys("--analysis", analysis, "--output", str(tmp_path / "out"), folder=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
