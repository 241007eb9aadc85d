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

from utils.columns.pipeline import FeaturePipeline
from utils.formats.friends import FriendWriter
from utils.models import scoring
from utils.schema import (
    ClassInfo,
    ConfigError,
    FoldRule,
    InputError,
    PredictConfig,
    PreprocessConfig,
    Recipe,
    RunError,
    load,
)
from utils.stages.prediction.friend_trees import write_friends
from utils.stages.prediction.tasks import Scorer, friend_tasks
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.prediction_skims import PredictionTask, write_prediction_skim

PIPELINE = FeaturePipeline(("x", "y"), ("x", "y"), mean=(0.5, -1.0), scale=(2.0, 0.25))
CLASSES = ("signal", "background", "other")


@pytest.fixture(scope="module")
def boosters() -> tuple[lightgbm.Booster, ...]:
    """Five models that differ, of three classes."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 3)).astype(np.float32)
    models = []
    for i in range(5):
        y = np.argmax(X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(400, 3)), axis=1)
        parameters = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "seed": i}
        data = lightgbm.Dataset(X, y, feature_name=["x", "y", "n"])
        models.append(lightgbm.train({**parameters, "num_threads": 1}, data, 3))
    return tuple(models)


def analysis(folder: Path, **keys: Any) -> dict[str, Any]:
    config = load(
        PreprocessConfig,
        {
            "for_training": True,
            "input_path": str(folder),
            "input_tree_name": "events",
            "prediction_samples": ["S"],
            "skim_path": str(folder / "skims"),
            "cont_features": ["x", "y"],
            "cat_features": ["n"],
            "misc_features": ["x", "run"],
            "derived_features": {},
            **keys,
        },
    )
    return config.model_dump(mode="json", by_alias=True)


def scorer_of(
    folder: Path, boosters: tuple[lightgbm.Booster, ...], rule: FoldRule, **keys: Any
) -> Scorer:
    texts = [b.model_to_string() for b in boosters[: rule.n_splits]]
    features = ("x", "y", "n")
    models = scoring.open_models("lightgbm", texts, rule, features, "the test")
    recipe = Recipe(
        analysis=analysis(
            folder,
            n_splits=rule.n_splits,
            fold_rule=rule.kind,
            xtrain_split_feature="evt",
            **keys,
        ),
        training={},
        classes=tuple(ClassInfo(name=n) for n in CLASSES),
        features=features,
        pipeline=PIPELINE.to_json(),
        fold=rule,
        weight="w_class_imbalance",
        objective="multiclass",
        models=tuple({"index": i} for i in range(rule.n_splits)),
        samples=({"name": "T", "group": "T"},),
        files=(),
        skims={},
        audit=(),
        audit_passed=True,
    )
    nothing = np.empty(0, np.uint64)
    return Scorer("run", models, recipe, (nothing,) * rule.n_splits)


def write_tree(folder: Path, columns: Mapping[str, np.ndarray[Any, Any]], basket: int) -> Path:
    path = folder / "S.root"
    with uproot.recreate(path) as file:
        tree = file.mktree("events", {name: values.dtype for name, values in columns.items()})
        for start in range(0, len(columns["evt"]), basket):
            tree.extend({n: v[start : start + basket] for n, v in columns.items()})
    return path


def friend_of(folder: Path, scorer: Scorer, config: dict[str, Any]) -> dict[str, Any]:
    """Predict sample S into a friend tree and return its columns."""
    full = load(
        PredictConfig,
        {"kind": "for_datacards", "run_id": "run", "sample_names": ["S"], **config},
    )
    (task,) = friend_tasks(full, scorer, folder / "friends", 1)
    (path,) = write_friends(task).paths
    with uproot.open(path) as file:
        columns: dict[str, Any] = file["pred"].arrays(library="np")
    return columns


def make_skim(folder: Path, scorer: Scorer, cut: str | None, chunk_size: int) -> None:
    raw = {**scorer.recipe.analysis, "for_training": False, "common_cut": cut}
    config = load(PreprocessConfig, {**raw, "input_samples": ["S"], "chunk_size": chunk_size})
    plan = reading.plan(config, config.read_samples)
    path = folder / "skims" / "prediction" / "S.h5"
    write_prediction_skim(PredictionTask(config, plan, PIPELINE, path))


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
        config = {"kind": "for_datacards", "run_id": "run", "sample_names": ["S"]}
        full = load(PredictConfig, {**config, "source": source})
        (task,) = friend_tasks(full, scorer, tmp_path / source, 1)
        for path, kind in zip(write_friends(task).paths, ("i4", "i8"), strict=True):
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
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
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


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    n = 50
    columns = {
        "run": np.ones(n, np.int32),
        "evt": np.arange(1, n + 1, dtype=np.uint64),
        "x": rng.normal(size=n).astype(np.float32),
        "y": rng.normal(size=n),
        "n": rng.integers(0, 4, n).astype(np.int32),
    }
    write_tree(tmp_path, columns, 20)
    return columns


MODULO = FoldRule("modulo", ("evt",), 2)


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
    with pytest.raises(RunError, match="it gets no friend trees"):
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scaler": True}, "was made with the feature pipeline"),
        ({"classes": True}, "was made for the classes"),
        ({"clip": {"n": [0, 2]}}, "clip"),
    ],
)
def test_a_skim_of_another_recipe_is_refused(
    tmp_path: Path,
    tree: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    change: dict[str, Any],
    message: str,
) -> None:
    from dataclasses import replace

    scorer = scorer_of(tmp_path, boosters, MODULO)
    make_skim(tmp_path, scorer, None, 100)
    recipe = scorer.recipe
    if "scaler" in change:
        other = FeaturePipeline(("x", "y"), ("x", "y"), mean=(0.0, 0.0), scale=(1.0, 1.0))
        recipe = replace(recipe, pipeline=other.to_json())
    elif "classes" in change:
        classes = {i: {"name": n} for i, n in enumerate(reversed(CLASSES))}
        with_classes = scorer_of(tmp_path, boosters, MODULO, class_to_info=classes)
        make_skim(tmp_path, with_classes, None, 100)
    else:
        recipe = replace(recipe, analysis={**recipe.analysis, **change})
    with pytest.raises(InputError, match=message):
        friend_of(tmp_path, replace(scorer, recipe=recipe), {})


def test_entry_folds_need_the_very_file(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...]
) -> None:
    from dataclasses import replace

    from utils.formats import ntuples

    rule = FoldRule("entry", (), 2)
    scorer = scorer_of(tmp_path, boosters, rule, identity=["run"])
    with pytest.raises(InputError, match="never_trained"):
        friend_of(tmp_path, scorer, {"source": "ntuples"})
    known = ntuples.fingerprint(ntuples.open_tree(tmp_path / "S.root", "events"))
    friend = friend_of(
        tmp_path,
        replace(scorer, recipe=replace(scorer.recipe, files=(known,))),
        {"source": "ntuples"},
    )
    np.testing.assert_array_equal(friend["fold"], np.arange(50) % 2)


def test_a_named_cut_inside_a_feature_must_be_the_run_s(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...]
) -> None:
    keys = {"cat_features": ["n", "q"], "derived_features": {"q": "central * y"}}
    made = scorer_of(tmp_path, boosters, MODULO, cuts={"central": "abs(x) < 2"}, **keys)
    make_skim(tmp_path, made, None, 100)
    friend_of(tmp_path, made, {})
    run = scorer_of(tmp_path, boosters, MODULO, cuts={"central": "abs(x) < 1"}, **keys)
    with pytest.raises(InputError, match=r"another `derived_features` \('q'\)"):
        friend_of(tmp_path, run, {})
    unused = {"central": "abs(x) < 2", "tight": "x > 1"}
    friend_of(tmp_path, scorer_of(tmp_path, boosters, MODULO, cuts=unused, **keys), {})


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"sample": "S", "group": "other"}, "in the group other, run run was trained on it"),
        ({"sample": "S", "never_trained": True}, "declares sample S never_trained, but"),
    ],
)
def test_a_skim_does_not_deny_what_was_trained_on(
    tmp_path: Path,
    tree: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    sample: dict[str, Any],
    message: str,
) -> None:
    from dataclasses import replace

    scorer = scorer_of(tmp_path, boosters, MODULO)
    raw = {**scorer.recipe.analysis, "for_training": False, "input_samples": [sample]}
    config = load(PreprocessConfig, raw)
    path = tmp_path / "skims" / "prediction" / "S.h5"
    plan = reading.plan(config, config.read_samples)
    write_prediction_skim(PredictionTask(config, plan, PIPELINE, path))
    recipe = replace(scorer.recipe, samples=({"name": "S", "group": "S"},))
    with pytest.raises(InputError, match=message):
        friend_of(tmp_path, replace(scorer, recipe=recipe), {})


@pytest.mark.parametrize("name", ["fold", "pred_class", "pred_class_0_proba", "trained_on"])
def test_misc_features_can_not_hide_a_prediction(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...], name: str
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO, derived_features={name: "x"})
    with pytest.raises(ConfigError, match=f"'{name}' is the name of a branch that predictions"):
        friend_of(tmp_path, scorer, {"source": "ntuples", "misc_features": [name]})


def test_a_misc_feature_that_root_takes_for_an_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'arr\[1\]' can't be a branch"):
        FriendWriter(tmp_path / "a.root", "pred", {"arr[1]": "f4"}, {})
