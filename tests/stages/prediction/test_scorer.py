"""Scores under a shift are those of a hand-made copy of the ntuple in which it is nominal."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import uproot
from predictions import MODULO, friend_paths, friend_task, make_skim, scorer_of, write_tree

from utils.columns.variations import shifted_name
from utils.formats.friend_proof import prove_alignment
from utils.models import scoring
from utils.schema import InputError, ProofError
from utils.stages.prediction.outputs import write
from utils.stages.prediction.scorer import Scorer

N = 400
CUT = "(pt > 20) & (n < 4)"
KEYS: dict[str, Any] = {
    "derived_features": {"x": "pt / scale", "y": "met - pt"},
    "feature_info": {"met": {"missing": -9}, "scale": {"missing": 0}},
    "missing": {"values": [-999], "to": 1},
    "clip": {"x": [0.1, 1.8]},
    "variations": {
        "tauES": {"up": "{branch}__tauESUp", "down": "{branch}__tauESDown"},
        "metES": {"up": {"met": "met * 1.5 + pt / 20"}, "down": {"met": "met / 1.5"}},
        "count": {"up": {"n": "n + 1"}, "one_sided": True},
        "btag": {"weight_up": "w_up / w", "weight_down": "1 / w"},
    },
}
SCORED = ("tauESUp", "tauESDown", "metESUp", "metESDown", "countUp")


def entries() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(7)
    pt = rng.uniform(15, 60, N).astype("f4")
    met = np.where(rng.random(N) < 0.1, -9, rng.normal(40, 20, N))
    columns = {
        **{"run": np.ones(N, "i4"), "evt": rng.integers(0, 2**40, N, dtype="u8"), "pt": pt},
        "scale": np.where(rng.random(N) < 0.1, 0, 30).astype("f4"),
        "met": met,
        "n": rng.integers(0, 5, N).astype("i4"),
        **{"w": np.full(N, 2.0), "w_up": np.full(N, 3.0)},
    }
    rises = rng.random(N) < 0.7  # the others' energy is not shifted: their features stay
    columns["pt__tauESUp"] = np.where(rises, pt * np.float32(1.2), pt)
    columns["pt__tauESDown"] = np.where(rises, pt * np.float32(0.8), pt)
    columns["unused__tauESUp"] = pt
    return columns


def by_hand(columns: dict[str, np.ndarray[Any, Any]], suffix: str) -> dict[str, Any]:
    """Return the entries with a shift's columns in the nominal places, independently computed."""
    pt, met = columns["pt"].astype("f8"), columns["met"]
    shifted: dict[str, dict[str, Any]] = {
        "tauESUp": {"pt": columns["pt__tauESUp"]},
        "tauESDown": {"pt": columns["pt__tauESDown"]},
        "metESUp": {"met": np.where(met == -9, met, met * 1.5 + pt / 20)},
        "metESDown": {"met": np.where(met == -9, met, met / 1.5)},
        "countUp": {"n": columns["n"] + np.int32(1)},
    }
    return {**columns, **shifted[suffix]}


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with uproot.open(path) as file:
        found: dict[str, Any] = file["pred"].arrays(library="np")
    return found


@pytest.fixture
def scorer(boosters: tuple[lightgbm.Booster, ...], tmp_path: Path) -> Scorer:
    return scorer_of(tmp_path, boosters, MODULO, **KEYS)


@pytest.mark.parametrize("source", ["skims", "ntuples"])
@pytest.mark.parametrize("cut", [None, CUT])
def test_scores_of_a_shift_are_those_of_a_shifted_copy(
    boosters: tuple[lightgbm.Booster, ...],
    scorer: Scorer,
    tmp_path: Path,
    source: str,
    cut: str | None,
) -> None:
    columns = entries()
    write_tree(tmp_path, columns, 64)
    how: dict[str, Any] = {"source": source, "chunk_size": 50}
    if source == "skims":
        make_skim(tmp_path, scorer, cut, 70)
    else:
        how["cut"] = cut
    [path] = friend_paths(friend_task(tmp_path, scorer, how))
    found = read(path)
    assert prove_alignment(tmp_path / "S.root", path).shifts == SCORED
    plain = scorer_of(tmp_path, boosters, MODULO, **{**KEYS, "variations": {}})
    for suffix in ("", *SCORED):
        folder = tmp_path / f"copy_{suffix}"
        folder.mkdir()
        write_tree(folder, by_hand(columns, suffix) if suffix else columns, 64)
        alone = {"source": "ntuples", "cut": cut, "input_path": str(folder)}
        [copy] = friend_paths(friend_task(folder, plain, alone))
        expected = read(copy)
        scores = [n for n in expected if n.startswith("pred_class")]
        for name in scores:
            mine = found[shifted_name(name, suffix) if suffix else name]
            assert mine.tobytes() == expected[name].tobytes(), (suffix, name)
        assert found["fold"].tobytes() == expected["fold"].tobytes()
    of_scores = ("pred_class", "pred_class_proba", *(f"pred_class_{i}_proba" for i in range(3)))
    shifted = {shifted_name(name, suffix) for name in of_scores for suffix in SCORED}
    assert set(found) == set(expected) | shifted  # a weight has no scores
    if cut:
        gone, kept = found["pred_class"] < 0, found["pred_class__tauESUp"] >= 0
        assert np.any(gone & kept)
        assert np.any(~gone & (found["pred_class__tauESDown"] < 0))


