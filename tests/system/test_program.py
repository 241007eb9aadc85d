"""How scripts end: in one line, with nothing half-written, also when somebody else ends them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from utils.schema import PROJECT, ClassInfo, FoldRule, Recipe, RunError
from utils.stages.evaluation.tables import read_table
from utils.system import program

KILLED = """
import os, signal, sys, time
from pathlib import Path
from utils.system import program
from utils.system.files import complete
from utils.schema import TrainConfig
def main():
    with program._one_line_errors(), complete(Path(sys.argv[0])) as partial:
        partial.write_text("half")
        os.kill(os.getpid(), getattr(signal, os.environ["ENDED_BY"]))
        time.sleep(5)
sys.argv = [os.environ["TARGET"]]
sys.exit(program.run(main, TrainConfig, "train", "train"))
"""


@pytest.mark.parametrize(("signal", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_an_ended_script_leaves_nothing(tmp_path: Path, signal: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        cwd=PROJECT,
        env={"TARGET": str(tmp_path / "out.h5"), "ENDED_BY": signal},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr == "error: interrupted; no incomplete output was left\n"
    assert list(tmp_path.iterdir()) == []


def test_an_override_without_inner_quotes_is_answered_with_the_mended_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with pytest.raises(SystemExit, match="1"), program._one_line_errors():
        OverridesParser.create().parse_overrides(["++common_cut=pt_1>40"])
    said = capsys.readouterr().err
    assert said.startswith("error: 'common_cut=pt_1>40' can't be read:")
    assert "\"common_cut='pt_1 > 40'\"" in said


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
