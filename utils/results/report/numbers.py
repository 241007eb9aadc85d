"""Numbers as HTML tables; every name is escaped, every number carries its uncertainty."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from utils.results.estimates import Estimate
from utils.results.evaluation import Evaluation
from utils.results.metrics.comparison import Comparison
from utils.results.metrics.overtraining import OverTraining
from utils.results.metrics.scores import Scores
from utils.results.metrics.significance import Significance
from utils.results.plotting.labels import decimals, measured, number
from utils.results.plotting.style import Style


def escape(value: object) -> str:
    return html.escape(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return an HTML table; cells are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{title}<thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def class_name(ev: Evaluation, style: Style, class_id: int | None) -> str:
    """Return a class's name with a swatch of its colour."""
    if class_id is None:
        return "all classes"
    name = "unlabelled" if class_id < 0 else escape(ev.classes[class_id].name)
    color = style.rgba(class_id)
    return f'<span class="swatch" style="background:{color}"></span>{name}'


def estimate(e: Estimate, folds: bool = True) -> str:
    """Return a number with its error, interval and spread over the folds as a table cell."""
    if not math.isfinite(e.value):
        return f'<span title="{escape(e.note)}">–</span>'
    cell = measured(e.value, e.error)
    if math.isfinite(e.low) and math.isfinite(e.high):
        places = decimals((e.high - e.low) / 4)
        interval = f"[{e.low:.{places}f}, {e.high:.{places}f}]".replace("-", "−")
        spread = e.fold_spread
        if folds and math.isfinite(spread):
            interval += f"; folds ±{number(spread, 2)}"
        cell += f"<small>{interval}</small>"
    return cell


def notes(estimates: Iterable[Estimate]) -> str:
    """Return the distinct reasons for undefined numbers as a paragraph."""
    found = list(dict.fromkeys(e.note for e in estimates if e.note))
    return f'<p class="soft">{escape("; ".join(found))}.</p>' if found else ""


def scores_table(ev: Evaluation, style: Style, s: Scores) -> str:
    """Return the numbers of one view, a row per class and one for all."""
    errors = {c.class_id: c.error for c in ev.calibration} if s.view == ev.views[0] else {}
    head = [
        "Score of" if ev.binary else "Class",
        "ROC area",
        "Average precision",
        "Prevalence",
        "Log-loss",
        "Brier score",
    ]
    head += ["Calibration error"] if errors else []
    losses, briers = s.log_loss_class or [s.log_loss], s.brier_class or [s.brier]
    rows = []
    for i, c in enumerate(ev.score_classes):
        row = [
            class_name(ev, style, c),
            estimate(s.roc_auc[i]),
            estimate(s.average_precision[i]),
            number(s.prevalence[i]),
            estimate(losses[i]),
            estimate(briers[i]),
        ]
        if errors:
            row.append(estimate(errors[c]) if c in errors else "–")
        rows.append(row)
    if not ev.binary:
        total = ["<b>all</b> (macro mean area)", estimate(s.roc_auc_macro), "", ""]
        rows.append(total + [estimate(s.log_loss), estimate(s.brier)] + ([""] if errors else []))
    label = ev.label(s.view)
    accuracy = f"<p>Accuracy {measured(s.accuracy.value, s.accuracy.error)}, {escape(label)}.</p>"
    every = [*s.roc_auc, *s.average_precision, *s.log_loss_class, *s.brier_class, s.roc_auc_macro]
    return table(head, rows, f"Numbers, {label}") + accuracy + notes(every)


def counts_table(ev: Evaluation, style: Style) -> str:
    rows = [
        [
            class_name(ev, style, c.class_id),
            f"{c.n:,}",
            number(c.sum_weight, 4),
            f"{100 * c.negative_fraction:.2g} %" if math.isfinite(c.negative_fraction) else "–",
            number(c.n_effective, 4),
        ]
        for c in ev.class_counts
    ]
    head = ["True class", "Events", "Sum of weights", "Negative weights", "Effective events"]
    return table(head, rows, "Events by true class")


