"""Trees that are opened: their types, in every form that ROOT writes, and what is no tree."""

from __future__ import annotations

import importlib.util
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import uproot
from ntuple_trees import N, needs_data, read, write_tree
from real_data import DATA

from utils.formats.ntuples import fingerprint, open_tree, stream
from utils.schema import InputError

# --- opening -------------------------------------------------------------------------------------


def test_a_tree_is_described_with_the_types_of_its_branches(info, columns):
    assert info.n_entries == N
    assert not info.is_rntuple
    assert info.size == info.path.stat().st_size
    assert {n: (d.base, d.shape) for n, d in info.branches.items()} == {
        n: (c.dtype, c.shape[1:]) for n, c in columns.items()
    }


def test_a_fingerprint_tells_files_apart_and_is_plain(tmp_path, info, columns):
    print_a = fingerprint(info)
    assert json.loads(json.dumps(print_a)) == print_a
    assert print_a["name"] == "a.root"
    assert print_a["n_entries"] == N
    other = open_tree(write_tree(tmp_path / "a.root", columns), "TauCheck")
    assert fingerprint(other)["uuid"] != print_a["uuid"]


def test_a_description_can_be_sent_to_another_process(info, columns):
    there = pickle.loads(pickle.dumps(info))
    assert there == info
    np.testing.assert_array_equal(read(there, ["evt"])[1]["evt"], columns["evt"])


def test_the_highest_cycle_counts_unless_one_is_named(tmp_path):
    with uproot.recreate(tmp_path / "c.root") as file:
        for n in (3, 5):
            file.mktree("t", {"x": "f4"})
            file["t"].extend({"x": np.full(n, n, dtype="f4")})
    assert open_tree(tmp_path / "c.root", "t").n_entries == 5
    assert open_tree(tmp_path / "c.root", "t;1").n_entries == 3


def test_a_tree_in_a_folder_of_the_file(tmp_path):
    with uproot.recreate(tmp_path / "d.root") as file:
        file.mktree("sub/t", {"x": "f4"})
        file["sub/t"].extend({"x": np.ones(2, dtype="f4")})
    assert open_tree(tmp_path / "d.root", "sub/t").n_entries == 2
    with pytest.raises(
        InputError, match=r"tree 't' is not there in .*nearest: 'sub/t'|known: sub/t"
    ):
        open_tree(tmp_path / "d.root", "t")


def test_what_is_no_tree_is_named(tmp_path, info):
    with pytest.raises(
        InputError, match=r"'TauChek' is not there in .*a.root; nearest: 'TauCheck'"
    ):
        open_tree(info.path, "TauChek")
    with uproot.recreate(tmp_path / "h.root") as file:
        file["h"] = np.histogram([1.0])
    with pytest.raises(InputError, match=r"'h' is a TH1D, no tree, in .*the file holds no tree"):
        open_tree(tmp_path / "h.root", "h")


def test_what_is_no_file_is_named(tmp_path, info):
    with pytest.raises(InputError, match=r"there is no file .*aa.root; nearest: 'a.root'"):
        open_tree(info.path.parent / "aa.root", "t")
    with pytest.raises(InputError, match="nor a folder"):
        open_tree(tmp_path / "no/a.root", "t")
    with pytest.raises(InputError, match="is a folder"):
        open_tree(tmp_path, "t")
    (tmp_path / "e.root").touch()
    with pytest.raises(InputError, match="not a ROOT file: it is empty"):
        open_tree(tmp_path / "e.root", "t")
    (tmp_path / "x.root").write_text("<html>404 not found, sorry for that</html>")
    with pytest.raises(InputError, match=r"x.root is not a ROOT file"):
        open_tree(tmp_path / "x.root", "t")


def test_a_branch_of_other_than_numbers_is_named(tmp_path):
    awkward = pytest.importorskip("awkward")
    with uproot.recreate(tmp_path / "j.root") as file:
        file.mktree("t", {"x": "f4", "v": "var * float32"})
        file["t"].extend({"x": np.ones(3, "f4"), "v": awkward.Array([[1.0], [], [2.0, 3.0]])})
    info = open_tree(tmp_path / "j.root", "t")
    assert list(read(info, ["x"])[1]["x"]) == [1, 1, 1]
    with pytest.raises(
        InputError, match=r"branch 'v' of tree 't' of .*j.root holds no numbers of a"
    ):
        stream(info, columns=["x"], cuts=["v > 1"])


