"""A run's logged table -> all that is known of it, with what the run recorded."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utils.formats.runs import Run
from utils.formats.tables import bound_threads
from utils.models import kind
from utils.results import metrics
from utils.results.evaluation import Evaluation, Keeper, anew, check_options, evaluate
from utils.results.events import EvaluationTable, signal_class
from utils.results.metrics.comparison import Comparison
from utils.results.options import SECTIONS, EvaluationOptions
from utils.schema import AnalysisConfig, EvaluateConfig, Recipe, RunError
from utils.stages.evaluation.scored_events import load_table, other_table
from utils.stages.evaluation.settings import analysis_of, normalised, with_class_style
from utils.stages.evaluation.shifted_scores import variations_of_table
from utils.system.engine import cores_of

if TYPE_CHECKING:  # models are opened where a table has features only
    from utils.models.scoring import FoldModels

log = logging.getLogger(__name__)

SHAP_EVENTS = 2000
"""Events sampled for the SHAP summary."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with the recipe of its run, and that analysis's labels for figures."""

    evaluation: Evaluation
    recipe: Recipe
    analysis: AnalysisConfig


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated: a run's table with what it lacks (`gaps`), and by which options."""

    recipe: Recipe
    analysis: AnalysisConfig
    table: EvaluationTable
    normalisation: str
    gaps: dict[str, str]
    options: EvaluationOptions


def asked(run: Run, config: EvaluateConfig) -> Asked:
    """Return what an evaluation is made of; the scores of no event are looked at.

    Raises RunError where the table is not there, or not of this run's classes, ConfigError where
    `year` is not the run's, InputError where a section or signal class does not exist.
    """
    run.check_year(config.year)
    bound_threads(cores_of(config.engine))
    recipe = with_class_style(run.recipe, config)
    analysis = analysis_of(recipe, config)
    table, gaps = load_table(run, recipe, config.dataset)
    table, normalisation = normalised(table, analysis)
    options = EvaluationOptions(
        seed=config.seed,
        n_bootstrap=config.n_bootstrap,
        signal_classes=tuple(analysis.signal_classes),
        profile_features=tuple(analysis.profile_features),
        luminosity=analysis.luminosity,
        background_uncertainty=analysis.background_uncertainty,
        sections=_sections(config, gaps),
        n_threads=cores_of(config.engine),
    )
    check_options(table, options)
    return Asked(recipe, analysis, table, normalisation, gaps, options)


def evaluate_dataset(run: Run, config: EvaluateConfig, keeper: Keeper = anew) -> Evaluated:
    """Evaluate one logged table of a run, compared with another run's if `against` is given.

    `keeper` may have sections from before. Raises what `asked` raises.
    """
    what = asked(run, config)
    recipe, analysis, table, gaps = what.recipe, what.analysis, what.table, what.gaps
    options, wanted = what.options, set(what.options.sections)
    curves, variations, comparison = None, None, None
    if "learning_curves" in wanted:
        with _readable(run, "recipe/curves.json"):
            curves = _learning_curves(run, recipe)
    importances, shap, lacking = _of_models(run, recipe, table, options, keeper)
    gaps |= lacking
    if "variations" in wanted:
        signal, of_densities = options.signal_classes, options.of_densities(recipe.classes)
        models = partial(_models, run, recipe)
        make_variations = partial(
            variations_of_table, run, recipe, config.dataset, analysis, options, models
        )
        made_with = {"signal_classes": signal, **of_densities, **options.of_intervals}
        variations, lacking = keeper("variations", made_with, make_variations)
        gaps |= lacking
    if config.against and "comparison" in wanted:
        made_with = {"signal_classes": options.signal_classes, **options.of_intervals}
        compare = partial(_compare, run, config, table, options)
        comparison = keeper("comparison", made_with, compare)
    others = {
        name: other_table(run, recipe, name)
        for name in ("train", "test")
        if name != config.dataset and "over_training" in wanted
    }
    result = evaluate(
        table,
        options,
        train=others.get("train"),
        test=others.get("test"),
        learning_curves=curves,
        importances=importances,
        shap=shap,
        comparison=comparison,
        variations=variations,
        keeper=keeper,
    )
    gaps = {**result.gaps, **gaps}
    return Evaluated(replace(result, gaps=gaps, normalisation=what.normalisation), recipe, analysis)


