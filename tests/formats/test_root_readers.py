"""ROOT itself reads the friend trees: the oracle for everything that analysts do with them."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from numpy.typing import NDArray
from patience import HANGS

from utils import proof
from utils.columns.folds import fold_of
from utils.formats import friends
from utils.schema import FoldRule, ProofError

Columns = dict[str, NDArray[Any]]
N = 3000
RULE = FoldRule("modulo", ("evt",), 3)
NAMES = ["prob_sig", "prob_bkg"]
LARGE = 2**63 + 2**53 + 1


@pytest.fixture(scope="module")
def root() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pre-release of ROOT says that it is one
        module = pytest.importorskip("ROOT", reason="PyROOT is not installed")
    module.gROOT.SetBatch(True)
    module.TH1.AddDirectory(False)
    yield module
    if module.ROOT.IsImplicitMTEnabled():
        module.DisableImplicitMT()


def events(n: int = N, first: int = 0) -> Columns:
    number = np.arange(first, first + n)
    return {
        "run": (number // 10).astype("u4"),
        "evt": number.astype("u8") * np.uint64(7) + np.uint64(LARGE),
        "small": (number * 3).astype("i4"),
        "pt_1": np.where(number % 11 == 0, np.nan, number / 3).astype("f4"),
    }


def scores(columns: Columns) -> NDArray[np.float64]:
    """Every score names its event, so that a shift by one entry would show."""
    signal = (columns["small"] / 3 + 1) / (4 * N)
    return np.stack([signal, 1 - signal], axis=1)


def write_input(path: Path, columns: Columns, basket: int) -> Path:
    with uproot.recreate(path) as file:
        tree = file.mktree("TauCheck", {n: c.dtype for n, c in columns.items()})
        for start in range(0, len(columns["evt"]), basket):
            tree.extend({n: c[start : start + basket] for n, c in columns.items()})
    return path


def write_friend(path: Path, source: Path, columns: Columns, basket: int) -> Path:
    """Write the friend of `source`; every seventh entry was cut."""
    n = len(columns["evt"])
    with uproot.open(source) as file:
        uuid = str(file.file.uuid)
    metadata = friends.friend_metadata(
        input_file={
            "name": source.name,
            "size": source.stat().st_size,
            "uuid": uuid,
            "tree": "TauCheck",
            "n_entries": n,
        },
        run_id="0a1b",
        models=["m0", "m1", "m2"],
        rule=RULE,
        identity=["run", "evt"],
        misc=["pt_1"],
        names=friends.BranchNames(tuple(NAMES)),
        cut="pt_1 > 0",  # rows that it removed hold fillers
    )
    cut = (np.arange(n) % 7 == 3)[:, None]
    placed = friends.score_columns(
        np.where(cut, np.nan, scores(columns)), friends.BranchNames(tuple(NAMES))
    )
    fold = fold_of(RULE, columns)
    rows = {**{k: columns[k] for k in ("run", "evt", "pt_1")}, "fold": fold, **placed}
    branches = {name: c.dtype for name, c in rows.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(friends, "BASKET_ENTRIES", basket)
        with friends.FriendWriter(path, "pred", branches, metadata) as writer:
            for start in range(0, n, basket):
                writer.append({k: c[start : start + basket] for k, c in rows.items()})
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An input and its friend, whose baskets end at different entries."""
    folder = tmp_path_factory.mktemp("root")
    source = write_input(folder / "in.root", events(), basket=700)
    return source, write_friend(folder / "friend.root", source, events(), basket=190)


def hadd(root: Any, *arguments: str | Path) -> str:
    command = Path(root.__file__).parent / "bin" / "hadd"
    if not command.is_file():
        pytest.skip("this ROOT has no hadd beside it")
    done = subprocess.run(
        [command, *arguments], capture_output=True, text=True, check=True, timeout=HANGS
    )
    return done.stderr


