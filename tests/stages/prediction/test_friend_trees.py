"""Friend row i is the score of entry i by the model of its fold, whatever the input looks like."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
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

from utils.schema import ConfigError, FoldRule, RunError


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
