"""Skims and ntuples that a run may be applied to, and those that it may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightgbm
import numpy as np
import pytest
from predictions import CLASSES, MODULO, PIPELINE, friend_of, friend_task, make_skim, scorer_of

from utils.columns.pipeline import FeaturePipeline
from utils.columns.variations import Shift, Variation
from utils.formats import ntuples
from utils.formats.skims import open_skim, origin
from utils.schema import (
    FoldRule,
    InputError,
    PreprocessConfig,
    load,
)
from utils.stages.prediction.checks import check_concerned, check_origin
from utils.stages.prediction.outputs import write
from utils.stages.prediction.scorer import Scorer
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.prediction_skims import PredictionTask, write_prediction_skim


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scaler": True}, "another feature pipeline"),
        ({"classes": True}, "another list of classes"),
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


@pytest.mark.parametrize("name", ["train", "test"])
def test_the_run_s_own_skims_must_not_be_made_anew(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...], name: str
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO)
    make_skim(tmp_path, scorer, None, 100)
    skim = open_skim(tmp_path / "skims" / "prediction" / "S.h5")
    then = {"train": "t", "test": "t", "origin": "-", "test_origin": "-"}
    key = "origin" if name == "train" else "test_origin"
    for now, known in ((origin(skim.metadata), True), ("of another make", False)):
        of_run = replace(scorer, recipe=replace(scorer.recipe, skims={**then, key: now}))
        if known:
            check_origin(skim, name, of_run)
        else:
            with pytest.raises(InputError, match=r"made anew since run .* was trained"):
                check_origin(skim, name, of_run)


def test_entry_folds_need_the_very_file(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...]
) -> None:
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
    with pytest.raises(InputError, match=r"another 'q' \(its definition"):
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
    scorer = scorer_of(tmp_path, boosters, MODULO)
    raw = {**scorer.recipe.analysis, "for_training": False, "input_samples": [sample]}
    config = load(PreprocessConfig, raw)
    path = tmp_path / "skims" / "prediction" / "S.h5"
    plan = reading.plan(config, config.read_samples)
    write_prediction_skim(PredictionTask(config, plan, PIPELINE, path))
    recipe = replace(scorer.recipe, samples=({"name": "S", "group": "S"},))
    with pytest.raises(InputError, match=message):
        friend_of(tmp_path, replace(scorer, recipe=recipe), {})


@pytest.mark.parametrize("source", ["skims", "ntuples"])
@pytest.mark.parametrize("remembered", [True, False])
def test_a_file_that_was_trained_on_is_no_other_sample(
    tmp_path: Path,
    tree: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    source: str,
    remembered: bool,
) -> None:
    """Under another name its events would be others, and the audit would compare nothing."""
    file = ntuples.fingerprint(ntuples.open_tree(tmp_path / "S.root", "events"))
    copy = {**file, "name": "T.root", **({"group": "T"} if remembered else {})}  # trained on as T

    def run_of(**keys: Any) -> Scorer:
        made = scorer_of(tmp_path, boosters, MODULO, **keys)
        make_skim(tmp_path, made, None, 100)
        return replace(made, recipe=replace(made.recipe, files=(copy,)))

    message = r"trained on T\.root in the group T, and S\.root.*'group: T'"
    with pytest.raises(InputError, match=message):
        friend_task(tmp_path, run_of(), {"source": source})
    declared = run_of(samples={"S": {"group": "T"}})
    _, audit = write(friend_task(tmp_path, declared, {"source": source}))
    assert "prediction passed" in audit.summary


def test_an_audit_that_compares_nothing_does_not_pass(
    tmp_path: Path, tree: dict[str, Any], boosters: tuple[lightgbm.Booster, ...]
) -> None:
    scorer = scorer_of(tmp_path, boosters, MODULO)  # trained on T
    _, audit = write(friend_task(tmp_path, scorer, {"source": "ntuples"}))
    assert "Leak audit of the prediction compared nothing; model 0" in audit.summary
    assert audit.summary.endswith("; 50 of 50 predicted rows are of samples not trained on")
    assert [row["passed"] for row in audit.to_rows()] == [None, None]
    samples = ({"name": "S", "group": "S"},)
    known = replace(scorer, recipe=replace(scorer.recipe, samples=samples))
    _, audit = write(friend_task(tmp_path, known, {"source": "ntuples"}))
    assert "prediction passed; model 0" in audit.summary
    assert [row["passed"] for row in audit.to_rows()] == [True, True]


def test_a_shift_that_a_skim_has_for_other_samples_is_refused() -> None:
    """Its columns would be nominal for one that it is declared for now, or not for one it is."""
    shift = Shift(Variation("met", "expressions", {"met": "met * 2"}, None, "met", True), "Up")
    stated = [{"suffix": "metUp", "replaced": {"A": {"met": "met * 2"}}}]
    skim: Any = SimpleNamespace(path="test.h5", metadata={"shifts": stated})
    check_concerned(skim, {"A": [shift], "B": []})
    check_concerned(skim, {"A": [], "B": []})  # not asked for at all
    for wanted in ({"A": [shift], "B": [shift]}, {"A": [], "B": [shift]}):
        with pytest.raises(InputError, match=r"declared for the samples .*B, and test\.h5 has it"):
            check_concerned(skim, wanted)
