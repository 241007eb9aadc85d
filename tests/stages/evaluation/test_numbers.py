"""What an evaluation takes from a run: its table, its weights and its models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from scored_files import recipe, selected, weighted_recipe, write_scored

from utils.columns.pipeline import FeaturePipeline
from utils.formats.runs import Run
from utils.results.events import EvaluationTable
from utils.schema import (
    TARGET,
    ClassInfo,
    ConfigError,
    EvaluateConfig,
    Recipe,
    RunError,
)
from utils.stages.evaluation.numbers import evaluate_dataset, models_and_matrix
from utils.stages.evaluation.scored_events import with_trained_view

TRUE = np.array([0, 0, 0, 1, 1, 1, -1])


def table(weight: Any) -> EvaluationTable:
    proba = np.full((len(TRUE), 2), 0.5)
    classes = (ClassInfo(name="a"), ClassInfo(name="b"))
    return EvaluationTable(classes, proba, TRUE, np.zeros(len(TRUE), int), train_weight=weight)


@pytest.mark.parametrize(
    ("weight", "physics", "view"),
    [
        (np.array([2.0, 2, 2, 3, 3, 3, 1]), None, None),
        (np.array([3.0, 1, 1, 1, 2, 2, 1]), np.array([6.0, 2, 2, 2, 4, 4, 9]), "physics"),
        (np.ones(7), np.array([6.0, 2, 2, 2, 4, 4, 9]), "unweighted"),
    ],
)
def test_the_view_trained_with_is_that_of_the_training_weight(
    weight: Any, physics: Any, view: str | None
) -> None:
    uneven = replace(table(weight), weight=physics, target=np.array([0, 0, 0, 0, 1, 1, -1]))
    found, _ = with_trained_view(uneven, {}, recipe("error"), "")
    assert found.trained_view == view


def test_no_view_is_the_one_trained_with_where_its_weight_is_not_known() -> None:
    found, gaps = with_trained_view(table(None), {}, recipe("error"), "")
    assert found.trained_view is None
    assert "the table has no weight" in gaps["calibration"]
    balanced = replace(recipe("error"), weight="w_class_imbalance")
    assert with_trained_view(table(None), {}, balanced, "")[0].trained_view == "balanced"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("curves.json", "{"),
        ("curves.json", '{"0": {}}'),
        ("curves.json", "[1]"),
        ("curves.json", "[" * 100_000),
        ("importances.csv", "fold,feature,gain\n7,m,1\n"),
        ("importances.csv", "fold,feature,gain\n0,unknown,1\n"),
        ("importances.csv", "fold,feature,gain\n0,m\n"),
    ],
)
def test_a_damaged_record_of_the_training_is_named(tmp_path: Path, name: str, text: str) -> None:
    for folder in ("pred", "recipe"):
        (tmp_path / folder).mkdir()
    groups = selected(np.random.default_rng(1))
    write_scored(tmp_path / "pred" / "test.parquet", groups, fraction=1.0)
    made = replace(
        weighted_recipe(),
        features=("m",),
        models=({"index": 0, "fingerprint": "x", "best_iteration": 1},),
    )
    run = run_of(tmp_path, made)
    (tmp_path / "recipe" / name).write_text(text, encoding="utf-8")
    run.seal([f"recipe/{name}"], {})
    section = {"curves.json": "learning_curves", "importances.csv": "importances"}[name]
    config = EvaluateConfig(run_id="run", dataset="test", sections=[section])
    with pytest.raises(RunError, match=rf"recipe/{name} of run run is damaged"):
        evaluate_dataset(run, config)


def run_of(folder: Path, recipe: Recipe) -> Run:
    """Return a run of a local store that has this recipe and the tables in the folder."""
    run = Run("run", "0", folder.as_uri())
    for path in run.artifacts("pred"):
        run.seal([path], {})
    run.__dict__["recipe"] = recipe
    return run


@pytest.mark.parametrize(
    ("weight", "balance", "gap"),
    [
        ("w_class_imbalance", "count", False),
        ("w_class_imbalance", "weight", True),
        ("w_cp", "count", True),
        ("w_class_imbalance * abs(w)", "count", True),
    ],
)
def test_calibration_needs_the_weight_trained_with(
    tmp_path: Path, weight: str, balance: str, gap: bool
) -> None:
    rng = np.random.default_rng(2)
    scored = {f"pred_class_{i}_proba": v for i, v in enumerate(rng.dirichlet([1, 1], 300).T)}
    (tmp_path / "pred").mkdir()
    written = pa.table({**scored, TARGET: rng.integers(0, 2, 300)})
    pyarrow.csv.write_csv(written, tmp_path / "pred/test.csv")
    of_run = replace(weighted_recipe(), weight=weight, analysis={"class_balance": balance})
    config = EvaluateConfig(run_id="run", sections=["scores", "calibration"], n_bootstrap=5)
    result = evaluate_dataset(run_of(tmp_path, of_run), config).evaluation
    assert bool(result.calibration) is not gap
    if gap:
        assert result.gaps["calibration"].endswith(f"the table has no {weight}")


def test_profile_features_that_the_table_lacks_are_told(tmp_path: Path) -> None:
    (tmp_path / "pred").mkdir()
    groups = selected(np.random.default_rng(1))
    groups["features"] = {"feature/m_sv": np.random.default_rng(2).gamma(4, 25, 2504)}
    write_scored(tmp_path / "pred/test.parquet", groups)
    config = EvaluateConfig(run_id="run", sections=["profiles"])
    for names, made, reason in (
        (["m_sv", "m_vis"], 1, "m_vis is not among the table's features"),
        (["m_x", "m_vis"], 0, "m_x, m_vis are not among the table's features"),
    ):
        of_run = replace(weighted_recipe(), training={"profile_features": names})
        result = evaluate_dataset(run_of(tmp_path, of_run), config).evaluation
        assert len(result.profiles) == made
        assert result.gaps["profiles"].startswith(reason)


def test_another_year_than_the_run_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path, replace(weighted_recipe(), analysis={"year": "2018"}))
    with pytest.raises(ConfigError, match="run was trained for year 2018, not 2017: leave year o"):
        evaluate_dataset(run, EvaluateConfig(run_id="run", year="2017"))
    with pytest.raises(RunError, match="no table 'test'"):  # the year is its own
        evaluate_dataset(run, EvaluateConfig(run_id="run", year="2018"))


def test_a_recipe_from_before_there_were_kinds_is_of_the_default_one() -> None:
    assert recipe("keep").model_kind == "lightgbm"
    assert replace(recipe("keep"), training={"model_kind": "mlp"}).model_kind == "mlp"


# --- models ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelsOfRun:
    """What a run gives of its models."""

    texts: tuple[str, ...]
    run_id: str = "run"

    def model_text(self, index: int) -> str:
        return self.texts[index]


@pytest.mark.parametrize("continuous", [(), ("x",)])
def test_models_see_the_untransformed_columns_as_they_were_trained(
    continuous: tuple[str, ...],
) -> None:
    rng = np.random.default_rng(4)
    columns = {"n": rng.integers(0, 5, 300), "m": rng.integers(0, 3, 300)}
    columns |= {name: rng.normal(50, 20, 300).astype(np.float32) for name in continuous}
    scaled = ((50.0,), (20.0,)) if continuous else (None, None)
    pipeline = FeaturePipeline(continuous, continuous, *scaled)
    features = ("n", *continuous, "m")
    trained = {**columns, **{n: (columns[n].astype(float) - 50) / 20 for n in continuous}}
    matrix = np.stack([trained[n] for n in features], axis=1).astype(np.float32)
    boosters = []
    for seed in (1, 2):
        data = lightgbm.Dataset(matrix, columns["n"] > 2, feature_name=list(features))
        made = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": seed}
        boosters.append(
            lightgbm.train(made | {"bagging_fraction": 0.5, "bagging_freq": 1}, data, 5)
        )
    run = ModelsOfRun(tuple(b.model_to_string() for b in boosters))
    of_run = replace(
        recipe("keep"),
        features=features,
        pipeline=pipeline.to_json(),
        models=({"index": 0}, {"index": 1}),
    )
    scored = replace(table(None), features=columns)
    models, found = models_and_matrix(run, of_run, scored)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, matrix)
    assert models.features == features
