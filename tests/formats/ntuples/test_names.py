"""The names of a tree's columns: ROOT's TTree::Draw is the oracle, refusals are ours."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from utils.formats.ntuples import TreeInfo, check, open_tree, stream
from utils.formats.ntuples.names import ColumnNames, names_of, tell_apart
from utils.schema import InputError

N = 40

MAKE = r"""
#include "TDirectory.h"
#include "TFile.h"
#include "TTree.h"
struct TestInner { double fX = 0; double fY = 0; };
struct TestObject { double pt = 0; float eta = 0; TestInner in; int arr[3] = {0, 0, 0}; };
struct TestLeaves { Long64_t evt; int run; float w[2]; };
void make_names(const char* path) {
  TFile file(path, "recreate");
  TestObject a, b, c, *near = &a, *far = &b, *dot = &c;
  TestLeaves info;
  double v[16];
  file.mkdir("folder/inner");
  for (int cycle = 0; cycle < 4; ++cycle) {  // t;1, t;2, t;3 and folder/inner/t;1
    if (cycle == 3) file.cd("folder/inner"); else file.cd();
    TTree tree("t", "");
    tree.Branch("near", &near); tree.Branch("far", &far); tree.Branch("dot.", &dot);
    tree.Branch("info", &info, "evt/L:run/I:w[2]/F");
    const char* names[16][2] = {
      {"eta", "eta"}, {"twice", "twice"}, {"twice", "twice"}, {"pτ", "pτ"}, {"a-b", "ab"},
      {"jet.pt", "jet.pt"}, {"x/y", "xy"}, {"m[2]", "m2"}, {"jet pt", "jp"}, {"named", "leafname"},
      {"info.run", "q"}, {"solo", "solo"}, {"Größe", "Größe"}, {"first", "shared"},
      {"shared", "shared"}, {"under__score", "under__score"}};
    for (int j = 0; j < 16; ++j)
      tree.Branch(names[j][0], v + j, (TString(names[j][1]) + "/D").Data());
    TestObject* objects[3] = {near, far, dot};
    for (int i = 0; i < 40; ++i) {
      for (int j = 0; j < 3; ++j) {
        objects[j]->pt = i + 1000 * j + 1e5 * cycle; objects[j]->eta = i + 1000 * j + .5;
        objects[j]->in.fX = i + 1000 * j + .25; objects[j]->in.fY = -i;
        objects[j]->arr[1] = i + 1000 * j;
      }
      info.evt = i; info.run = 7; info.w[1] = i / 2.;
      for (int j = 0; j < 16; ++j) v[j] = i + 10000 * (j + 1);
      tree.Fill();
    }
    tree.Write("", cycle < 3 ? 0 : TObject::kOverwrite);
  }
  file.Close();
}
"""


@pytest.fixture(scope="module")
def root() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pre-release of ROOT says that it is one
        module = pytest.importorskip("ROOT", reason="PyROOT is not installed")
    module.gROOT.SetBatch(True)
    return module


@pytest.fixture(scope="module")
def path(root: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("names") / "names.root"
    assert root.gInterpreter.Declare(MAKE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the structures have no dictionary
        root.make_names(str(path))
    return path


def drawn(root: Any, path: Path, tree: str, name: str) -> np.ndarray:
    file = root.TFile(str(path))
    found = file.Get(tree)
    n = found.Draw(name, "", "goff")
    return np.array([found.GetV1()[i] for i in range(n)])


def column(info: TreeInfo, name: str) -> np.ndarray:
    chunks = stream(info, columns=[name], cuts=[None], chunk_entries=7)
    return np.concatenate([c.selections[0].columns[name] for c in chunks])


AS_IN_ROOT = [
    *("near.pt", "far.pt", "dot.pt", "dot.eta", "near.eta", "eta.eta"),
    *("near.in.fX", "far.in.fX", "dot.in.fY", "far.arr[1]", "dot.arr[1]"),
    *("info.evt", "evt", "info.w[1]", "jet.pt", "pτ", "Größe", "under__score"),
    *("ab", "xy", "m", "m2", "jp", "named", "named.leafname", "leafname"),
    *("solo", "first", "first.shared", "shared.shared", "run"),
]
"""Names that lead to one column."""


@pytest.mark.parametrize("name", AS_IN_ROOT)
def test_a_name_leads_where_it_does_in_root(root: Any, path: Path, name: str) -> None:
    expected = drawn(root, path, "t", name)
    assert len(expected) == N
    np.testing.assert_array_equal(column(open_tree(path, "t"), name).astype(float), expected)


@pytest.mark.parametrize(
    "cut", ["far.pt > 201010 && eta.eta < 10030", "pτ % 2 == 1 || info.evt < 3", "Größe > 130020"]
)
def test_a_cut_reads_the_same_names(root: Any, path: Path, cut: str) -> None:
    info = open_tree(path, "t")
    [chunk] = stream(info, columns=["evt"], cuts=[cut], chunk_entries=N)
    entries = drawn(root, path, "t", f"({cut})")
    np.testing.assert_array_equal(chunk.selections[0].entry, np.flatnonzero(entries))
    assert 0 < len(chunk.selections[0].entry) < N


@pytest.mark.parametrize(
    ("name", "values"),
    [("a-b", 50_000), ("x/y", 70_000), ("jet pt", 90_000)],
)
def test_a_name_that_root_cannot_draw_is_a_column_all_the_same(
    root: Any, path: Path, name: str, values: int
) -> None:
    """In a cut it would be a sum or a quotient; its leaf, or a definition, has a name there."""
    np.testing.assert_array_equal(column(open_tree(path, "t"), name), values + np.arange(N))


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("pt", "means 2 columns of tree 't' of {}: write near.pt or far.pt"),
        ("in.fX", "means 2 columns of tree 't' of {}: write near.in.fX or far.in.fX"),
        ("arr", "means 2 columns of tree 't' of {}: write near.arr or far.arr"),
        ("eta", "means 3 columns of tree 't' of {}: write near.eta or far.eta or eta.eta"),
        ("info.run", "means 2 columns of tree 't' of {}: write run or q"),
        ("shared", "means 2 columns of tree 't' of {}: write first or shared.shared"),
    ],
)
@pytest.mark.parametrize("text", ["{}", "{} > 3"])
def test_a_name_of_several_columns_is_refused(
    path: Path, name: str, choices: str, text: str
) -> None:
    info = open_tree(path, "t")
    cut = None if text == "{}" else text.format(f"{name}[0]" if name == "arr" else name)
    with pytest.raises(InputError) as refused:
        check(info, columns=[name] if cut is None else ["evt"], cuts=[cut])
    said = str(refused.value)
    assert said.startswith(f"'{name}' {choices.format(path)}")
    assert cut is None or cut in said


def test_branches_that_nothing_tells_apart_are_refused(path: Path) -> None:
    with pytest.raises(InputError, match="holds 2 branches named 'twice', and nothing tells them"):
        check(open_tree(path, "t"), columns=["twice"], cuts=[None])


@pytest.mark.parametrize("name", ["pt", "far.pt", "twice"])
def test_a_definition_does_not_hide_a_name_of_the_tree(path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is defined in the configuration and also a br"):
        check(open_tree(path, "t"), columns=[name], cuts=[None], definitions={name: "solo + 1"})


@pytest.mark.parametrize(
    ("tree", "first"), [("t", 2e5), ("t;1", 0), ("t;2", 1e5), ("folder/inner/t", 3e5)]
)
def test_cycles_and_folders(root: Any, path: Path, tree: str, first: float) -> None:
    got = column(open_tree(path, tree), "near.pt")
    assert got[0] == first
    np.testing.assert_array_equal(got, drawn(root, path, tree, "near.pt"))


def test_every_column_is_listed_once_and_can_be_read(path: Path) -> None:
    info = open_tree(path, "t")
    assert len(info.columns) == len(set(info.columns)) == 3 * 5 + 3 + 16 - 2
    for name in info.columns:
        if not info.branches[name].shape:
            assert len(column(info, name)) == N


def test_a_name_that_is_not_there_has_its_nearest(path: Path) -> None:
    with pytest.raises(InputError, match=r"'far/pt' is not in tree 't' of .*; nearest: 'far.pt'"):
        check(open_tree(path, "t"), columns=["far/pt"], cuts=[None])


# --- without ROOT ---------------------------------------------------------------------------------


def test_names_follow_root() -> None:
    assert names_of("pt", "", "pt", False) == (("pt", "pt"), "pt.pt")
    assert names_of("pt", "near", "pt", False).names == ("pt", "near.pt")
    assert names_of("near.pt", "near.", "near.pt", False).names == ("near.pt", "near.pt")
    assert names_of("arr[3]", "near", "arr", False).names == ("arr", "near.arr")
    assert names_of("info", "", "evt", True).names == ("info.evt", "evt", "info.evt")


def test_a_column_without_any_name_of_its_own_is_said_to_have_none() -> None:
    names = tell_apart([ColumnNames(("a",), "a.a"), ColumnNames(("a", "b.a"), "b.a.a")])
    assert names == ({"b.a": 1, "a.a": 0}, {"a": ("a.a", "b.a")}, ("a.a", "b.a"))
    names = tell_apart([ColumnNames(("a",), "a.a")] * 2 + [ColumnNames(("a", "b.a"), "b.a.a")])
    assert names.shared == {"a": (None, None, "b.a")}


def test_names_that_uproot_writes(tmp_path: Path) -> None:
    names = ["x", "jet.pt", "jet pt", "a/b", "pτ", "a-b"]
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", dict.fromkeys(names, np.dtype(np.float32))).extend(
            {name: np.full(3, i, np.float32) for i, name in enumerate(names)}
        )
    info = open_tree(tmp_path / "a.root", "t")
    assert list(info.branches) == list(info.columns) == names
    assert [column(info, name)[0] for name in names] == list(range(len(names)))
