"""Two runs on the same events: which is better, by how much, and is that more than chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from utils.results.estimates import NO_INTERVAL, Estimate, class_notes
from utils.results.events import (
    EvaluationTable,
    View,
    labelled,
    made_ready,
    signal_class,
    views_of,
)
from utils.results.metrics.bootstrap import Term, poisson_sums
from utils.results.metrics.one_versus_rest import full_areas, rank_classes
from utils.results.metrics.scores import (
    SIGNED_NOTE,
    ExactAreas,
    ViewMetrics,
    score_terms,
    view_metrics,
)
from utils.results.options import EvaluationOptions
from utils.schema import InputError


@dataclass(frozen=True)
class ComparedMetric:
    """One metric in two runs on the same events; difference is `a` minus `b`.

    class_id: None for a number of all classes, or of the one score of two.

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


_HIGHER_IS_BETTER = {
    "roc_auc_macro": True,
    "roc_auc": True,
    "average_precision": True,
    "accuracy": True,
    "log_loss": False,
    "brier": False,
}
_PER_CLASS = ("roc_auc", "average_precision")


def compare(
    a: EvaluationTable,
    b: EvaluationTable,
    options: EvaluationOptions,
    names: tuple[str, str] = ("this run", "the other run"),
) -> Comparison:
    """Return the paired comparison of two tables of the same events in the same order.

    The same bootstrap multiplicities weigh both, so that what they share cancels. Rows that either
    lacks (fillers) are dropped from both. Raises InputError where targets or classes differ.
    """
    _check_same(a, b)
    a, b = (replace(t, signal=signal_class(t.names, options.signal_classes)) for t in (a, b))
    usable = np.isfinite(a.proba).all(axis=1) & np.isfinite(b.proba).all(axis=1)
    filler = np.where(usable, 0.0, np.nan)[:, None]
    # Fillers of one become fillers of both; features play no part here.
    a, b = (
        labelled(made_ready(replace(t, proba=t.proba + filler, features={}))[0]) for t in (a, b)
    )
    if len(a.target) == 0:
        raise InputError(f"dataset '{a.dataset}': no event of known class is scored by both runs")
    terms: dict[str, Term] = {}
    areas: dict[tuple[str, View], ExactAreas] = {}
    for key, table in (("a:", a), ("b:", replace(b, weight=a.weight))):
        ranked = rank_classes(table, options.n_threads)
        codes = {one.class_id: one.codes for one in ranked}
        terms |= score_terms(table.proba, table.target, codes, a.weight, key)
        for view in views_of(a):
            precision = not (view == "physics" and a.signed)
            areas[key, view] = full_areas([r.curves(view, precision=precision) for r in ranked])
    sums = poisson_sums(
        terms, options.n_bootstrap, [options.seed, 5], a.fold, a.n_folds, options.n_threads
    )
    metrics: list[ComparedMetric] = []
    for view in views_of(a):
        mine, theirs = (
            view_metrics(sums, len(a.classes), view, areas[key, view], key) for key in ("a:", "b:")
        )
        metrics.extend(_compared(a, view, mine, theirs, names))
    headline = metrics[0]
    verdict = f"{headline.verdict} ({a.area_name}, class-balanced, {len(a.target):,} events)."
    return Comparison(*names, a.dataset, len(a.target), tuple(metrics), verdict)


def _compared(
    table: EvaluationTable,
    view: View,
    mine: ViewMetrics,
    theirs: ViewMetrics,
    names: tuple[str, str],
) -> Iterator[ComparedMetric]:
    notes = class_notes(table.target, table.names)
    note_of_all = next((note for note in notes if note.endswith(NO_INTERVAL)), "")
    for metric, higher in _HIGHER_IS_BETTER.items():
        if metric == "roc_auc" and table.binary:  # which the mean is
            continue
        for s, c in enumerate(table.score_classes) if metric in _PER_CLASS else [(None, None)]:
            note = note_of_all if c is None else notes[c]
            if metric == "average_precision" and view == "physics" and table.signed:
                note = SIGNED_NOTE
            first, second, difference = mine.minus(theirs, metric, s, table.n_folds, note)
            words = _words(difference, higher, names)
            of = None if table.binary else c
            yield ComparedMetric(metric, view, of, first, second, difference, higher, words)


def _check_same(a: EvaluationTable, b: EvaluationTable) -> None:
    names = [[info.name for info in t.classes] for t in (a, b)]
    if names[0] != names[1]:
        raise InputError(
            f"the runs have different classes ({', '.join(names[0])} and {', '.join(names[1])}): "
            "only runs of the same classes compare"
        )
    if len(a.target) != len(b.target):
        raise InputError(
            f"dataset '{a.dataset}': {len(a.target)} events in one run and {len(b.target)} in the "
            "other: predict both from the same skim"
        )
    different = int(np.sum(np.asarray(a.target) != np.asarray(b.target)))
    if different:
        raise InputError(
            f"dataset '{a.dataset}': {different} events have another class in the other run: "
            "predict both from the same skim"
        )


def _words(difference: Estimate, higher_is_better: bool, names: tuple[str, str]) -> str:
    if not np.isfinite(difference.value):
        return f"no verdict: {difference.note}"
    if not np.isfinite(difference.low):
        return f"difference {difference.value:+.5f}, no verdict: {difference.note}"
    interval = f"[{difference.low:+.5f}, {difference.high:+.5f}]"
    if difference.low <= 0 <= difference.high:
        return f"no significant difference: {difference.value:+.5f} {interval}"
    better = names[0] if (difference.low > 0) == higher_is_better else names[1]
    return f"{better} is better: {difference.value:+.5f} {interval}"
