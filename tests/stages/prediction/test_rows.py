"""One quantity, one path: a column has the same values wherever and however it is read."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightgbm
import numpy as np
import pytest
import uproot
from input_servers import http
from predictions import MODULO, friend_paths, friend_task, make_skim, scorer_of, write_tree

from utils.columns.arrays import RowRange
from utils.formats.friends import open_friend
from utils.proof import prove_scores, run_scores
from utils.schema import EngineConfig, InputError, ProofError, location
from utils.stages.prediction.outputs import write
from utils.stages.prediction.rows import SkimEntries, _places
from utils.stages.preprocessing import reading
from utils.system import engine

N = 57
NAN = float("nan")
KEYS: dict[str, Any] = {
    "derived_features": {"y": "u / v", "z": "u - v", "w": "u + run"},
    "misc_features": ["y", "z", "w", "u", "v", "x"],
    "missing": -999,
    "clip": {"x": [-0.5, 0.5], "v": [1, 2], "z": [0, 1]},
}


@pytest.fixture
def columns(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(8)
    columns = {
        "run": np.arange(N, dtype="i4") // 10,
        "evt": np.arange(N, dtype="u8"),
        "x": rng.normal(size=N).astype("f4"),
        "u": rng.exponential(size=N).astype("f4"),
        "v": rng.exponential(size=N).astype("f4") + np.float32(0.1),
        "n": rng.integers(0, 4, N).astype("i4"),
    }
    for i, name in enumerate(("x", "u", "v")):
        columns[name][rng.random(N) < 0.2] = -999
        columns[name][i] = -999
    write_tree(tmp_path, columns, 10)
    return columns


CUTS = {None: lambda c: np.ones(N, bool), "v > 0.8": lambda c: c["v"] > 0.8}
"""The latter removes rows with missing values, and others."""


def expected(columns: dict[str, Any], boosters: Any, cut: str | None) -> dict[str, Any]:
    """Spell out the friend tree by the definitions: derived, missing, clipped, scaled, scored."""
    u, v, x = (columns[n].astype("f8") for n in "uvx")
    without_u, without_either = u == -999, (u == -999) | (v == -999)
    misc = {
        "y": np.where(without_either, -999, u / v),
        "z": np.where(without_either, -999, u - v),
        "w": np.where(without_u, -999, u + columns["run"]),
        **{n: columns[n] for n in "uvx"},
    }
    feature_x = np.where(x == -999, NAN, np.clip(x, -0.5, 0.5)).astype("f4")
    feature_y = np.where(without_either, NAN, u / v).astype("f4")
    scaled = [(feature_x - 0.5) / 2.0, (feature_y.astype("f8") + 1.0) / 0.25, columns["n"]]
    matrix = np.stack(scaled, axis=1).astype("f4")
    fold = columns["evt"] % np.uint64(2)
    scores = np.stack([b.predict(matrix, num_threads=1) for b in boosters[:2]])
    mine = scores[fold.astype(int), np.arange(N)].astype("f4")
    mine[~CUTS[cut](columns)] = NAN
    return {**misc, **{f"pred_class_{i}_proba": mine[:, i] for i in range(3)}}


@pytest.mark.parametrize("source", ["skims", "ntuples"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_column_is_the_same_in_every_path(
    tmp_path: Path,
    columns: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    source: str,
    cut: str | None,
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO, **KEYS)
    right = expected(columns, boosters, cut)
    if source == "skims":
        make_skim(tmp_path, scorer, cut, 20)
    config = {"source": source, **({"cut": cut} if cut and source == "ntuples" else {})}
    for kind, chunk in itertools.product(("serial", "local"), (1, 7, N, 200)):
        task = friend_task(tmp_path, scorer, {**config, "chunk_size": chunk})
        with engine.start(EngineConfig(kind=kind, n_workers=2)) as workers:
            [(outcomes, _)] = workers.map(write, [task])
        [path] = outcomes[0].files.values()
        with uproot.open(path) as file:
            friend = file["pred"].arrays(library="np")
        for name, values in right.items():
            np.testing.assert_array_equal(friend[name], values, strict=True, err_msg=name)


@pytest.mark.parametrize("source", ["skims", "ntuples"])
def test_ranges_fit_into_what_a_worker_has(
    tmp_path: Path,
    columns: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    source: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO, **KEYS)
    make_skim(tmp_path, scorer, None, 20)
    [output] = friend_task(tmp_path, scorer, {"source": source}).outputs
    monkeypatch.setattr(reading, "_LEAST_ROWS", 7)
    for memory, sizes in ((None, [N]), (10**9, [N]), (1, [7] * 8 + [1])):
        assert [part.span.size for part in output.source.within(memory).parts()] == sizes


def test_a_proof_recomputes_derived_columns(
    tmp_path: Path,
    columns: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from utils.formats import runs

    scorer = scorer_of(tmp_path, boosters, MODULO, **KEYS)

    class StandIn:
        run_id, recipe = "run", scorer.recipe

        def model_text(self, index: int) -> str:
            return boosters[index].model_to_string()

    monkeypatch.setattr(runs, "open_run", lambda run_id: StandIn())
    [path] = friend_paths(
        friend_task(tmp_path, scorer, {"source": "ntuples", "cut": "v > 0.8", "chunk_size": 9})
    )
    friend = open_friend(path)
    recompute = run_scores("run", friend, tmp_path / "S.root", "events")
    assert recompute.derived == ("y", "z", "w")
    assert prove_scores(path, recompute, chunk_entries=8) < 1e-7
    changed = dict(scorer.recipe.analysis["derived_features"], z="u - 2 * v")
    scorer.recipe.analysis["derived_features"] = changed
    recompute = run_scores("run", friend, tmp_path / "S.root", "events")
    with pytest.raises(ProofError, match=r"entry 3: 'z' is .* recomputed"):
        prove_scores(path, recompute, chunk_entries=8)


@pytest.mark.parametrize("numbers", [[9, 10], [14, 15], [12, 11], [11, 11]])
def test_rows_out_of_place_are_refused(numbers: list[int]) -> None:
    from utils.columns.arrays import RowRange

    with pytest.raises(ProofError, match="10 to 14"):
        _places(RowRange(10, 15), np.array(numbers))


def test_a_skim_of_other_events_is_refused(
    tmp_path: Path, columns: dict[str, Any], boosters: tuple[lightgbm.Booster, ...]
) -> None:
    """Where a cut removed entries, identities come from the input: they must be the skim's."""
    scorer = scorer_of(tmp_path, boosters, MODULO, **KEYS)
    make_skim(tmp_path, scorer, "v > 0.8", 20)
    columns["evt"][40:] += np.uint64(1)
    write_tree(tmp_path, columns, 10)
    with pytest.raises(ProofError, match=r"has evt \d+, but its skim was made when that was"):
        friend_paths(friend_task(tmp_path, scorer, {}))
    write_tree(tmp_path, {n: c[:30] for n, c in columns.items()}, 10)
    with pytest.raises(ProofError, match="has 30 entries, but its skim was made of 57"):
        friend_paths(friend_task(tmp_path, scorer, {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_info": {"y": {"missing": -5}}}, "'y' .*filler"),
        ({"feature_info": {"u": {"missing": {"values": [-999, -10]}}}}, "'y' .*sources"),
        ({"feature_info": {"v": {"missing": {"values": [-999], "to": 0}}}}, None),
        ({"missing": {"values": [-999], "to": 0}}, "'x' .*missing"),
        ({"clip": {"x": [-0.5, 0.6]}}, "'x' .*clip"),
        ({"clip": {"x": [-0.5, 0.5], "v": [0, 9]}}, None),
        ({"feature_info": {"y": {"label": "a label"}}}, None),
    ],
)
def test_skims_of_another_meaning_are_refused(
    tmp_path: Path,
    columns: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    change: dict[str, Any],
    message: str | None,
) -> None:
    made = scorer_of(tmp_path, boosters, MODULO, **KEYS)
    make_skim(tmp_path, made, None, 20)
    run = scorer_of(tmp_path, boosters, MODULO, **{**KEYS, **change})
    if message is None:
        friend_paths(friend_task(tmp_path, run, {}))
        return
    with pytest.raises(InputError, match=f"was made with another {message}"):
        friend_task(tmp_path, run, {})


@pytest.mark.parametrize("source", ["skims", "ntuples"])
def test_a_sample_without_entries_gives_an_empty_friend(
    tmp_path: Path,
    columns: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    source: str,
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO, **KEYS)
    [whole] = friend_paths(friend_task(tmp_path, scorer, {"source": "ntuples"}))
    types = open_friend(whole).branches
    write_tree(tmp_path, {n: c[:0] for n, c in columns.items()}, 10)
    make_skim(tmp_path, scorer, None, 20)
    [empty] = friend_paths(friend_task(tmp_path, scorer, {"source": source}))
    assert open_friend(empty).n_entries == 0
    assert open_friend(empty).branches == types


def test_another_file_on_a_server_is_another_input(tmp_path: Path, columns: dict[str, Any]) -> None:
    """Its name and the skim stay: that it is skipped must not follow from these alone."""
    skim: Any = SimpleNamespace(
        path=tmp_path / "S.h5", stamp=(1, 2), metadata={"files": [{"tree": "events"}]}
    )
    roles: Any = SimpleNamespace(misc=())
    with http(tmp_path) as served:

        def inputs() -> Any:
            write_tree(tmp_path, columns, 10)
            source = SkimEntries(
                *(RowRange(0, N), ("x",), skim, 10),
                **{"code": 0, "path": location(f"{served.url}/S.root"), "roles": roles},
            )
            assert source.inputs == source.inputs
            return source.inputs

        assert inputs() != inputs()
