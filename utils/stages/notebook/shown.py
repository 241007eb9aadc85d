"""An evaluation as objects: numbers, tables and figures, of which nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.formats.runs import Run
from utils.results.estimates import Estimate
from utils.results.evaluation import Evaluation
from utils.results.metrics.naming import flat_metrics
from utils.results.plotting import Style, figures
from utils.schema import EvaluateConfig
from utils.stages import evaluation

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Shown:
    """An evaluation of one dataset: `result` is everything known, `style` how figures look."""

    result: Evaluation
    style: Style

    @cached_property
    def numbers(self) -> pandas.Series:
        """All numbers by the names that they have in a run (docs/metrics.md)."""
        import pandas

        return pandas.Series(flat_metrics(self.result), dtype=np.float64)

    @cached_property
    def figures(self) -> Mapping[str, Any]:
        """Plotly figures by name, as on the report's page."""
        return figures(self.result, self.style)

    @cached_property
    def tables(self) -> Mapping[str, pandas.DataFrame]:
        """Data frames: `scores` with intervals, and confusion matrices by norm and view."""
        import pandas

        names = [info.name for info in self.result.classes]
        frames = {"scores": pandas.DataFrame(_scores(self.result))}
        for matrix in self.result.confusion:
            for norm in ("yields", "norm_true", "norm_pred"):
                frames[f"confusion/{norm}/{matrix.view}"] = pandas.DataFrame(
                    getattr(matrix, norm).value,
                    index=pandas.Index(names, name="true class"),
                    columns=pandas.Index(names, name="category"),
                )
        return frames

    @property
    def gaps(self) -> Mapping[str, str]:
        """What was left out, and why."""
        return self.result.gaps


def _scores(result: Evaluation) -> list[dict[str, Any]]:
    """Return a row for each number of each view: of a class, or of all together."""
    rows = []
    for scores in result.scores:
        for metric, value in vars(scores).items():
            if isinstance(value, Estimate):
                rows.append((scores.view, metric, "all", value))
            elif isinstance(value, tuple) and value and isinstance(value[0], Estimate):
                pairs = zip(result.score_classes, value, strict=True)
                rows += [(scores.view, metric, result.name(c), v) for c, v in pairs]
    return [
        {
            **{"view": view, "metric": metric, "class": name},
            **{"value": e.value, "low": e.low, "high": e.high, "error": e.error},
        }
        for view, metric, name, e in rows
    ]


def shown(run: Run, config: EvaluateConfig) -> Shown:
    """Evaluate one logged table of a run, and return it with how its figures look."""
    evaluated = evaluation.evaluate_dataset(run, config)
    return Shown(evaluated.evaluation, evaluation.style_of(evaluated, config))