def test_rows_that_a_shift_leaves_alone_are_not_scored_again(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = entries()
    write_tree(tmp_path, columns, 64)
    n_scored = 0
    score = scoring.score

    def counting(models: Any, matrix: Any, *more: Any) -> Any:
        nonlocal n_scored
        n_scored += len(matrix)
        return score(models, matrix, *more)

    monkeypatch.setattr(scoring, "score", counting)
    friend_paths(friend_task(tmp_path, scorer, {"source": "ntuples"}))

    def features(of: dict[str, Any]) -> np.ndarray[Any, Any]:
        x = np.clip((of["pt"].astype("f8") / of["scale"]), 0.1, 1.8).astype("f4")
        x = np.where(of["scale"] == 0, np.nan, x)
        y = np.where(of["met"] == -9, np.nan, of["met"] - of["pt"].astype("f8")).astype("f4")
        return np.stack([x, y, of["n"]], axis=1)

    with np.errstate(all="ignore"):
        nominal = features(columns)
        moved = [
            np.any(
                (features(by_hand(columns, s)) != nominal) & ~np.isnan(nominal),
                axis=1,
            ).sum()
            for s in SCORED
        ]
    assert n_scored == N + sum(moved)
    assert sum(moved) < len(SCORED) * N


def test_a_shift_that_moves_no_score_is_told(
    boosters: tuple[lightgbm.Booster, ...], tmp_path: Path
) -> None:
    variations = {"tiny": {"up": {"met": "met"}, "down": {"met": "met + 1e3"}}}
    scorer = scorer_of(tmp_path, boosters, MODULO, **{**KEYS, "variations": variations})
    write_tree(tmp_path, entries(), 64)
    [outcome], _ = write(friend_task(tmp_path, scorer, {"source": "ntuples"}))
    assert "  note: tinyUp: no score is moved" in outcome.said
    assert outcome.entry["moved"]["tinyUp"] == 0 < outcome.entry["moved"]["tinyDown"]


def test_a_shifted_score_that_was_changed_is_no_proof(scorer: Scorer, tmp_path: Path) -> None:
    write_tree(tmp_path, entries(), 64)
    [path] = friend_paths(friend_task(tmp_path, scorer, {"source": "ntuples"}))
    columns = read(path)
    with uproot.open(path) as file:
        metadata = str(file["pred_metadata"])
    columns["pred_class__metESUp"] = (columns["pred_class__metESUp"] + 1) % 3
    with uproot.recreate(path) as file:
        file.mktree("pred", {n: c.dtype for n, c in columns.items()}).extend(columns)
        file["pred_metadata"] = metadata
    with pytest.raises(ProofError, match=r"with pred_class__metESUp \d of .* contradict"):
        prove_alignment(tmp_path / "S.root", path)


def test_a_skim_with_other_variations_is_refused(
    boosters: tuple[lightgbm.Booster, ...], scorer: Scorer, tmp_path: Path
) -> None:
    write_tree(tmp_path, entries(), 64)
    for variations, message in (
        ({}, "tauES.up is .*S.h5 lacks it: preprocess it again"),
        ({"tauES": {"up": "{branch}__tauESDown", "down": "{branch}__tauESUp"}}, "has it as"),
    ):
        other = scorer_of(tmp_path, boosters, MODULO, **{**KEYS, "variations": variations})
        make_skim(tmp_path, other, None, 70)
        with pytest.raises(InputError, match=message):
            friend_task(tmp_path, scorer, {})


def test_root_reads_a_shift_beside_its_entry(scorer: Scorer, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pre-release of ROOT says that it is one
        root = pytest.importorskip("ROOT", reason="PyROOT is not installed")
    columns = entries()
    write_tree(tmp_path, columns, 64)
    [path] = friend_paths(friend_task(tmp_path, scorer, {"source": "ntuples"}))
    found = read(path)
    file = root.TFile(str(tmp_path / "S.root"))
    tree = file.Get("events")
    tree.AddFriend("pred", str(path))
    drawn = {}
    for name in ("pred_class__tauESUp", "pred_class_0_proba__metESDown"):
        n = tree.Draw(f"pt:{name}", "", "goff")
        drawn[name] = np.array([tree.GetV2()[i] for i in range(n)])
        assert [tree.GetV1()[i] for i in range(n)] == columns["pt"].tolist()
        assert drawn[name].tolist() == found[name].tolist()
    assert np.any(drawn["pred_class__tauESUp"] != found["pred_class"])
    file.Close()
