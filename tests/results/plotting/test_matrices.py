"""Cells show the numbers of the results, in the colours that stand for them."""

from __future__ import annotations

import re

import numpy as np
import plotly.graph_objects as go

from utils.results.evaluation import Evaluation
from utils.results.plotting.matrices import BLUE_WHITE_RED, between
from utils.results.plotting.style import parse_color


def test_confusion_matrix_shows_percent(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    cells = drawn["failures/by_true_balanced"].data[0]
    shares = 100 * evaluation.confusion[0].norm_true.value
    np.testing.assert_allclose(cells.marker.color, shares.ravel(), rtol=1e-5)
    assert cells.text[1].startswith(f"{shares[0, 1]:.1f}")
    assert (cells.x[1], cells.y[1]) == (1, 0)  # across: categories, down: true classes


def test_correlations_are_painted_in_their_colours(
    evaluation: Evaluation, drawn: dict[str, go.Figure]
) -> None:
    result = evaluation.correlations
    assert result is not None
    shown = {"correlations": result.matrix}
    shown |= {f"correlations_by_class_{evaluation.name(c)}": m for c, m in result.per_class.items()}
    assert len(shown) == 4
    for key, matrix in shown.items():
        figure = drawn[f"model/{key}"]
        seen: dict[tuple[int, int], str] = {}
        for shape in figure.layout.shapes:
            for left, top, right in re.findall(r"M([-.\d]+),([-.\d]+)H([-.\d]+)", shape.path):
                x, y = (float(left) + float(right)) / 2, float(top) + 0.5
                seen[round(y), round(x)] = shape.fillcolor
        assert len(seen) == np.isfinite(matrix).sum()
        for (row, column), color in seen.items():
            expected = between(BLUE_WHITE_RED, (1 + matrix[row, column]) / 2)
            # Half a step of the levels at most.
            np.testing.assert_allclose(parse_color(color, ""), expected, atol=3)
        (told,) = (t for t in figure.data if len(t.x) > 1)
        np.testing.assert_allclose(told.customdata, 100 * matrix.ravel(), rtol=1e-5)
