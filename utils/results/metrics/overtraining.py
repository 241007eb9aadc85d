"""Over-training: scores of trained-on events, of left-out events, and of the test set compared.

An in-fold score is the mean of the models that trained on the event, an out-of-fold score that of
the one model that did not; analyses use the latter. In-fold above out-of-fold is memory: it costs
performance but biases nothing. Out-of-fold unlike test is bias, and that is what must not be. The
verdict rests on gaps of class-balanced AUC and log-loss with bootstrap intervals; the
Kolmogorov-Smirnov p-values stand beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from utils.columns.arrays import Floats
from utils.results.estimates import Estimate, class_note
from utils.results.events import (
    VIEWS,
    EvaluationTable,
    View,
    labelled,
    made_ready,
    views_of,
    with_infold_scores,
)
from utils.results.histograms import fill
from utils.results.metrics.bootstrap import Term, poisson_sums
from utils.results.metrics.densities import score_edges
from utils.results.metrics.kolmogorov import KsTest, Scored, ScoreSet, ks_tests, paired
from utils.results.metrics.one_versus_rest import full_areas, rank_classes
from utils.results.metrics.scores import ExactAreas, ViewMetrics, score_terms, view_metrics
from utils.results.options import EvaluationOptions

Density = tuple[Floats, Floats]
"""Unit-area density and its error, (m,) each."""


@dataclass(frozen=True, eq=False)
class OverTrainingDensity:
    """A category's probability for its own true class and for the rest, in up to three samples.

    edges (m+1,). of_class, of_rest: {sample name: (density (m,), error (m,))}, unit area, for the
    events that the sample's scores put into the category (of two classes: all). Sample names as in
    `ScoreSet`.
    """

    category: int
    edges: Floats
    of_class: Mapping[str, Density]
    of_rest: Mapping[str, Density]


@dataclass(frozen=True)
class Gap:
    """A difference of a metric between two samples, `first` minus `second`.

    view: balanced, and physics where both samples have weights. metric: 'roc_auc' (class_id given,
    of more than two classes), 'roc_auc_macro' or 'log_loss'. paired: same events in both.
    """

    view: View
    metric: str
    class_id: int | None
    first: ScoreSet
    second: ScoreSet
    paired: bool
    first_value: float
    second_value: float
    difference: Estimate


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


@dataclass(frozen=True, eq=False)
class _Set(Scored):
    """One set of scores with the metrics that gaps are made of, by view."""

    metrics: Mapping[View, ViewMetrics]


def make_over_training(
    train: EvaluationTable | None, test: EvaluationTable | None, options: EvaluationOptions
) -> OverTraining:
    """Return densities, gaps, Kolmogorov-Smirnov tests and the verdict.

    train: the training set, with in-fold scores (with one fold its scores are in-fold themselves).
    test: events that no model trained on. Either may be None, but two sets of scores must remain
    (see `reason_against`).
    """
    sets = [*_training_sets(train, options), *_test_sets(test, options)]
    table = train if train is not None else test
    assert table is not None
    gaps: list[Gap] = []
    tests: list[KsTest] = []
    for a, b in itertools.pairwise(sets):
        for view in (v for v in VIEWS if v in a.metrics and v in b.metrics):
            gaps.extend(_gaps(a, b, table, view))
        tests.extend(ks_tests(a, b, table.score_classes, options))
    densities = tuple(_density(sets, table, c, options.density_bin) for c in table.score_classes)
    memorised, biased, verdict = _verdict(gaps, table.area_name)
    return OverTraining(densities, tuple(gaps), tuple(tests), memorised, biased, verdict)


def reason_against(train: EvaluationTable | None, test: EvaluationTable | None) -> str:
    """Return why there is nothing to compare, '' if there is."""
    if train is None:
        return "the training set's scores are not given"
    if len(labelled(train).target) == 0 or (test is not None and len(labelled(test).target) == 0):
        return "no event of known class in the training or test set"
    if test is None and (train.infold_proba is None or train.n_folds == 1):
        return (
            "one set of scores only: the training set's in-fold scores and the test set are missing"
        )
    return ""


def _training_sets(train: EvaluationTable | None, options: EvaluationOptions) -> list[_Set]:
    """Return the in-fold and the out-of-fold set; with one fold the scores are in-fold ones."""
    if train is None:
        return []
    train = with_infold_scores(labelled(made_ready(train)[0]))
    scores: dict[ScoreSet, Floats] = {}
    if train.n_folds == 1:
        scores["in-fold"] = train.proba
    else:
        if train.infold_proba is not None:
            scores["in-fold"] = np.asarray(train.infold_proba, dtype=np.float64)
        scores["out-of-fold"] = train.proba
    return _score_sets(scores, train, [options.seed, 1], options)


def _test_sets(test: EvaluationTable | None, options: EvaluationOptions) -> list[_Set]:
    if test is None:
        return []
    test = labelled(made_ready(test)[0])
    return _score_sets({"test": test.proba}, test, [options.seed, 2], options)


def _score_sets(
    scores: Mapping[ScoreSet, Floats],
    table: EvaluationTable,
    seed: list[int],
    options: EvaluationOptions,
) -> list[_Set]:
    """Return the sets of one table: bootstrapped together, so that they are paired."""
    k, n_threads = len(table.classes), options.n_threads
    views = [view for view in views_of(table) if view != "unweighted"]
    terms: dict[str, Term] = {}
    areas: dict[tuple[ScoreSet, View], ExactAreas] = {}
    for name, proba in scores.items():
        ranked = rank_classes(replace(table, proba=proba), n_threads)
        codes = {one.class_id: one.codes for one in ranked}
        terms |= score_terms(proba, table.target, codes, table.weight, f"{name}:", brier=False)
        for view in views:
            full = [one.curves(view, precision=False) for one in ranked]
            areas[name, view] = full_areas(full)
    sums = poisson_sums(terms, options.n_bootstrap, seed, n_threads=n_threads)

    def metrics(name: ScoreSet, view: View) -> ViewMetrics:
        return view_metrics(sums, k, view, areas[name, view], f"{name}:", precision=False)

    return [
        _Set(name, proba, table.target, {view: metrics(name, view) for view in views})
        for name, proba in scores.items()
    ]


def _gaps(a: _Set, b: _Set, table: EvaluationTable, view: View) -> Iterator[Gap]:
    notes = []
    for class_id, name in enumerate(table.names):
        own = [int((s.target == class_id).sum()) for s in (a, b)]
        rest = [len(s.target) - n for s, n in zip((a, b), own, strict=True)]
        notes.append(class_note(min(own), min(rest), name))
    note_of_all = next((note for note in notes if note), "")
    rows: list[tuple[str, int | None, str]] = []
    if not table.binary:  # whose one area is the mean
        rows += [("roc_auc", c, note) for c, note in enumerate(notes)]
    rows += [("roc_auc_macro", None, note_of_all), ("log_loss", None, note_of_all)]
    for metric, c, note in rows:
        found = a.metrics[view].minus(b.metrics[view], metric, c, note=note)
        yield Gap(view, metric, c, a.name, b.name, paired(a.name, b.name), *found)


def _density(
    sets: list[_Set], table: EvaluationTable, category: int, default_bin: float
) -> OverTrainingDensity:
    chosen = []
    for s in sets:
        inside = replace(table, proba=s.proba).selected(category)
        chosen.append((inside & (s.target == category), inside & (s.target != category)))
    sizes = np.array([np.count_nonzero(rows) for both in chosen for rows in both])
    # The smallest decides: all are compared with each other.
    smallest = np.sort(sizes[sizes > 0])[:1]
    edges = score_edges(table, category, default_bin, smallest)
    of_class: dict[str, Density] = {}
    of_rest: dict[str, Density] = {}
    for s, (own, rest) in zip(sets, chosen, strict=True):
        of_class[s.name] = fill(s.proba[own, category], edges).density(edges)
        # Every class of the rest counts alike, so that samples of other mixture compare.
        of_each = np.maximum(np.bincount(s.target, minlength=s.proba.shape[1]), 1)
        weight = 1.0 / of_each[s.target[rest]]
        of_rest[s.name] = fill(s.proba[rest, category], edges, weight).density(edges)
    return OverTrainingDensity(category, edges, of_class, of_rest)


# --- verdict -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judgement:
    """How the first of two sets does: better, different (None: unknown), and the numbers."""

    better: bool
    differs: bool | None
    text: str


def _verdict(gaps: list[Gap], area: str) -> tuple[bool | None, bool | None, str]:
    """Return memorised, biased and the sentence, from the gaps of AUC (`area`) and log-loss."""
    if direct := _judged(gaps, "in-fold", "test", area):
        memorised = None if direct.differs is None else direct.better
        return memorised, None, _of_one_fold(direct)
    sentences = []
    memorised = biased = None
    if memory := _judged(gaps, "in-fold", "out-of-fold", area):
        memorised = None if memory.differs is None else memory.better
        sentences.append(_of_memory(memory))
    if bias := _judged(gaps, "out-of-fold", "test", area):
        biased = bias.differs
        sentences.append(_of_bias(bias))
    if not sentences:
        return None, None, "No verdict: nothing to compare."
    joint = "; ".join(sentences)
    return memorised, biased, joint[0].upper() + joint[1:] + "."


def _of_one_fold(found: _Judgement) -> str:
    if found.differs is None:
        return f"No verdict: {found.text}."
    if found.better:
        return (
            f"With one fold the models do better on the events they trained on than on the "
            f"test set ({found.text}): use their scores on events that were not trained on only."
        )
    if found.differs:
        return (
            f"With one fold the models do worse on the events they trained on than on the "
            f"test set ({found.text}), which is not over-training: find out in what the two "
            "sets differ (of ten trainings where they do not, up to one looks like this)."
        )
    return (
        f"No over-training is seen: scores of trained-on events and of the test set "
        f"agree within the intervals ({found.text})."
    )


def _of_memory(found: _Judgement) -> str:
    if found.differs is None:
        return f"there is no verdict on memory, {found.text}"
    what = "remember" if found.better else "show no memory of"
    return f"the models {what} their training events ({found.text})"


def _of_bias(found: _Judgement) -> str:
    if found.differs is None:
        return f"there is no verdict on bias, {found.text}"
    scores = "out-of-fold scores, those an analysis uses,"
    if not found.differs:
        return f"{scores} agree with the test set ({found.text})"
    return (
        f"{scores} are {'better' if found.better else 'worse'} than on the test set "
        f"({found.text}): find out why (of ten trainings without bias up to one looks like this)"
    )


def _judged(gaps: list[Gap], first: ScoreSet, second: ScoreSet, area: str) -> _Judgement | None:
    """Return how `first` does against `second`, None where they were not compared."""
    found = {
        g.metric: g.difference
        for g in gaps
        if (g.view, g.first, g.second) == ("balanced", first, second) and g.class_id is None
    }
    if not found:
        return None
    auc, loss = found["roc_auc_macro"], found["log_loss"]
    if not (np.isfinite(auc.low) and np.isfinite(loss.low)):
        return _Judgement(False, None, auc.note or loss.note or "the metrics are undefined")
    text = f"{area} {_interval(auc)}, log-loss {_interval(loss)}"
    better = auc.low > 0 or loss.high < 0
    return _Judgement(better, better or auc.high < 0 or loss.low > 0, text)


def _interval(e: Estimate) -> str:
    return f"{e.value:+.4f} [{e.low:+.4f}, {e.high:+.4f}]"
