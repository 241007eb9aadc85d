"""What each systematic variation does, as one HTML table."""

from __future__ import annotations

import math

from utils.results.estimates import Estimate
from utils.results.evaluation import Evaluation
from utils.results.metrics.variations import ShiftEffect, Variations
from utils.results.plotting.labels import number, signed_percent
from utils.results.plotting.style import Style
from utils.results.report.numbers import class_name, escape, estimate, table

KINDS = {
    "branches": "branches",
    "expressions": "expressions",
    "weight": "weight",
    "samples": "sample",
}


def variations_table(ev: Evaluation, style: Style, v: Variations) -> str:
    """Return a row for each shift: events, scores, metrics, and the yield of each category."""
    head = ["Shift", "Of", "Events", "Enter / leave", "Moved", "Switched", "ROC area", "Log-loss"]
    head += [class_name(ev, style, c) for c in range(len(ev.classes))]
    rows = [_row(ev, effect) for effect in v.shifts]
    weighed = "expected events" if v.yield_view == "physics" else "events"
    caption = (
        f"Shifted minus nominal, {v.n_events:,} nominal events; ROC area (macro mean) and log-loss "
        f"{ev.label(ev.main_view)}; then the relative change of each category's {weighed}"
    )
    notes = (
        '<p class="soft">Moved: probability that goes from class to class, mean over events. '
        "Switched: events that change category. Both class-balanced.</p>"
    )
    return table(head, rows, caption) + notes


def _row(ev: Evaluation, effect: ShiftEffect) -> list[str]:
    changes = {
        metric: next(
            (
                m.change
                for m in effect.metrics
                if (m.metric, m.view, m.class_id) == (metric, ev.main_view, None)
            ),
            Estimate(float("nan")),
        )
        for metric in ("roc_auc_macro", "log_loss")
    }
    relative = effect.yields.relative
    yields = [
        _percent(*numbers)
        for numbers in zip(relative.value, relative.low, relative.high, strict=True)
    ]
    return [
        f"<b>{escape(effect.name)}</b>",
        KINDS[effect.kind],
        f"{effect.n:,}",
        f"{effect.entered:,} / {effect.left:,}",
        "–" if effect.moved is None else f"{number(100 * effect.moved)} %",
        "–" if effect.switched is None else f"{number(100 * effect.switched)} %",
        *(estimate(change, folds=False) for change in changes.values()),
        *yields,
    ]


def _percent(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "–"
    cell = f"{signed_percent(value)} %"
    if math.isfinite(low):
        cell += f"<small>[{signed_percent(low)}, {signed_percent(high)}]</small>"
    return cell
