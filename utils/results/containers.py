"""What an evaluation takes and what it gives: frozen containers, nothing computed.

Shapes: `n` events, `K` classes (= categories), `m` bins, `p` points of a curve, `F` features, `T`
true classes that a figure shows. A category is the set of events whose highest probability is that
class's. Undefined numbers are NaN and a `note` says why. Statistical errors are one standard
deviation; `low` and `high` of an `Estimate` are the ends of its 95 % confidence interval; bands
around curves are 68.3 % pointwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.schema import ClassInfo

View = Literal["balanced", "physics", "unweighted"]
"""How events are weighted: as trained, as expected in data, or each alike."""

VIEWS: tuple[View, ...] = ("balanced", "physics", "unweighted")

VIEW_LABELS: dict[View, str] = {
    "balanced": "class-balanced (as trained)",
    "physics": "physics-weighted",
    "unweighted": "unweighted",
}

SECTIONS = (
    *("densities", "scores", "confusion", "roc", "precision_recall", "thresholds", "calibration"),
    *("significance", "over_training", "features", "correlations", "profiles"),
    *("learning_curves", "importances", "shap", "comparison"),
)
"""Parts of an evaluation that can be asked for: the fields of `Evaluation` that hold results."""

NOT_ASKED = "not asked for"
"""Reason of a gap that was wanted."""

UNLABELLED = -1
"""Class id of events whose true class is unknown."""


# --- what goes in ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class EvaluationTable:
    """The scored events of one dataset.

    classes: in order of their ids, K of them.
    proba (n, K): class probabilities of the model that did not train on the event; NaN in filler
        rows, which an evaluation drops and counts. A binary training gives (1-p, p).
    target (n,): true class id, -1 where unknown.
    fold (n,): fold of each event, i.e. which model scored it; -1 in filler rows.
    weight (n,): physics weight, negative ones allowed; None where the analysis has none.
    train_weight (n,): the weight trained with; None means N/N_class.
    process: (codes (n,), names) or None.
    features: untransformed features by name, (n,) each; may hold NaN.
    infold_proba (n, K): mean score of the models that trained on the event, NaN where none did;
        None outside training.
    dataset: its name, e.g. 'test'.
    fraction: the evaluated fraction of the sample; physics weights are divided by it.
    process_fractions: that of each process by name, in its place where given.
    n_folds: number of models.
    """

    classes: tuple[ClassInfo, ...]
    proba: Floats
    target: Array
    fold: Array
    weight: Floats | None = None
    process: tuple[Array, tuple[str, ...]] | None = None
    features: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    infold_proba: Floats | None = None
    dataset: str = "test"
    fraction: float = 1.0
    process_fractions: Mapping[str, float] = field(default_factory=dict)
    n_folds: int = 1
    train_weight: Floats | None = None


@dataclass(frozen=True)
class EvaluationOptions:
    """Choices of an evaluation.

    signal_classes: names of the classes that are signal; none means no significance.
    profile_features: features (masses) that scores are profiled against.
    background_uncertainty: relative systematic uncertainty of the background yield.
    luminosity: in 1/fb, None where yields are not scaled to one (then no significance).
    n_bootstrap, n_permutations, max_permuted_rows: size of the resampling.
    n_calibration_bins: most bins of a reliability diagram, equally populated by 100 events or more
        (but 5 bins at least).
    density_bin: default width of score bins; a class's `bin_size` comes first.
    sections: what to make, of `SECTIONS`; curves come with the numbers ('scores') of their areas.
    n_threads: threads to work with; no number depends on it.
    """

    seed: int = 1357
    n_bootstrap: int = 200
    n_permutations: int = 500
    max_permuted_rows: int = 50_000
    signal_classes: tuple[str, ...] = ()
    profile_features: tuple[str, ...] = ()
    luminosity: float | None = None
    background_uncertainty: float = 0.1
    n_calibration_bins: int = 20
    density_bin: float = 0.025
    sections: tuple[str, ...] = SECTIONS
    n_threads: int = 1


# --- numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty from the Poisson bootstrap over events.

    value: from all events, exact (not binned). error: standard deviation. low, high: 95 %
    interval. folds: the value in each fold (NaN where undefined), n_folds of them or none.
    note: why something is NaN, or what to keep in mind; '' otherwise.
    """

    value: float
    error: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    folds: tuple[float, ...] = ()
    note: str = ""

    @property
    def fold_spread(self) -> float:
        """Standard deviation of the value over the folds (ddof 1); NaN for fewer than two."""
        known = [v for v in self.folds if np.isfinite(v)]
        return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")


