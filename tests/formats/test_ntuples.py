"""ROOT files in, columns out: types, cuts, chunks, forms of input, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import DATA

from utils.formats.ntuples import Chunk, TreeInfo, check, find_files, fingerprint, open_tree, stream
from utils.schema import ConfigError, InputError, Sample

N = 1_000

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent (see HEP_DATA)")


def some_columns(n: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    return {
        "pt": rng.exponential(40, n).astype(np.float32),
        "mass": rng.normal(90, 10, n),
        "njets": rng.integers(0, 6, n).astype(np.int32),
        "flag": rng.integers(0, 2, n).astype(np.bool_),
        "charge": rng.integers(-1, 2, n).astype(np.int8),
        "bits": rng.integers(0, 2**16, n).astype(np.uint16),
        "small": rng.integers(-9, 9, n).astype(np.int16),
        "byte": rng.integers(0, 255, n).astype(np.uint8),
        "lumi": rng.integers(0, 2**32, n).astype(np.uint32),
        "run": rng.integers(-(2**62), 2**62, n),
        "evt": rng.integers(0, 2**64, n, dtype=np.uint64),
        "jet_pt": rng.exponential(30, (n, 4)).astype(np.float32),
    }


def write_tree(path: Path, columns: dict[str, np.ndarray], basket: int = 137, **options) -> Path:
    types = {name: np.dtype((column.dtype, column.shape[1:])) for name, column in columns.items()}
    n = len(next(iter(columns.values())))
    with uproot.recreate(path, **options) as file:
        tree = file.mktree("TauCheck", types)
        for start in range(0, n, basket):
            tree.extend({name: c[start : start + basket] for name, c in columns.items()})
    return path


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    return some_columns()


@pytest.fixture(scope="module")
def info(tmp_path_factory, columns) -> TreeInfo:
    return open_tree(write_tree(tmp_path_factory.mktemp("in") / "a.root", columns), "TauCheck")


def read(info: TreeInfo, names, cut=None, **options) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All rows of one cut: entry numbers and columns."""
    chunks = list(stream(info, columns=names, cuts=[cut], **options))
    rows = [chunk.selections[0] for chunk in chunks]
    entry = np.concatenate([r.entry for r in rows])
    return entry, {name: np.concatenate([r.columns[name] for r in rows]) for name in names}


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


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_entries", [1, 137, 200, 5_000])
def test_every_type_comes_back_as_it_was_written(info, columns, chunk_entries):
    stop = 30 if chunk_entries == 1 else None
    names = [name for name in columns if name != "jet_pt"]
    entry, got = read(info, names, chunk_entries=chunk_entries, stop=stop)
    np.testing.assert_array_equal(entry, np.arange(N)[:stop])
    for name in names:
        assert got[name].dtype == columns[name].dtype
        assert got[name].flags.c_contiguous
        np.testing.assert_array_equal(got[name], columns[name][:stop])


@pytest.mark.parametrize(
    "compression",
    [None, uproot.ZLIB(1), uproot.LZMA(1), uproot.LZ4(1), uproot.ZSTD(5)],
    ids=["none", "zlib", "lzma", "lz4", "zstd"],
)
def test_every_compression(tmp_path, columns, compression):
    some = {name: columns[name] for name in ("pt", "flag", "evt")}
    path = write_tree(tmp_path / "z.root", some, compression=compression)
    _, got = read(open_tree(path, "TauCheck"), list(some), chunk_entries=300)
    for name, column in some.items():
        np.testing.assert_array_equal(got[name], column)


def test_a_basket_of_many_compressed_blocks(tmp_path):
    # ROOT compresses at most 16 MB - 1 at a time.
    x = np.arange(2_200_000, dtype=np.float64)
    path = write_tree(tmp_path / "big.root", {"x": x}, basket=len(x), compression=uproot.LZ4(1))
    entry, got = read(open_tree(path, "TauCheck"), ["x"], "x % 100003 == 7")
    np.testing.assert_array_equal(entry, np.arange(7, len(x), 100003))
    np.testing.assert_array_equal(got["x"], entry)


