"""Friend row i is the score of entry i by the model of its fold, whatever the input looks like."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from predictions import (
    MODULO,
    friend_of,
    friend_paths,
    friend_task,
    make_skim,
    scorer_of,
    write_tree,
)

from utils.formats.friend_proof import prove_alignment
from utils.schema import ConfigError, FoldRule, InputError, ProofError, RunError
from utils.stages.prediction.outputs import write


def test_files_of_a_sample_may_have_other_types(
    boosters: tuple[lightgbm.Booster, ...], tmp_path: Path
) -> None:
    """A skim joins int32 and int64 event numbers; each friend has those of its own input."""
    rule = FoldRule("modulo", ("evt",), 2)
    scorer = scorer_of(tmp_path, boosters, rule, samples={"S": {"files": "part_*.root"}})
    for name, kind in (("part_1", "i4"), ("part_2", "i8")):
        columns = {
            "run": np.ones(5, "i4"),
            "evt": np.arange(5).astype(kind),
            "x": np.ones(5, "f4"),
            "y": np.ones(5),
            "n": np.ones(5, "i4"),
        }
        write_tree(tmp_path, columns, 3).rename(tmp_path / f"{name}.root")
    make_skim(tmp_path, scorer, None, 4)
    for source in ("skims", "ntuples"):
        task = friend_task(tmp_path / source, scorer, {"source": source})
        for path, kind in zip(friend_paths(task), ("i4", "i8"), strict=True):
            with uproot.open(path) as file:
                assert file["pred"]["evt"].array(library="np").dtype == kind


def expected_scores(
    columns: Mapping[str, np.ndarray[Any, Any]],
    fold: np.ndarray[Any, Any],
    boosters: tuple[lightgbm.Booster, ...],
) -> np.ndarray[Any, Any]:
    """Return LightGBM's own scores, one entry at a time by the model of its fold."""
    x = (columns["x"].astype(np.float64) - 0.5) / 2.0
    y = (columns["y"].astype(np.float64) + 1.0) / 0.25
    matrix = np.stack([x, y, columns["n"]], axis=1).astype(np.float32)
    scores = np.empty((len(matrix), 3))
    for i in range(len(matrix)):
        scores[i] = boosters[fold[i]].predict(matrix[i : i + 1], num_threads=1)[0]
    return scores


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_friend_rows_are_scores_of_their_entries(
    boosters: tuple[lightgbm.Booster, ...], data: st.DataObject
) -> None:
    """Random trees, repeated and unordered events, chunks, folds, rules, cuts; both sources."""
    n = data.draw(st.integers(1, 60), "entries")
    seed = data.draw(st.integers(0, 2**32 - 1), "seed")
    rng = np.random.default_rng(seed)
    numbers = data.draw(st.sampled_from(["few", "ordered", "huge"]), "event numbers")
    evt = {
        "few": rng.integers(0, 4, n).astype(np.uint64),
        "ordered": np.arange(n, dtype=np.uint64),
        "huge": rng.integers(2**63, 2**64 - 1, n, dtype=np.uint64),
    }[numbers]
    columns = {
        "run": rng.integers(1, 3, n).astype(np.int32),
        "evt": evt,
        "x": rng.normal(size=n).astype(np.float32),
        "y": rng.normal(size=n),
        "n": rng.integers(0, 4, n).astype(np.int32),
    }
    n_splits = data.draw(st.integers(1, 5), "folds")
    kind = data.draw(st.sampled_from(["modulo", "hash"]), "rule")
    rule = FoldRule(kind, ("evt",) if kind == "modulo" else ("run", "evt"), n_splits)
    cut = data.draw(st.sampled_from([None, "x > 0", "(n == 1) & (y < 0.5)", "x > 100"]), "cut")
    chunk = data.draw(st.integers(1, n + 3), "chunk")
    source = data.draw(st.sampled_from(["skims", "ntuples"]), "source")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_tree(folder, columns, data.draw(st.integers(1, n), "basket"))
        scorer = scorer_of(folder, boosters, rule)
        config: dict[str, Any] = {"source": source, "chunk_size": chunk}
        if source == "skims":
            make_skim(folder, scorer, cut, chunk)
        elif cut is not None:
            config["cut"] = cut
        friend = friend_of(folder, scorer, config)
    kept = {
        None: np.ones(n, bool),
        "x > 0": columns["x"] > 0,
        "(n == 1) & (y < 0.5)": (columns["n"] == 1) & (columns["y"] < 0.5),
        "x > 100": columns["x"] > 100,
    }[cut]
    for name in ("run", "evt", "x"):
        np.testing.assert_array_equal(friend[name], columns[name], strict=True)
    fold = friend["fold"]
    if kind == "modulo":
        assert [int(f) for f in fold] == [int(e) % n_splits for e in evt]
    scores = expected_scores(columns, fold, boosters)
    for i in range(3):
        wanted = np.where(kept, scores[:, i].astype(np.float32), np.float32("nan"))
        np.testing.assert_array_equal(friend[f"pred_class_{i}_proba"], wanted, strict=True)
    np.testing.assert_array_equal(friend["pred_class"], np.where(kept, scores.argmax(axis=1), -1))


