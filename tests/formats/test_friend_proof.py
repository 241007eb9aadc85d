"""A friend is proved row by row against its input, or refused with the first wrong entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from friend_pairs import NAMES, N, events, friend_rows, metadata_of, write_friend, write_input
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from utils.formats.friend_proof import prove_alignment
from utils.schema import FoldRule, InputError, PipelineError, ProofError


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    columns = events()
    source = write_input(tmp_path / "in.root", columns)
    return source, write_friend(tmp_path / "friend.root", friend_rows(columns), metadata_of(source))


# --- what is right is proved ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        FoldRule("hash", ("run", "evt"), 4),
        FoldRule("entry", (), 2),
        FoldRule("modulo", ("evt",), 1),
    ],
)
def test_every_fold_rule_is_proved(tmp_path: Path, rule: FoldRule) -> None:
    columns = events()
    source = write_input(tmp_path / "in.root", columns)
    rows = friend_rows(columns, rule)
    friend = write_friend(tmp_path / "f.root", rows, metadata_of(source, rule))
    assert prove_alignment(source, friend, chunk_entries=90).n_splits == rule.n_splits
    if rule.n_splits > 1:
        rows["fold"] = (rows["fold"] + 1) % rule.n_splits
        wrong = write_friend(tmp_path / "w.root", rows, metadata_of(source, rule))
        with pytest.raises(ProofError, match="entry 0: 'fold' is"):
            prove_alignment(source, wrong)


def test_an_input_tree_may_be_an_rntuple(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    with uproot.recreate(tmp_path / "r.root") as file:
        file.mkrntuple("TauCheck", events())
    found = prove_alignment(tmp_path / "r.root", pair[1], chunk_entries=60)
    assert found.n_entries == N
    assert len(found.notes) == 1


# --- what is wrong is caught, by every check that should ------------------------------------------


def test_a_changed_probability_of_the_chosen_class_is_caught(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    rows = friend_rows(events())
    best = np.max([rows[n] for n in NAMES], axis=0)
    metadata = metadata_of(pair[0])
    right = write_friend(tmp_path / "a.root", {**rows, "pred_class_proba": best}, metadata)
    prove_alignment(pair[0], right)
    wrong = best.copy()
    wrong[np.flatnonzero(rows["pred_class"] >= 0)[4]] = 0.5
    friend = write_friend(tmp_path / "b.root", {**rows, "pred_class_proba": wrong}, metadata)
    with pytest.raises(ProofError, match=r"of 0\.5 contradict each other"):
        prove_alignment(pair[0], friend)


def test_a_filler_without_a_cut_is_caught(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    rows, metadata = friend_rows(events()), metadata_of(pair[0], cut=None)
    friend = write_friend(tmp_path / "a.root", rows, metadata)
    first = int(np.argmax(rows["pred_class"] < 0))
    said = f"entry {first}: it holds no scores in pred_class, but .* no cut"
    with pytest.raises(ProofError, match=said):
        prove_alignment(pair[0], friend)


def test_fold_columns_are_compared_though_metadata_name_no_identity(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    rows = friend_rows(events())
    rows["evt"][9] += np.uint64(2 * 3 * 5 * 7)
    metadata = metadata_of(pair[0], identity=[], misc=[])
    friend = write_friend(tmp_path / "a.root", rows, metadata)
    with pytest.raises(ProofError, match="entry 9: 'evt' is"):
        prove_alignment(pair[0], friend)


@pytest.mark.parametrize("key", ["input", "run_id", "models", "fold_rule", "identity", "misc"])
@pytest.mark.parametrize("value", [None, 3, {}])
def test_damaged_metadata_end_in_one_line(
    tmp_path: Path, pair: tuple[Path, Path], key: str, value: Any
) -> None:
    rows = friend_rows(events())
    metadata = metadata_of(pair[0])
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("TauCheck", {n: c.dtype for n, c in rows.items()}).extend(rows)
        file["TauCheck_metadata"] = json.dumps({**metadata, key: value})
    with pytest.raises(PipelineError, match=f"its '{key}' is missing or wrong"):
        prove_alignment(pair[0], tmp_path / "a.root")


def test_metadata_that_are_no_object_end_in_one_line(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("TauCheck", {"x": np.dtype("f4")})
        file["TauCheck_metadata"] = "[1]"
    with pytest.raises(PipelineError, match="does not describe"):
        prove_alignment(pair[0], tmp_path / "a.root")


def test_the_first_wrong_entry_and_its_values_are_named(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    rows = friend_rows(events())
    rows["evt"] = rows["evt"].copy()
    true = int(rows["evt"][321])
    rows["evt"][[321, 400]] += np.uint64(1)
    rows["run"] = rows["run"].copy()
    rows["run"][322] = 77
    friend = write_friend(tmp_path / "w.root", rows, metadata_of(pair[0]))
    with pytest.raises(ProofError) as error:
        prove_alignment(pair[0], friend, chunk_entries=50)
    assert str(error.value) == (
        f"w.root is not a friend of in.root: entry 321: 'evt' is {true} in the input "
        f"and {true + 1} in the friend"
    )


def test_the_sign_of_zero_and_the_bits_of_nan_count(tmp_path: Path) -> None:
    columns = events(4)
    columns["pt_1"] = np.array([0.0, np.nan, 1, 2], "f4")
    source = write_input(tmp_path / "in.root", columns)
    rows = friend_rows(columns)
    prove_alignment(source, write_friend(tmp_path / "f.root", rows, metadata_of(source)))
    for value, row in ((-0.0, 0), (np.array(0x7FC00001, "u4").view("f4"), 1)):
        rows["pt_1"] = columns["pt_1"].copy()
        rows["pt_1"][row] = value
        friend = write_friend(tmp_path / "f.root", rows, metadata_of(source))
        with pytest.raises(ProofError, match=f"entry {row}: 'pt_1'"):
            prove_alignment(source, friend)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    n=st.integers(2, 60),
    n_splits=st.integers(1, 5),
    chunk=st.integers(1, 70),
    swap=st.tuples(st.integers(0, 59), st.integers(0, 59)),
)
def test_any_exchange_of_two_rows_is_caught(
    tmp_path: Path, n: int, n_splits: int, chunk: int, swap: tuple[int, int]
) -> None:
    i, j = (s % n for s in swap)
    columns = events(n, seed=n)
    rule = FoldRule("modulo", ("evt",), n_splits)
    source = write_input(tmp_path / "in.root", columns)
    rows = {name: c.copy() for name, c in friend_rows(columns, rule).items()}
    for c in rows.values():
        c[[i, j]] = c[[j, i]]
    friend = write_friend(tmp_path / "f.root", rows, metadata_of(source, rule))
    if i == j:
        assert prove_alignment(source, friend, chunk_entries=chunk).n_entries == n
    else:
        with pytest.raises(ProofError, match=f"entry {min(i, j)}: "):
            prove_alignment(source, friend, chunk_entries=chunk)


# --- inputs that changed -------------------------------------------------------------------------


def test_a_recompressed_input_is_decided_by_identity(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    again = write_input(tmp_path / "again.root", events(), compression=uproot.LZMA(1))
    [note] = prove_alignment(again, pair[1]).notes
    assert "uuid" in note
    assert "re-compressed" in note
    other = write_input(tmp_path / "other.root", events(seed=2))
    with pytest.raises(ProofError, match="entry 0"):
        prove_alignment(other, pair[1])


def test_a_moved_and_renamed_input_is_no_matter(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    moved = pair[0].rename(tmp_path / "moved.root")
    assert prove_alignment(moved, pair[1]).notes == ()


def test_without_identity_columns_only_the_very_file_is_accepted(tmp_path: Path) -> None:
    columns, rule = events(), FoldRule("entry", (), 2)
    source = write_input(tmp_path / "in.root", columns)
    metadata = metadata_of(source, rule, identity=[], misc=[])
    friend = write_friend(tmp_path / "f.root", friend_rows(columns, rule), metadata)
    assert (
        "identified by these, not by columns"
        in prove_alignment(source, friend, chunk_entries=99).summary
    )
    again = write_input(tmp_path / "again.root", columns)
    with pytest.raises(ProofError, match="no identity columns"):
        prove_alignment(again, friend)


def test_an_identity_that_tells_little_apart_is_noted(tmp_path: Path) -> None:
    columns = events()
    columns["run"][:] = 1
    source = write_input(tmp_path / "in.root", columns)
    metadata = metadata_of(source, identity=["run"])
    friend = write_friend(tmp_path / "f.root", friend_rows(columns), metadata)
    [note] = prove_alignment(source, friend, chunk_entries=100).notes
    assert note.startswith(f"run do not differ in {N - 1} of {N - 1} pairs")


def test_columns_of_another_type_are_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    rows = friend_rows(events())
    rows["run"] = rows["run"].astype("i4")
    friend = write_friend(tmp_path / "f.root", rows, metadata_of(pair[0]))
    with pytest.raises(ProofError, match="'run' is uint32 in the input and int32 in the friend"):
        prove_alignment(pair[0], friend)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (np.dtype(("f4", (3,))), "has 3 values in the input and one in the friend"),
        ("var * float32", "of tree 'TauCheck' of .* holds no numbers of a fixed count per entry"),
    ],
)
def test_arrays_in_the_place_of_numbers_are_refused(
    tmp_path: Path, pair: tuple[Path, Path], kind: Any, text: str
) -> None:
    columns = {n: events()[n] for n in ("run", "evt")}
    several = ak.from_numpy(np.stack([events()["pt_1"]] * 3, axis=1), regulararray=True)
    with uproot.recreate(tmp_path / "other.root") as file:
        tree = file.mktree("TauCheck", {"run": "u4", "evt": "u8", "pt_1": kind})
        jagged = isinstance(kind, str)
        tree.extend({**columns, "pt_1": ak.from_regular(several) if jagged else several.to_numpy()})
    with pytest.raises(ProofError, match=f"'pt_1' {text}"):
        prove_alignment(tmp_path / "other.root", pair[1])


def test_missing_branches_are_named(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    columns = events()
    columns["event"] = columns.pop("evt")
    other = write_input(tmp_path / "other.root", columns)
    with pytest.raises(ProofError, match=r"'evt' is not in tree 'TauCheck' of .*nearest: 'event'"):
        prove_alignment(other, pair[1])
    rows = friend_rows(events())
    del rows["fold"]
    friend = write_friend(tmp_path / "f.root", rows, metadata_of(pair[0]))
    with pytest.raises(ProofError, match="lacks its branch 'fold'"):
        prove_alignment(pair[0], friend)


def test_a_renamed_input_tree_can_be_named(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    other = write_input(tmp_path / "other.root", events(), tree="Events")
    with pytest.raises(InputError, match=r"tree 'TauCheck' is not there in .*other\.root"):
        prove_alignment(other, pair[1])
    assert prove_alignment(other, pair[1], input_tree="Events").n_entries == N