def test_elements_of_fixed_size_branches(info, columns):
    entry, got = read(
        info,
        ["jet_pt[1]", "sum"],
        "jet_pt[0] > 20",
        definitions={"sum": "jet_pt[2] + jet_pt[3]"},
        chunk_entries=300,
    )
    keep = columns["jet_pt"][:, 0] > 20
    np.testing.assert_array_equal(entry, np.flatnonzero(keep))
    np.testing.assert_array_equal(got["jet_pt[1]"], columns["jet_pt"][keep, 1])
    assert got["jet_pt[1]"].dtype == np.float32
    wide = columns["jet_pt"][keep].astype(np.float64)
    np.testing.assert_array_equal(got["sum"], wide[:, 2] + wide[:, 3])


def test_each_cut_has_its_own_rows_and_columns(info, columns):
    pt, njets = columns["pt"].astype(np.float64), columns["njets"]
    common, low, high = pt > 20, njets < 2, njets >= 4
    chunks = list(
        stream(
            info,
            columns=[["pt", "ratio"], ["evt"], []],
            cuts=["low", "njets >= 4", None],
            common_cut="pt > 20",
            definitions={"low": "njets < 2", "ratio": "pt / mass"},
            chunk_entries=300,
        )
    )
    assert [(c.start, c.stop) for c in chunks] == [(0, 300), (300, 600), (600, 900), (900, 1000)]
    assert [c.n_common for c in chunks] == [int(common[c.start : c.stop].sum()) for c in chunks]
    for position, keep in enumerate([common & low, common & high, common]):
        entry = np.concatenate([c.selections[position].entry for c in chunks])
        np.testing.assert_array_equal(entry, np.flatnonzero(keep))
    got = np.concatenate([c.selections[0].columns["ratio"] for c in chunks])
    np.testing.assert_array_equal(got, (pt / columns["mass"])[common & low])
    assert got.dtype == np.float64
    assert list(chunks[0].selections[1].columns) == ["evt"]
    assert chunks[0].selections[2].columns == {}


def test_nothing_survives(info):
    [chunk] = stream(info, columns=["pt", "d"], cuts=["pt < 0"], definitions={"d": "2 * pt"})
    assert chunk.n_common == N
    [rows] = chunk.selections
    assert len(rows) == 0
    assert rows.columns["pt"].dtype == np.float32
    assert rows.columns["d"].dtype == np.float64


