"""What evaluate.py changes of a run's analysis, without a new training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scored_files import PROCESSES, selected, weighted_recipe, write_scored

from utils.formats.runs import Run
from utils.results.evaluation import Evaluation
from utils.schema import ConfigError, EvaluateConfig, Recipe, load
from utils.stages.evaluation.numbers import evaluate_dataset
from utils.stages.evaluation.settings import analysis_of, with_class_style

TRAINED: dict[str, Any] = {
    "class_to_info": {"0": {"name": "a", "color": "red"}, "1": {"name": "b"}},
    "signal_classes": ["a"],
    "luminosity": 50.0,
    "feature_info": {"m": {"label": "mass", "unit": "GeV", "missing": -10.0}},
}


def of_run(**more: Any) -> Recipe:
    return replace(weighted_recipe(), training={**TRAINED, **more})


def evaluated(folder: Path, recipe: Recipe, **keys: Any) -> Evaluation:
    (folder / "pred").mkdir(exist_ok=True)
    groups = selected(np.random.default_rng(1))
    write_scored(folder / "pred/test.parquet", groups,
                 process_fractions=dict.fromkeys(PROCESSES, 0.5))  # fmt: skip
    run = Run("run", "0", folder.as_uri())
    run.seal(["pred/test.parquet"], {})
    run.__dict__["recipe"] = recipe
    config = EvaluateConfig(run_id="run", sections=["significance", "scores"], **keys)
    return evaluate_dataset(run, config).evaluation


@pytest.mark.parametrize(
    ("trained", "asked", "scale", "said"),
    [
        ({}, {}, 1.0, "as they are, and 50/fb is a label"),
        ({}, {"luminosity": 300}, 1.0, "as they are, and 300/fb is a label"),
        ({"reference_luminosity": 50.0}, {}, 1.0, "those of 50/fb"),
        ({"reference_luminosity": 50.0}, {"luminosity": 300}, 6.0, "scaled from 50/fb"),
        ({}, {"luminosity": 300, "reference_luminosity": 100}, 3.0, "scaled from 100/fb"),
        ({"luminosity": None}, {}, 1.0, ""),
    ],
)
def test_luminosity_scales_yields_where_it_is_known_what_weights_stand_for(
    tmp_path: Path, trained: dict[str, Any], asked: dict[str, Any], scale: float, said: str
) -> None:
    found = evaluated(tmp_path, of_run(**trained), **asked)
    weight = selected(np.random.default_rng(1))
    target, w = weight["targets"]["target"], weight["weights"]["weight"]
    expected = [2 * scale * w[target == c].sum() for c in (0, 1)]
    assert [c.sum_weight for c in found.class_counts] == pytest.approx(expected)
    assert said in found.normalisation
    assert bool(said) == bool(found.normalisation)
    if found.significance is not None:
        [scan] = found.significance.scans
        assert (scan.signal[0], scan.background[0]) == pytest.approx(expected)


def test_signal_and_background_uncertainty_are_chosen_anew(tmp_path: Path) -> None:
    before = evaluated(tmp_path, of_run()).significance
    after = evaluated(
        tmp_path, of_run(), signal_classes=["b"], background_uncertainty=0.5
    ).significance
    assert before is not None
    assert after is not None
    assert (before.signal_classes, after.signal_classes) == ((0,), (1,))
    assert (before.background_uncertainty, after.background_uncertainty) == (0.1, 0.5)
    assert after.scans[0].signal[0] == pytest.approx(before.scans[0].background[0])
    assert evaluated(tmp_path, of_run(), signal_classes=[]).significance is None
    with pytest.raises(ConfigError, match="signal class 'c' is not a class; "):
        evaluated(tmp_path, of_run(), signal_classes=["c"])


def test_what_a_class_is_called_and_painted_changes_alone() -> None:
    given = {"0": {"name": "H"}, "1": {"label": "$Z$", "color": "blue"}}
    config = load(EvaluateConfig, {"run_id": "run", "class_to_info": given})
    first = of_run(class_to_info={"0": {"name": "a"}, "1": {"name": "b"}})
    recipe = with_class_style(first, config)
    assert [c.name for c in recipe.classes] == ["H", "b"]
    assert [c.label for c in recipe.classes] == [None, "$Z$"]
    assert analysis_of(recipe, config).signal_classes == ["H"]  # which was a


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"class_to_info": {"2": {"name": "c"}}}, r"class_to_info.2: the classes of the run are 0"),
        ({"class_to_info": {"0": {"colour": "red"}}}, "unknown key 'class_to_info.0.colour'; near"),
        ({"class_to_info": {"0": {"name": "b"}}}, "'b'.* twice|class_to_info"),
        ({"feature_info": {"m": {"missing": -1}}}, "feature_info.m.missing: what is missing was"),
    ],
)
def test_a_change_that_can_t_be_is_one_line(keys: dict[str, Any], message: str) -> None:
    config = load(EvaluateConfig, {"run_id": "run", **keys})
    with pytest.raises(ConfigError, match=message):
        analysis_of(with_class_style(of_run(), config), config)


def test_labels_of_features_change_and_the_rest_of_them_stays() -> None:
    keys = {"feature_info": {"m": {"label": "visible mass"}, "n": {"label": "jets"}}}
    config = load(EvaluateConfig, {"run_id": "run", **keys})
    analysis = analysis_of(of_run(), config)
    assert analysis.feature_label("m") == "visible mass [GeV]"
    assert analysis.feature_label("n") == "jets"
    assert analysis.feature_info["m"].missing == -10.0
