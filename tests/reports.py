"""A report of classes with names that could break a page."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from utils.results.evaluation import Evaluation
from utils.results.plotting import Style
from utils.results.report import write_report

NAMES = ("</script><b>S&B", "$x_{1}$ → τ", "other")


def make_report(path: Path, evaluation: Evaluation, drawn: dict[str, go.Figure]) -> Path:
    return write_report(
        path,
        evaluation,
        Style(evaluation.classes),
        drawn,
        title="toy <2018>",
        recipe={"run": "abc", "features": ["pt_1", "m_<sv>"], "parameters": {"seed": 1}},
        audit=[{"model": 0, "overlap": 0, "passed": True}],
    )
