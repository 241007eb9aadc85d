"""The report: one page that answers, question by question, what an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from utils.results.evaluation import Evaluation
from utils.results.options import NOT_ASKED
from utils.results.plotting import QUESTIONS, Style
from utils.results.plotting.labels import measured, number
from utils.results.plotting.style import conditions
from utils.results.report import numbers
from utils.results.report.numbers import escape
from utils.results.report.skeleton import (
    Sheet,
    figure_block,
    identifier,
    sheet,
    skeleton,
    write_page,
)
from utils.results.report.variations import variations_table


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    style: Style,
    figures: Mapping[str, go.Figure | Sheet],
    *,
    title: str,
    recipe: Mapping[str, Any],
    audit: Any,
) -> Path:
    """Write the page of one dataset to `path` and return it.

    figures: as `plotting.figures` gives them, or their sheets. title: e.g. analysis, channel and
    year. recipe: what the run was made with, name by name; values may be numbers, texts, lists and
    mappings. audit: the leak audit in the same forms (for example rows, one mapping per model).
    Both are shown as tables; None says that there is none.
    """
    body = _body(evaluation, style, figures, title, recipe, audit)
    return write_page(Path(path), skeleton(f"{title}: {evaluation.dataset}", body))


def _body(
    ev: Evaluation,
    style: Style,
    figures: Mapping[str, go.Figure | Sheet],
    title: str,
    recipe: Mapping[str, Any],
    audit: Any,
) -> str:
    parts = []
    contents = ['<a href="#top">Summary</a>']
    for section, (question, fields) in QUESTIONS.items():
        own = {k: sheet(f) for k, f in figures.items() if k.split("/", 1)[0] == section}
        contents.append(f'<a href="#{section}">{escape(question)}</a>')
        contents.append(_figure_links(own))
        blocks = _figure_blocks(own)
        parts.append(
            f'<section id="{section}"><h2>{escape(question)}</h2>'
            f"{_numbers(section, ev, style)}{_gaps(ev, fields)}"
            f'<div class="figures">{blocks}</div></section>'
        )
    for mark, heading, value in (
        ("recipe", "How was it made?", recipe),
        ("audit", "Is any event trained on and predicted by one model?", audit),
    ):
        contents.append(f'<a href="#{mark}">{"Recipe" if mark == "recipe" else "Leak audit"}</a>')
        shown = numbers.data(value) if value else '<div class="gap">Nothing was recorded.</div>'
        parts.append(f'<section id="{mark}"><h2>{heading}</h2>{shown}</section>')
    return (
        '<div class="with-contents"><nav aria-label="Contents"><details><summary>Contents</summary>'
        f"{''.join(contents)}</details></nav>"
        f"<main>{_summary(ev, style, title)}{''.join(parts)}</main></div>"
    )


def _figure_blocks(figures: Mapping[str, Sheet]) -> str:
    """Return the figures' HTML; a linear figure and its logarithmic variant share a row."""
    blocks = {name: figure_block(name, figure) for name, figure in figures.items()}
    for name in figures:
        if f"{name}_log" in blocks:
            pair = blocks[name] + blocks.pop(f"{name}_log")
            blocks[name] = f'<div class="pair">{pair}</div>'
    return "".join(blocks.values())


def _figure_links(figures: Mapping[str, Sheet]) -> str:
    links = "".join(
        f'<li><a href="#{identifier(name)}-figure">{escape(f.title or name)}</a></li>'
        for name, f in figures.items()
    )
    count = f"{len(figures)} figure{'' if len(figures) == 1 else 's'}"
    return f"<details><summary>{count}</summary><ul>{links}</ul></details>" if links else ""


