"""Metric names in a tracking store: stable, documented, made of characters every store accepts."""

from __future__ import annotations

import math
from collections.abc import Iterator

from utils.results.estimates import Estimate
from utils.results.evaluation import Evaluation
from utils.results.metrics.scores import Scores
from utils.results.metrics.variations import ShiftEffect
from utils.schema import slug, unique_slugs


def class_slugs(names: list[str]) -> list[str]:
    """Return the slug of each class name; a class called `macro` becomes `macro_2`."""
    return unique_slugs(["macro", *names])[1:]


def flat_metrics(results: Evaluation, dataset: str | None = None) -> dict[str, float]:
    """Return every number of an evaluation by its name, undefined (NaN) ones left out.

    `{d}` is the slug of the dataset, `{class}` of a class (collisions get `_2`, ...):

    * `{d}/roc_auc_{class}`, `{d}/roc_auc_macro`, `{d}/pr_average_prec_{class}`, `{d}/log_loss`,
      `{d}/log_loss_{class}`, `{d}/brier`, `{d}/brier_{class}`, `{d}/accuracy`: class-balanced. The
      one score of two classes has no suffix: `{d}/roc_auc`, `{d}/pr_average_prec`.
    * `{d}/calibration_error_{class}` (of two classes `{d}/calibration_error`): under the weights
      trained with.
    * `{d}/cm_normtrue_{true}/{category}`, `{d}/cm_normpred_{true}/{category}`: class-balanced
      confusion matrix, normalised by true class and by category.
    * `{d}/physics/...`, `{d}/unweighted/...`: the same names in the other views;
      `{d}/physics/cm_yield_{true}/{category}`: expected events.
    * `{d}/low/...`, `{d}/high/...`, `{d}/error/...`, `{d}/fold_std/...`: ends of the 95 % interval,
      standard deviation, and spread over folds of the class-balanced numbers (not of cm_*).
    * `{d}/significance/combined`, `{d}/significance/combined_uncertain`: over all categories,
      without and with background uncertainty; `{d}/significance/category/{class}`: of one,
      without (there are more than two).
    * `{d}/overtraining/{in-fold|out-of-fold}_minus_{out-of-fold|test}/{roc_auc_macro|log_loss}`.
    * `{d}/variations/{shift}/roc_auc_macro`, `.../log_loss`, `.../roc_auc_{class}`: shifted minus
      nominal; `.../yield_{category}`: relative change of the yield; `.../moved`, `.../switched`:
      probability and share of events that go to another category. `{d}/physics/variations/...`,
      `{d}/low/variations/...` and `{d}/high/variations/...` as above.
    * `{d}/n_events`, `{d}/n_dropped`, `{d}/n_unlabelled`.
    """
    names = class_slugs([info.name for info in results.classes])
    suffixes = [""] if results.binary else [f"_{name}" for name in names]
    top = slug(dataset if dataset is not None else results.dataset)
    flat: dict[str, float] = {
        "n_events": results.n_events,
        "n_dropped": results.n_dropped,
        "n_unlabelled": results.n_unlabelled,
    }
    for scores in results.scores:
        prefix = "" if scores.view == "balanced" else f"{scores.view}/"
        for name, number in _estimates(scores, suffixes):
            flat[prefix + name] = number.value
            if scores.view == "balanced":
                flat |= _uncertainties(name, number)
    suffix_of = dict(zip(results.score_classes, suffixes, strict=True))
    for calibration in results.calibration:
        name = f"calibration_error{suffix_of[calibration.class_id]}"
        flat[name] = calibration.error.value
        flat |= _uncertainties(name, calibration.error)
    for matrix in results.confusion:
        prefix = "" if matrix.view == "balanced" else f"{matrix.view}/"
        for i, true in enumerate(names):
            for j, category in enumerate(names):
                flat[f"{prefix}cm_normtrue_{true}/{category}"] = float(matrix.norm_true.value[i, j])
                flat[f"{prefix}cm_normpred_{true}/{category}"] = float(matrix.norm_pred.value[i, j])
                if matrix.view == "physics":
                    flat[f"{prefix}cm_yield_{true}/{category}"] = float(matrix.yields.value[i, j])
    if results.significance is not None:
        flat["significance/combined"] = results.significance.combined
        flat["significance/combined_uncertain"] = results.significance.combined_uncertain
        if not results.binary:
            for name, z in zip(names, results.significance.z, strict=True):
                flat[f"significance/category/{name}"] = float(z)
    if results.over_training is not None:
        for gap in results.over_training.gaps:
            if gap.class_id is None:
                pair = f"{gap.first}_minus_{gap.second}"
                prefix = "" if gap.view == "balanced" else f"{gap.view}/"
                flat[f"{prefix}overtraining/{pair}/{gap.metric}"] = gap.difference.value
    if results.variations is not None:
        for effect in results.variations.shifts:
            flat |= _of_shift(effect, names)
    return {f"{top}/{name}": float(v) for name, v in flat.items() if math.isfinite(v)}


