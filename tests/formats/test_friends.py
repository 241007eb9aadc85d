from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from numpy.typing import NDArray

from utils.formats import friends
from utils.formats.friends import FriendWriter
from utils.schema import (
    FoldRule,
    InputError,
)


def test_a_misc_feature_that_root_takes_for_an_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'arr\[1\]' can't be a branch"):
        FriendWriter(tmp_path / "a.root", "pred", {"arr[1]": "f4"}, {})


RULE = FoldRule("modulo", ("evt",), 3)
AB = friends.BranchNames(("a", "b"))
METADATA = friends.friend_metadata(
    input_file={"name": "a.root", "size": 1, "uuid": "u", "tree": "TauCheck", "n_entries": 4},
    run_id="0123",
    models=["m0", "m1", "m2"],
    rule=RULE,
    identity=["run", "evt"],
    names=friends.BranchNames(("prob_sig", "prob_bkg")),
    cut="pt_1 > 40",
    note="kept",
)


BRANCHES: dict[str, Any] = {
    "evt": "u8",
    "signed": "i8",
    "run": "u4",
    "fold": "i4",
    "short": "i2",
    "tiny": "u1",
    "ok": "?",
    "prob": "f4",
    "precise": "f8",
}


def rows(start: int, stop: int) -> dict[str, NDArray[Any]]:
    n = np.arange(start, stop)
    return {
        "evt": n.astype("u8") + np.uint64(2**63 + 1),
        "signed": -(n + 2**53 + 1),
        "run": n.astype("u4") + np.uint32(2**31),
        "fold": (n % 3).astype("i4"),
        "short": -n.astype("i2"),
        "tiny": (n % 256).astype("u1"),
        "ok": n % 2 == 0,
        "prob": np.where(n % 4 == 0, np.nan, n / 7).astype("f4"),
        "precise": n / 7,
    }


def write(path: Path, *chunks: dict[str, NDArray[Any]], tree: str = "TauCheck") -> Path:
    with friends.FriendWriter(path, tree, BRANCHES, METADATA) as writer:
        for chunk in chunks:
            writer.append(chunk)
    return path


def everything(path: Path, chunk: int = 1000) -> dict[str, NDArray[Any]]:
    friend = friends.open_friend(path)
    parts = list(friends.iterate(path, friend.tree, list(friend.branches), chunk))
    assert [p.start for p, _ in parts[1:]] == [p.stop for p, _ in parts[:-1]]
    return {n: np.concatenate([c[n] for _, c in parts]) for n in friend.branches}


def test_what_was_written_is_read_in_the_same_types(tmp_path: Path) -> None:
    path = write(tmp_path / "f.root", rows(0, 5), rows(5, 5), rows(5, 30))
    friend = friends.open_friend(path)
    assert (friend.n_entries, friend.tree) == (30, "TauCheck")
    assert dict(friend.branches) == {n: np.dtype(d) for n, d in BRANCHES.items()}
    for name, values in everything(path, chunk=7).items():
        expected = rows(0, 30)[name]
        assert values.dtype == expected.dtype
        assert values.tobytes() == expected.tobytes()


def test_a_friend_is_a_ttree_even_in_a_folder_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f.root", rows(0, 3), tree="ntuples/TauCheck")
    with uproot.open(path) as file:
        assert file.classnames(cycle=False)["ntuples/TauCheck"] == "TTree"
        assert file.classnames(cycle=False)["ntuples/TauCheck_metadata"] == "TObjString"
    assert friends.open_friend(path).n_entries == 3


@pytest.mark.parametrize("limited", ["entries", "bytes"])
def test_small_chunks_share_baskets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited: str
) -> None:
    if limited == "entries":
        monkeypatch.setattr(friends, "BASKET_ENTRIES", 40)
    else:
        of_row = sum(np.dtype(dtype).itemsize for dtype in BRANCHES.values())
        monkeypatch.setattr(friends, "BASKET_BYTES", 40 * of_row + 1)
    path = write(tmp_path / "f.root", *[rows(i, i + 10) for i in range(0, 90, 10)])
    with uproot.open(path) as file:
        assert file["TauCheck"]["evt"].num_baskets == 3
    assert everything(path)["evt"].tobytes() == rows(0, 90)["evt"].tobytes()


