"""The numbers of each view: AUC, average precision, log-loss, Brier score, confusion matrices.

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
from utils.results.containers import ConfusionMatrix, Estimate, EvaluationTable, Scores, View
from utils.results.metrics import curves
from utils.results.metrics.bootstrap import (
    INTERVAL,
    MIN_EVENTS,
    Sums,
    Term,
    estimate,
    limits,
    ratio,
)

SMALLEST = 1e-15
"""Probabilities are raised to this before a logarithm is taken."""

SIGNED_NOTE = "undefined with negative weights"

"""Metric name -> its values, last axis as in `Sums.columns`."""


def log_loss(proba: Floats, target: NDArray[Any]) -> Floats:
    """Return -ln of the true class's probability, (n,)."""
    true = proba[np.arange(len(target)), target]
    return np.asarray(-np.log(np.maximum(true, SMALLEST)), dtype=np.float64)


def score_terms(
    proba: Floats,
    target: NDArray[Any],
    codes: Sequence[NDArray[np.int32]],
    weight: Floats | None,
    prefix: str = "",
    brier: bool = True,
) -> dict[str, Term]:
    """Return the sums that the numbers of a scored table need.

    proba (n, K), target (n,) without unlabelled events, codes: the bin of each class's score (K of
    (n,)). Names: `{prefix}{what}/{unweighted|physics}`.
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
        for c in range(k):
            is_class = target == c
            if brier:
                squares = (proba[:, c] - is_class) ** 2
                value = squares if w is None else squares * w
                terms[f"{prefix}brier_{c}/{kind}"] = Term(target, value, k)
            m = int(codes[c].max()) + 1
            row = codes[c] + np.int32(m) * is_class
            terms[f"{prefix}histogram_{c}/{kind}"] = Term(row, w, 2 * m)
    return terms


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

    roc_auc, average_precision, log_loss_class, brier_class, prevalence (K, ...); roc_auc_macro,
    log_loss, brier, accuracy (...,); norm_true, norm_pred (K, K, ...). The macro AUC is NaN unless
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
    brier = np.stack([found.get(f"brier_{c}", np.full(loss.shape, np.nan)) for c in range(k)])
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
    for c in range(k):
        false, true = np.split(columns[f"{prefix}histogram_{c}/{kind}"], 2)
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
    macro = (
        result["roc_auc"][defined].mean(axis=0) if defined.any() else np.full(len(total), np.nan)
    )
    result["roc_auc_macro"] = macro
    return result


def exact_numbers(sums: Sums, k: int, view: View, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return `numbers` of all events in float64; the AUC and precision ones are still binned."""
    exact = {name: values[:, None] for name, values in sums.exact.items()}
    return {name: values[..., 0] for name, values in numbers(exact, k, view, prefix).items()}


@dataclass(frozen=True, eq=False)
class ExactAreas:
    """Areas of the full curves of each class, (K,); NaN where undefined."""

    roc_auc: Floats
    average_precision: Floats


def class_note(n: int, n_rest: int, name: str) -> str:
    """Return why a class's one-versus-rest numbers are missing or have no interval, else ''."""
    if n == 0:
        return f"no event of class {name}"
    if n_rest == 0:
        return f"no event of another class than {name}"
    if min(n, n_rest) < MIN_EVENTS:
        few = f"class {name}" if n < MIN_EVENTS else f"classes other than {name}"
        return f"fewer than {MIN_EVENTS} events of {few}: no interval"
    return ""


