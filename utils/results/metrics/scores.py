"""The numbers of each view: AUC, average precision, log-loss, Brier score, accuracy.

Two sets of sums over events, without weights and with physics weights, serve all views: the
class-balanced one divides the unweighted sums of each true class by the class's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Floats
from utils.results.estimates import (
    MIN_EVENTS,
    NO_INTERVAL,
    UNBOUNDED,
    Estimate,
    class_notes,
    estimate,
    ratio,
)
from utils.results.events import EvaluationTable, View
from utils.results.metrics import curves
from utils.results.metrics.bootstrap import Sums, Term

SMALLEST = 1e-15
"""Probabilities are raised to this before a logarithm is taken."""

SIGNED_NOTE = "undefined with negative weights"


@dataclass(frozen=True)
class Scores:
    """The numbers of one view; tuples have an entry per score, in order of its class's id.

    Of two classes one is a score, its Brier score is the mean (p - y)^2, and there are no numbers
    of single classes.

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
class ExactAreas:
    """Areas of the full curves of each score, (S,); NaN where undefined."""

    roc_auc: Floats
    average_precision: Floats


@dataclass(frozen=True, eq=False)
class ViewMetrics:
    """The metrics of one set of scores in one view, by name (see `numbers`).

    exact: of all events. columns: last axis as in `Sums.columns`; areas of binned scores.
    """

    exact: Mapping[str, NDArray[Any]]
    columns: Mapping[str, NDArray[Any]]

    def minus(
        self, other: ViewMetrics, metric: str, s: int | None, n_folds: int = 0, note: str = ""
    ) -> tuple[float, float, Estimate]:
        """Return a metric (of score s) of both sets, and the difference with its uncertainty."""
        at = ... if s is None else s
        first, second = (float(m.exact[metric][at]) for m in (self, other))
        columns = self.columns[metric][at] - other.columns[metric][at]
        return first, second, estimate(first - second, columns, n_folds, note)


def make_scores(table: EvaluationTable, view: View, sums: Sums, areas: ExactAreas) -> Scores:
    """Return the numbers of a view with intervals and fold values; `table` is all labelled."""
    k, names, scores = len(table.classes), table.names, table.score_classes
    counts = np.bincount(table.target, minlength=k)
    signed = view == "physics" and table.signed
    metrics = view_metrics(sums, k, view, areas, precision=not signed)
    notes = class_notes(table.target, names)
    undefined = [c for c, area in zip(scores, areas.roc_auc, strict=True) if np.isnan(area)]
    lacking = [names[c] for c in undefined]
    for c, name in enumerate(names):
        if name in lacking and 0 < counts[c] < len(table.target):
            notes[c] = f"weights of class {name}, or of the rest, have no positive sum"
    few = next((note for note in notes if note.endswith(NO_INTERVAL)), "")
    absent = [name for name, n in zip(names, counts, strict=True) if n == 0]
    mean_note = few or (f"without {', '.join(absent)}: no events" if absent else "")
    macro_note = few or (f"mean without {', '.join(lacking)}: undefined there" if lacking else "")
    # What concerns the events of other classes says nothing of the class's own.
    own_notes = [note if n < MIN_EVENTS else "" for note, n in zip(notes, counts, strict=True)]
    single = () if table.binary else scores

    def one(metric: str, note: str, high: float = np.inf, s: int | None = None) -> Estimate:
        at = ... if s is None else s
        value, columns = float(metrics.exact[metric][at]), metrics.columns[metric][at]
        bounds = UNBOUNDED if signed else (0.0, high)
        return estimate(value, columns, sums.n_folds, note, bounds=bounds)

    def of_classes(
        metric: str, notes: list[str], high: float, classes: Sequence[int] = scores
    ) -> tuple[Estimate, ...]:
        return tuple(one(metric, notes[c], high, s) for s, c in enumerate(classes))

    return Scores(
        view=view,
        roc_auc=of_classes("roc_auc", notes, 1),
        roc_auc_macro=one("roc_auc_macro", macro_note, 1),
        average_precision=(Estimate(float("nan"), note=SIGNED_NOTE),) * len(scores)
        if signed
        else of_classes("average_precision", notes, 1),
        prevalence=(0.5,) * len(scores)
        if view == "balanced"
        else tuple(float(metrics.exact["prevalence"][c]) for c in scores),
        log_loss=one("log_loss", mean_note),
        log_loss_class=of_classes("log_loss_class", own_notes, np.inf, single),
        brier=one("brier", mean_note, 1 if table.binary else 2),
        brier_class=of_classes("brier_class", [mean_note] * k, 1, single),
        accuracy=one("accuracy", mean_note, 1),
    )


def log_loss(proba: Floats, target: NDArray[Any]) -> Floats:
    """Return -ln of the true class's probability, (n,)."""
    true = proba[np.arange(len(target)), target]
    return np.asarray(-np.log(np.maximum(true, SMALLEST)), dtype=np.float64)


