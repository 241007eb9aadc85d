"""One call from scored events to everything that figures, page and tracking show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from utils.results.containers import (
    NOT_ASKED,
    SECTIONS,
    Comparison,
    Evaluation,
    EvaluationOptions,
    EvaluationTable,
    Importance,
    LearningCurves,
    RocCurve,
    Scores,
    ShapSummary,
    Significance,
    ThresholdScan,
    View,
)
from utils.results.metrics import distributions, overtraining, performance
from utils.results.metrics.bootstrap import Sums, poisson_sums
from utils.results.metrics.curves import Ranking
from utils.results.metrics.performance import ClassCurves
from utils.results.metrics.scores import SIGNED_NOTE, make_confusion, make_scores, score_terms
from utils.results.metrics.significance import make_significance
from utils.results.metrics.table import class_counts, labelled, made_ready, view_weights, views_of
from utils.schema import InputError, nearest
from utils.system.threads import each


def evaluate(
    table: EvaluationTable,
    options: EvaluationOptions,
    *,
    train: EvaluationTable | None = None,
    test: EvaluationTable | None = None,
    learning_curves: LearningCurves | None = None,
    importances: Sequence[Importance] = (),
    shap: ShapSummary | None = None,
    comparison: Comparison | None = None,
) -> Evaluation:
    """Evaluate one dataset.

    train, test: the training and test sets, for the over-training panel; `table` stands for the
    one it is: the training set if it has in-fold scores or is named 'train', the test set if it is
    named 'test'. What the run recorded (learning_curves, importances, shap) and a comparison with
    another run pass through. Sections that can't be made are left out, with the reason in `gaps`.

    Raises InputError where the table contradicts itself or options name what it lacks.
    """
    fraction = table.fraction
    table, n_dropped = made_ready(table)
    _check_options(table, options)
    if table.infold_proba is not None or table.dataset == "train":
        train = table if train is None else train
    elif table.dataset == "test":
        test = table if test is None else test
    known = labelled(table)
    gaps: dict[str, str] = {}
    parts: dict[str, Any] = {}
    views = views_of(table)
    if table.weight is None:
        gaps["physics"] = "no physics weight is configured"
    wanted = set(options.sections)
    if len(table.target) == 0:
        gaps["densities"] = "no event is left"
    elif "densities" in wanted:
        parts["densities"] = distributions.make_densities(table, views, options.density_bin)
    if len(known.target) == 0:
        gaps["scores"] = "no event of known class: only distributions of scores are made"
    elif wanted & {"scores", "confusion", "roc", "precision_recall", "thresholds", "calibration"}:
        parts |= _performance(known, options, gaps)
    if wanted & {"features", "correlations", "profiles"}:
        parts |= _features(table, options, gaps)
    if "over_training" in wanted:
        reason = overtraining.reason_against(train, test)
        if reason:
            gaps["over_training"] = reason
        else:
            parts["over_training"] = overtraining.make_over_training(train, test, options)
    if "significance" in wanted:
        parts["significance"] = _significance(known, options, gaps)
    recorded: dict[str, Any] = {
        "learning_curves": learning_curves,
        "importances": tuple(importances),
        "shap": shap,
        "comparison": comparison,
    }
    for name, value in recorded.items():
        if not value:
            gaps[name] = _NOT_RECORDED[name]
    gaps |= {name: NOT_ASKED for name in SECTIONS if name not in wanted | {*parts}}
    return Evaluation(
        dataset=table.dataset,
        classes=tuple(table.classes),
        n_events=len(table.target),
        n_dropped=n_dropped,
        n_unlabelled=len(table.target) - len(known.target),
        n_folds=table.n_folds,
        fraction=fraction,
        views=views,
        class_counts=class_counts(table),
        gaps=gaps,
        **parts,
        **recorded,
    )


_NOT_RECORDED = {
    "learning_curves": "the run recorded no learning curves",
    "importances": "the run recorded no importances",
    "shap": "no SHAP values were computed",
    "comparison": "no run to compare with is named (against=...)",
}


def _check_options(table: EvaluationTable, options: EvaluationOptions) -> None:
    for section in options.sections:
        if section not in SECTIONS:
            raise InputError(f"'{section}' is no section; {nearest(section, SECTIONS)}")
    names = [info.name for info in table.classes]
    for signal in options.signal_classes:
        if signal not in names:
            raise InputError(f"signal class '{signal}' is not a class; {nearest(signal, names)}")


def _performance(
    table: EvaluationTable, options: EvaluationOptions, gaps: dict[str, str]
) -> dict[str, Any]:
    """Return the sections that need the true class; `table` is all labelled and not empty."""
    wanted, n_threads = set(options.sections), options.n_threads
    ranked = performance.rank_classes(table, n_threads)
    rankings = [one.ranking for one in ranked]
    terms = score_terms(table.proba, table.target, [r.codes for r in ranked], table.weight)
    bins = None
    if "calibration" in wanted:
        of_bins, bins = performance.calibration_terms(table, rankings, options.n_calibration_bins)
        terms |= of_bins
    n_folds = table.n_folds if table.n_folds > 1 else 0
    sums = poisson_sums(terms, options.n_bootstrap, options.seed, table.fold, n_folds, n_threads)
    views = views_of(table)
    signed = table.weight is not None and bool(np.any(table.weight < 0))
    drawn = {v: performance.make_curves(ranked, v, signed, n_threads) for v in views}
    scores = each(lambda v: make_scores(table, v, sums, drawn[v][1]), views, n_threads)
    for found in scores:
        _curve_gaps(table, found, gaps)
    parts: dict[str, Any] = {"scores": tuple(scores)}
    if "confusion" in wanted:
        parts["confusion"] = tuple(make_confusion(table, view, sums) for view in views)
    if "roc" in wanted:
        rocs: list[RocCurve] = []
        for found in scores:
            # One class against the rest has the same ROC curve whatever the classes weigh.
            rocs.extend(
                [replace(curve, view=found.view) for curve in rocs if curve.view == "balanced"]
                if found.view == "unweighted"
                else performance.make_rocs(drawn[found.view][0], found, sums, n_threads)
            )
        parts["roc"] = tuple(rocs)
    if "precision_recall" in wanted:
        parts["precision_recall"] = tuple(
            curve
            for found in scores
            for curve in performance.make_precision_recalls(
                drawn[found.view][0], found, sums, n_threads
            )
        )
    if "thresholds" in wanted:
        parts["thresholds"] = _thresholds(table, rankings, drawn)
    if bins is not None:
        parts["calibration"] = _calibration(table, sums, bins, gaps)
    return parts


def _thresholds(
    table: EvaluationTable,
    rankings: Sequence[Ranking],
    drawn: Mapping[View, tuple[list[ClassCurves], Any]],
) -> tuple[ThresholdScan, ...]:
    scans = []
    codes = [performance.threshold_codes(ranking) for ranking in rankings]
    for view, (curves, _) in drawn.items():
        weight = view_weights(table, view)
        for c, curve in enumerate(curves):
            positive = table.target == c
            own = performance.one_versus_rest(positive) if view == "balanced" else weight
            if curve.roc is not None:
                scans.append(performance.make_threshold_scan(codes[c], positive, own, view, c))
    return tuple(scans)


def _calibration(
    table: EvaluationTable, sums: Sums, bins: list[Any], gaps: dict[str, str]
) -> tuple[Any, ...]:
    made = performance.make_calibration(table, sums, bins)
    for calibration in made:
        if calibration.error.note:
            name = table.classes[calibration.class_id].name
            gaps[f"calibration/{name}"] = calibration.error.note
    return made


def _curve_gaps(table: EvaluationTable, scores: Scores, gaps: dict[str, str]) -> None:
    for c, info in enumerate(table.classes):
        auc, precision = scores.roc_auc[c], scores.average_precision[c]
        if not np.isfinite(auc.value):
            gaps[f"roc/{scores.view}/{info.name}"] = auc.note
        elif precision.note == SIGNED_NOTE:
            gaps[f"average_precision/{scores.view}"] = SIGNED_NOTE


def _features(
    table: EvaluationTable,
    options: EvaluationOptions,
    gaps: dict[str, str],
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    wanted = {"features", "correlations", "profiles"} & {*options.sections}
    if not table.features or len(table.target) == 0:
        reason = "no event is left" if table.features else "the table has no features"
        gaps |= dict.fromkeys(wanted, reason)
        return parts
    features = {name: distributions.without_filler(v) for name, v in table.features.items()}
    table = replace(table, features=features)
    known = labelled(table)
    if "features" in wanted:
        parts["features"] = distributions.make_feature_distributions(table, options.n_threads)
    if "correlations" in wanted and len(known.target) == 0:
        gaps["correlations"] = "no event of known class"
    elif "correlations" in wanted:
        parts["correlations"] = distributions.make_correlations(known)
    if "profiles" not in wanted:
        return parts
    missing = [name for name in options.profile_features if name not in table.features]
    if missing:
        one = len(missing) == 1
        gaps["profiles"] = (
            f"{', '.join(missing)} {'is' if one else 'are'} not among the table's features"
            + (f"; {nearest(missing[0], table.features)}" if one else "")
        )
    elif not options.profile_features:
        gaps["profiles"] = "profile_features names no feature"
    parts["profiles"] = tuple(
        distributions.make_profile(table, name)
        for name in options.profile_features
        if name in table.features
    )
    return parts


def _significance(
    known: EvaluationTable, options: EvaluationOptions, gaps: dict[str, str]
) -> Significance | None:
    if not options.signal_classes:
        gaps["significance"] = "signal_classes names no class"
    elif len(options.signal_classes) == len(known.classes):
        gaps["significance"] = "every class is a signal: there is no background"
    elif options.luminosity is None:
        gaps["significance"] = "no luminosity is configured"
    elif known.weight is None:
        gaps["significance"] = "yields need a physics weight"
    elif len(known.target) == 0:
        gaps["significance"] = "no event of known class"
    else:
        return make_significance(known, options)
    return None
