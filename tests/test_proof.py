"""The command that proves a friend, and its scores recomputed from the run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from friend_pairs import (
    MODELS,
    NAMES,
    RULE,
    Columns,
    N,
    events,
    friend_rows,
    metadata_of,
    score,
    write_friend,
    write_input,
)
from numpy.typing import NDArray
from real_data import DATA

from utils import proof
from utils.columns.arrays import RowRange
from utils.columns.folds import fold_of
from utils.columns.pipeline import FeaturePipeline
from utils.formats import friends, runs
from utils.formats.friend_proof import CHECKS
from utils.models import forest
from utils.schema import PROJECT, ClassInfo, FoldRule, ProofError, Recipe


def scorer(columns: Columns, rule: FoldRule = RULE, strength: float = 1.0) -> proof.Recomputation:
    fold = fold_of(rule, columns, np.arange(len(columns["x"])))
    expected = score(columns, fold, strength)
    expected[columns["x"] > 1.5] = np.nan
    return proof.Recomputation(lambda span: proof.Recomputed(expected[slice(*span)], {}))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    columns = events()
    source = write_input(tmp_path / "in.root", columns)
    return source, write_friend(tmp_path / "friend.root", friend_rows(columns), metadata_of(source))


# --- what is right is proved ---------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [7, 100, N, 10_000])
def test_a_right_friend_is_proved(pair: tuple[Path, Path], chunk: int) -> None:
    found = proof.prove_alignment(*pair, chunk_entries=chunk)
    assert (found.n_entries, found.n_splits, found.notes) == (N, 3, ())
    assert found.identity == ("run", "evt", "pt_1")
    assert found.n_scored == np.count_nonzero(events()["x"] <= 1.5)
    assert proof.prove_scores(pair[1], scorer(events()), chunk_entries=chunk) < 1e-7


def test_an_empty_friend_of_an_empty_input_is_proved(tmp_path: Path) -> None:
    columns = events(0)
    source = write_input(tmp_path / "in.root", columns)
    friend = write_friend(tmp_path / "f.root", friend_rows(columns), metadata_of(source))
    assert proof.prove_alignment(source, friend).n_entries == 0
    assert proof.prove_scores(friend, scorer(columns)) == 0


def test_a_friend_whose_rows_were_all_cut_is_proved(tmp_path: Path) -> None:
    columns = events()
    columns["x"][:] = 2
    source = write_input(tmp_path / "in.root", columns)
    friend = write_friend(tmp_path / "f.root", friend_rows(columns), metadata_of(source))
    assert proof.prove_alignment(source, friend).n_scored == 0
    assert proof.prove_scores(friend, scorer(columns)) == 0


def test_double_precision_scores_are_proved(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    columns = events()
    rows = friend_rows(columns)
    exact = scorer(columns).of(RowRange(0, N)).scores
    rows.update({name: exact[:, i].copy() for i, name in enumerate(NAMES)})
    friend = write_friend(tmp_path / "d.root", rows, metadata_of(pair[0]))
    proof.prove_alignment(pair[0], friend)
    assert proof.prove_scores(friend, scorer(columns)) == 0
    rows["prob_sig"] += 1e-12
    friend = write_friend(tmp_path / "d.root", rows, metadata_of(pair[0]))
    with pytest.raises(ProofError, match="prob_sig"):
        proof.prove_scores(friend, scorer(columns))


# --- what is wrong is caught, by every check that should ------------------------------------------


def rolled(rows: Columns, names: list[str] | None = None) -> Columns:
    return {n: np.roll(c, 1) if names is None or n in names else c for n, c in rows.items()}


def shuffled(rows: Columns) -> Columns:
    order = np.random.default_rng(3).permutation(N)
    return {n: c[order] for n, c in rows.items()}


def changed(name: str, value: Any, rows: list[int]) -> Callable[[Columns], Columns]:
    def change(columns: Columns) -> Columns:
        new = columns[name].copy()
        new[rows] = value
        return {**columns, name: new}

    return change


OUTPUT = ["fold", "pred_class", *NAMES]


CORRUPTIONS: dict[str, tuple[Callable[[Columns], Columns], set[str]]] = {
    "shifted": (rolled, {"identity", "fold", "recomputed"}),
    "outputs shifted": (lambda r: rolled(r, OUTPUT), {"fold", "recomputed"}),
    "scores shifted": (lambda r: rolled(r, OUTPUT[1:]), {"recomputed"}),
    "identity shifted": (lambda r: rolled(r, ["run", "evt", "pt_1"]), {"identity"}),
    "truncated": (lambda r: {n: c[:-1] for n, c in r.items()}, {"length"}),
    "first entry lost": (
        lambda r: {n: c[1:] for n, c in r.items()},
        {"length", "identity", "fold", "recomputed"},
    ),
    "one row too many": (
        lambda r: {n: np.append(c, c[-1:]) for n, c in r.items()},
        {"length", "recomputed"},
    ),
    "shuffled": (shuffled, {"identity", "fold", "recomputed"}),
    "re-scored": (
        lambda r: {**r, **{n: friend_rows(events(), strength=1.2)[n] for n in OUTPUT}},
        {"recomputed"},
    ),
    "next fold's model": (
        lambda r: {**r, **{n: friend_rows(events(), strength=2.0)[n] for n in OUTPUT}},
        {"recomputed"},
    ),
    "one class changed": (changed("pred_class", 7, [9]), {"scores", "recomputed"}),
    "one score changed": (changed("prob_tau", 0.99, [9]), {"scores", "recomputed"}),
    "one score lost": (changed("prob_tau", np.nan, [9]), {"scores", "recomputed"}),
    "one fold changed": (changed("fold", 5, [400]), {"fold"}),
    "one event number off by one": (
        lambda r: {**r, "evt": r["evt"] + (np.arange(N) == 9).astype("u8")},
        {"identity"},
    ),
    "one NaN filled": (changed("pt_1", -999, [53]), {"identity"}),
    "everything filler": (
        lambda r: {
            **r,
            **{n: np.full(N, -1 if n == "pred_class" else np.nan, r[n].dtype) for n in OUTPUT[1:]},
        },
        {"recomputed"},
    ),
}


def refuted(run: Callable[[], object]) -> bool:
    try:
        run()
    except ProofError:
        return True
    return False


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_wrong_friend_is_caught_by_every_check_that_should(
    name: str, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    corrupt, expected = CORRUPTIONS[name]
    rows = corrupt(friend_rows(events()))
    friend = write_friend(tmp_path / "wrong.root", rows, metadata_of(pair[0]))
    caught = {
        check
        for check in CHECKS
        if refuted(lambda c=check: proof.prove_alignment(pair[0], friend, checks=[c]))
    }
    if refuted(lambda: proof.prove_scores(friend, scorer(events()))):
        caught.add("recomputed")
    assert caught == expected
    aligned = expected <= {"recomputed"}
    assert refuted(lambda: proof.prove_alignment(pair[0], friend)) is not aligned


def test_a_score_that_differs_is_named(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    rows = friend_rows(events())
    row = int(np.flatnonzero(events()["x"] <= 1.5)[100])
    rows["prob_bkg"] = rows["prob_bkg"].copy()
    rows["prob_bkg"][row] *= np.float32(1 + 1e-6)
    friend = write_friend(tmp_path / "w.root", rows, metadata_of(pair[0]))
    with pytest.raises(ProofError, match=rf"entry {row}: prob_bkg is 0\.\d+ and was recomputed"):
        proof.prove_scores(friend, scorer(events()), chunk_entries=64)


def test_rounding_to_float32_is_no_difference(pair: tuple[Path, Path]) -> None:
    exact = scorer(events())
    close = proof.Recomputation(
        lambda span: proof.Recomputed(exact.of(span).scores * (1 + 1e-16), {})
    )
    largest = proof.prove_scores(pair[1], close)
    assert largest <= 2**-24


def test_scores_of_another_number_of_classes_are_refused(pair: tuple[Path, Path]) -> None:
    two = proof.Recomputation(lambda span: proof.Recomputed(np.full((span.size, 2), 0.5), {}))
    with pytest.raises(ProofError, match="3 classes, the run's models of 2"):
        proof.prove_scores(pair[1], two)


def test_a_friend_of_another_run_or_other_models_is_refused(pair: tuple[Path, Path]) -> None:
    friend = friends.open_friend(pair[1])
    proof.check_run(friend, "run-a", MODELS)
    with pytest.raises(ProofError, match="made by run run-a, not by run run-b"):
        proof.check_run(friend, "run-b", MODELS)
    with pytest.raises(ProofError, match="model 1 is m1 there and other in run run-a"):
        proof.check_run(friend, "run-a", ["m0", "other", "m2"])
    with pytest.raises(ProofError, match="model 2 is m2 there and absent"):
        proof.check_run(friend, "run-a", ["m0", "m1"])


# --- scores of a run -----------------------------------------------------------------------------


FEATURES = ("ratio", "njets", "pt_1")
ANALYSIS = {
    "for_training": True,
    "input_tree_name": "TauCheck",
    "input_path": "nowhere",
    "training_samples": [{"a": {"sig": {"class": 0}, "bkg": {"class": 1}, "tau": {"class": 2}}}],
    "class_to_info": {i: {"name": n} for i, n in enumerate(["sig", "bkg", "tau"])},
    "cont_features": ["pt_1", "ratio"],
    "cat_features": ["njets"],
    "misc_features": ["weight_of_training_only"],
    "derived_features": {"ratio": "x / (1 + njets)"},
    "missing": -999,
    "clip": {"njets": [0, 3]},
    "weight": "weight_of_training_only",
    "identity": ["run", "evt"],
    "n_splits": 3,
}


def physics(n: int = N, seed: int = 4) -> Columns:
    columns = events(n, seed)
    rng = np.random.default_rng(seed)
    columns["njets"] = rng.integers(0, 6, n).astype("i4")
    columns["pt_1"] = np.where(np.arange(n) % 9 == 0, -999, rng.exponential(40, n)).astype("f4")
    return columns


def features(columns: Columns) -> NDArray[np.float32]:
    """The run's recipe, spelled out by hand: derived, missing, clipped, scaled."""
    ratio = (columns["x"] / (1 + columns["njets"].astype("f8"))).astype("f4")
    pt = np.where(columns["pt_1"] == -999, np.nan, columns["pt_1"]).astype("f4")
    scaled_pt = ((pt - np.float64(40)) / 20).astype("f4")
    return np.stack(
        [(ratio / np.float64(0.5)), np.clip(columns["njets"], 0, 3), scaled_pt], 1
    ).astype("f4")