def test_an_event_that_was_trained_on_stops_everything(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...]
) -> None:
    from dataclasses import replace

    from utils.columns.identity import group_code, identity_hash

    scorer = scorer_of(tmp_path, boosters, MODULO)
    identity = np.sort(
        identity_hash(group_code("S"), {"run": tree["run"][:4], "evt": tree["evt"][:4]})
    )
    leaking = replace(scorer, trained=(identity, np.empty(0, np.uint64)))
    with pytest.raises(RunError, match="nothing of it is written"):
        friend_of(tmp_path, leaking, {"source": "ntuples"})
    assert list((tmp_path / "friends").glob("*")) == []


def test_with_one_fold_trained_rows_are_flagged(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...]
) -> None:
    from dataclasses import replace

    from utils.columns.identity import group_code, identity_hash

    scorer = scorer_of(tmp_path, boosters, FoldRule("modulo", ("evt",), 1))
    identity = np.sort(
        identity_hash(group_code("S"), {"run": tree["run"][:4], "evt": tree["evt"][:4]})
    )
    friend = friend_of(tmp_path, replace(scorer, trained=(identity,)), {"source": "ntuples"})
    np.testing.assert_array_equal(friend["trained_on"], np.arange(50) < 4)


@pytest.mark.parametrize("name", ["fold", "pred_class", "pred_class_0_proba", "trained_on"])
def test_misc_features_can_not_hide_a_prediction(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...], name: str
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO, derived_features={name: "x"})
    with pytest.raises(ConfigError, match=f"'{name}' is the name of a branch that predictions"):
        friend_of(tmp_path, scorer, {"source": "ntuples", "misc_features": [name]})


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{sample_name}/pred.root", "S/pred.root"),
        ("../{sample_name}.root", "S.root"),
        ("{sample_name}.v1_pred.root", "S.v1_pred.root"),
    ],
)
def test_friend_trees_keep_their_folders_in_the_run(
    tmp_path: Path,
    tree: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    template: str,
    name: str,
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO)
    config = {"source": "ntuples", "output_filename_template": template}
    config["output_path"] = str(tmp_path / "out" / "in")
    [outcome], _ = write(friend_task(tmp_path, scorer, config))
    assert outcome.files == {name: tmp_path / "out" / "in" / template.format(sample_name="S")}
    assert outcome.entry["friend"] == name


# --- names ---------------------------------------------------------------------------------------


def test_branches_have_the_prefix_that_is_asked_for(
    boosters: tuple[lightgbm.Booster, ...], tmp_path: Path, tree: dict[str, Any]
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO)
    make_skim(tmp_path, scorer, None, 16)
    plain = friend_of(tmp_path, scorer, {})
    columns = friend_of(tmp_path, scorer, {"output_branch_prefix": "ml_"})
    made = {"fold", "pred_class", "pred_class_proba", *(f"pred_class_{i}_proba" for i in range(3))}
    assert set(plain) - set(columns) == made
    assert set(columns) - set(plain) == {f"ml_{name}" for name in made}
    for name in made:
        np.testing.assert_array_equal(columns[f"ml_{name}"], plain[name])
    friend = tmp_path / "friends" / "S_pred.root"
    assert prove_alignment(tmp_path / "S.root", friend).n_scored == 50
    spoil(friend, "ml_pred_class", 3, 7)
    with pytest.raises(ProofError, match=r"entry 3: scores .* with ml_pred_class 7 of"):
        prove_alignment(tmp_path / "S.root", friend)


def spoil(path: Path, branch: str, row: int, value: int) -> None:
    """Write a friend tree anew with another value in one row."""
    with uproot.open(path) as file:
        columns, metadata = file["pred"].arrays(library="np"), str(file["pred_metadata"])
    columns[branch][row] = value
    with uproot.recreate(path) as file:
        file.mktree("pred", {n: c.dtype for n, c in columns.items()}).extend(columns)
        file["pred_metadata"] = metadata


