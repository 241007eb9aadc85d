"""Tables with shifted columns, as the evaluation reads them: nominal rows stay by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scored_files import PROCESSES, rows_of, selected, weighted_recipe, write_scored

from utils.formats.runs import Run
from utils.results.evaluation import Evaluation, evaluate
from utils.results.metrics.naming import flat_metrics
from utils.results.metrics.variations import Variations
from utils.results.options import EvaluationOptions
from utils.schema import EvaluateConfig, Recipe, RunError
from utils.stages.evaluation.numbers import evaluate_dataset
from utils.stages.evaluation.scored_events import read_table
from utils.stages.evaluation.shifted_scores import read_varied

N = 2504


def stated(variation: str, direction: str, kind: str) -> dict[str, Any]:
    suffix = f"{variation}{direction}"
    return {"suffix": suffix, "variation": variation, "direction": direction, "kind": kind}


SHIFTS = [stated("tauES", "Up", "branches"), stated("btag", "Up", "weight")]


def shifted_columns(rng: np.random.Generator, n: int = N) -> dict[str, Any]:
    """Return what a table holds of a shift with a cut of its own, and of one of the weight."""
    admitted = rng.random(n) < 0.9
    proba = np.where(admitted[:, None], rng.dirichlet([1, 1], n), np.nan).astype(np.float32)
    return {
        "feature/m_sv": rng.gamma(4, 25, n).astype(np.float32),
        "selected": rng.random(n) < 0.9,
        "selected__tauESUp": admitted,
        **{f"pred_class_{i}_proba__tauESUp": proba[:, i] for i in range(2)},
        "pred_class__tauESUp": np.where(admitted, 0, -1).astype(np.int32),
        "pred_class_proba__tauESUp": proba.max(axis=1),
        "feature/m_sv__tauESUp": rng.gamma(4, 26, n).astype(np.float32),
        "weight_factor__btagUp": rng.uniform(0.9, 1.2, n),
    }


def write_shifted(path: Path, columns: dict[str, Any], shifts: list[dict[str, Any]]) -> None:
    groups = selected(np.random.default_rng(1))
    write_scored(path, {**groups, "features": columns}, fraction=1.0, shifts=shifts)


@pytest.fixture
def columns() -> dict[str, Any]:
    return shifted_columns(np.random.default_rng(3))


def test_columns_of_each_shift_are_read(tmp_path: Path, columns: dict[str, Any]) -> None:
    path = tmp_path / "test.parquet"
    write_shifted(path, columns, SHIFTS)
    varied = read_varied(path, weighted_recipe(), "test")
    assert varied is not None
    np.testing.assert_array_equal(varied.selected, columns["selected"])
    assert len(varied.table.target) == N
    assert list(varied.table.features) == ["m_sv"]
    tau, btag = varied.shifts
    assert (tau.name, tau.kind, btag.name, btag.kind) == ("tauESUp", "branches", "btagUp", "weight")
    assert tau.proba is not None
    np.testing.assert_array_equal(tau.proba[:, 1], columns["pred_class_1_proba__tauESUp"])
    np.testing.assert_array_equal(tau.features["m_sv"], columns["feature/m_sv__tauESUp"])
    assert tau.factor is None
    assert btag.proba is None
    np.testing.assert_array_equal(btag.factor, columns["weight_factor__btagUp"])


def test_what_a_shift_does_not_select_has_no_score(tmp_path: Path, columns: dict[str, Any]) -> None:
    """Whether by its own cut or, where it changes none, by the nominal one."""
    path = tmp_path / "test.parquet"
    full = {n: np.nan_to_num(v, nan=0.5) if "proba" in n else v for n, v in columns.items()}
    for own in (True, False):
        kept = {n: v for n, v in full.items() if own or n != "selected__tauESUp"}
        write_shifted(path, kept, SHIFTS)
        varied = read_varied(path, weighted_recipe(), "test")
        assert varied is not None
        proba = varied.shifts[0].proba
        assert proba is not None
        expected = columns["selected__tauESUp" if own else "selected"]
        np.testing.assert_array_equal(np.isfinite(proba[:, 0]), expected)


def test_nominal_tables_hold_selected_rows_and_nominal_columns(
    tmp_path: Path, columns: dict[str, Any]
) -> None:
    write_shifted(tmp_path / "test.parquet", columns, SHIFTS)
    table, _ = read_table(tmp_path / "test.parquet", weighted_recipe(), "test")
    assert len(table.target) == columns["selected"].sum()
    assert list(table.features) == ["m_sv"]
    np.testing.assert_array_equal(
        table.features["m_sv"], columns["feature/m_sv"][columns["selected"]]
    )


def test_a_table_without_shifts_has_none(tmp_path: Path) -> None:
    write_scored(tmp_path / "test.parquet", selected(np.random.default_rng(1)), fraction=1.0)
    assert read_varied(tmp_path / "test.parquet", weighted_recipe(), "test") is None


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("pred_class_1_proba__tauESUp", "has no column 'pred_class_1_proba__tauESUp'"),
        ("weight_factor__btagUp", "states btagUp and has no column of it"),
    ],
)
def test_a_table_that_lacks_what_it_states_is_refused(
    tmp_path: Path, columns: dict[str, Any], lost: str, said: str
) -> None:
    del columns[lost]
    write_shifted(tmp_path / "test.parquet", columns, SHIFTS)
    with pytest.raises(RunError, match=f"damaged: it {said}"):
        read_varied(tmp_path / "test.parquet", weighted_recipe(), "test")


# --- the stage ------------------------------------------------------------------------------------


def run_of(folder: Path, recipe: Recipe) -> Run:
    """Return a run of a local store that has this recipe and the tables in the folder."""
    run = Run("run", "0", folder.as_uri())
    for path in run.artifacts("pred"):
        run.seal([path], {})
    run.__dict__["recipe"] = recipe
    return run


def evaluated(folder: Path, columns: dict[str, Any], shifts: list[dict[str, Any]], *more: str):
    (folder / "pred").mkdir(parents=True)
    write_shifted(folder / "pred/test.parquet", columns, shifts)
    sections = ["scores", "confusion", "densities", "features", *more]
    config = EvaluateConfig(run_id="run", dataset="test", sections=sections, n_bootstrap=20)
    return evaluate_dataset(run_of(folder, weighted_recipe()), config).evaluation


def test_the_section_is_made_of_the_table(tmp_path: Path, columns: dict[str, Any]) -> None:
    result = evaluated(tmp_path / "with", columns, SHIFTS, "variations")
    found = result.variations
    assert isinstance(found, Variations)
    assert found.names == ("tauES", "btag")
    assert found.n_events == result.n_events == columns["selected"].sum()
    tau, btag = found.shifts
    assert tau.entered == (columns["selected__tauESUp"] & ~columns["selected"]).sum()
    assert tau.drivers is None  # the run of this test has no models
    weight = selected(np.random.default_rng(1))["weights"]["weight"] * columns["selected"]
    more = np.sum(weight * (columns["weight_factor__btagUp"] - 1))
    assert btag.yields.change.value.sum() == pytest.approx(more)
    assert "test/variations/tauESUp/roc_auc_macro" in flat_metrics(result)


def test_declaring_variations_changes_no_nominal_number(
    tmp_path: Path, columns: dict[str, Any]
) -> None:
    """Not one bit of any number, whatever the rows that only a shift admits hold."""
    shifted = evaluated(tmp_path / "with", columns, SHIFTS, "variations")
    kept = columns["selected"]
    path = tmp_path / "plain.parquet"
    groups = selected(np.random.default_rng(1))
    plain = {"feature/m_sv": columns["feature/m_sv"]}
    write_scored(path, {**groups, "features": plain}, fraction=1.0)
    table, _ = read_table(path, weighted_recipe(), "test")
    sections = ("scores", "confusion", "densities", "features")
    options = EvaluationOptions(n_bootstrap=20, sections=sections)
    alone = evaluate(table.of(kept), options)
    numbers = {n: v for n, v in flat_metrics(shifted).items() if "/variations/" not in n}
    assert numbers == flat_metrics(alone)
    for a, b in zip(shifted.densities, alone.densities, strict=True):
        np.testing.assert_array_equal(a.yields, b.yields)


def test_no_variations_are_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    result = evaluated(tmp_path, {"feature/m_sv": rng.gamma(4, 25, N)}, [], "variations")
    assert result.variations is None
    assert "the analysis declares no variations" in result.gaps["variations"]


# --- alternative samples --------------------------------------------------------------------------

ALTERNATIVE = {"variation": "tune", "direction": "Up", "nuisance": "tune", "of": "TT"}


def with_samples(**processes: tuple[str, ...]) -> Recipe:
    samples = [
        {"name": n, "weight": "w", "factor": 1, "processes": [{"name": p} for p in of]}
        for n, of in processes.items()
    ]
    return replace(weighted_recipe(), samples=tuple(samples))


def evaluated_with_alternative(folder: Path, recipe: Recipe) -> Evaluation:
    """Evaluate a test table beside one of a sample that stands for TT (process `signed`)."""
    (folder / "pred").mkdir(parents=True)
    shares = dict.fromkeys(PROCESSES, 0.5)
    groups = selected(np.random.default_rng(1))
    write_scored(folder / "pred/test.parquet", groups, process_fractions=shares)
    other = selected(np.random.default_rng(2))
    other = rows_of(other, other["provenance"]["process"] == 2)
    write_scored(
        folder / "pred/TT_tuneUp.parquet",
        other,
        process_fractions=dict.fromkeys(PROCESSES, 1.0),
        alternative=ALTERNATIVE,
    )
    config = EvaluateConfig(run_id="run", dataset="test", sections=["variations"], n_bootstrap=20)
    return evaluate_dataset(run_of(folder, recipe), config).evaluation


def test_an_alternative_sample_takes_the_place_of_its_twin(tmp_path: Path) -> None:
    recipe = with_samples(TT=("signed",), DY=("common", "rare"))
    found = evaluated_with_alternative(tmp_path, recipe).variations
    assert found is not None
    [effect] = found.shifts
    assert (effect.name, effect.kind, effect.entered, effect.left) == (
        "tuneUp",
        "samples",
        500,
        500,
    )
    of_tt = [
        groups["weights"]["weight"][groups["provenance"]["process"] == 2].sum()
        for groups in (selected(np.random.default_rng(s)) for s in (1, 2))
    ]
    # Of the nominal sample a half is tested, the alternative one is there as a whole.
    change = effect.yields.change.value.sum()
    assert change == pytest.approx(of_tt[1] - of_tt[0] / 0.5)


def test_a_process_of_two_samples_does_not_tell_whose_events_it_has(tmp_path: Path) -> None:
    recipe = with_samples(TT=("signed",), ST=("signed",), DY=("common", "rare"))
    result = evaluated_with_alternative(tmp_path, recipe)
    assert result.variations is None
    assert "process 'signed' is of the samples TT and ST" in result.gaps["variations/tuneUp"]


def test_a_sample_that_is_not_in_the_table_replaces_nothing(tmp_path: Path) -> None:
    recipe = with_samples(TT=("elsewhere",), DY=PROCESSES)
    result = evaluated_with_alternative(tmp_path, recipe)
    assert result.variations is None
    assert "declares no variations" in result.gaps["variations"]