class StandIn:
    """A run as `tracking.open_run` returns it, without a store."""

    def __init__(self, run_id: str, seed: int) -> None:
        import lightgbm

        columns = physics(seed=seed)
        fold = fold_of(RULE, columns)
        rng = np.random.default_rng(seed)
        target = (columns["x"] + rng.normal(size=N) > 0).astype(int) + (columns["njets"] > 3)
        parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
        self.boosters = [
            lightgbm.train(
                {**parameters, "num_leaves": 7},
                lightgbm.Dataset(
                    features(columns)[fold != i], target[fold != i], feature_name=list(FEATURES)
                ),
                num_boost_round=8,
            )
            for i in range(3)
        ]
        self.run_id = run_id
        numbers = {"mean": [40.0, 0.0], "scale": [20.0, 0.5]}
        pipeline = FeaturePipeline(
            inputs=("pt_1", "ratio"),
            outputs=("pt_1", "ratio"),
            **{k: tuple(v) for k, v in numbers.items()},
        )
        self.recipe = Recipe(
            analysis=ANALYSIS,
            training={},
            classes=tuple(ClassInfo(name=n) for n in ["sig", "bkg", "tau"]),
            features=FEATURES,
            pipeline=pipeline.to_json(),
            fold=RULE,
            weight="w_class_imbalance",
            objective="multiclass",
            models=tuple({"index": i} for i in range(3)),
            samples=(),
            files=(),
            skims={},
            audit=(),
            audit_passed=True,
        )

    def model_text(self, index: int) -> str:
        return self.boosters[index].model_to_string()

    def fingerprints(self) -> list[str]:
        return [forest.compile_forest(self.model_text(i)).fingerprint for i in range(3)]

    def write_friend(self, path: Path, source: Path, columns: Columns, **change: Any) -> Path:
        """Write what predict.py would, the scores by LightGBM itself; x > 1.5 is cut."""
        fold = fold_of(RULE, columns)
        probabilities = np.stack([b.predict(features(columns)) for b in self.boosters])
        mine = probabilities[fold, np.arange(len(fold))]
        mine[columns["x"] > 1.5] = np.nan
        rows = friends.score_columns(mine, friends.BranchNames(tuple(NAMES)))
        rows = {**{n: columns[n] for n in ("run", "evt")}, "fold": fold, **rows}
        changes = {"run_id": self.run_id, "models": self.fingerprints(), "cut": "x <= 1.5"}
        metadata = metadata_of(source, misc=[], **{**changes, **change})
        return write_friend(path, rows, metadata)


