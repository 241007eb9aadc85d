"""An evaluation of classes with odd names, its figures and its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from reports import NAMES, make_report

from utils.results.evaluation import Evaluation, evaluate
from utils.results.events import EvaluationTable
from utils.results.options import EvaluationOptions
from utils.results.plotting import Style, figures
from utils.schema import ClassInfo


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    rng = np.random.default_rng(3)
    target = rng.integers(0, 3, 300)
    proba = rng.dirichlet(np.ones(3), 300)
    table = EvaluationTable(
        classes=tuple(ClassInfo(name=name) for name in NAMES),
        proba=proba,
        target=target,
        fold=rng.integers(0, 2, 300),
        features={"m_sv": rng.gamma(4, 25, 300)},
        n_folds=2,
    )
    return evaluate(table, EvaluationOptions(n_bootstrap=5, n_permutations=5))


@pytest.fixture(scope="session")
def drawn(evaluation: Evaluation) -> dict[str, go.Figure]:
    return figures(evaluation, Style(evaluation.classes))


@pytest.fixture(scope="session")
def report(
    tmp_path_factory: pytest.TempPathFactory, evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> Path:
    return make_report(tmp_path_factory.mktemp("report") / "report.html", evaluation, drawn)
