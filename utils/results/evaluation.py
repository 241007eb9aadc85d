"""Everything known about one dataset, and the one call that makes it from scored events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from utils.results.events import (
    VIEW_LABELS,
    ClassCounts,
    EvaluationTable,
    View,
    class_counts,
    labelled,
    made_ready,
    score_classes,
    signal_class,
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
from utils.results.metrics.variations import Variations
from utils.results.options import NOT_ASKED, SECTIONS, EvaluationOptions
from utils.schema import ClassInfo, InputError, nearest
from utils.system.threads import each

T = TypeVar("T")


class Keeper(Protocol):
    """Gives a section as it was made before, where what it follows from has not changed.

    That is the tables and `made_with`, the choices it is made with; else `make` makes it.
    """

    def __call__(
        self, section: str, made_with: Mapping[str, Any], make: Callable[[], T], /
    ) -> T: ...


def anew(_section: str, _made_with: Mapping[str, Any], make: Callable[[], T], /) -> T:
    """Make a section: nothing is kept."""
    return make()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything known about one dataset.

    A section that can't be made is empty (or None) and its reason stands in `gaps` under the name
    of the field, e.g. gaps['significance']; a gap of one view or class has a longer key, e.g.
    'average_precision/physics'. n_dropped: filler rows. n_unlabelled: events of unknown true class,
    which enter distributions only. trained_view, signal: see `EvaluationTable`. Tuples with a
    `view` hold one entry per view and score, view by view: a score per class, of two classes one.
    normalisation: a sentence on what yields stand for, '' where there is nothing to say.
    """

    dataset: str
    classes: tuple[ClassInfo, ...]
    n_events: int
    n_dropped: int
    n_unlabelled: int
    n_folds: int
    fraction: float
    views: tuple[View, ...]
    trained_view: View | None = None
    signal: int = 1
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
    variations: Variations | None = None
    gaps: Mapping[str, str] = field(default_factory=dict)
    normalisation: str = ""

    def label(self, view: View) -> str:
        """Return a view in words."""
        return VIEW_LABELS[view] + (" (as trained)" if view == self.trained_view else "")

    def name(self, class_id: int) -> str:
        """Return a class's name for titles and captions, which are plain text."""
        return self.classes[class_id].name if class_id >= 0 else "unlabelled"

    @property
    def binary(self) -> bool:
        """Whether there are two classes, which one score tells apart."""
        return len(self.classes) == 2

    @property
    def score_classes(self) -> tuple[int, ...]:
        """The classes whose probabilities are scores."""
        return score_classes(len(self.classes), self.signal)

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
    variations: Variations | None = None,
    keeper: Keeper = anew,
) -> Evaluation:
    """Evaluate one dataset; `keeper` may have its sections from before.

    train, test: the training and test sets, for the over-training panel; `table` stands for the
    one it is: the training set if it has in-fold scores or is named 'train', the test set if it is
    named 'test'. What the run recorded (learning_curves, importances, shap), a comparison with
    another run and variations pass through. Sections that can't be made are left out, with the
    reason in `gaps`.

    Raises InputError where the table contradicts itself or options name what it lacks.
    """
    fraction = table.fraction
    check_options(table, options)
    signal = signal_class(table.names, options.signal_classes)
    table, n_dropped = made_ready(replace(table, signal=signal))
    train, test = (replace(t, signal=signal) if t else None for t in (train, test))
    if table.infold_proba is not None or table.dataset == "train":
        train = table if train is None else train
    elif table.dataset == "test":
        test = table if test is None else test
    known = labelled(table)
    parts = _Parts(frozenset(options.sections), keeper)
    if table.weight is None:
        parts.gaps["physics"] = "no physics weight is configured"
    _add_performance(parts, known, options)
    _add_features(parts, table, options)
    nothing = "" if len(table.target) else "no event is left"
    of_scores = {"scores of": table.score_classes}
    of_densities = {**of_scores, **options.of_densities(table.classes)}
    views, width = views_of(table), options.density_bin
    parts.add("densities", nothing, of_densities, make_densities, table, views, width)
    reason = overtraining.reason_against(train, test)
    made_with = {**of_densities, **options.of_intervals, **options.of_permutations}
    make = overtraining.make_over_training
    parts.add("over_training", reason, made_with, make, train, test, options)
    reason = reason_against(known, options)
    made_with = {**of_scores, **options.of_significances}
    parts.add("significance", reason, made_with, make_significance, known, options)
    recorded: dict[str, Any] = {
        "learning_curves": learning_curves,
        "importances": tuple(importances),
        "shap": shap,
        "comparison": comparison,
        "variations": variations,
    }
    gaps = parts.gaps | {name: _NOT_RECORDED[name] for name, v in recorded.items() if not v}
    if variations is not None:
        notes = {f"variations/{effect.name}": effect.note for effect in variations.shifts}
        gaps |= {name: note for name, note in notes.items() if note}
    gaps |= {name: NOT_ASKED for name in SECTIONS if name not in {*options.sections, *parts.made}}
    return Evaluation(
        dataset=table.dataset,
        classes=tuple(table.classes),
        n_events=len(table.target),
        n_dropped=n_dropped,
        n_unlabelled=len(table.target) - len(known.target),
        n_folds=table.n_folds,
        fraction=fraction,
        views=views_of(table),
        trained_view=table.trained_view,
        signal=signal,
        class_counts=class_counts(table),
        gaps=gaps,
        **parts.made,
        **recorded,
    )


_NOT_RECORDED = {
    "learning_curves": "the run recorded no learning curves",
    "importances": "the run recorded no importances",
    "shap": "no SHAP values were computed",
    "comparison": "no run to compare with is named (against=...)",
    "variations": "the table has no shifted scores: the analysis declares no variations",
}