@pytest.mark.parametrize("chunks", [(), (rows(0, 0),)])
def test_a_friend_without_entries_is_valid(tmp_path: Path, chunks: Any) -> None:
    path = write(tmp_path / "f.root", *chunks)
    friend = friends.open_friend(path)
    assert friend.n_entries == 0
    assert dict(friend.branches) == {n: np.dtype(d) for n, d in BRANCHES.items()}
    assert friend.metadata["run_id"] == "0123"
    assert list(friends.iterate(path, "TauCheck", ["evt"])) == []


def test_metadata_survive_whatever_their_length(tmp_path: Path) -> None:
    long = {**METADATA, "cut": "pt_1 > 40 && " * 20_000, "text": 'quotes " and H→ττ'}
    with friends.FriendWriter(tmp_path / "f.root", "t", BRANCHES, long):
        pass
    assert friends.open_friend(tmp_path / "f.root").metadata == json.loads(json.dumps(long))
    assert friends.fold_rule(long) == RULE


def test_an_error_leaves_nothing_and_keeps_the_older_friend(tmp_path: Path) -> None:
    path = write(tmp_path / "f.root", rows(0, 4))
    before = path.read_bytes()
    with pytest.raises(InputError, match="no values"):
        write(path, rows(0, 2), {"evt": np.zeros(2, "u8")})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_at_the_end_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(friends.FriendWriter, "_flush", full)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "f.root", rows(0, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"evt": np.arange(3)}, "'evt' of f.root is uint64 and was given int64"),
        ({"evt": np.arange(2, dtype="u8")}, "different numbers of rows"),
        ({"ev": np.arange(3)}, "'ev' is no branch of f.root; nearest: 'evt'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, change: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        write(tmp_path / "f.root", {**rows(0, 3), **change})
    lacking = rows(0, 3)
    del lacking["run"]
    with pytest.raises(InputError, match="no values for branch 'run'"):
        write(tmp_path / "f.root", lacking)


@pytest.mark.parametrize("dtype", ["f2", "U3", "O", "c8"])
def test_branch_types_that_root_has_not_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(InputError, match=r"'x' of f.root"):
        friends.FriendWriter(tmp_path / "f.root", "t", {"x": dtype}, METADATA)


# --- scores --------------------------------------------------------------------------------------


def test_rows_without_scores_hold_fillers() -> None:
    nan = float("nan")
    columns = friends.score_columns(
        np.array([[nan, nan], [0.2, 0.8], [0.6, 0.4]]), friends.BranchNames(("sig", "bkg"))
    )
    assert {n: c.dtype.str[1:] for n, c in columns.items()} == {
        "sig": "f4",
        "bkg": "f4",
        "pred_class": "i4",
        "pred_class_proba": "f4",
    }
    np.testing.assert_array_equal(columns["sig"], np.array([nan, 0.2, 0.6], "f4"))
    np.testing.assert_array_equal(columns["pred_class_proba"], np.array([nan, 0.8, 0.6], "f4"))
    assert columns["pred_class"].tolist() == [-1, 1, 0]
    assert {len(c) for c in friends.score_columns(np.empty((0, 2)), AB).values()} == {0}


def test_pred_class_is_decided_before_rounding() -> None:
    close = np.array([[0.5 - 1e-12, 0.5 + 1e-12]])
    columns = friends.score_columns(close, AB)
    assert columns["a"] == columns["b"]
    assert columns["pred_class"].tolist() == [1]
    assert friends.score_columns(close, AB, double_precision=True)["b"] == 0.5 + 1e-12


# --- files that are no friends -------------------------------------------------------------------


def test_what_is_no_friend_tree_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*absent\.root"):
        friends.open_friend(tmp_path / "absent.root")
    text = tmp_path / "text.root"
    text.write_text("no ROOT file")
    with pytest.raises(InputError, match=r"text\.root is not a ROOT file"):
        friends.open_friend(text)
    plain = tmp_path / "plain.root"
    with uproot.recreate(plain) as file:
        file.mktree("TauCheck", {"x": "f4"}).extend({"x": np.zeros(3, "f4")})
        file["other_metadata"] = "{}"
    with pytest.raises(InputError, match=r"'other_metadata' of plain.root does not describe"):
        friends.open_friend(plain)
    with pytest.raises(InputError, match=r"no friend tree 'TauChek' in plain.root"):
        friends.open_friend(plain, "TauChek")


def test_several_friends_in_a_file_need_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "two.root"
    with uproot.recreate(path) as file:
        for name in ("a", "b"):
            file.mktree(name, {"x": "f4"})
            file[f"{name}_metadata"] = json.dumps(METADATA)
        file["c_metadata"] = "not JSON"
    with pytest.raises(InputError, match="a, b, c: choose one"):
        friends.open_friend(path)
    assert friends.open_friend(path, "b").tree == "b"
    with pytest.raises(InputError, match="not JSON"):
        friends.open_friend(path, "c")


def test_missing_branches_and_trees_are_named_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "f.root", rows(0, 3))
    with pytest.raises(InputError, match=r"branch 'evnt' is not in tree .*nearest: 'evt'"):
        list(friends.iterate(path, "TauCheck", ["evnt"]))
    with pytest.raises(InputError, match=r"tree 'TauChek' is not there in .*nearest: 'TauCheck'"):
        list(friends.iterate(path, "TauChek", ["evt"]))