def _summary(ev: Evaluation, style: Style, title: str) -> str:
    cards = [("Events", f"{ev.n_events:,}", _events_note(ev))]
    if ev.scores:
        main = ev.scores[0]
        view = ev.label(main.view)
        area = "ROC area" if ev.binary else "ROC area, macro mean"
        for name, e in ((area, main.roc_auc_macro), ("Log-loss", main.log_loss)):
            cards.append((name, measured(e.value, e.error), escape(view)))
    if ev.significance is not None:
        z = number(ev.significance.combined_uncertain)
        systematic = f"{100 * ev.significance.background_uncertainty:g} % on the background"
        of = "both sides of 0.5" if ev.binary else "all categories"
        cards.append(("Expected significance", z, f"{of}, {systematic}"))
    shown = "".join(
        f'<div class="card">{name}<b>{value}</b><small>{small}</small></div>'
        for name, value, small in cards
    )
    lines = [f"<p>{text}</p>" for text in _facts(ev, style)]
    judged = (ev.over_training, ev.comparison, ev.variations)
    verdicts = [part.verdict for part in judged if part and part.verdict]
    said = "".join(f'<div class="verdict">{escape(v)}</div>' for v in verdicts)
    shown_fields = {name for _, fields in QUESTIONS.values() for name in fields}
    other = {k: v for k, v in ev.gaps.items() if k.split("/")[0] not in shown_fields}
    return (
        f'<section id="top"><h1>{escape(title)}</h1><p class="soft">Evaluation of the dataset '
        f'<b>{escape(ev.dataset)}</b></p><div class="cards">{shown}</div>{said}'
        f"{''.join(lines)}{_gap_list(other)}"
        f"{numbers.counts_table(ev, style) if ev.class_counts else ''}</section>"
    )


def _facts(ev: Evaluation, style: Style) -> list[str]:
    conditions_text = ", ".join(t for t in (escape(style.experiment_text), conditions(style)) if t)
    views = ", ".join(ev.label(v) for v in ev.views)
    folds = f"{ev.n_folds} models" if ev.n_folds > 1 else "one model"
    text = f"{len(ev.classes)} classes, {folds}; views: {views or 'none'}."
    if ev.fraction < 1:
        text += (
            f" The dataset is {100 * ev.fraction:.4g} % of the sample: yields are scaled to all, "
            "each process by its own share."
        )
    if ev.normalisation:
        text += f" {escape(ev.normalisation)}"
    skipped = [_gap_name(name).lower() for name, why in ev.gaps.items() if why == NOT_ASKED]
    if skipped:
        text += f" Not asked for: {', '.join(skipped)}."
    return [t for t in (conditions_text, text) if t] + [
        "Numbers are ± one standard deviation with 95 % intervals in brackets, from the Poisson "
        "bootstrap over events; <i>folds</i> is the standard deviation over the folds. Click a "
        "legend entry to hide it, double-click to see it alone."
    ]


def _events_note(ev: Evaluation) -> str:
    extra = []
    if ev.n_unlabelled:
        extra.append(f"{ev.n_unlabelled:,} unlabelled")
    if ev.n_dropped:
        extra.append(f"{ev.n_dropped:,} fillers left out")
    return ", ".join(extra) or "all labelled"


def _numbers(section: str, ev: Evaluation, style: Style) -> str:
    """Return the tables that a section opens with."""
    if section == "performance":
        text = numbers.scores_table(ev, style, ev.scores[0]) if ev.scores else ""
        return text + (
            numbers.significance_table(ev, style, ev.significance) if ev.significance else ""
        )
    if section == "certainty":
        text = "".join(numbers.scores_table(ev, style, s) for s in ev.scores[1:])
        if ev.comparison is not None:
            text += f'<div class="verdict">{escape(ev.comparison.verdict)}</div>'
            text += numbers.comparison_table(ev, style, ev.comparison)
        return text
    if section == "over_training" and ev.over_training is not None:
        o = ev.over_training
        tests = numbers.ks_table(ev, style, o)
        return (
            f'<div class="verdict">{escape(o.verdict)}</div>{numbers.gaps_table(ev, style, o)}'
            + (f'<details class="data"><summary>Kolmogorov-Smirnov tests</summary>{tests}</details>'
               if tests else "")
        )  # fmt: skip
    if section == "variations" and ev.variations is not None:
        verdict = f'<div class="verdict">{escape(ev.variations.verdict)}</div>'
        return verdict + variations_table(ev, style, ev.variations)
    return ""


def _gaps(ev: Evaluation, fields: tuple[str, ...]) -> str:
    return _gap_list({k: v for k, v in ev.gaps.items() if k.split("/")[0] in fields})


def _gap_list(gaps: Mapping[str, str]) -> str:
    return "".join(
        f'<div class="gap"><b>{escape(_gap_name(name))}</b>: {escape(reason)}.</div>'
        for name, reason in gaps.items()
        if reason != NOT_ASKED
    )


def _gap_name(name: str) -> str:
    """Return the name of a gap in words: `roc/physics` as 'Roc, physics'."""
    first, *rest = name.split("/")
    return ", ".join([first.replace("_", " ").capitalize(), *rest])