@pytest.mark.parametrize("prefix", [None, "ml_"])
@pytest.mark.parametrize("source", ["skims", "ntuples"])
def test_names_that_the_input_has_are_told_before_work(
    boosters: tuple[lightgbm.Booster, ...],
    tmp_path: Path,
    tree: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    prefix: str | None,
    source: str,
) -> None:
    write_tree(tmp_path, {**tree, "fold": tree["n"], "pred_class": tree["n"]}, 20)
    scorer = scorer_of(tmp_path, boosters, MODULO)
    make_skim(tmp_path, scorer, None, 16)
    friend_task(tmp_path, scorer, {"output_branch_prefix": prefix, "source": source})
    said = [r.message for r in caplog.records if r.levelname == "WARNING"]
    if prefix is None:
        [line] = said
        assert "inputs (S.root) have branches named fold, pred_class themselves" in line
        assert "output_branch_prefix=ml_" in line
    else:
        assert said == []


@pytest.mark.parametrize("prefix", ["a b", "x/", "f("])
def test_a_prefix_that_no_branch_can_have_is_refused(
    boosters: tuple[lightgbm.Booster, ...], tmp_path: Path, tree: dict[str, Any], prefix: str
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO)
    make_skim(tmp_path, scorer, None, 16)
    with pytest.raises(InputError, match="can't be a branch of a friend tree"):
        friend_task(tmp_path, scorer, {"output_branch_prefix": prefix})
    assert not (tmp_path / "friends").exists()


def test_files_of_one_name_in_two_folders_have_friends_of_their_own(
    boosters: tuple[lightgbm.Booster, ...], tmp_path: Path, tree: dict[str, Any]
) -> None:
    for part, run in (("a", 1), ("b", 2)):
        path = write_tree(tmp_path, {**tree, "run": np.full(50, run, np.int32)}, 20)
        (tmp_path / "in" / part).mkdir(parents=True)
        path.rename(tmp_path / "in" / part / "tree.root")
    scorer = scorer_of(tmp_path, boosters, MODULO, samples={"S": {"files": "in/*/tree.root"}})
    make_skim(tmp_path, scorer, None, 16)
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = {"orig_path": str(tmp_path / "moved"), "output_path": str(tmp_path / "friends")}
    friend_paths(friend_task(tmp_path, scorer, moved))
    for part, run in (("a", 1), ("b", 2)):
        with uproot.open(tmp_path / "friends" / f"S_{part}_tree_pred.root") as file:
            assert set(file["pred"]["run"].array(library="np")) == {run}
    with pytest.raises(InputError, match=r"both make .*/one.root: let output_filename_template"):
        friend_task(tmp_path, scorer, {**moved, "output_filename_template": "one.root"})


def test_an_identity_of_leaves_is_proved(
    boosters: tuple[lightgbm.Booster, ...], tmp_path: Path, tree: dict[str, Any]
) -> None:
    """`id.evt` is read by every stage, the proof included, as a leaf of the branch `id`."""
    root = pytest.importorskip("ROOT", reason="PyROOT is not installed")
    file = root.TFile(str(tmp_path / "S.root"), "recreate")
    written = root.TTree("events", "")
    event = np.zeros(1, dtype=[("evt", "i8"), ("run", "i4"), ("n", "i4")])
    values = {name: np.zeros(1, tree[name].dtype) for name in ("x", "y")}
    written.Branch("id", event, "evt/L:run/I:n/I")
    written.Branch("x", values["x"], "x/F")
    written.Branch("y", values["y"], "y/D")
    for i in range(50):
        event["evt"], event["run"], event["n"] = tree["evt"][i], 1, tree["n"][i]
        values["x"][0], values["y"][0] = tree["x"][i], tree["y"][i]
        written.Fill()
    written.Write()
    file.Close()
    rule = FoldRule("modulo", ("id.evt",), 2)
    scorer = scorer_of(
        tmp_path,
        boosters,
        rule,
        identity=["id.run", "id.evt"],
        misc_features=["x"],
    )
    recipe = replace(
        scorer.recipe, analysis={**scorer.recipe.analysis, "xtrain_split_feature": "id.evt"}
    )
    scorer = replace(scorer, recipe=recipe)
    make_skim(tmp_path, scorer, None, 16)
    columns = friend_of(tmp_path, scorer, {})
    np.testing.assert_array_equal(columns["id.evt"], tree["evt"].astype(np.int64))
    np.testing.assert_array_equal(columns["fold"], tree["evt"] % 2)
    np.testing.assert_array_equal(columns["pred_class"] >= 0, True)