def score_terms(
    proba: Floats,
    target: NDArray[Any],
    codes: Mapping[int, NDArray[np.int32]],
    weight: Floats | None,
    prefix: str = "",
    brier: bool = True,
) -> dict[str, Term]:
    """Return the sums that the numbers of a scored table need.

    proba (n, K), target (n,) without unlabelled events, codes: the bin of each event in
    each score (n,), by its class. Names: `{prefix}{what}/{unweighted|physics}`.
    """
    k = proba.shape[1]
    target = target.astype(np.int32)
    cell = target * np.int32(k) + proba.argmax(axis=1).astype(np.int32)
    loss = log_loss(proba, target)
    terms: dict[str, Term] = {}
    for kind, w in (("unweighted", None), ("physics", weight)):
        if kind == "physics" and w is None:
            continue
        terms[f"{prefix}cells/{kind}"] = Term(cell, w, k * k)
        terms[f"{prefix}loss/{kind}"] = Term(target, loss if w is None else loss * w, k)
        for c, code in codes.items():
            is_class = target == c
            if brier:
                squares = (proba[:, c] - is_class) ** 2
                value = squares if w is None else squares * w
                terms[f"{prefix}brier_{c}/{kind}"] = Term(target, value, k)
            m = int(code.max()) + 1
            row = code + np.int32(m) * is_class
            terms[f"{prefix}histogram_{c}/{kind}"] = Term(row, w, 2 * m)
    return terms


def view_metrics(
    sums: Sums, k: int, view: View, areas: ExactAreas, prefix: str = "", *, precision: bool = True
) -> ViewMetrics:
    """Return the metrics of the scores whose terms have the `prefix`, with their full areas."""
    exact = exact_numbers(sums, k, view, prefix, areas=False)
    exact |= {"roc_auc": areas.roc_auc, "average_precision": areas.average_precision}
    known = areas.roc_auc[np.isfinite(areas.roc_auc)]
    exact["roc_auc_macro"] = np.array(known.mean() if len(known) else np.nan)
    return ViewMetrics(exact, numbers(sums.columns, k, view, prefix, precision=precision))


def numbers(
    columns: Mapping[str, Array],
    k: int,
    view: View,
    prefix: str = "",
    *,
    areas: bool = True,
    precision: bool = True,
) -> dict[str, NDArray[Any]]:
    """Return the metrics of a view from the sums of `score_terms`; last axis as in `columns`.

    roc_auc, average_precision, brier_class (S, ...) of the scores that have terms; log_loss_class,
    prevalence (K, ...); roc_auc_macro, log_loss, brier (the sum of the scores' terms), accuracy
    (...,); norm_true, norm_pred (K, K, ...). The macro AUC is NaN unless
    every class that has events in column 0 has some. Without `areas` or
    `precision` these metrics are left out.
    """
    kind = "physics" if view == "physics" else "unweighted"
    found = {
        name.removeprefix(prefix).removesuffix(f"/{kind}"): np.asarray(values, dtype=np.float64)
        for name, values in columns.items()
        if name.startswith(prefix) and name.endswith(f"/{kind}") and "histogram" not in name
    }
    cells = found["cells"].reshape(k, k, -1)
    loss = found["loss"]
    # The Brier score is left out of a comparison that has no use for it.
    squares = [found[f"brier_{c}"] for c in range(k) if f"brier_{c}" in found]
    brier = np.stack(squares or [np.full(loss.shape, np.nan)])
    sizes = cells.sum(axis=1)
    if view == "balanced":
        scale = np.divide(1.0, sizes, out=np.zeros(sizes.shape), where=sizes > 0)
        cells, loss, brier = cells * scale[:, None], loss * scale, brier * scale
    class_sums = cells.sum(axis=1)
    total = class_sums.sum(axis=0)
    result = {
        "log_loss": ratio(loss.sum(axis=0), total),
        "log_loss_class": ratio(loss, class_sums),
        "brier": ratio(brier.sum(axis=(0, 1)), total),
        "brier_class": ratio(brier.sum(axis=1), total),
        "accuracy": ratio(np.trace(cells), total),
        "prevalence": ratio(class_sums, total),
        "norm_true": ratio(cells, cells.sum(axis=1, keepdims=True)),
        "norm_pred": ratio(cells, cells.sum(axis=0, keepdims=True)),
    }
    if not areas:
        return result
    aucs, precisions = [], []
    for histogram in (f"{prefix}histogram_{c}/{kind}" for c in range(k)):
        if histogram not in columns:
            continue
        false, true = np.split(columns[histogram], 2)
        aucs.append(curves.binned_auc(true, false))
        if not precision:
            continue
        if view == "balanced":
            true = ratio(true, true.sum(axis=0))
            false = ratio(false, false.sum(axis=0))
        precisions.append(curves.binned_average_precision(true, true + false))
    result["roc_auc"] = np.stack(aucs)
    if precision:
        result["average_precision"] = np.stack(precisions)
    defined = np.isfinite(result["roc_auc"][:, 0])
    nothing = np.full(len(total), np.nan)
    macro = result["roc_auc"][defined].mean(axis=0) if defined.any() else nothing
    return result | {"roc_auc_macro": macro}


def exact_numbers(
    sums: Sums, k: int, view: View, prefix: str = "", *, areas: bool = True
) -> dict[str, NDArray[Any]]:
    """Return `numbers` of all events in float64; the AUC and precision ones are still binned."""
    exact = {name: values[:, None] for name, values in sums.exact.items()}
    found = numbers(exact, k, view, prefix, areas=areas)
    return {name: values[..., 0] for name, values in found.items()}