def test_a_tree_without_entries_gives_no_chunks(tmp_path):
    path = write_tree(tmp_path / "0.root", {"x": np.empty(0, dtype="f4")})
    info = open_tree(path, "TauCheck")
    assert info.n_entries == 0
    assert list(stream(info, columns=["x"], cuts=["x > 1"])) == []
    with pytest.raises(InputError, match="branch 'y' is not in"):
        stream(info, columns=["y"], cuts=[None])


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(0, N + 5),
    length=st.integers(0, N + 5),
    chunk=st.integers(1, N),
    common=st.sampled_from([None, "pt > 30", "flag", "evt % 7 == 1", "pt < 0", "true"]),
    cut=st.sampled_from([None, "njets > 2", "mass > 90 && !flag", "charge", "false"]),
    threads=st.integers(1, 3),
)
def test_any_range_in_any_chunks_gives_the_same_rows(
    info, columns, start, length, chunk, common, cut, threads
):
    chunk = max(chunk, length // 20)
    keep = np.zeros(N, dtype=bool)
    keep[start : start + length] = True
    c = {k: v.astype(np.float64) for k, v in columns.items()}
    keep &= {
        None: True,
        "pt > 30": c["pt"] > 30,
        "flag": columns["flag"],
        "evt % 7 == 1": np.fmod(c["evt"], 7) == 1,
        "pt < 0": False,
        "true": True,
    }[common]
    keep &= {
        None: True,
        "njets > 2": c["njets"] > 2,
        "mass > 90 && !flag": (c["mass"] > 90) & ~columns["flag"],
        "charge": c["charge"] != 0,
        "false": False,
    }[cut]
    got: list[Chunk] = list(
        stream(
            info,
            columns=["pt", "evt", "charge"],
            cuts=[cut],
            common_cut=common,
            start=start,
            stop=start + length,
            chunk_entries=chunk,
            n_threads=threads,
        )
    )
    rows = [c.selections[0] for c in got]
    for name in ("pt", "evt", "charge"):
        values = [r.columns[name] for r in rows]
        together = np.concatenate(values) if values else np.empty(0)
        np.testing.assert_array_equal(together, columns[name][keep])
    entry = np.concatenate([r.entry for r in rows]) if rows else np.empty(0)
    np.testing.assert_array_equal(entry, np.flatnonzero(keep))


def test_the_consumer_may_stop_early(info):
    chunks = stream(info, columns=["pt"], cuts=[None], chunk_entries=10)
    assert next(iter(chunks)).stop == 10
    chunks.close()


def test_only_branches_that_are_needed_are_read(tmp_path, columns):
    """A damaged branch does not matter to who does not read it, nor where no row survives."""
    path = write_tree(tmp_path / "d.root", {n: columns[n] for n in ("pt", "mass")}, basket=100)
    info = open_tree(path, "TauCheck")
    spoil(path, info, "mass", 5)
    read(info, ["pt"])
    entry, _ = read(info, ["pt", "mass"], "pt > 0", stop=500, chunk_entries=100)
    assert len(entry) == 500
    with pytest.raises(
        InputError, match=r"branch 'mass' of tree 'TauCheck' of .*entries 500 to 599"
    ):
        read(info, ["pt", "mass"], chunk_entries=100)
    few = np.flatnonzero((columns["pt"] > 30) & (np.arange(N) // 100 != 5))[:3]
    cut = " || ".join(f"pt == {float(columns['pt'][i])!r}" for i in few)
    assert read(info, ["mass"], cut)[0].tolist() == few.tolist()


def spoil(path: Path, info: TreeInfo, branch: str, basket: int, at: int = 0) -> None:
    """Overwrite a few bytes of a basket, by default where it says how long it is."""
    where = info.sources[branch].baskets
    assert where is not None
    with path.open("r+b") as file:
        file.seek(int(where.seek[basket]) + at)
        file.write(b"\x7f\xff\xff\xf0")


@pytest.mark.parametrize("at", [0, 6, 14, 66, 70, 78, 200])
def test_a_damaged_basket_is_refused(tmp_path, at):
    """In its length, its length unpacked, the length of its key, its entries and its data."""
    rounded = np.round(some_columns()["mass"])  # compressible, so that it is compressed
    path = write_tree(tmp_path / "d.root", {"mass": rounded}, basket=200)
    info = open_tree(path, "TauCheck")
    spoil(path, info, "mass", 3, at)
    with pytest.raises(
        InputError, match=r"branch 'mass' .*d.root cannot be read, entries 600 to 799"
    ):
        read(info, ["mass"])


def test_a_file_that_changes_between_opening_and_reading_is_refused(tmp_path, columns):
    path = write_tree(tmp_path / "d.root", {"pt": columns["pt"]})
    info = open_tree(path, "TauCheck")
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="changed while it was being read"):
        read(info, ["pt"])
    path.unlink()
    with pytest.raises(InputError, match="there is no file"):
        read(info, ["pt"])


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["m_ass"], {}, r"branch 'm_ass' is not in tree 'TauCheck' of .*a.root; nearest: 'mass'"),
        (["pt"], {"cut": "mas > 1"}, r"branch 'mas' \(used in 'mas > 1'\) is not in .*'mass'"),
        (["pt"], {"common_cut": "njet > 1"}, "nearest: 'njets'"),
        (["d"], {"definitions": {"d": "pt / mss"}}, r"branch 'mss' \(used in 'd: pt / mss'\)"),
        (["pt"], {"cut": "c", "definitions": {"c": "mss > 1"}}, r"branch 'mss' \(used in 'c'\)"),
        (["pt"], {"cut": "cc", "definitions": {"ccc": "pt > 1"}}, "nearest: 'ccc'"),
        (["jet_pt"], {}, r"choose one, from jet_pt\[0\] to jet_pt\[3\] \(tree 'TauCheck' of"),
        (["jet_pt[4]"], {}, "has 4 values per entry"),
        (["pt[0]"], {}, "has one value per entry"),
        (["pt"], {"cut": "jet_pt > 1"}, "has 4 values per entry"),
        (["pt"], {"definitions": {"pt": "mass * 2"}}, "'pt' is defined .* and also a branch"),
    ],
)
def test_impossible_columns_are_refused_before_reading(info, names, options, said):
    with pytest.raises(InputError, match=said) as error:
        stream(info, columns=names, cuts=[options.get("cut")], **without_cut(options))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=said):
        check(info, columns=names, cuts=[options.get("cut")], **without_cut(options))