def drawn(tree: Any, expression: str, cut: str = "") -> list[NDArray[np.float64]]:
    """Return what TTree::Draw fills, one array per variable."""
    n_drawn = tree.Draw(expression, cut, "goff")
    return [
        np.array(np.frombuffer(tree.GetVal(i), np.float64, n_drawn)) if n_drawn else np.empty(0)
        for i in range(expression.count(":") + 1)
    ]


# --- AddFriend, Draw, Scan -----------------------------------------------------------------------


def test_draw_puts_every_score_beside_its_entry(root: Any, pair: tuple[Path, Path]) -> None:
    file = root.TFile.Open(str(pair[0]))
    tree = file.Get("TauCheck")
    tree.AddFriend("pred", str(pair[1]))
    columns = events()
    entry, small, signal, fold, chosen = drawn(
        tree, "Entry$:small:pred.prob_sig:pred.fold:pred.pred_class"
    )
    cut = np.arange(N) % 7 == 3
    assert np.array_equal(entry, np.arange(N))
    assert np.array_equal(small, columns["small"])
    expected = np.where(cut, np.nan, scores(columns)[:, 0].astype("f4"))
    assert np.array_equal(signal, expected, equal_nan=True)
    assert fold.tolist() == [(LARGE + 7 * i) % 3 for i in range(N)]
    assert np.array_equal(chosen == -1, cut)
    assert tree.GetEntries("run == pred.run && evt == pred.evt") == N
    assert tree.GetEntries("pred.prob_sig >= 0 || pred.pred_class == -1") == N


