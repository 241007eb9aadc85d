"""One call from scored events to everything that figures, page and tracking show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from utils.metrics import distributions, overtraining, performance
from utils.metrics.bootstrap import Sums, poisson_sums
from utils.metrics.results import (
    Comparison,
    Evaluation,
    EvaluationOptions,
    EvaluationTable,
    Importance,
    LearningCurves,
    PrecisionRecallCurve,
    RocCurve,
    Scores,
    ShapSummary,
    Significance,
    ThresholdScan,
)
from utils.metrics.scores import SIGNED_NOTE, make_confusion, make_scores, score_terms
from utils.metrics.significance import make_significance
from utils.metrics.table import class_counts, labelled, view_weights, views_of, without_fillers
from utils.schema import InputError, nearest


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
    table, n_dropped = without_fillers(table)
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
    if len(table.target) == 0:
        gaps["densities"] = "no event is left"
    else:
        parts["densities"] = tuple(
            density
            for view in views
            for density in distributions.make_densities(table, view, options.density_bin)
        )
    if len(known.target) == 0:
        gaps["scores"] = "no event of known class: only distributions of scores are made"
    else:
        parts |= _performance(known, options, gaps)
    parts |= _features(table, known, options, gaps)
    parts["over_training"] = None
    reason = overtraining.reason_against(train, test)
    if reason:
        gaps["over_training"] = reason
    else:
        parts["over_training"] = overtraining.make_over_training(train, test, options)
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
    return Evaluation(
        dataset=table.dataset,
        classes=tuple(table.classes),
        n_events=len(table.target),
        n_dropped=n_dropped,
        n_unlabelled=len(table.target) - len(known.target),
        n_folds=table.n_folds,
        fraction=table.fraction,
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
    names = [info.name for info in table.classes]
    for signal in options.signal_classes:
        if signal not in names:
            raise InputError(f"signal class '{signal}' is not a class; {nearest(signal, names)}")
    if not 0 < table.fraction <= 1:
        raise InputError(
            f"dataset '{table.dataset}': the evaluated fraction is {table.fraction}: "
            "it must be above 0 and at most 1"
        )


def _performance(
    table: EvaluationTable, options: EvaluationOptions, gaps: dict[str, str]
) -> dict[str, Any]:
    """Return the sections that need the true class; `table` is all labelled and not empty."""
    ranked = performance.rank_classes(table)
    terms = score_terms(table.proba, table.target, [r.codes for r in ranked], table.weight)
    calibration_terms, bins = performance.calibration_terms(table, options.n_calibration_bins)
    n_folds = table.n_folds if table.n_folds > 1 else 0
    sums = poisson_sums(
        {**terms, **calibration_terms}, options.n_bootstrap, options.seed, table.fold, n_folds
    )
    scores: list[Scores] = []
    rocs: list[RocCurve] = []
    prs: list[PrecisionRecallCurve] = []
    scans: list[ThresholdScan] = []
    signed = table.weight is not None and bool(np.any(table.weight < 0))
    passing = [performance.threshold_codes(p) for p in table.proba.T]
    for view in views_of(table):
        full_rocs, full_prs, areas = performance.full_curves(ranked, view, signed)
        found = make_scores(table, view, sums, areas)
        scores.append(found)
        if view == "unweighted":
            # One class against the rest has the same ROC curve whatever the classes weigh.
            rocs.extend([replace(curve, view=view) for curve in rocs if curve.view == "balanced"])
        else:
            rocs.extend(performance.make_rocs(full_rocs, found, sums))
        prs.extend(performance.make_precision_recalls(full_prs, found, sums))
        _curve_gaps(table, found, gaps)
        weight = view_weights(table, view)
        for c, codes in enumerate(passing):
            positive = table.target == c
            own = performance.one_versus_rest(positive) if view == "balanced" else weight
            if full_rocs[c] is not None:
                scans.append(performance.make_threshold_scan(codes, positive, own, view, c))
    return {
        "scores": tuple(scores),
        "roc": tuple(rocs),
        "precision_recall": tuple(prs),
        "thresholds": tuple(scans),
        "confusion": tuple(make_confusion(table, view, sums) for view in views_of(table)),
        "calibration": _calibration(table, sums, bins, gaps),
    }


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
    known: EvaluationTable,
    options: EvaluationOptions,
    gaps: dict[str, str],
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if not table.features or len(table.target) == 0:
        reason = "no event is left" if table.features else "the table has no features"
        gaps |= {"features": reason, "correlations": reason, "profiles": reason}
        return parts
    parts["features"] = distributions.make_feature_distributions(table)
    if len(known.target):
        parts["correlations"] = distributions.make_correlations(known)
    else:
        gaps["correlations"] = "no event of known class"
    missing = [name for name in options.profile_features if name not in table.features]
    if missing:
        gaps["profiles"] = (
            f"'{missing[0]}' is not among the table's features; "
            f"{nearest(missing[0], table.features)}"
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