def significance_table(ev: Evaluation, style: Style, s: Significance) -> str:
    rows = []
    for scan, z, z_uncertain in zip(s.scans, s.z, s.z_uncertain, strict=True):
        best = "–"
        if scan.best is not None:
            at = number(float(scan.threshold[scan.best]))
            best = f"{number(float(scan.z_uncertain[scan.best]))} at ≥ {at}"
        rows.append(
            [
                "all events" if ev.binary else class_name(ev, style, scan.category),
                measured(float(scan.signal[0]), float(scan.signal_error[0])),
                measured(float(scan.background[0]), float(scan.background_error[0])),
                number(float(z)),
                number(float(z_uncertain)),
                best,
            ]
        )
    combined = "both sides of 0.5" if ev.binary else "combined"
    both = [f"<b>{combined}</b>", "", "", number(s.combined), number(s.combined_uncertain), ""]
    uncertain = f"Z<sub>A</sub> ({100 * s.background_uncertainty:g} % on B)"
    head = [
        "Selection" if ev.binary else "Category",
        "Signal",
        "Background",
        "Z<sub>A</sub>",
        uncertain,
        "Best cut",
    ]
    note = (
        f"The best cut has the highest {uncertain} of those that leave at least "
        f"{s.min_background:g} effective events, (Σw)²/Σw², of background."
    )
    return table(head, [*rows, both], "Expected significance") + f'<p class="soft">{note}</p>'


def gaps_table(ev: Evaluation, style: Style, o: OverTraining) -> str:
    mean = "ROC area" if ev.binary else "ROC area, macro mean"
    words = {"roc_auc": "ROC area", "roc_auc_macro": mean, "log_loss": "Log-loss"}
    rows = [
        [
            f"{words.get(g.metric, escape(g.metric))}",
            class_name(ev, style, g.class_id),
            f"{g.first} − {g.second}" + (" (paired)" if g.paired else ""),
            escape(ev.label(g.view)),
            number(g.first_value, 4),
            number(g.second_value, 4),
            estimate(g.difference, folds=False),
        ]
        for g in o.gaps
    ]
    head = ["Metric", "Class", "Samples", "View", "First", "Second", "Difference"]
    return table(head, rows, "Gaps") + notes(g.difference for g in o.gaps)


def ks_table(ev: Evaluation, style: Style, o: OverTraining) -> str:
    if not o.ks:
        return ""
    rows = [
        [
            class_name(ev, style, t.class_id),
            "its own events" if t.of == "class" else "the rest",
            f"{t.first} and {t.second}",
            number(t.distance, 2),
            f"&lt; 1/{t.n_arrangements}" if t.at_floor else number(t.p_value, 2),
            f"{t.n[0]:,} / {t.n[1]:,}",
        ]
        for t in o.ks
    ]
    head = ["Probability of", "For", "Samples", "KS distance", "p-value", "Events"]
    return table(head, rows, "Kolmogorov-Smirnov tests")


def comparison_table(ev: Evaluation, style: Style, c: Comparison) -> str:
    rows = [
        [
            escape(m.metric),
            class_name(ev, style, m.class_id),
            escape(ev.label(m.view)),
            number(m.a, 4),
            number(m.b, 4),
            estimate(m.difference, folds=False),
            escape(m.verdict),
        ]
        for m in c.metrics
    ]
    head = ["Metric", "Class", "View", escape(c.a), escape(c.b), "Difference", "Verdict"]
    return table(head, rows, f"{c.a} minus {c.b}, {c.n_events:,} events")


def data(value: Any) -> str:
    """Return anything JSON could hold as HTML: mappings and lists of mappings become tables."""
    if isinstance(value, Mapping):
        rows = "".join(f"<tr><td>{escape(k)}</td><td>{data(v)}</td></tr>" for k, v in value.items())
        return f'<div class="wide"><table class="words"><tbody>{rows}</tbody></table></div>'
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if value and all(isinstance(item, Mapping) for item in value):
            head = list(dict.fromkeys(str(key) for item in value for key in item))
            return table(
                [escape(h.replace("_", " ")) for h in head],
                [[data(item.get(h, "")) for h in head] for item in value],
            )
        return ", ".join(data(item) for item in value) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return escape(f"{value:.6g}")
    if isinstance(value, int):
        return escape(value)
    return "–" if value is None else escape(value)