def make_scores(
    table: EvaluationTable, view: View, sums: Sums, areas: ExactAreas, prefix: str = ""
) -> Scores:
    """Return the numbers of a view with intervals and fold values; `table` is all labelled."""
    k = len(table.classes)
    signed = view == "physics" and table.weight is not None and bool(np.any(table.weight < 0))
    columns = numbers(sums.columns, k, view, prefix, precision=not signed)
    exact = exact_numbers(sums, k, view, prefix)
    counts = np.bincount(table.target, minlength=k)
    notes = []
    for c, n in enumerate(counts):
        note = class_note(int(n), len(table.target) - int(n), table.classes[c].name)
        if 0 < n < len(table.target) and not np.isfinite(areas.roc_auc[c]):
            note = f"weights of class {table.classes[c].name}, or of the rest, have no positive sum"
        notes.append(note)

    def one(
        value: Any, reps: NDArray[Any], note: str, low: float = 0.0, high: float = np.inf
    ) -> Estimate:
        if note.endswith("no interval"):
            return Estimate(float(value), folds=_folds(reps, sums.n_folds), note=note)
        bounds = (-np.inf, np.inf) if signed else (low, high)
        return estimate(float(value), reps, sums.n_folds, note, bounds=bounds)

    lacking = [table.classes[c].name for c in range(k) if not np.isfinite(areas.roc_auc[c])]
    macro_note = f"mean without {', '.join(lacking)}: undefined there" if lacking else ""
    few = [n for n in notes if n.endswith("no interval")]
    defined = areas.roc_auc[np.isfinite(areas.roc_auc)]
    all_note = few[0] if few else ""
    absent = [table.classes[c].name for c in range(k) if counts[c] == 0]
    mean_note = all_note or (f"without {', '.join(absent)}: no events" if absent else "")
    precisions = [
        Estimate(float("nan"), note=SIGNED_NOTE)
        if signed
        else one(areas.average_precision[c], columns["average_precision"][c], notes[c], 0, 1)
        for c in range(k)
    ]
    return Scores(
        view=view,
        roc_auc=tuple(
            one(areas.roc_auc[c], columns["roc_auc"][c], notes[c], 0, 1) for c in range(k)
        ),
        roc_auc_macro=one(
            float(defined.mean()) if len(defined) else float("nan"),
            columns["roc_auc_macro"],
            all_note or macro_note,
            0,
            1,
        ),
        average_precision=tuple(precisions),
        prevalence=tuple(
            [0.5] * k if view == "balanced" else [float(v) for v in exact["prevalence"]]
        ),
        log_loss=one(exact["log_loss"], columns["log_loss"], mean_note),
        log_loss_class=tuple(
            one(exact["log_loss_class"][c], columns["log_loss_class"][c], _own(notes[c], counts[c]))
            for c in range(k)
        ),
        brier=one(exact["brier"], columns["brier"], mean_note, 0, 2),
        brier_class=tuple(
            one(exact["brier_class"][c], columns["brier_class"][c], mean_note, 0, 1)
            for c in range(k)
        ),
        accuracy=one(exact["accuracy"], columns["accuracy"], mean_note, 0, 1),
    )


def _own(note: str, n: int) -> str:
    """Return the note as far as it concerns numbers of the class's own events."""
    return note if n < MIN_EVENTS else ""


def _folds(columns: NDArray[Any], n_folds: int) -> tuple[float, ...]:
    return tuple(float(v) for v in columns[1 : 1 + n_folds])


def make_confusion(table: EvaluationTable, view: View, sums: Sums) -> ConfusionMatrix:
    """Return the confusion matrix of a view; `table` is all labelled.

    Balanced yields are sums of N / N_class, physics yields of physics weights.
    """
    k = len(table.classes)
    columns = numbers(sums.columns, k, view, areas=False)
    exact = exact_numbers(sums, k, view)
    counts = np.rint(sums.exact["cells/unweighted"]).astype(np.int64).reshape(k, k)
    per_event = np.ones((k, 1))
    if view == "balanced":
        per_event = len(table.target) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if view == "physics" and table.weight is not None:
        kind = "physics"
        cell = table.target * k + table.proba.argmax(axis=1)
        squares = np.bincount(cell, weights=np.asarray(table.weight) ** 2, minlength=k * k)
        errors = np.sqrt(squares.reshape(k, k))
    else:
        kind = "unweighted"
        errors = np.sqrt(counts) * per_event
    yields = sums.exact[f"cells/{kind}"].reshape(k, k) * per_event
    replicates = sums.columns[f"cells/{kind}"].reshape(k, k, -1) * per_event[..., None]
    first = 1 + sums.n_folds
    low, high = limits(replicates, INTERVAL, sums.n_folds)
    enough = counts >= MIN_EVENTS
    parts: dict[str, Floats] = {
        "yields_low": np.where(enough, yields + low, np.nan),
        "yields_high": np.where(enough, yields + high, np.nan),
        "yields_spread": _deviation(replicates[..., 1:first]) * sums.n_folds,
    }
    for name, axis in (("norm_true", 1), ("norm_pred", 0)):
        value = exact[name]
        low, high = limits(columns[name], INTERVAL, sums.n_folds)
        error = _deviation(columns[name][..., first:])
        n = counts.sum(axis=axis, keepdims=True)
        enough = np.isfinite(value) & np.isfinite(low) & (n >= MIN_EVENTS)
        parts[name] = value
        parts[f"{name}_error"] = np.where(enough, error, np.nan)
        parts[f"{name}_low"] = np.where(enough, value + low, np.nan)
        parts[f"{name}_high"] = np.where(enough, value + high, np.nan)
        parts[f"{name}_spread"] = _deviation(columns[name][..., 1:first])
    return ConfusionMatrix(view, counts, yields, errors, **parts)


def _deviation(values: NDArray[Any]) -> Floats:
    """Return the standard deviation (ddof 1) of the defined values, last axis reduced."""
    known = np.isfinite(values)
    n = known.sum(axis=-1)
    mean = ratio(np.where(known, values, 0).sum(axis=-1), n)
    squares = np.where(known, (values - mean[..., None]) ** 2, 0).sum(axis=-1)
    return np.sqrt(ratio(squares, n - 1))