def short_metrics(results: Evaluation, dataset: str | None = None) -> dict[str, float]:
    """Return the few numbers that runs are compared by, under names that are found at once.

    `auc_test`, `log_loss_test`: class-balanced (of the main view), and `significance_test`: over
    all categories, with background uncertainty; `test` stands for the dataset. Undefined ones are
    left out.
    """
    end = slug(dataset if dataset is not None else results.dataset)
    numbers: dict[str, float] = {}
    scores = results.view(results.main_view)
    if scores is not None:
        numbers = {"auc": scores.roc_auc_macro.value, "log_loss": scores.log_loss.value}
    if results.significance is not None:
        numbers["significance"] = results.significance.combined_uncertain
    return {f"{name}_{end}": float(v) for name, v in numbers.items() if math.isfinite(v)}


def _estimates(scores: Scores, suffixes: list[str]) -> Iterator[tuple[str, Estimate]]:
    yield "roc_auc_macro", scores.roc_auc_macro
    yield "log_loss", scores.log_loss
    yield "brier", scores.brier
    yield "accuracy", scores.accuracy
    for name, numbers in (
        ("roc_auc", scores.roc_auc),
        ("pr_average_prec", scores.average_precision),
        ("log_loss", scores.log_loss_class),
        ("brier", scores.brier_class),
    ):
        # Of two classes there are no such numbers of single ones.
        if numbers:  # two classes have no log-loss and Brier score of single ones
            yield from ((f"{name}{s}", n) for s, n in zip(suffixes, numbers, strict=True))


def _of_shift(effect: ShiftEffect, names: list[str]) -> dict[str, float]:
    """Return the changes that a shift makes, with the intervals of those that are balanced."""
    of = f"variations/{slug(effect.name)}"
    flat: dict[str, float] = {}
    for m in effect.metrics:
        name = f"{of}/{m.metric}" + ("" if m.class_id is None else f"_{names[m.class_id]}")
        if m.view == "balanced":
            flat |= {f"low/{name}": m.change.low, f"high/{name}": m.change.high}
        flat[name if m.view == "balanced" else f"{m.view}/{name}"] = m.change.value
    relative = effect.yields.relative
    for category, *numbers in zip(names, relative.value, relative.low, relative.high, strict=True):
        name = f"{of}/yield_{category}"
        ends = (name, f"low/{name}", f"high/{name}")
        flat |= {end: float(v) for end, v in zip(ends, numbers, strict=True)}
    moves = {"moved": effect.moved, "switched": effect.switched}
    return flat | {f"{of}/{name}": v for name, v in moves.items() if v is not None}


def _uncertainties(name: str, number: Estimate) -> dict[str, float]:
    return {
        f"low/{name}": number.low,
        f"high/{name}": number.high,
        f"error/{name}": number.error,
        f"fold_std/{name}": number.fold_spread,
    }
