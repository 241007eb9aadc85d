"""What an evaluation takes from a run: its table, its weights and its models."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from utils.columns.pipeline import FeaturePipeline
from utils.columns.splitting import train_test_rows
from utils.formats.runs import Run
from utils.formats.tables import METADATA
from utils.results.metrics import EvaluationOptions, EvaluationTable, evaluate
from utils.schema import (
    PHYSICS_WEIGHT,
    TARGET,
    ClassInfo,
    ConfigError,
    EvaluateConfig,
    FoldRule,
    Recipe,
    RunError,
)
from utils.stages.evaluation.numbers import (
    evaluate_dataset,
    models_and_matrix,
    with_trained_weights,
)
from utils.stages.evaluation.tables import read_table
from utils.stages.preprocessing.training_skims import process_fractions

WEIGHT = np.array([2.0, -1.0, 1.0, 1.0, -2.0, 5.0, -9.0])
TRUE = np.array([0, 0, 0, 1, 1, 1, -1])


def recipe(policy: str) -> Recipe:
    nothing: dict[str, Any] = {}
    return Recipe(
        analysis=nothing, training={"negative_weights": policy}, classes=(), features=(),
        pipeline=nothing, fold=FoldRule("entry", (), 2), weight="weight", objective="multiclass",
        models=(), samples=(), files=(), skims=nothing, audit=(), audit_passed=True,
    )  # fmt: skip


def table(weight: Any) -> EvaluationTable:
    proba = np.full((len(TRUE), 2), 0.5)
    classes = (ClassInfo(name="a"), ClassInfo(name="b"))
    return EvaluationTable(classes, proba, TRUE, np.zeros(len(TRUE), int), train_weight=weight)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("keep", [2, -1, 1, 1, -2, 5, -9]),
        ("absolute", [2, 1, 1, 1, 2, 5, -9]),
        ("drop", [2, 0, 1, 1, 0, 5, -9]),
        # Class sums stay 2 and 4, of 4 and 8 without signs.
        ("rescale", [1, 0.5, 0.5, 0.5, 1, 2.5, -9]),
    ],
)
def test_calibration_sees_the_weights_after_the_policy(policy: str, expected: list[float]) -> None:
    found, gaps = with_trained_weights(table(WEIGHT), {}, recipe(policy))
    assert gaps == {}
    np.testing.assert_allclose(found.train_weight, expected)
    assert WEIGHT[1] == -1  # the table read is left as it was


def test_a_policy_that_cannot_be_followed_is_a_gap() -> None:
    weight = np.where(TRUE == 1, -np.abs(WEIGHT), WEIGHT)
    found, gaps = with_trained_weights(table(weight), {"x": "y"}, recipe("rescale"))
    assert "class 'b' sum to -8" in gaps["calibration"]
    assert gaps["x"] == "y"
    assert found.train_weight is weight


def run_of(folder: Path, recipe: Recipe) -> Run:
    """Return a run of a local store that has only this recipe."""
    run = Run("run", "0", folder.as_uri())
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


# --- expected events ------------------------------------------------------------------------------

PROCESSES = ("common", "rare", "signed")


def selected(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Return 2,000 events of class a, 4 of a rare process and 500 with signs of class b."""
    process = np.repeat([0, 1, 2], [2000, 4, 500])
    weight = np.where(process == 2, np.where(rng.random(2504) < 0.2, -1.0, 1.0), 3.0)
    return {
        "targets": {TARGET: (process > 0).astype(np.int32)},
        "weights": {PHYSICS_WEIGHT: weight * rng.uniform(0.5, 1.5, 2504)},
        "provenance": {"process": process},
    }


def rows_of(groups: dict[str, dict[str, Any]], rows: Any) -> dict[str, dict[str, Any]]:
    return {g: {n: v[rows] for n, v in columns.items()} for g, columns in groups.items()}


