"""What the shifts of a logged table make of its events, and what they change of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.columns.variations import Direction, shifted_name
from utils.formats import tables
from utils.formats.runs import Run
from utils.formats.tables import FEATURE_PREFIX
from utils.results.events import EvaluationTable
from utils.results.metrics.drivers import ScoreFeatures
from utils.results.metrics.shifted_events import AlternativeScores, ShiftedScores, VariedTable
from utils.results.metrics.variations import Variations, vary
from utils.results.options import EvaluationOptions
from utils.schema import LABELLED, SELECTED, WEIGHT_FACTOR, AnalysisConfig, Recipe, RunError
from utils.stages.evaluation.scored_events import read_table, table_of
from utils.stages.evaluation.settings import normalised

if TYPE_CHECKING:  # models are opened where a table has features only
    from utils.models.scoring import FoldModels


def read_varied(path: Path, recipe: Recipe, dataset: str) -> VariedTable | None:
    """Return a logged table with all rows and what shifts make of them; None where there is none.

    Raises RunError where it is no table of this run's classes, or lacks a column it states.
    """
    table, description = tables.read(path)
    stated = description.get("shifts", [])
    if not stated:
        return None
    whole, _ = table_of(table, description, path, recipe, dataset)
    endings = tuple(shifted_name("", shift["suffix"]) for shift in stated)
    names = [n for n in table.column_names if n == SELECTED or n.endswith(endings)]
    columns = {name: tables.numbers(table[name]) for name in names}
    selected = np.asarray(columns.get(SELECTED, np.ones(len(whole.target))), dtype=np.bool_)
    shifts = tuple(_shifted(columns, shift, selected, recipe, path) for shift in stated)
    return VariedTable(replace(whole, infold_proba=None), selected, shifts)


def _shifted(
    columns: Mapping[str, Array],
    stated: Mapping[str, Any],
    selected: Array,
    recipe: Recipe,
    path: Path,
) -> ShiftedScores:
    """Return what one shift makes of the rows; the scores stay nominal where it has none."""
    suffix = stated["suffix"]
    n_classes = len(recipe.classes)
    names = [shifted_name(f"pred_class_{i}_proba", suffix) for i in range(n_classes)]
    factor = columns.get(shifted_name(WEIGHT_FACTOR, suffix))
    proba: Floats | None = None
    if any(name in columns for name in names):
        lacking = [name for name in names if name not in columns]
        if lacking:
            raise RunError(f"{path} is damaged: it has no column '{lacking[0]}'")
        proba = np.stack([columns[name].astype(np.float64) for name in names], axis=1)
        own = columns.get(shifted_name(SELECTED, suffix), selected)
        proba[~np.asarray(own, dtype=np.bool_)] = np.nan
    elif factor is None:
        raise RunError(f"{path} is damaged: it states {suffix} and has no column of it")
    ending = shifted_name("", suffix)
    features = {
        name.removeprefix(FEATURE_PREFIX).removesuffix(ending): values
        for name, values in columns.items()
        if name.startswith(FEATURE_PREFIX) and name.endswith(ending)
    }
    return ShiftedScores(
        stated["variation"],
        stated["direction"],
        stated["kind"],
        proba,
        None if factor is None else factor.astype(np.float64),
        features,
    )


def variations_of_table(
    run: Run,
    recipe: Recipe,
    dataset: str,
    analysis: AnalysisConfig,
    options: EvaluationOptions,
    models: Callable[[], FoldModels],
) -> tuple[Variations | None, dict[str, str]]:
    """Return what variations do to a logged table, and what can't be said: section -> reason.

    models: gives those of the run, by which the features that drive a shift are found.
    """
    name = dataset.removesuffix(".csv").removesuffix(".parquet")
    if dataset.endswith(".csv") or not run.lists(f"pred/{name}.parquet"):
        return None, {"variations": "CSV has nominal scores alone"}
    path = run.artifact(f"pred/{name}.parquet", f"table {name}")
    varied = read_varied(path, recipe, name)
    own = tables.describe(path).get("alternative")
    # Those of the training's samples are tested: nothing else holds events they stand for.
    others = [] if own or name in ("train", LABELLED) else _alternative_tables(run, name)
    if varied is None and not others:
        return None, {}
    if varied is None:
        table, _ = read_table(path, recipe, name)
        varied = VariedTable(table, np.ones(len(table.target), dtype=np.bool_))
    table, _ = normalised(varied.table, analysis)
    if not np.any(np.asarray(table.target)[varied.selected] >= 0):
        return None, {"variations": "no event of known class"}
    alternatives, gaps = _alternatives(others, table, recipe, analysis)
    varied = replace(varied, table=table, alternatives=alternatives)
    if not varied.shifts and not alternatives:
        return None, gaps
    score = None
    if recipe.models and any(shift.features for shift in varied.shifts):
        score = _scorer(recipe, models, table.features)
    return vary(varied, options, score), gaps


# --- alternative samples --------------------------------------------------------------------------


def _alternative_tables(run: Run, dataset: str) -> list[tuple[Path, Mapping[str, str]]]:
    """Return the logged tables of alternative samples, each with what it says of that."""
    found = []
    for artifact in run.artifacts("pred"):
        name = Path(artifact).stem
        if not artifact.endswith(".parquet") or name in (dataset, "train", "test"):
            continue
        if run.lists(artifact):
            path = run.artifact(artifact, f"table {name}")
            if stated := tables.describe(path).get("alternative"):
                found.append((path, stated))
    return found


def _alternatives(
    others: Sequence[tuple[Path, Mapping[str, str]]],
    table: EvaluationTable,
    recipe: Recipe,
    analysis: AnalysisConfig,
) -> tuple[list[AlternativeScores], dict[str, str]]:
    """Return alternative samples by variation and direction, and which can't be used and why.

    One that stands for no event of the table is left out.
    """
    grouped: dict[tuple[str, Direction], list[tuple[Path, str]]] = {}
    for path, stated in others:
        direction: Direction = "Up" if stated["direction"] == "Up" else "Down"
        grouped.setdefault((stated["variation"], direction), []).append((path, stated["of"]))
    alternatives, gaps = [], {}
    for (variation, direction), of_tables in grouped.items():
        twins = [of for _, of in of_tables]
        if twice := next((of for of in twins if twins.count(of) > 1), ""):
            names = " and ".join(path.stem for path, of in of_tables if of == twice)
            gaps[f"variations/{variation}{direction}"] = (
                f"{names} both stand for {twice}, so its events would count twice: the run has "
                "tables of more than one declaration; give the variation another name"
            )
            continue
        rows = [_rows_of(table, recipe, of) for of in twins]
        if reason := next((found for found in rows if isinstance(found, str)), ""):
            gaps[f"variations/{variation}{direction}"] = reason
            continue
        replaced = np.logical_or.reduce([found for found in rows if not isinstance(found, str)])
        if replaced.any():
            read = [read_table(path, recipe, path.stem)[0] for path, _ in of_tables]
            scaled = [normalised(other, analysis)[0] for other in read]
            alternatives.append(AlternativeScores(variation, direction, replaced, scaled))
    return alternatives, gaps


def _rows_of(table: EvaluationTable, recipe: Recipe, sample: str) -> NDArray[np.bool_] | str:
    """Return which rows are of a sample, by its processes; the reason where these don't tell."""
    of = {s["name"]: {p["name"] for p in s["processes"]} for s in recipe.samples}
    mine = of.get(sample, set())
    for other, processes in of.items():
        if other != sample and mine & processes:
            return (
                f"process '{min(mine & processes)}' is of the samples {sample} and {other}, so the "
                "table does not tell whose events an alternative sample stands for: name the "
                "processes of the two differently"
            )
    if table.process is None:
        return "the table does not know the processes of its events"
    codes, names = table.process
    return np.isin(codes, [i for i, name in enumerate(names) if name in mine])


# --- features that drive a shift ------------------------------------------------------------------


def _scorer(
    recipe: Recipe, opened: Callable[[], FoldModels], there: Collection[str]
) -> ScoreFeatures | None:
    """Return what makes scores from untransformed features, as the run's models do.

    None where the table lacks features (PCA's components can't be turned back into any).
    """
    from utils.columns.pipeline import FeaturePipeline, feature_matrix
    from utils.models.scoring import score

    pipeline = FeaturePipeline.from_json(recipe.pipeline)
    needed = {*recipe.features} - {*pipeline.outputs} | {*pipeline.inputs}
    if needed - {*there}:
        return None
    models = opened()

    def scored(features: Mapping[str, Array], fold: Array) -> Floats:
        matrix = feature_matrix(features, pipeline, recipe.features).astype(np.float32)
        return np.asarray(score(models, matrix, fold.astype(np.int32)), dtype=np.float64)

    return scored