def without_cut(options: dict) -> dict:
    return {name: value for name, value in options.items() if name != "cut"}


def test_computed_columns_need_a_name(info):
    with pytest.raises(ConfigError, match="give it a name in derived_features"):
        stream(info, columns=["pt + jet_pt[0]"], cuts=[None])


def test_a_cut_outside_the_language_is_refused_before_reading(info):
    with pytest.raises(ConfigError, match=r"write '\(njets == 2\) & \(pt > 0\)'"):
        stream(info, columns=["pt"], cuts=["njets == 2 & pt > 0"])


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


# --- finding files -------------------------------------------------------------------------------


def sample(*files: str | Path) -> Sample:
    return Sample("DY", tuple(map(str, files)), "t", ())


def test_files_are_paths_patterns_or_lists(tmp_path):
    for name in ("b.root", "a.root", "c.root", "d[1].root"):
        (tmp_path / name).touch()
    assert find_files(sample(tmp_path / "b.root", tmp_path / "a.root")) == (
        tmp_path / "a.root",
        tmp_path / "b.root",
    )
    assert find_files(sample(tmp_path / "[ab].root")) == (tmp_path / "a.root", tmp_path / "b.root")
    assert find_files(sample(tmp_path / "d[1].root")) == (tmp_path / "d[1].root",)
    listed = tmp_path / "files.txt"
    listed.write_text(f"# run A\n{tmp_path}/c.root  # the last\n\n{tmp_path}/[ab].root\n")
    assert [p.name for p in find_files(sample(listed))] == ["a.root", "b.root", "c.root"]


def test_files_that_are_not_there_are_named(tmp_path):
    (tmp_path / "a.root").touch()
    (tmp_path / "empty.list").write_text("# nothing\n")
    (tmp_path / "wrong.txt").write_text(f"{tmp_path}/z.root\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xff")
    for entry, said in [
        ("aa.root", "there is no file .*aa.root; nearest: 'a.root'.*sample 'DY'"),
        ("x*.root", "no file matches .*sample 'DY'"),
        ("no/a.root", "nor a folder"),
        ("", "is a folder .*write .*/\\*.root"),
        ("empty.list", "names no file"),
        ("wrong.txt", "no file .*z.root.*wrong.txt, sample 'DY'"),
        ("none.txt", "no file .*none.txt.*list of files of sample 'DY'"),
        ("binary.txt", "not a readable text file"),
    ]:
        with pytest.raises(InputError, match=said):
            find_files(sample(tmp_path / entry))


def test_a_file_named_twice_is_refused(tmp_path):
    (tmp_path / "a.root").touch()
    with pytest.raises(InputError, match=r"names .*a.root twice"):
        find_files(sample(tmp_path / "*.root", tmp_path / "a.root"))