@dataclass(frozen=True)
class Scores:
    """The numbers of one view; per-class tuples have K entries in order of the class ids.

    roc_auc: one class against all others together. roc_auc_macro: mean over the classes that are
    present on both sides. average_precision: step-wise area under the precision-recall curve.
    prevalence: its baseline, the weighted share of the class. log_loss: -ln p of the true class,
    overall and among the events of each class. brier: sum over classes of (p - y)^2, overall and
    each class's term.
    """

    view: View
    roc_auc: tuple[Estimate, ...]
    roc_auc_macro: Estimate
    average_precision: tuple[Estimate, ...]
    prevalence: tuple[float, ...]
    log_loss: Estimate
    log_loss_class: tuple[Estimate, ...]
    brier: Estimate
    brier_class: tuple[Estimate, ...]
    accuracy: Estimate


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Sizes of one true class (id -1: unlabelled).

    n: events. sum_weight: physics weights, in expected events; NaN without weights.
    negative_fraction: share of events with a negative weight. n_effective: (sum w)^2 / sum w^2.
    """

    class_id: int
    n: int
    sum_weight: float
    negative_fraction: float
    n_effective: float


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Confusion matrix of one view; every array is (K, K), [true class, category].

    counts: events. yields, yields_error: sums of weights (physics: expected events) and
    sqrt of the sums of squares. norm_true: each row divided by its sum; norm_pred:
    each column by its; NaN in an empty row or column. *_error, *_low, *_high: bootstrap standard
    deviation and 95 % interval, NaN for rows and columns (of yields: cells) of fewer than five
    events. *_spread: standard deviation over the folds (ddof 1), NaN for fewer than two; for yields
    a fold's sum is taken times the number of folds.
    """

    view: View
    counts: Array
    yields: Floats
    yields_error: Floats
    yields_low: Floats
    yields_high: Floats
    yields_spread: Floats
    norm_true: Floats
    norm_true_error: Floats
    norm_true_low: Floats
    norm_true_high: Floats
    norm_true_spread: Floats
    norm_pred: Floats
    norm_pred_error: Floats
    norm_pred_low: Floats
    norm_pred_high: Floats
    norm_pred_spread: Floats