def test_iterating_without_branches_counts_entries(tmp_path: Path) -> None:
    path = write(tmp_path / "f.root", rows(0, 5))
    ranges = [rows for rows, _ in friends.iterate(path, "TauCheck", [], 2)]
    assert ranges == [(0, 2), (2, 4), (4, 5)]


# --- names ---------------------------------------------------------------------------------------


def test_names_have_the_prefix_and_are_stated() -> None:
    names = friends.branch_names(2, "ml_")
    assert names.all == (
        *("ml_fold", "ml_pred_class", "ml_pred_class_proba", "ml_trained_on"),
        *("ml_pred_class_0_proba", "ml_pred_class_1_proba"),
    )
    assert friends.stated_names({"probabilities": names.probabilities, "branches": names.own}) == (
        names
    )
    first = friends.stated_names({"probabilities": ["pred_class_0_proba"]})
    assert first == friends.branch_names(1)  # of a friend tree that states no names


@pytest.mark.parametrize("branches", [{"fold": 3}, {"folds": "x"}, ["fold"], None])
def test_damaged_names_are_refused(tmp_path: Path, branches: Any) -> None:
    path = tmp_path / "f.root"
    with uproot.recreate(path) as file:
        file.mktree("t", {"x": "f4"}).extend({"x": np.zeros(1, "f4")})
        file["t_metadata"] = json.dumps({**METADATA, "branches": branches})
    with pytest.raises(InputError, match="its 'branches' is missing or wrong"):
        friends.open_friend(path)


@pytest.mark.parametrize(
    ("files", "stems"),
    [
        (["in/anything.root"], ["S"]),
        (["in/S_1.root", "in/S_2.root"], ["S_1", "S_2"]),
        (["in/tree_1.root", "in/tree_2.root"], ["tree_1", "tree_2"]),
        (["in/a/tree.root", "in/b/tree.root"], ["S_a_tree", "S_b_tree"]),
        (["x/a/c/t.root", "x/b/c/t.root"], ["S_a_c_t", "S_b_c_t"]),
        (["in/S_a/t.root", "in/S_b/t.root"], ["S_a_t", "S_b_t"]),
    ],
)
def test_friends_of_several_files_have_names_of_their_own(
    files: list[str], stems: list[str]
) -> None:
    assert friends.friend_stems("S", [Path("/data") / f for f in files]) == stems


@pytest.mark.parametrize("name", friends.COMPRESSIONS)
def test_every_compression_reads_back(tmp_path: Path, name: str) -> None:
    """The file's bytes are compressed as asked for, and uproot gives the rows back."""
    path = tmp_path / "f.root"
    with friends.FriendWriter(path, "pred", BRANCHES, METADATA, name) as writer:
        writer.append(rows(0, 4000))
    with uproot.open(path) as file:
        found = file["pred"].arrays(library="np")
        used, evt = file.file.compression, file["pred"]["evt"]
        is_smaller = evt.compressed_bytes < evt.uncompressed_bytes
    told = "none" if used is None or used.level == 0 else type(used).__name__
    assert (told, is_smaller) == (name, name != "none")
    for branch, column in rows(0, 4000).items():
        assert found[branch].tobytes() == column.tobytes()