@pytest.fixture(scope="module")
def stand_ins() -> dict[str, StandIn]:
    return {"run-a": StandIn("run-a", seed=4), "run-b": StandIn("run-b", seed=5)}


@pytest.fixture
def scored(
    tmp_path: Path, stand_ins: dict[str, StandIn], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    monkeypatch.setattr(runs, "open_run", stand_ins.__getitem__)
    source = write_input(tmp_path / "in.root", physics())
    return source, stand_ins["run-a"].write_friend(tmp_path / "friend.root", source, physics())


def test_the_command_recomputes_scores_from_the_run(
    scored: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert proof.main([*map(str, scored), "--scores", "run-a"]) == 0
    out = capsys.readouterr().out
    assert "scores those of run run-a within" in out
    assert out.count("\n") == 1


@pytest.mark.parametrize("chunk", [1, 77, 10_000])
def test_recomputed_scores_depend_on_no_chunk(
    scored: tuple[Path, Path], stand_ins: dict[str, StandIn], chunk: int
) -> None:
    source, path = scored
    if chunk == 1:
        source = write_input(source.with_name("short.root"), physics(5))
        path = stand_ins["run-a"].write_friend(path.with_name("short_f.root"), source, physics(5))
    recompute = proof.run_scores("run-a", friends.open_friend(path), source, "TauCheck")
    assert proof.prove_scores(path, recompute, chunk_entries=chunk) < 1e-7


def test_a_friend_of_another_run_is_caught_by_its_name_models_and_scores(
    scored: tuple[Path, Path], stand_ins: dict[str, StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = scored
    other, mine = stand_ins["run-b"], stand_ins["run-a"].fingerprints()
    pretence: dict[str, Any] = {}
    for change, text in (
        ({}, "was made by run run-b, not by run run-a"),
        ({"run_id": "run-a"}, "was made with other models: model 0"),
        ({"models": mine}, "holds other scores: entry 0"),
    ):
        pretence.update(change)
        forged = other.write_friend(path.with_name("forged.root"), source, physics(), **pretence)
        assert proof.main([str(source), str(forged), "--scores", "run-a"]) == 1
        assert text in capsys.readouterr().err


def test_a_cut_other_than_the_stated_one_is_caught(
    scored: tuple[Path, Path], stand_ins: dict[str, StandIn]
) -> None:
    source, path = scored
    for cut in (None, "x <= 1.4", "x <= 1.6"):
        forged = stand_ins["run-a"].write_friend(path, source, physics(), cut=cut)
        recompute = proof.run_scores("run-a", friends.open_friend(forged), source, "TauCheck")
        with pytest.raises(ProofError, match="holds other scores"):
            proof.prove_scores(forged, recompute)


def test_a_friend_of_another_fold_rule_is_caught(
    scored: tuple[Path, Path], stand_ins: dict[str, StandIn]
) -> None:
    source, path = scored
    rule = {"kind": "modulo", "columns": ["run"], "n_splits": 3}
    forged = stand_ins["run-a"].write_friend(path, source, physics(), fold_rule=rule)
    with pytest.raises(ProofError, match="another fold rule"):
        proof.run_scores("run-a", friends.open_friend(forged), source, "TauCheck")


# --- the command ---------------------------------------------------------------------------------


def test_the_command_ends_with_0_and_one_line(pair: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "utils.proof", *map(str, pair)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    assert line.startswith(
        "proved: friend.root is a friend of in.root: 500 entries in the same order"
    )


def test_the_command_ends_with_1_and_the_first_wrong_entry(
    tmp_path: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    friend = write_friend(tmp_path / "w.root", rolled(friend_rows(events())), metadata_of(pair[0]))
    assert proof.main([str(pair[0]), str(friend)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: w.root is not a friend of in.root: entry 0: ")
    assert err.count("\n") == 1


def test_the_command_shows_what_a_friend_was_made_from(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert proof.main(["--show", str(pair[1])]) == 0
    assert json.loads(capsys.readouterr().out) == metadata_of(pair[0])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["{input}"],
        ["{input}", "{folder}/absent.root"],
        ["{folder}/absent.root", "{friend}"],
        ["{friend}", "{input}"],
        ["{input}", "{friend}", "--tree", "TauChek"],
        ["{input}", "{friend}", "--input-tree", "TauChek"],
        ["{input}", "{friend}", "--scors", "x"],
        ["--show", "{folder}/absent.root"],
        ["--show"],
        ["{folder}", "{friend}"],
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str],
    tmp_path: Path,
    pair: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"input": pair[0], "friend": pair[1], "folder": tmp_path}
    assert proof.main([a.format(**names) for a in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data in {DATA}: set HEP_DATA")
def test_broken_files_end_in_one_line(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = sorted((DATA / "bad_inputs").glob("*.root"))
    assert broken
    for path in broken:
        for arguments in ([str(path), str(pair[1])], [str(pair[0]), str(path)]):
            assert proof.main(arguments) == 1
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("error: ")
            assert path.name in err
            assert err.count("\n") == 1
