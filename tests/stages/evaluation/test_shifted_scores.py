"""Tables with shifted columns, as the evaluation reads them: nominal rows stay by themselves."""

from __future__ import annotations

from collections.abc import Sequence
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
from utils.stages.evaluation.repeating import unit_of
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


def test_marked_rows_stay_out_where_no_shift_of_them_is_asked_for(
    tmp_path: Path, columns: dict[str, Any]
) -> None:
    path, groups = tmp_path / "test.parquet", selected(np.random.default_rng(1))
    own = {name: columns[name] for name in ("feature/m_sv", "selected")}
    write_scored(path, {**groups, "features": own}, fraction=1.0, marked=True)
    table, _ = read_table(path, weighted_recipe(), "test")
    assert len(table.target) == len(table.features["m_sv"]) == columns["selected"].sum()


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


def write_alternative(path: Path) -> None:
    other = selected(np.random.default_rng(2))
    other = rows_of(other, other["provenance"]["process"] == 2)
    shares = dict.fromkeys(PROCESSES, 1.0)
    write_scored(path, other, process_fractions=shares, alternative=ALTERNATIVE)


def of_variations(dataset: str) -> EvaluateConfig:
    return EvaluateConfig(run_id="run", dataset=dataset, sections=["variations"], n_bootstrap=20)


def evaluated_with_alternative(
    folder: Path, recipe: Recipe, dataset: str = "test", names: Sequence[str] = ("TT_tuneUp",)
) -> Evaluation:
    """Evaluate a table beside one or more of samples that stand for TT (process `signed`)."""
    (folder / "pred").mkdir(parents=True)
    shares = dict.fromkeys(PROCESSES, 0.5)
    groups = selected(np.random.default_rng(1))
    write_scored(folder / f"pred/{dataset}.parquet", groups, process_fractions=shares)
    for name in names:
        write_alternative(folder / f"pred/{name}.parquet")
    return evaluate_dataset(run_of(folder, recipe), of_variations(dataset)).evaluation


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


def test_two_tables_in_the_place_of_one_sample_are_no_variation(tmp_path: Path) -> None:
    """Such as a run has where a variation was declared anew with another sample."""
    recipe = with_samples(TT=("signed",), DY=("common", "rare"))
    result = evaluated_with_alternative(tmp_path, recipe, names=("TT_new", "TT_tuneUp"))
    assert result.variations is None
    assert "TT_new and TT_tuneUp both stand for TT" in result.gaps["variations/tuneUp"]


@pytest.mark.parametrize("dataset", ["labelled", "TT_other"])
def test_an_alternative_sample_stands_for_events_of_the_test_alone(
    tmp_path: Path, dataset: str
) -> None:
    """A labelled sample may have processes of the same name, as an alternative one does."""
    recipe = with_samples(TT=("signed",), DY=("common", "rare"))
    if dataset == "labelled":
        assert evaluated_with_alternative(tmp_path, recipe, dataset).variations is None
        return
    (tmp_path / "pred").mkdir()
    for name in ("TT_other", "TT_tuneUp"):
        write_alternative(tmp_path / f"pred/{name}.parquet")
    found = evaluate_dataset(run_of(tmp_path, recipe), of_variations(dataset)).evaluation
    assert found.variations is None


def test_an_evaluation_follows_from_tables_of_alternative_samples(tmp_path: Path) -> None:
    recipe = with_samples(TT=("signed",), DY=("common", "rare"))
    evaluated_with_alternative(tmp_path, recipe, names=())
    config = of_variations("test")
    other = config.model_copy(update={"sections": ["roc"]})

    def made_from() -> list[str]:
        run = run_of(tmp_path, recipe)
        return [unit_of(run, of).made_from["inputs"] for of in (config, other)]

    before = made_from()
    write_alternative(tmp_path / "pred/TT_tuneUp.parquet")
    after = made_from()
    assert before[0] != after[0]
    assert before[1] == after[1]