def test_scan_shows_input_and_friend_side_by_side(
    root: Any, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    file = root.TFile.Open(str(pair[0]))
    tree = file.Get("TauCheck")
    tree.AddFriend("pred", str(pair[1]))
    player = tree.GetPlayer()
    name = str(tmp_path / "scan.txt")  # ROOT keeps the address of its text: it must live on
    player.SetScanRedirect(True)
    player.SetScanFileName(name)
    tree.Scan("small:pred.run:pred.prob_sig:pred.pred_class", "", "precision=9 colsize=14", 5, 700)
    lines = (tmp_path / "scan.txt").read_text().splitlines()[3:-1]
    columns = events()
    for entry, line in zip(range(700, 705), lines, strict=True):
        row, small, run, signal, chosen = line.strip("* ").split("*")
        assert (int(row), int(small)) == (entry, columns["small"][entry])
        assert int(run) == columns["run"][entry]
        if entry % 7 == 3:
            assert (signal.strip(), int(chosen)) == ("nan", -1)
        else:
            assert float(signal) == pytest.approx(scores(columns)[entry, 0], rel=1e-7)
            assert int(chosen) == 1


def test_event_numbers_beyond_53_bits_are_intact(root: Any, pair: tuple[Path, Path]) -> None:
    file = root.TFile.Open(str(pair[1]))
    tree = file.Get("pred")
    assert tree.GetEntries() == N
    for entry in (0, 189, 190, 701, N - 1):
        tree.GetEntry(entry)
        assert int(tree.evt) == LARGE + 7 * entry
        assert int(tree.evt) != int(float(int(tree.evt)))
        assert int(tree.fold) == int(tree.evt) % 3


def test_the_metadata_are_readable_from_root(root: Any, pair: tuple[Path, Path]) -> None:
    file = root.TFile.Open(str(pair[1]))
    text = file.Get("pred_metadata")
    assert text.ClassName() == "TObjString"
    assert json.loads(str(text.GetString())) == friends.open_friend(pair[1]).metadata


# --- RDataFrame ----------------------------------------------------------------------------------


def test_rdataframe_agrees_with_and_without_threads(root: Any, pair: tuple[Path, Path]) -> None:
    file = root.TFile.Open(str(pair[0]))
    tree = file.Get("TauCheck")
    tree.AddFriend("pred", str(pair[1]))
    aligned = (
        "run == pred.run && evt == pred.evt && pred.fold == int(evt % 3) && "
        f"(pred.pred_class < 0 || pred.prob_sig == float((small / 3. + 1) / {4 * N}))"
    )
    for n_threads in (0, 2):
        if n_threads:
            root.EnableImplicitMT(n_threads)
        frame = root.RDataFrame(tree)
        counts = [
            frame.Filter(cut).Count()
            for cut in (aligned, "pred.pred_class < 0", f"pred.evt == {LARGE + 7 * 1234}ull")
        ]
        assert [int(c.GetValue()) for c in counts] == [N, len(range(3, N, 7)), 1]
    root.DisableImplicitMT()


# --- files that ROOT rewrites --------------------------------------------------------------------


def test_recompressed_files_are_still_proved(
    root: Any, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    source, friend = tmp_path / "in.root", tmp_path / "friend.root"
    hadd(root, "-f207", source, pair[0])
    hadd(root, "-f404", friend, pair[1])
    again = proof.prove_alignment(source, friend, chunk_entries=400)
    assert again.n_entries == N
    assert len(again.notes) == 1
    assert proof.prove_alignment(pair[0], friend).notes == ()


def test_hadd_finds_nothing_odd_about_a_friend(
    root: Any, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    messages = hadd(root, "-fk", tmp_path / "friend.root", pair[1])
    assert "Error" not in messages
    assert "Warning" not in messages


def test_merged_inputs_and_friends_are_proved_in_the_same_order_only(
    root: Any, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    more = events(500, first=N)
    source = write_input(tmp_path / "more.root", more, basket=300)
    friend = write_friend(tmp_path / "more_friend.root", source, more, basket=120)
    hadd(root, tmp_path / "in.root", pair[0], source)
    hadd(root, tmp_path / "friend.root", pair[1], friend)
    merged = proof.prove_alignment(tmp_path / "in.root", tmp_path / "friend.root")
    assert merged.n_entries == N + 500
    assert "merged" in merged.notes[0]
    hadd(root, tmp_path / "swapped.root", friend, pair[1])
    with pytest.raises(ProofError, match="entry 0: 'run' is 0 in the input and 300 in the friend"):
        proof.prove_alignment(tmp_path / "in.root", tmp_path / "swapped.root")


def test_tfilemerger_joins_friends_too(root: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    merger = root.TFileMerger(False)
    assert merger.OutputFile(str(tmp_path / "m.root"), "RECREATE", 505)
    assert merger.AddFile(str(pair[1]))
    assert merger.AddFile(str(pair[1]))
    assert merger.Merge()
    friend = friends.open_friend(tmp_path / "m.root")
    assert (friend.tree, friend.n_entries) == ("pred", 2 * N)
    assert friend.metadata == friends.open_friend(pair[1]).metadata


def test_an_input_that_root_wrote_is_proved(
    root: Any, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    old = root.TFile.Open(str(pair[0]))
    new = root.TFile.Open(str(tmp_path / "copy.root"), "RECREATE")
    copy = old.Get("TauCheck").CloneTree(-1)
    copy.SetBasketSize("*", 1000)
    new.Write()
    new.Close()
    assert proof.prove_alignment(tmp_path / "copy.root", pair[1]).n_entries == N


def test_an_empty_friend_of_an_empty_tree_is_valid(root: Any, tmp_path: Path) -> None:
    nothing = events(0)
    source = write_input(tmp_path / "in.root", nothing, basket=10)
    friend = write_friend(tmp_path / "f.root", source, nothing, basket=10)
    file = root.TFile.Open(str(source))
    tree = file.Get("TauCheck")
    assert tree.AddFriend("pred", str(friend)).GetTree().GetEntries() == 0
    assert tree.GetEntries("pred.pred_class >= -1") == 0
    assert {b.GetName() for b in tree.GetFriend("pred").GetListOfBranches()} >= set(NAMES)
    hadd(root, tmp_path / "again.root", friend)
    assert friends.open_friend(tmp_path / "again.root").metadata["run_id"] == "0a1b"