# --- curves ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RocCurve:
    """ROC curve of one class against all others, thinned to within 1e-3 of the full curve.

    fpr, tpr, threshold (p,): from the strictest threshold (+inf, at 0, 0) to the loosest (at 1, 1);
    with negative weights neither is monotone. tpr_low, tpr_high (p,): band at fixed fpr, NaN where
    there is none. area: of the full curve (pair sum where weights are negative).
    """

    view: View
    class_id: int
    fpr: Floats
    tpr: Floats
    threshold: Floats
    tpr_low: Floats
    tpr_high: Floats
    area: Estimate


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Precision (purity) against recall (efficiency) of one class, thinned like a ROC curve.

    recall, precision, threshold (p,): recall ascending from its first step. precision_low,
    precision_high (p,): band at fixed recall. area: average precision. prevalence: precision of a
    classifier that guesses.
    """

    view: View
    class_id: int
    recall: Floats
    precision: Floats
    threshold: Floats
    precision_low: Floats
    precision_high: Floats
    area: Estimate
    prevalence: float


@dataclass(frozen=True, eq=False)
class ThresholdScan:
    """Efficiency and purity of the selection `probability of the class >= threshold`.

    All arrays (p,); thresholds ascending. efficiency: selected share of the class. purity: share of
    the class among all selected, NaN below five selected events. background_efficiency: selected
    share of all other classes.
    """

    view: View
    class_id: int
    threshold: Floats
    efficiency: Floats
    efficiency_error: Floats
    purity: Floats
    purity_error: Floats
    background_efficiency: Floats


@dataclass(frozen=True, eq=False)
class SignificanceScan:
    """Asimov significance in one category against a cut on the category's probability.

    All arrays (p,); thresholds ascending, the first keeps the whole category. signal, background:
    yields in `luminosity`, with statistical errors. z: without background uncertainty,
    arXiv:1007.1727 eq. 97. z_uncertain: with the background's statistical and relative systematic
    uncertainty (Cowan, 'Discovery sensitivity for a counting experiment with background
    uncertainty', eq. 20). NaN where the background is not positive. z_error: statistical, of z.
    best: index of the highest z_uncertain, None where all are NaN.
    """

    category: int
    threshold: Floats
    signal: Floats
    signal_error: Floats
    background: Floats
    background_error: Floats
    z: Floats
    z_error: Floats
    z_uncertain: Floats
    best: int | None


@dataclass(frozen=True, eq=False)
class Significance:
    """Expected significance of the signal classes together.

    scans: one per category. z, z_uncertain (K,): each category without a cut. combined,
    combined_uncertain: quadrature sum over categories, NaN ones left out.
    """

    signal_classes: tuple[int, ...]
    luminosity: float | None
    background_uncertainty: float
    scans: tuple[SignificanceScan, ...]
    z: Floats
    z_uncertain: Floats
    combined: float
    combined_uncertain: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Reliability of one class's probability, under the weights trained with.

    All arrays (b,), one entry per bin, bins equally populated and ascending. edges (b+1,).
    predicted: mean probability; observed: weighted share of the class, with observed_error (that of
    a right prediction where all or none are of the class); n: events. error: expected
    calibration error, the mean |observed - predicted| over events (its
    interval is the basic bootstrap's, clipped at 0 and widened to hold the value). noise: the error
    that a perfectly calibrated classifier would show with these statistics.
    """

    class_id: int
    edges: Floats
    predicted: Floats
    observed: Floats
    observed_error: Floats
    n: Array
    error: Estimate
    noise: float


# --- distributions --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ScoreDensities:
    """Distributions of a category's probability for the events in it, per true class.

    edges (m+1,). true_classes: T class ids, those with events in the dataset (-1: unlabelled).
    density, density_error (T, m): normalised to unit area within the category, zero where the
    class has no event there. yields, yields_error (T, m): sums of weights (physics: divided by the
    evaluated fraction), for stacking. n (T,): events. Errors from the sums of squared weights.
    """

    view: View
    category: int
    edges: Floats
    true_classes: tuple[int, ...]
    density: Floats
    density_error: Floats
    yields: Floats
    yields_error: Floats
    n: Array


@dataclass(frozen=True, eq=False)
class FeatureDistribution:
    """Distribution of one feature per true class, unit area each, within the central 99.8 %.

    edges (m+1,). true_classes: T ids. density, density_error (T, m). n_missing (T,): events without
    a value, or with a filler for one (see `distributions.without_filler`). integer: the values are
    whole numbers and have a bin each. view: physics where there
    are weights, else unweighted.
    """

    name: str
    view: View
    edges: Floats
    true_classes: tuple[int, ...]
    density: Floats
    density_error: Floats
    n_missing: Array
    integer: bool


@dataclass(frozen=True, eq=False)
class Correlations:
    """Linear correlation coefficients of the features, pairs with a missing value left out.

    matrix (F, F): all classes, class-balanced. per_class: {class id: (F, F)}, NaN where a feature
    is constant.
    """

    names: tuple[str, ...]
    matrix: Floats
    per_class: Mapping[int, Floats]


@dataclass(frozen=True, eq=False)
class ScoreProfile:
    """Mean probability against a feature, per true class: where it bends, cuts sculpt the feature.

    edges (m+1,). true_classes: T ids. mean, error (K, T, m): [probability of class, true class,
    bin], unweighted, error of the mean; NaN in bins with fewer than five events. n (T, m).
    """

    feature: str
    edges: Floats
    true_classes: tuple[int, ...]
    mean: Floats
    error: Floats
    n: Array


# --- over-training --------------------------------------------------------------------------------

Sample3 = Literal["in-fold", "out-of-fold", "test"]


@dataclass(frozen=True, eq=False)
class OverTrainingDensity:
    """A category's probability for its own true class and for the rest, in up to three samples.

    edges (m+1,). of_class, of_rest: {sample name: (density (m,), error (m,))}, unit area, for the
    events that the sample's scores put into the category. Sample names as in `Sample3`.
    """

    category: int
    edges: Floats
    of_class: Mapping[str, tuple[Floats, Floats]]
    of_rest: Mapping[str, tuple[Floats, Floats]]


@dataclass(frozen=True)
class Gap:
    """A difference of a metric between two samples, `first` minus `second`.

    view: balanced, and physics where both samples have weights. metric: 'roc_auc' (class_id given),
    'roc_auc_macro' or 'log_loss'. paired: same events in both.
    """

    view: View
    metric: str
    class_id: int | None
    first: Sample3
    second: Sample3
    paired: bool
    first_value: float
    second_value: float
    difference: Estimate


@dataclass(frozen=True)
class KsTest:
    """Kolmogorov-Smirnov distance between two samples and its permutation p-value.

    class_id: whose probability. of: 'class' for its own events, 'rest' for all others. n: rows used
    of the two samples. p_value: at least 1/(n_permutations + 1).
    """

    class_id: int
    of: Literal["class", "rest"]
    first: Sample3
    second: Sample3
    distance: float
    p_value: float
    n: tuple[int, int]


@dataclass(frozen=True, eq=False)
class OverTraining:
    """In-fold, out-of-fold and test compared; `verdict` is one sentence that says what it means.

    biased: the scores that an analysis uses (out-of-fold) differ from those on the test set beyond
    the interval of class-balanced macro AUC or log-loss; None where there is no test set.
    memorised: in-fold is better than out-of-fold (or, with one fold, test) beyond the interval.
    """

    densities: tuple[OverTrainingDensity, ...]
    gaps: tuple[Gap, ...]
    ks: tuple[KsTest, ...]
    memorised: bool | None
    biased: bool | None
    verdict: str


# --- what the model uses --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """One fold's training: iteration, train and validation (p,) values; best: best iteration.

    train is empty where it was not recorded at the validation's iterations: then `train_iteration`
    says where it was.
    """

    fold: int
    iteration: Array
    validation: Floats
    train_iteration: Array
    train: Floats
    best: int


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """Learning curves of all folds; `metric` is the training's name of the quantity."""

    metric: str
    curves: tuple[LearningCurve, ...]


@dataclass(frozen=True, eq=False)
class Importance:
    """Importance of each feature in each fold.

    kind: 'gain' (share of the total gain) or 'permutation' (increase of the class-balanced log-loss
    when the feature is shuffled on the left-out fold). values (n_folds, F), NaN for a fold without
    events. unit: axis title.
    """

    kind: Literal["gain", "permutation"]
    features: tuple[str, ...]
    values: Floats
    unit: str

    @property
    def mean(self) -> Floats:
        """Mean over folds, (F,)."""
        known = np.isfinite(self.values)
        total = np.where(known, self.values, 0.0).sum(axis=0)
        count = known.sum(axis=0)
        mean: Floats = np.full(total.shape, np.nan)
        np.divide(total, count, out=mean, where=count > 0)
        return mean

    @property
    def spread(self) -> Floats:
        """Standard deviation over folds (ddof 1), (F,); NaN for fewer than two folds."""
        known = np.isfinite(self.values)
        count = known.sum(axis=0)
        squares = (np.where(known, self.values - self.mean, 0.0) ** 2).sum(axis=0)
        variance: Floats = np.full(squares.shape, np.nan)
        np.divide(squares, count - 1, out=variance, where=count > 1)
        return np.asarray(np.sqrt(variance))


@dataclass(frozen=True, eq=False)
class ShapSummary:
    """SHAP values (the models' own contributions, raw-score units) of sampled events.

    values (K, F, s), feature_values (F, s) untransformed or as the model sees them, s events.
    mean_abs (K, F): mean |value|.
    """

    features: tuple[str, ...]
    values: NDArray[Any]
    feature_values: NDArray[Any]
    mean_abs: Floats


# --- two runs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparedMetric:
    """One metric in two runs on the same events; difference is `a` minus `b`.

    higher_is_better: which sign favours `a`. verdict: e.g. 'a is better by 0.012 [0.008, 0.016]'.
    """

    metric: str
    view: View
    class_id: int | None
    a: float
    b: float
    difference: Estimate
    higher_is_better: bool
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two runs: the same bootstrap weights for both.

    a, b: names of the runs. verdict: one sentence on the headline metric.
    """

    a: str
    b: str
    dataset: str
    n_events: int
    metrics: tuple[ComparedMetric, ...]
    verdict: str


# --- all of it ------------------------------------------------------------------------------------


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

    def view(self, view: View) -> Scores | None:
        """Return the numbers of one view, None where it does not exist."""
        return next((s for s in self.scores if s.view == view), None)
