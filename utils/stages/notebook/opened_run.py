"""A run as notebooks use it: it scores events that are in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.columns.arrays import RowRange
from utils.columns.folds import fold_of
from utils.columns.pipeline import feature_matrix
from utils.columns.roles import Roles, roles_of
from utils.formats import ntuples, runs
from utils.formats.runs import Run
from utils.models import scoring
from utils.schema import ConfigError, EvaluateConfig, InputError, load
from utils.stages.notebook.shown import Shown, shown
from utils.stages.prediction.scorer import Scorer, models_of
from utils.stages.preprocessing import reading
from utils.system.engine import available_cores

if TYPE_CHECKING:
    import pandas

CHUNK_ROWS = 100_000
"""Events whose features are in memory at a time, beside the given columns."""


@dataclass(frozen=True)
class OpenedRun:
    """A finished training, opened by its id."""

    run: Run

    def __repr__(self) -> str:
        return f"<run {self.run.run_id}: {', '.join(self.classes)}; {len(self.columns)} columns>"

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in order of their ids."""
        return [info.name for info in self.run.recipe.classes]

    @property
    def features(self) -> list[str]:
        """The features of the models, in order."""
        return list(self.run.recipe.features)

    @property
    def columns(self) -> list[str]:
        """The columns that `score` needs: those that features are made from, and the identity."""
        roles = self._roles
        made = {n: roles.meaning[n].steps for n in roles.features if n in roles.definitions}
        named = [n for n in roles.with_sources(*roles.features, *roles.identity) if n not in made]
        return list(dict.fromkeys([*named, *(b for n in made for b in self._branches(n))]))

    def score(self, columns: Any, entry: Any = None) -> pandas.DataFrame:
        """Return the probabilities of events by class name, `(n, n_classes)`, float64.

        `columns` (see `columns`) are raw, as in an ntuple: a DataFrame, whose index the result has,
        a dict of arrays, or an awkward or structured array. Derived features, missing values,
        clipping, scaling, the order of features and the model of each event's fold are the run's:
        the numbers are those of its friend trees, bit for bit (of which those that are not
        `double_precision` are float32). No cut is applied. `entry` are the numbers of the events
        in their ntuple, `(n,)`, which runs of `fold_rule: entry` need.

        Raises InputError for a column that is missing or holds what no feature can be.
        """
        import pandas

        info = ntuples.given_columns(columns)
        fold_entry = self._entry(entry, info.n_entries)
        scorer = self._scorer
        entries = reading.Entries(info, self._roles, None, CHUNK_ROWS)
        proba = np.full((info.n_entries, scorer.models.n_classes), np.nan)
        everything = RowRange(0, info.n_entries)
        for part in reading.stream_entries(entries, everything):
            here = slice(part.span.start, part.span.stop)
            fold = fold_of(scorer.models.rule, part.groups["identity"], fold_entry[here])
            matrix = feature_matrix(part.features, scorer.pipeline, scorer.models.features)
            proba[here] = scoring.score(scorer.models, matrix, fold, scorer.n_threads)
        index = columns.index if isinstance(columns, pandas.DataFrame) else None
        return pandas.DataFrame(proba, index=index, columns=self.classes)

    def table(self, dataset: str = "test") -> pandas.DataFrame:
        """Return a table of scored events that predict.py logged, one row an event."""
        import pandas

        return pandas.read_parquet(self.run.artifact(f"pred/{dataset}.parquet", f"table {dataset}"))

    def evaluate(self, dataset: str = "test", **keys: Any) -> Shown:
        """Return the numbers, tables and figures of a logged table; nothing is written.

        `keys` are those of evaluate.py, such as `sections=["roc", "scores"]` or `against=RUN_ID`.
        """
        given = {**keys, "run_id": self.run_id, "dataset": dataset}
        return shown(self.run, load(EvaluateConfig, given))

    def _entry(self, entry: Any, n_entries: int) -> np.ndarray[Any, Any]:
        if self.run.recipe.fold.kind == "entry" and entry is None:
            raise ConfigError(
                f"run {self.run_id} has fold_rule entry: give entry=, the numbers of the events in "
                "the ntuple that they come from"
            )
        numbers = np.arange(n_entries) if entry is None else np.asarray(entry)
        if numbers.shape != (n_entries,):
            raise InputError(f"entry has the shape {numbers.shape} for {n_entries} events")
        return numbers

    @cached_property
    def _scorer(self) -> Scorer:
        scorer = Scorer(self.run_id, models_of(self.run), self.run.recipe)
        return replace(scorer, n_threads=available_cores())

    @cached_property
    def _roles(self) -> Roles:
        return roles_of(self._scorer.analysis, ())

    def _branches(self, derived: str) -> list[str]:
        from utils.columns.expressions import expand

        return sorted(expand(derived, self._roles.definitions).names)


def open_run(run_id: str = runs.LAST, experiment_id: str | None = None) -> OpenedRun:
    """Return the run with this id, by default the last one trained in this project folder.

    The store is that of the scripts: MLFLOW_TRACKING_URI, else that of the project folder. Raises
    RunError where there is no such run, or it was changed since it was trained.
    """
    opened = OpenedRun(runs.open_run(run_id, experiment_id))
    _ = opened.run.recipe
    return opened