def check_options(table: EvaluationTable, options: EvaluationOptions) -> None:
    """Raise InputError where a section or a signal class that options name does not exist."""
    for section in options.sections:
        if section not in SECTIONS:
            raise InputError(f"'{section}' is no section; {nearest(section, SECTIONS)}")
    for signal in options.signal_classes:
        if signal not in table.names:
            known = nearest(signal, table.names)
            raise InputError(f"signal class '{signal}' is not a class; {known}")


@dataclass(frozen=True)
class _Parts:
    """The sections made so far of those `wanted`, and why others are not."""

    wanted: frozenset[str]
    keeper: Keeper
    made: dict[str, Any] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        name: str,
        reason: str,
        made_with: Mapping[str, Any],
        make: Callable[..., Any],
        *arguments: Any,
    ) -> None:
        """Make a section if it is wanted, or have it from before (see `Keeper`).

        reason: why that can't be, '' if it can.
        """
        if name not in self.wanted:
            return
        if reason:
            self.gaps[name] = reason
        else:
            self.made[name] = self.keeper(name, made_with, lambda: make(*arguments))


def _add_features(parts: _Parts, table: EvaluationTable, options: EvaluationOptions) -> None:
    """Add the sections of the features, in which missing values are missing."""
    if not parts.wanted & {"features", "correlations", "profiles"}:
        return
    reason = "" if len(table.target) else "no event is left"
    reason = reason if table.features else "the table has no features"
    table = features.with_gaps(table)
    known = labelled(table)
    make = features.make_feature_distributions
    parts.add("features", reason, {}, make, table, options.n_threads)
    unknown = "" if len(known.target) else "no event of known class"
    parts.add("correlations", reason or unknown, {}, make_correlations, known)
    profiled = options.profile_features
    made_with = {"scores of": table.score_classes, "profile_features": profiled}
    parts.add("profiles", reason, made_with, features.make_profiles, table, profiled)
    missing = features.missing_profiles(table, options.profile_features)
    if "profiles" in parts.made and missing:
        parts.gaps["profiles"] = missing


def _add_performance(parts: _Parts, table: EvaluationTable, options: EvaluationOptions) -> None:
    """Add the sections that need the true class and share a bootstrap; `table`: all labelled."""
    if len(table.target) == 0:
        parts.gaps["scores"] = "no event of known class: only distributions of scores are made"
        return
    wanted = parts.wanted & _OF_ONE_BOOTSTRAP
    if not wanted:
        return
    made_with = {
        "sections": sorted(wanted),
        "scores of": table.score_classes,
        "n_calibration_bins": options.n_calibration_bins,
        **options.of_intervals,
    }
    made, gaps = parts.keeper("scores", made_with, lambda: _performance(table, options, wanted))
    parts.made.update(made)
    parts.gaps.update(gaps)


_OF_ONE_BOOTSTRAP = {
    *("scores", "confusion", "calibration"),
    *("roc", "precision_recall", "thresholds"),
}
"""Sections that are made together: their intervals are of one bootstrap."""


def _performance(
    table: EvaluationTable, options: EvaluationOptions, wanted: Collection[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the numbers of all views, and those of `wanted` that go with them; and the gaps."""
    n_threads, views = options.n_threads, views_of(table)
    ranked = rank_classes(table, n_threads)
    codes = {one.class_id: one.codes for one in ranked}
    terms = score_terms(table.proba, table.target, codes, table.weight)
    bins: dict[int, Bins] = {}
    if "calibration" in wanted:
        rankings = {one.class_id: one.ranking for one in ranked}
        of_bins, bins = calibration_terms(table, rankings, options.n_calibration_bins)
        terms |= of_bins
    n_folds = table.n_folds if table.n_folds > 1 else 0
    sums = poisson_sums(terms, options.n_bootstrap, options.seed, table.fold, n_folds, n_threads)
    curves = {view: make_curves(ranked, view, table.signed, n_threads) for view in views}
    drawn = {view: of_view for view, (of_view, _) in curves.items()}
    scores = each(lambda view: make_scores(table, view, sums, curves[view][1]), views, n_threads)
    gaps: dict[str, str] = {}
    for found in scores:
        gaps.update(_curve_gaps(table, found))
    makers: dict[str, Callable[[], Any]] = {
        "scores": lambda: tuple(scores),
        "confusion": lambda: tuple(make_confusion(table, view, sums) for view in views),
        "roc": lambda: make_rocs(drawn, scores, sums, n_threads),
        "precision_recall": lambda: make_precision_recalls(drawn, scores, sums, n_threads),
        "thresholds": lambda: make_threshold_scans(table, ranked, drawn),
        "calibration": lambda: make_calibration(table, sums, bins),
    }
    made = {name: make() for name, make in makers.items() if name in {"scores", *wanted}}
    for one in made.get("calibration", ()):
        if one.error.note:
            gaps[f"calibration/{table.names[one.class_id]}"] = one.error.note
    return made, gaps


def _curve_gaps(table: EvaluationTable, scores: Scores) -> dict[str, str]:
    gaps = {}
    names = [table.names[c] for c in table.score_classes]
    both = zip(scores.roc_auc, scores.average_precision, strict=True)
    for name, (auc, precision) in zip(names, both, strict=True):
        if not np.isfinite(auc.value):
            gaps[f"roc/{scores.view}/{name}"] = auc.note
        elif precision.note == SIGNED_NOTE:
            gaps[f"average_precision/{scores.view}"] = SIGNED_NOTE
    return gaps
