"""Everything known about one dataset, and the one call that makes it from scored events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from utils.results.events import (
    VIEW_LABELS,
    ClassCounts,
    EvaluationTable,
    View,
    class_counts,
    labelled,
    made_ready,
    views_of,
)
from utils.results.metrics import features, overtraining
from utils.results.metrics.bootstrap import poisson_sums
from utils.results.metrics.calibration import Bins, Calibration, calibration_terms, make_calibration
from utils.results.metrics.comparison import Comparison
from utils.results.metrics.confusion import ConfusionMatrix, make_confusion
from utils.results.metrics.correlations import Correlations, make_correlations
from utils.results.metrics.densities import ScoreDensities, make_densities
from utils.results.metrics.features import FeatureDistribution, ScoreProfile
from utils.results.metrics.importance import Importance, LearningCurves, ShapSummary
from utils.results.metrics.one_versus_rest import (
    PrecisionRecallCurve,
    RocCurve,
    make_curves,
    make_precision_recalls,
    make_rocs,
    rank_classes,
)
from utils.results.metrics.overtraining import OverTraining
from utils.results.metrics.scores import SIGNED_NOTE, Scores, make_scores, score_terms
from utils.results.metrics.significance import Significance, make_significance, reason_against
from utils.results.metrics.thresholds import ThresholdScan, make_threshold_scans
from utils.results.options import NOT_ASKED, SECTIONS, EvaluationOptions
from utils.schema import ClassInfo, InputError, nearest
from utils.system.threads import each


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything known about one dataset.

    A section that can't be made is empty (or None) and its reason stands in `gaps` under the name
    of the field, e.g. gaps['significance']; a gap of one view or class has a longer key, e.g.
    'average_precision/physics'. n_dropped: filler rows. n_unlabelled: events of unknown true class,
    which enter distributions only. Tuples with a `view` hold one entry per view and class, view by
    view.
    """

    dataset: str
    classes: tuple[ClassInfo, ...]
    n_events: int
    n_dropped: int
    n_unlabelled: int
    n_folds: int
    fraction: float
    views: tuple[View, ...]
    class_counts: tuple[ClassCounts, ...] = ()
    scores: tuple[Scores, ...] = ()
    confusion: tuple[ConfusionMatrix, ...] = ()
    densities: tuple[ScoreDensities, ...] = ()
    roc: tuple[RocCurve, ...] = ()
    precision_recall: tuple[PrecisionRecallCurve, ...] = ()
    thresholds: tuple[ThresholdScan, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    significance: Significance | None = None
    over_training: OverTraining | None = None
    features: tuple[FeatureDistribution, ...] = ()
    correlations: Correlations | None = None
    profiles: tuple[ScoreProfile, ...] = ()
    learning_curves: LearningCurves | None = None
    importances: tuple[Importance, ...] = ()
    shap: ShapSummary | None = None
    comparison: Comparison | None = None
    gaps: Mapping[str, str] = field(default_factory=dict)

    def label(self, view: View) -> str:
        """Return a view in words."""
        return VIEW_LABELS[view] + (" (as trained)" if view == "balanced" else "")

    def name(self, class_id: int) -> str:
        """Return a class's name for titles and captions, which are plain text."""
        return self.classes[class_id].name if class_id >= 0 else "unlabelled"

    @property
    def main_view(self) -> View:
        """The view that numbers are given in where nothing else is said."""
        return self.views[0] if self.views else "unweighted"

    @property
    def expected_view(self) -> View:
        """The view of what is expected in data, as far as there are weights."""
        return "physics" if "physics" in self.views else self.main_view

    @property
    def shown_views(self) -> list[View]:
        """The views that are drawn."""
        return list(dict.fromkeys([self.main_view, self.expected_view]))

    def view(self, view: View) -> Scores | None:
        """Return the numbers of one view, None where it does not exist."""
        return next((s for s in self.scores if s.view == view), None)


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
    if table.weight is None:
        gaps["physics"] = "no physics weight is configured"
    recorded: dict[str, Any] = {
        "learning_curves": learning_curves,
        "importances": tuple(importances),
        "shap": shap,
        "comparison": comparison,
    }
    parts = {
        **_performance(known, options, gaps),
        **_features(table, options, gaps),
        **_made(options, gaps, _sections(table, known, train, test, options)),
    }
    gaps |= {name: _NOT_RECORDED[name] for name, value in recorded.items() if not value}
    gaps |= {name: NOT_ASKED for name in SECTIONS if name not in {*options.sections, *parts}}
    return Evaluation(
        dataset=table.dataset,
        classes=tuple(table.classes),
        n_events=len(table.target),
        n_dropped=n_dropped,
        n_unlabelled=len(table.target) - len(known.target),
        n_folds=table.n_folds,
        fraction=fraction,
        views=views_of(table),
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

Section = tuple[str, str, Callable[[], Any]]
"""Name of a part of an evaluation, why it can't be made ('' if it can), and what makes it."""


def _check_options(table: EvaluationTable, options: EvaluationOptions) -> None:
    for section in options.sections:
        if section not in SECTIONS:
            raise InputError(f"'{section}' is no section; {nearest(section, SECTIONS)}")
    for signal in options.signal_classes:
        if signal not in table.names:
            known = nearest(signal, table.names)
            raise InputError(f"signal class '{signal}' is not a class; {known}")


def _made(
    options: EvaluationOptions, gaps: dict[str, str], sections: Sequence[Section]
) -> dict[str, Any]:
    """Return the sections that are asked for and can be made; the others' reasons go to `gaps`."""
    wanted = [section for section in sections if section[0] in options.sections]
    gaps |= {name: reason for name, reason, _ in wanted if reason}
    return {name: make() for name, reason, make in wanted if not reason}


def _sections(
    table: EvaluationTable,
    known: EvaluationTable,
    train: EvaluationTable | None,
    test: EvaluationTable | None,
    options: EvaluationOptions,
) -> list[Section]:
    """Return the sections that need nothing of each other; `known`: the labelled events."""
    nothing_left = "" if len(table.target) else "no event is left"
    return [
        (
            "densities",
            nothing_left,
            lambda: make_densities(table, views_of(table), options.density_bin),
        ),
        (
            "over_training",
            overtraining.reason_against(train, test),
            lambda: overtraining.make_over_training(train, test, options),
        ),
        (
            "significance",
            reason_against(known, options),
            lambda: make_significance(known, options),
        ),
    ]


def _features(
    table: EvaluationTable, options: EvaluationOptions, gaps: dict[str, str]
) -> dict[str, Any]:
    """Return the sections of the features, each without its fillers."""
    nothing = "" if len(table.target) else "no event is left"
    nothing = nothing if table.features else "the table has no features"
    if not nothing and {"features", "correlations", "profiles"} & {*options.sections}:
        known = {name: features.without_filler(v) for name, v in table.features.items()}
        table = replace(table, features=known)
    all_known = labelled(table)
    profiled = [name for name in options.profile_features if name in table.features]
    parts = _made(
        options,
        gaps,
        [
            (
                "features",
                nothing,
                lambda: features.make_feature_distributions(table, options.n_threads),
            ),
            (
                "correlations",
                nothing or ("" if len(all_known.target) else "no event of known class"),
                lambda: make_correlations(all_known),
            ),
            (
                "profiles",
                nothing,
                lambda: tuple(features.make_profile(table, name) for name in profiled),
            ),
        ],
    )
    if "profiles" in parts and (reason := _profile_gap(table, options.profile_features)):
        gaps["profiles"] = reason
    return parts


def _profile_gap(table: EvaluationTable, wanted: Sequence[str]) -> str:
    """Return why some profiles are missing, '' if none is."""
    if not wanted:
        return "profile_features names no feature"
    missing = [name for name in wanted if name not in table.features]
    if len(missing) == 1:
        near = nearest(missing[0], table.features)
        return f"{missing[0]} is not among the table's features; {near}"
    return f"{', '.join(missing)} are not among the table's features" if missing else ""


def _performance(
    table: EvaluationTable, options: EvaluationOptions, gaps: dict[str, str]
) -> dict[str, Any]:
    """Return the sections that need the true class and share a bootstrap; `table`: labelled."""
    sections = {"scores", "confusion", "roc", "precision_recall", "thresholds", "calibration"}
    if len(table.target) == 0:
        gaps["scores"] = "no event of known class: only distributions of scores are made"
        return {}
    if not sections & {*options.sections}:
        return {}
    n_threads, views = options.n_threads, views_of(table)
    ranked = rank_classes(table, n_threads)
    terms = score_terms(table.proba, table.target, [r.codes for r in ranked], table.weight)
    bins: list[Bins] = []
    if "calibration" in options.sections:
        rankings = [one.ranking for one in ranked]
        of_bins, bins = calibration_terms(table, rankings, options.n_calibration_bins)
        terms |= of_bins
    n_folds = table.n_folds if table.n_folds > 1 else 0
    sums = poisson_sums(terms, options.n_bootstrap, options.seed, table.fold, n_folds, n_threads)
    drawn, areas = {}, {}
    for view in views:
        drawn[view], areas[view] = make_curves(ranked, view, table.signed, n_threads)
    scores = each(lambda view: make_scores(table, view, sums, areas[view]), views, n_threads)
    for found in scores:
        _curve_gaps(table, found, gaps)

    def rocs() -> tuple[RocCurve, ...]:
        made: dict[View, tuple[RocCurve, ...]] = {
            s.view: make_rocs(drawn[s.view], s, sums, n_threads)
            for s in scores
            if s.view != "unweighted"
        }
        # One class against the rest has the same ROC curve whatever the classes weigh.
        made["unweighted"] = tuple(replace(c, view="unweighted") for c in made["balanced"])
        return tuple(curve for view in views for curve in made[view])

    def precision_recalls() -> tuple[PrecisionRecallCurve, ...]:
        made = (make_precision_recalls(drawn[s.view], s, sums, n_threads) for s in scores)
        return tuple(curve for of_view in made for curve in of_view)

    parts = _made(
        options,
        gaps,
        [
            ("confusion", "", lambda: tuple(make_confusion(table, v, sums) for v in views)),
            ("roc", "", rocs),
            ("precision_recall", "", precision_recalls),
            ("thresholds", "", lambda: make_threshold_scans(table, ranked, drawn)),
            ("calibration", "", lambda: make_calibration(table, sums, bins)),
        ],
    )
    for one in parts.get("calibration", ()):
        if one.error.note:
            gaps[f"calibration/{table.names[one.class_id]}"] = one.error.note
    return {"scores": tuple(scores), **parts}


def _curve_gaps(table: EvaluationTable, scores: Scores, gaps: dict[str, str]) -> None:
    for name, auc, precision in zip(
        table.names, scores.roc_auc, scores.average_precision, strict=True
    ):
        if not np.isfinite(auc.value):
            gaps[f"roc/{scores.view}/{name}"] = auc.note
        elif precision.note == SIGNED_NOTE:
            gaps[f"average_precision/{scores.view}"] = SIGNED_NOTE