def _of_models(
    run: Run, recipe: Recipe, table: EvaluationTable, options: EvaluationOptions, keeper: Keeper
) -> tuple[list[metrics.Importance], metrics.ShapSummary | None, dict[str, str]]:
    """Return what models say of their features, as far as it is asked for, and what is lacking.

    Models are opened where something of them is not kept.
    """
    wanted = {"importances", "shap"} & set(options.sections)
    importances: list[metrics.Importance] = []
    shap: metrics.ShapSummary | None = None
    gaps: dict[str, str] = {}
    opened = cache(partial(models_and_matrix, run, recipe, table))

    def permutation() -> metrics.Importance:
        return _permutation(*opened(), table, options)

    def contributions() -> metrics.ShapSummary | None:
        return _shap(run, recipe, *opened(), table, options)

    if "importances" in wanted:
        with _readable(run, "recipe/importances.csv"):
            recorded = _gain(run, recipe)
        if recorded is None:
            gaps["gain importance"] = f"{_kind_of(recipe)} record no gain"
        else:
            importances.append(recorded)
    try:
        if "importances" in wanted:
            made_with: dict[str, Any] = {"seed": options.seed}
            importances.append(keeper("importances", made_with, permutation))
        if "shap" in wanted:
            signal = signal_class(table.names, options.signal_classes)
            shap = keeper("shap", {"seed": options.seed, "signal": signal}, contributions)
            if shap is None:
                gaps["shap"] = f"{_kind_of(recipe)} have no contributions of single features"
    except RunError as error:
        gaps |= dict.fromkeys(wanted, str(error))
    return importances, shap, gaps


@contextmanager
def _readable(run: Run, path: str) -> Iterator[None]:
    """Raise RunError that names a recorded file where reading it fails, whatever is in it."""
    damage = (ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError)
    try:
        yield
    except (*damage, csv.Error) as error:
        said = " ".join(f"{type(error).__name__} {error}".split())[:120]
        raise RunError(
            f"{path} of run {run.run_id} is damaged ({said}): restore it, train again, or leave "
            "out its section by sections=[...]"
        ) from None