# --- forms of input ------------------------------------------------------------------------------


def test_rntuple(tmp_path, columns):
    some = {name: columns[name] for name in columns if name != "jet_pt"}
    with uproot.recreate(tmp_path / "r.root") as file:
        ntuple = file.mkrntuple("TauCheck", {n: c.dtype for n, c in some.items()})
        for start in (0, 400):
            ntuple.extend({n: c[start : 400 if not start else N] for n, c in some.items()})
    info = open_tree(tmp_path / "r.root", "TauCheck")
    assert info.is_rntuple
    assert info.n_entries == N
    entry, got = read(info, list(some), "pt > 30", chunk_entries=300)
    keep = columns["pt"] > 30
    np.testing.assert_array_equal(entry, np.flatnonzero(keep))
    for name, column in some.items():
        assert got[name].dtype == column.dtype
        np.testing.assert_array_equal(got[name], column[keep])


BY_ROOT = """
import sys, warnings
warnings.simplefilter("ignore")
from array import array
import ROOT
ROOT.gInterpreter.Declare("struct Lepton { float pt; int charge; double iso; };")
file = ROOT.TFile(sys.argv[1], "RECREATE")
tree = ROOT.TTree("t", "t")
lepton, matrix, number = ROOT.Lepton(), array("f", [0] * 6), array("q", [0])
tree.Branch("lepton", lepton, "pt/F:charge/I:iso/D")
tree.Branch("matrix", matrix, "matrix[2][3]/F")
tree.Branch("number", number, "number/L")
tree.SetAutoFlush(300)
for i in range(1000):
    lepton.pt, lepton.charge, lepton.iso = i / 2, -i, i / 1000
    for k in range(6):
        matrix[k] = i + k
    number[0] = i * 10**12
    tree.Fill()
tree.Write()
file.Close()
"""


@pytest.mark.skipif(importlib.util.find_spec("ROOT") is None, reason="ROOT is not installed")
def test_leaves_and_matrices_that_root_wrote(tmp_path):
    path = tmp_path / "root.root"
    done = subprocess.run(
        [sys.executable, "-c", BY_ROOT, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names = ["lepton.pt", "lepton.charge", "lepton.iso", "matrix[1][2]", "number"]
    cut = "lepton.charge < -100 && matrix[0][1] < 900"
    entry, got = read(open_tree(path, "t"), names, cut, chunk_entries=77)
    np.testing.assert_array_equal(entry, np.arange(101, 899))
    assert [str(got[name].dtype) for name in names] == [
        "float32", "int32", "float64", "float32", "int64",
    ]  # fmt: skip
    for name, expected in zip(
        names, (entry / 2, -entry, entry / 1000, entry + 5, entry * 10**12), strict=True
    ):
        np.testing.assert_array_equal(got[name], expected)


@needs_data
def test_double32_and_float16():
    path = DATA / "bad_inputs/uproot-double32-float16.root"
    info = open_tree(path, "tree")
    flat = [name for name, kind in info.branches.items() if not kind.shape]
    _, got = read(info, [*flat, "array_10[1]"], chunk_entries=5)
    with uproot.open(path) as file:
        for name in flat:
            np.testing.assert_array_equal(got[name], file["tree"][name].array(library="np"))
        array = file["tree"]["array_10"].array(library="np")
    np.testing.assert_array_equal(got["array_10[1]"], array[:, 1])


@needs_data
def test_real_identity_columns_of_the_highest_cycle():
    info = open_tree(DATA / "hzz4mu/ntuple_4mu_gg.root", "HZZ4LeptonsAnalysisReduced")
    assert info.n_entries == 22_344
    _, got = read(info, ["f_run", "f_lumi", "f_event"], chunk_entries=5_000)
    assert len(np.unique(np.stack(list(got.values())), axis=1).T) == 22_344
