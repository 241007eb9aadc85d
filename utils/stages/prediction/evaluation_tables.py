"""Tables of scored events: a skim as CSV and Parquet, logged to the run for evaluation.

Parquet holds everything an evaluation can use; CSV the scores alone, for people and other tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.columns.arrays import Columns, Floats, RowRange
from utils.columns.folds import check_entry_rule
from utils.columns.pipeline import FeaturePipeline, stack_columns
from utils.columns.variations import rows_at_once, shifted_name, shifts_of
from utils.columns.weights import TrainingWeight
from utils.formats import tables
from utils.formats.friends import branch_names, score_columns
from utils.formats.runs import Run
from utils.formats.skims import SHIFTED, Skim, open_skim
from utils.formats.tables import (
    FEATURE_PREFIX,
    INFOLD_PREFIX,
    SCALED_WEIGHT,
    TRAINING_WEIGHT,
    WEIGHT_PREFIX,
)
from utils.schema import (
    COMPUTED_COLUMNS,
    LABELLED,
    PHYSICS_WEIGHT,
    SELECTED,
    TARGET,
    WEIGHT_FACTOR,
    ConfigError,
    InputError,
    PredictConfig,
    nearest,
    project_path,
    skim_name,
)
from utils.stages.prediction.checks import (
    check_concerned,
    check_origin,
    check_skim,
    check_variations,
)
from utils.stages.prediction.inputs import prediction_analysis, skim_folder
from utils.stages.prediction.outputs import Moved, Outcome, Scored, Task
from utils.stages.prediction.rows import InputRows, SkimRows
from utils.stages.prediction.scorer import Scorer

CHUNK_ROWS = 200_000
OWN = (TARGET, "process", "class", SCALED_WEIGHT, TRAINING_WEIGHT, *branch_names(0).own.values())
"""Columns a table makes itself; a misc feature of that name would clash."""


class Tables:
    """Tables of skims, those of the training by default, which go to the run."""

    name = "tables"
    folder = None

    def __init__(self, config: PredictConfig, scorer: Scorer) -> None:
        alternatives = [s.name for s in scorer.analysis.alternative_samples]
        self.datasets: Sequence[str] = config.sample_names or [
            *scorer.recipe.datasets,
            *alternatives,
        ]
        self._config, self._scorer = config, scorer

    def tasks(self, scratch: Path) -> list[Task]:
        tables = [self._table(name, scratch) for name in self.datasets]
        return [Task(f"table {table.name}", self._scorer, [table]) for table in tables]

    def _table(self, name: str, folder: Path) -> Table:
        config, scorer = self._config, self._scorer
        skim = open_skim(self._skim_path(name))
        misc = scorer.analysis.misc_features
        if config.misc_features is not None:
            misc = config.misc_features
        check_skim(skim, scorer, misc)
        if not config.input_path:
            check_origin(skim, name, scorer)
        never = all(s["never_trained"] for s in skim.metadata["samples"])
        for file in skim.metadata["files"]:
            check_entry_rule(scorer.models.rule, scorer.recipe.files, file, never)
        others = [*scorer.pipeline.outputs, *skim.groups["cat_features"]]
        features = tuple(dict.fromkeys([*scorer.models.features, *others]))
        shifts = self._shifts(name, skim)
        suffixes = tuple(shift["suffix"] for shift in shifts if shift["features"] or shift["cut"])
        n_rows = rows_at_once(CHUNK_ROWS, len(suffixes))
        source = SkimRows(RowRange(0, skim.n_rows), features, skim, n_rows, suffixes)
        return Table(
            name, source, misc_of(misc, skim), folder, *_weight_after_policy(skim, scorer), shifts
        )

    def _shifts(self, name: str, skim: Skim) -> tuple[Mapping[str, Any], ...]:
        """Return what a skim says of the shifts that the analysis declares for its samples.

        Nothing of a train skim: what was trained on is no measure of what a shift does.
        """
        if skim.metadata["kind"] == "training":
            if skim.metadata["dataset"] == "train" or "alternative" in skim.metadata:
                return ()
            role = "test" if skim.metadata["dataset"] == LABELLED else "training"
            samples = tuple(s for s in self._scorer.analysis.read_samples if s.role == role)
        else:
            one = self._config.model_copy(update={"sample_names": [name]})
            samples = prediction_analysis(one, self._scorer).read_samples
        of = {sample.name: shifts_of(self._scorer.analysis, sample) for sample in samples}
        declared = [shift for shifts in of.values() for shift in shifts]
        check_variations(skim, declared)
        check_concerned(skim, of)
        wanted = {shift.suffix for shift in declared}
        return tuple(s for s in skim.metadata.get("shifts", []) if s["suffix"] in wanted)

    def _skim_path(self, name: str) -> Path:
        known = self._scorer.recipe.skims
        if name in known and not self._config.input_path:
            return project_path(known[name])
        if self._is_of_training(name):
            return project_path(known["test"]).parent / skim_name("{sample_name}", name)
        folder = skim_folder(self._config, self._scorer.analysis)
        return folder / skim_name(self._config.input_filename_template, name)

    def _is_of_training(self, name: str) -> bool:
        """Return whether a skim was written beside that of the test."""
        alternatives = {sample.name for sample in self._scorer.analysis.alternative_samples}
        return name in alternatives and not self._config.input_path

    def summary(self, n_outputs: int) -> str:
        return f"Logged {n_outputs} tables under pred/ of run {self._scorer.run_id}"

    def next_commands(self, run: Run, prefix: str) -> Sequence[str]:
        ids = f"experiment_id={run.experiment_id} run_id={run.run_id}"
        command = f"  {prefix}python evaluate.py {ids} dataset="
        return ["Next:", *(command + name for name in self.datasets)]


def _weight_after_policy(skim: Skim, scorer: Scorer) -> tuple[Floats | None, str]:
    """Return what each row of a skim would weigh in the run's training, or why that is unknown.

    Rows that its policy on negative weights drops weigh nothing; rows that only shifts admit change
    nothing for the others.
    """
    recipe = scorer.recipe
    policy = str(recipe.training.get("negative_weights", "error"))
    weight = TrainingWeight(recipe.weight, policy)
    lacking = weight.lacks(skim.groups)
    if lacking:  # prediction skims may lack what training weighs by
        return None, f"the table has no {', '.join(lacking)}"
    wanted = {g: list(skim.groups[g]) for g in ("targets", "weights", "misc_features", "identity")}
    if SELECTED in skim.groups.get(SHIFTED, {}):
        wanted[SHIFTED] = [SELECTED]
    columns = skim.read(wanted, RowRange(0, skim.n_rows))
    values, target = weight.raw(columns), columns["targets"][TARGET]
    known = target >= 0
    nominal = columns.get(SHIFTED, {}).get(SELECTED, known) & known
    names = [c.name for c in recipe.classes]
    result = values.copy()
    try:
        for rows in (nominal,) if np.array_equal(nominal, known) else (known, nominal):
            prepared, kept = weight.after_policy(values[rows], target[rows], names)
            result[rows] = np.where(kept, prepared, 0.0)
    except InputError as error:
        return None, str(error)
    return result, ""


def misc_of(chosen: Sequence[str], skim: Skim) -> tuple[str, ...]:
    """Return the misc features a table copies from a skim. Raises InputError for one not there."""
    stored = skim.groups["misc_features"]
    for name in skim.groups["identity"]:
        if name in OWN:
            raise ConfigError(
                f"events of {skim.path} are identified by '{name}', a column of tables"
            )
    for name in chosen:
        if name not in {*stored, *COMPUTED_COLUMNS, *skim.groups["identity"]}:
            raise InputError(
                f"misc_features: '{name}' is not in {skim.path}; {nearest(name, stored)}"
            )
    return tuple(n for n in chosen if n in stored and n not in OWN)


@dataclass(frozen=True)
class Table:
    """The table of a skim, `{name}.csv` and `{name}.parquet` in `folder`.

    Beside the models' features its rows have all others that can be given untransformed. `weight`
    are the training weights of all rows, or `weight_left_out` says why there are none. `shifts` are
    those that it has columns of, as the skim states them.
    """

    name: str
    source: SkimRows
    misc: tuple[str, ...]
    folder: Path
    weight: Floats | None
    weight_left_out: str
    shifts: tuple[Mapping[str, Any], ...] = ()

    @property
    def lasting(self) -> Sequence[Path]:
        return []

    @contextmanager
    def written(self, scorer: Scorer, scored: Iterable[Scored]) -> Iterator[Outcome]:
        csv, parquet = (self.folder / f"{self.name}{suffix}" for suffix in (".csv", ".parquet"))
        n_events, moved = 0, Moved()
        with tables.write(csv, parquet, self._description(scorer)) as writer:
            for part in scored:
                moved.add(part)
                nominal, public = part.rows.nominal, self._public(scorer, part.rows, part.scores)
                private = {**self._private(scorer, part.rows), **self._shifted(scorer, part)}
                n_events += int(np.count_nonzero(nominal))
                writer.append(
                    {**public, **private}, len(public), None if nominal.all() else nominal
                )
            yield Outcome(
                {f"{self.name}{path.suffix}": path for path in (csv, parquet)},
                {"name": self.name, "n_events": n_events},
                self._said(n_events, moved),
            )

    def _said(self, n_events: int, moved: Moved) -> list[str]:
        under = f", nominal and under {len(moved.n_rows)} shifts" if moved.n_rows else ""
        notes = [f"  note: {note}" for note in moved.notes]
        return [f"{self.name}: {n_events} events scored{under}", *notes]

    def _description(self, scorer: Scorer) -> dict[str, Any]:
        meta = self.source.skim.metadata
        mixed = "PCA was applied, and its components can't be turned back into features"
        return {
            "run_id": scorer.run_id,
            "dataset": self.name,
            "fraction": meta["fraction"],
            "process_fractions": meta.get("process_fractions"),
            "n_splits": scorer.models.rule.n_splits,
            "classes": [c.name for c in scorer.recipe.classes],
            "models": scorer.models.fingerprints,
            "skim_kind": meta["kind"],
            "weight_left_out": self.weight_left_out,
            "features_left_out": "" if scorer.pipeline.components is None else mixed,
            **({"alternative": meta["alternative"]} if "alternative" in meta else {}),
            **({"shifts": [_told(shift) for shift in self.shifts]} if self.shifts else {}),
            **({"marked": True} if self._is_marked else {}),
        }

    @property
    def _is_marked(self) -> bool:
        """Whether some rows may be there for shifts only, even for such as are not asked for."""
        return SELECTED in self.source.skim.groups.get(SHIFTED, {})

    def _public(self, scorer: Scorer, rows: InputRows, scores: Floats) -> Columns:
        """Return the columns of rows that go into the CSV as well."""
        groups, names = rows.groups, branch_names(scorer.models.n_classes)
        columns = dict(groups["identity"])
        columns |= {n: groups["misc_features"][n] for n in self.misc if n not in columns}
        columns |= {names.fold: rows.fold, TARGET: groups["targets"][TARGET]}
        return {
            **columns,
            **score_columns(scores, names),
            **scorer.trained_flag(rows, names.trained_on),
        }

    def _private(self, scorer: Scorer, rows: InputRows) -> dict[str, Any]:
        """Return the columns of rows that only Parquet holds."""
        groups, recipe, meta = rows.groups, scorer.recipe, self.source.skim.metadata
        target, names = groups["targets"][TARGET], [c.name for c in recipe.classes]
        columns: dict[str, Any] = {
            "process": (groups["provenance"]["process"], list(meta["processes"])),
            "class": (np.where(target < 0, len(names), target), [*names, ""]),
            **{WEIGHT_PREFIX + n: values for n, values in groups["weights"].items()},
        }
        if PHYSICS_WEIGHT in groups["weights"]:
            share = self._evaluated(meta)[groups["provenance"]["process"]]
            columns[SCALED_WEIGHT] = np.asarray(groups["weights"][PHYSICS_WEIGHT], float) / share
        if self.weight is not None:
            columns[TRAINING_WEIGHT] = self.weight[slice(*rows.span)]
        if meta.get("dataset") == "train":
            infold = scorer.scores_in_fold(rows)
            columns |= {
                f"{INFOLD_PREFIX}{i}_proba": infold[:, i].astype(np.float32)
                for i in range(infold.shape[1])
            }
        every = dict(zip(self.source.features, rows.features.T, strict=True))
        features = self._untransformed(scorer.pipeline, every)
        return columns | {FEATURE_PREFIX + name: values for name, values in features.items()}

    def _shifted(self, scorer: Scorer, scored: Scored) -> Columns:
        """Return the columns of rows that shifts make."""
        rows, names = scored.rows, branch_names(scorer.models.n_classes)
        stored = rows.groups.get(SHIFTED, {})
        marks = [SELECTED, *(shifted_name(SELECTED, s["suffix"]) for s in self.shifts)]
        factors = [shifted_name(WEIGHT_FACTOR, s["suffix"]) for s in self.shifts]
        columns = {name: stored[name] for name in (*marks, *factors) if name in stored}
        for suffix, scores in scored.shifted.items():
            columns |= score_columns(scores, names.shifted(suffix))
            changed = rows.shifted[suffix].features
            raw = self._untransformed(scorer.pipeline, changed)
            columns |= {FEATURE_PREFIX + shifted_name(n, suffix): c for n, c in raw.items()}
        return columns

    def _evaluated(self, meta: Mapping[str, Any]) -> Floats:
        """Return the share of each process that is in the skim, (n_processes,)."""
        shares = meta.get("process_fractions") or {}
        return np.array([shares.get(name, meta["fraction"]) for name in meta["processes"]], float)

    def _untransformed(self, pipeline: FeaturePipeline, features: Columns) -> Columns:
        """Return those features as they were before the scaler; none of those that PCA mixed."""
        cat = {n: features[n] for n in self.source.skim.groups["cat_features"] if n in features}
        if pipeline.components is not None:
            return cat
        places = [i for i, name in enumerate(pipeline.inputs) if name in features]
        names = [pipeline.inputs[i] for i in places]
        if not names:
            return cat
        values = stack_columns(features, names).astype(np.float64)
        if pipeline.scale is not None:
            values *= [pipeline.scale[i] for i in places]
        if pipeline.mean is not None:
            values += [pipeline.mean[i] for i in places]
        return {**dict(zip(names, values.astype(np.float32).T, strict=True)), **cat}


def _told(shift: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table says of a shift, of what its skim does."""
    return {k: v for k, v in shift.items() if k != "replaced"}
