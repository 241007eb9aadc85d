"""An evaluation with every section, and its figures."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest
from evaluations import make_evaluation

from utils.results.evaluation import Evaluation
from utils.results.plotting import Style, figures


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    return make_evaluation()


@pytest.fixture(scope="session")
def drawn(evaluation: Evaluation) -> dict[str, go.Figure]:
    style = Style(
        evaluation.classes,
        experiment_text="CMS Simulation",
        luminosity=59.83,
        center_of_mass_energy=13,
        feature_labels={"m_sv": "$m_{\\tau\\tau}$ [GeV]"},
        stacked=True,
    )
    return figures(evaluation, style)