def _sections(config: EvaluateConfig, gaps: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is asked for, less what the table can't give."""
    asked = SECTIONS if config.sections is None else config.sections
    return tuple(name for name in asked if name != "calibration" or name not in gaps)


def _kind_of(recipe: Recipe) -> str:
    return f"models of this kind ({kind(recipe.model_kind).TITLE})"


def _gain(run: Run, recipe: Recipe) -> metrics.Importance | None:
    """Return the gain importance, or None for a kind of model that records none."""
    path = run.artifact("recipe/importances.csv", what="importances")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "gain" not in rows[0]:
        return None
    gains = np.zeros((len(recipe.models), len(recipe.features)))
    place = {name: i for i, name in enumerate(recipe.features)}
    for row in rows:
        gains[int(row["fold"]), place[row["feature"]]] = float(row["gain"])
    return metrics.gain_importance(recipe.features, gains)


def _learning_curves(run: Run, recipe: Recipe) -> metrics.LearningCurves | None:
    path = run.artifact("recipe/curves.json", what="learning curves")
    stored: Mapping[str, Mapping[str, list[list[float]]]] = json.loads(
        path.read_text(encoding="utf-8")
    )
    metric = next(n.split("/", 1)[1] for n in stored["0"] if n.startswith("validation/"))
    curves = []
    for model in recipe.models:
        mine = stored[str(model["index"])]
        validation = np.array(mine[f"validation/{metric}"])
        train = np.array(mine.get(f"train/{metric}", np.empty((0, 2))))
        curves.append(
            metrics.LearningCurve(
                fold=model["index"],
                iteration=validation[:, 0].astype(np.int64),
                validation=validation[:, 1],
                train_iteration=train[:, 0].astype(np.int64),
                train=train[:, 1],
                best=model["best_iteration"],
            )
        )
    return metrics.LearningCurves(metric, tuple(curves))


def models_and_matrix(
    run: Run, recipe: Recipe, table: EvaluationTable
) -> tuple[FoldModels, NDArray[np.float32]]:
    """Return the run's models and their features, made again from the untransformed ones."""
    from utils.columns.pipeline import FeaturePipeline, feature_matrix

    pipeline = FeaturePipeline.from_json(recipe.pipeline)
    needed = {*recipe.features} - {*pipeline.outputs} | {*pipeline.inputs}
    lacking = sorted(needed - set(table.features))
    if lacking:
        raise RunError(f"the table has no untransformed feature {', '.join(lacking[:5])}")
    matrix = feature_matrix(table.features, pipeline, recipe.features).astype(np.float32)
    return _models(run, recipe), matrix


def _models(run: Run, recipe: Recipe) -> FoldModels:
    from utils.models import scoring

    texts = [run.model_text(m["index"]) for m in recipe.models]
    where = f"run {run.run_id}"
    return scoring.open_models(recipe.model_kind, texts, recipe.fold, recipe.features, where)


def _permutation(
    models: FoldModels,
    matrix: NDArray[np.float32],
    table: EvaluationTable,
    options: EvaluationOptions,
) -> metrics.Importance:
    from utils.models import scoring

    def score(rows: NDArray[Any], fold: NDArray[Any]) -> NDArray[np.float64]:
        return scoring.score(models, rows, fold.astype(np.int32))

    return metrics.permutation_importance(
        score,
        matrix,
        table.target,
        table.fold,
        models.features,
        n_folds=len(models.models),
        seed=options.seed,
    )


def _shap(
    run: Run,
    recipe: Recipe,
    models: FoldModels,
    matrix: NDArray[np.float32],
    table: EvaluationTable,
    options: EvaluationOptions,
) -> metrics.ShapSummary | None:
    """Return the features' contributions for sampled events, each by the model of its fold.

    None for a kind of model that has none.
    """
    generator = np.random.default_rng([options.seed, 7])
    n = min(SHAP_EVENTS, len(matrix))
    rows = np.sort(generator.choice(len(matrix), n, replace=False))
    n_outputs = 1 if recipe.objective == "binary" else models.n_classes
    parts = np.zeros((n, n_outputs, len(models.features)))
    for index in range(len(models.models)):
        mine = np.flatnonzero(table.fold[rows] == index)
        if not len(mine):
            continue
        found = kind(recipe.model_kind).contributions(
            run.model_text(index), matrix[rows[mine]], options.n_threads
        )
        if found is None:
            return None
        parts[mine] = found
    shown = np.stack(
        [table.features.get(f, matrix[:, i])[rows] for i, f in enumerate(models.features)], axis=1
    )
    signal = signal_class(table.names, options.signal_classes)
    return metrics.shap_summary(models.features, parts, shown, signal)


def _compare(
    run: Run, config: EvaluateConfig, table: EvaluationTable, options: EvaluationOptions
) -> Comparison:
    from utils.formats.runs import open_run

    assert config.against is not None
    other = open_run(config.against)
    theirs, _ = load_table(other, other.recipe, config.dataset)
    mine, its = run.recipe.skims, other.recipe.skims
    if len(theirs.target) != len(table.target) or mine["origin"] != its["origin"]:
        raise RunError(
            f"run {other.run_id} scored {len(theirs.target)} events of {its['train']}, run "
            f"{run.run_id} {len(table.target)} of {mine['train']}: only the same events compare "
            f"(origins {its['origin']} and {mine['origin']})"
        )
    return metrics.compare(table, theirs, options, (run.run_id[:8], other.run_id[:8]))
