"""Two runs on the same events: which is better, by how much, and is that more than chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.results.containers import (
    ComparedMetric,
    Comparison,
    Estimate,
    EvaluationOptions,
    EvaluationTable,
    View,
)
from utils.results.metrics.bootstrap import Term, estimate, poisson_sums
from utils.results.metrics.performance import make_curves, rank_classes
from utils.results.metrics.scores import (
    SIGNED_NOTE,
    class_note,
    exact_numbers,
    numbers,
    score_terms,
)
from utils.results.metrics.table import labelled, made_ready, views_of
from utils.schema import InputError

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
    usable = np.isfinite(a.proba).all(axis=1) & np.isfinite(b.proba).all(axis=1)
    filler = np.where(usable, 0.0, np.nan)[:, None]
    # Fillers of one become fillers of both; features play no part here.
    a, b = (
        labelled(made_ready(replace(t, proba=t.proba + filler, features={}))[0]) for t in (a, b)
    )
    if len(a.target) == 0:
        raise InputError(f"dataset '{a.dataset}': no event of known class is scored by both runs")
    k = len(a.classes)
    signed = a.weight is not None and bool(np.any(a.weight < 0))
    terms: dict[str, Term] = {}
    areas: dict[tuple[str, View], Any] = {}
    for key, table in (("a:", a), ("b:", replace(b, weight=a.weight))):
        ranked = rank_classes(table, options.n_threads)
        codes = [one.codes for one in ranked]
        terms.update(score_terms(table.proba, table.target, codes, a.weight, key))
        for view in views_of(a):
            areas[key, view] = make_curves(ranked, view, signed, options.n_threads)[1]
    sums = poisson_sums(
        terms, options.n_bootstrap, [options.seed, 5], a.fold, a.n_folds, options.n_threads
    )
    metrics: list[ComparedMetric] = []
    for view in views_of(a):
        exact: list[dict[str, NDArray[Any]]] = []
        columns: list[dict[str, NDArray[Any]]] = []
        for key in ("a:", "b:"):
            values = exact_numbers(sums, k, view, key)
            values["roc_auc"] = areas[key, view].roc_auc
            values["average_precision"] = areas[key, view].average_precision
            known = values["roc_auc"][np.isfinite(values["roc_auc"])]
            values["roc_auc_macro"] = np.array(known.mean() if len(known) else np.nan)
            exact.append(values)
            columns.append(numbers(sums.columns, k, view, key))
        for metric in _HIGHER_IS_BETTER:
            for c in range(k) if metric in _PER_CLASS else (None,):
                note = _note(a, c)
                if metric == "average_precision" and view == "physics" and signed:
                    note = SIGNED_NOTE
                at = ... if c is None else c
                first, second = (float(v[metric][at]) for v in exact)
                reps = [v[metric][at] for v in columns]
                difference = estimate(first - second, reps[0] - reps[1], a.n_folds, note)
                if note.endswith("no interval"):
                    difference = Estimate(difference.value, folds=difference.folds, note=note)
                higher = _HIGHER_IS_BETTER[metric]
                words = _words(difference, higher, names)
                metrics.append(
                    ComparedMetric(metric, view, c, first, second, difference, higher, words)
                )
    headline = metrics[0]
    verdict = f"{headline.verdict} (macro AUC, class-balanced, {len(a.target):,} events)."
    return Comparison(*names, a.dataset, len(a.target), tuple(metrics), verdict)


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


def _note(table: EvaluationTable, c: int | None) -> str:
    """Return why a class's numbers (all classes': c None) are missing or have no interval."""
    counts = np.bincount(table.target, minlength=len(table.classes))
    n = len(table.target)
    if c is not None:
        return class_note(int(counts[c]), n - int(counts[c]), table.classes[c].name)
    notes = (
        class_note(int(m), n - int(m), info.name)
        for m, info in zip(counts, table.classes, strict=True)
    )
    return next((note for note in notes if note.endswith("no interval")), "")


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