def write_scored(path: Path, piece: dict[str, dict[str, Any]], **description: Any) -> None:
    process = piece["provenance"]["process"].astype(np.int32)
    proba = np.random.default_rng(5).dirichlet([1, 1], len(process))
    columns = {
        **{f"pred_class_{i}_proba": proba[:, i] for i in range(2)},
        **piece["targets"],
        "process": pa.DictionaryArray.from_arrays(pa.array(process), pa.array(PROCESSES)),
        f"weights/{PHYSICS_WEIGHT}": piece["weights"][PHYSICS_WEIGHT],
        **piece.get("features", {}),
    }
    made = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(description).encode()})
    pyarrow.parquet.write_table(made, path)


def weighted_recipe() -> Recipe:
    classes = (ClassInfo(name="a"), ClassInfo(name="b"))
    return replace(recipe("keep"), classes=classes, analysis={"weight": "w"})


def test_a_rare_process_yields_what_was_selected(tmp_path: Path) -> None:
    groups = selected(np.random.default_rng(1))
    groups["weights"][PHYSICS_WEIGHT] = np.abs(groups["weights"][PHYSICS_WEIGHT])
    process, weight = groups["provenance"]["process"], groups["weights"][PHYSICS_WEIGHT]
    train, test = train_test_rows(groups["targets"][TARGET], 0.9, 3, process)
    assert np.sum(process[test] == 1) == 1  # 25 % of the rare process, 10 % of the others
    pieces = [rows_of(groups, train), rows_of(groups, test)]
    path = tmp_path / "test.parquet"
    fractions = process_fractions(PROCESSES, pieces)[1]
    write_scored(path, pieces[1], fraction=len(test) / 2504, process_fractions=fractions)
    table, gaps = read_table(path, weighted_recipe(), "test")
    assert "yields" not in gaps
    sections = ("confusion", "densities", "significance")
    options = EvaluationOptions(
        n_bootstrap=5, sections=sections, signal_classes=("b",), luminosity=60.0
    )
    result = evaluate(table, options)
    expected = [weight[process == 0].sum(), weight[process > 0].sum()]
    matrix = next(m for m in result.confusion if m.view == "physics")
    assert matrix.yields.sum(axis=1) == pytest.approx(expected)
    assert [c.sum_weight for c in result.class_counts] == pytest.approx(expected)
    drawn = sum(d.yields.sum(axis=1) for d in result.densities if d.view == "physics")
    assert drawn == pytest.approx(expected)
    assert result.significance is not None
    scans = result.significance.scans
    assert sum(s.signal[0] for s in scans) == pytest.approx(expected[1])
    assert sum(s.background[0] for s in scans) == pytest.approx(expected[0])


def test_no_cancellation_of_weights_makes_a_fraction_small() -> None:
    process = np.array([0, 0, 0, 1, 1, 1, 1])
    weight = np.array([1.0, 1.0, 2.0, 1.0, -2.0, 5.0, 1.0])
    groups = {"provenance": {"process": process}, "weights": {PHYSICS_WEIGHT: weight}}
    parts = [rows_of(groups, [0, 1, 5, 6]), rows_of(groups, [2, 3, 4])]
    train, test = process_fractions(("p", "q", "none"), parts)
    assert train == {"p": 0.5, "q": pytest.approx(6 / 9), "none": 0}
    # Of process q the test part sums to -1, of absolute weights to 3.
    assert test == {"p": 0.5, "q": pytest.approx(3 / 9), "none": 0}
    groups["weights"] = {PHYSICS_WEIGHT: 0 * weight}  # then of events
    parts = [rows_of(groups, [0, 1, 5, 6]), rows_of(groups, [2, 3, 4])]
    assert process_fractions(("p", "q", "none"), parts)[1] == {"p": 1 / 3, "q": 0.5, "none": 0}


def test_a_table_without_fractions_of_processes_says_so(tmp_path: Path) -> None:
    groups = selected(np.random.default_rng(1))
    write_scored(tmp_path / "old.parquet", groups, fraction=0.5)
    table, gaps = read_table(tmp_path / "old.parquet", weighted_recipe(), "old")
    assert "same share" in gaps["yields"]
    result = evaluate(table, EvaluationOptions(n_bootstrap=5, sections=("confusion",)))
    total = 2 * groups["weights"][PHYSICS_WEIGHT].sum()
    assert sum(c.sum_weight for c in result.class_counts) == pytest.approx(total)


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
