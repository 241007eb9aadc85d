"""Tables of scores as an evaluation reads them, and those that it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scored_files import PROCESSES, rows_of, selected, weighted_recipe, write_scored

from utils.columns.splitting import train_test_rows
from utils.results.evaluation import evaluate
from utils.results.options import EvaluationOptions
from utils.schema import (
    PHYSICS_WEIGHT,
    TARGET,
    ClassInfo,
    FoldRule,
    Recipe,
    RunError,
)
from utils.stages.evaluation.scored_events import read_table
from utils.stages.preprocessing.training_skims import process_fractions


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
    assert matrix.yields.value.sum(axis=1) == pytest.approx(expected)
    assert [c.sum_weight for c in result.class_counts] == pytest.approx(expected)
    drawn = sum(d.yields.sum(axis=1) for d in result.densities if d.view == "physics")
    assert drawn == pytest.approx(expected)
    assert result.significance is not None
    scans = result.significance.scans
    assert sum(s.signal[0] for s in scans) == pytest.approx(expected[1])
    assert sum(s.background[0] for s in scans) == pytest.approx(expected[0])


def test_a_table_without_fractions_of_processes_says_so(tmp_path: Path) -> None:
    groups = selected(np.random.default_rng(1))
    write_scored(tmp_path / "old.parquet", groups, fraction=0.5)
    table, gaps = read_table(tmp_path / "old.parquet", weighted_recipe(), "old")
    assert "same share" in gaps["yields"]
    result = evaluate(table, EvaluationOptions(n_bootstrap=5, sections=("confusion",)))
    total = 2 * groups["weights"][PHYSICS_WEIGHT].sum()
    assert sum(c.sum_weight for c in result.class_counts) == pytest.approx(total)


@pytest.mark.parametrize("name", ["test.parquet", "test.csv"])
def test_a_damaged_table_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"PAR1\x00" if name.endswith("parquet") else b"")
    with pytest.raises(RunError, match=f"{name} is damaged"):
        read_table(path, _recipe(), "test")


def test_a_table_with_texts_for_scores_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("pred_class_0_proba,pred_class_1_proba,target\n0.5,0.5,0\nabc,0.5,1\n")
    with pytest.raises(RunError, match="column 'pred_class_0_proba' holds no numbers"):
        read_table(path, _recipe(), "test")


def _recipe() -> Recipe:
    return Recipe(
        analysis={},
        training={},
        classes=(ClassInfo(name="a"), ClassInfo(name="b")),
        features=(),
        pipeline={},
        fold=FoldRule("modulo", ("evt",), 2),
        weight="w_class_imbalance",
        objective="binary",
        models=(),
        samples=(),
        files=(),
        skims={},
        audit=(),
        audit_passed=True,
    )
