"""What a repeated preprocessing takes over, and what it must read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import uproot
from small_analysis import config

from utils.stages.preprocessing import reading
from utils.stages.preprocessing.repeating import rows_unit


def write(path: Path) -> None:
    columns = {"run": np.ones(3, "i4"), "evt": np.arange(3, dtype="u8"), "x": np.arange(3.0)}
    with uproot.recreate(path) as file:
        file.mktree("T", {name: c.dtype for name, c in columns.items()}).extend(columns)


def test_rows_are_not_taken_over_where_their_file_has_another_number(tmp_path: Path) -> None:
    """Rows hold the number of their file among all: it changes with the samples before."""
    for name in ("A", "B", "C"):
        write(tmp_path / f"{name}.root")

    def unit_of_b(*files: str) -> str:
        samples = [{"A": {"p": {"class": 0}}}, {"B": {"q": {"class": 1}}}]
        described = {"A": {"files": list(files)}}
        analysis = config(tmp_path, training_samples=samples, samples=described)
        plan = reading.plan(analysis, analysis.read_samples)
        return rows_unit(analysis, plan, 1).fingerprint

    assert unit_of_b("A.root") == unit_of_b("C.root")
    assert unit_of_b("A.root") != unit_of_b("A.root", "C.root")
