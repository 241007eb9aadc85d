"""What `mlflow ui` shows of a run first: its description in Markdown, made from what the run holds.

Each script that adds to a run writes it anew. It says what was trained, the headline numbers of
each evaluation with their intervals, the verdicts, and where the reports and tables are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from utils.formats.runs import Run
from utils.models import kind
from utils.schema import Recipe

if TYPE_CHECKING:  # which training and prediction have no use for
    from utils.results.evaluation import Evaluation

END = "*What you write below this line stays when a script brings the text above up to date.*"

MOST_NAMES = 60
"""Features or classes that are listed."""


def headline(result: Evaluation) -> dict[str, Any]:
    """Return what a description says of an evaluation: rows of numbers, and the verdicts."""
    rows: list[dict[str, Any]] = []
    scores = result.view(result.main_view)
    if scores is not None:
        area = (
            f"ROC AUC of {result.name(result.signal)}" if result.binary else "ROC AUC, macro mean"
        )
        for name, number in ((area, scores.roc_auc_macro), ("Log-loss", scores.log_loss)):
            if math.isfinite(number.value):
                ends = [number.low, number.high] if math.isfinite(number.low) else []
                rows.append({"name": name, "value": number.value, "interval": ends})
    found = result.significance
    if found is not None and math.isfinite(found.combined_uncertain):
        name = f"Expected significance, background ± {100 * found.background_uncertainty:g} %"
        rows.append({"name": name, "value": found.combined_uncertain, "interval": []})
    verdicts = [part.verdict for part in (result.over_training, result.comparison) if part]
    return {"n_events": result.n_events, "numbers": rows, "verdicts": verdicts}


def keep_current(run: Run) -> None:
    """Write a run's description anew; what its user wrote below it, or instead of it, stays."""
    former = run.note()
    before, mark, own = former.partition(END)
    own = own if mark else before
    run.write_note("\n\n".join(filter(None, [describe(run), own.strip()])) + "\n")


def describe(run: Run) -> str:
    """Return the description of a run, which ends with the line `END`."""
    lines = [*_training(run.recipe), *_evaluations(run), *_predictions(run)]
    return "\n".join([*lines, "", END])


def _training(recipe: Recipe) -> Iterator[str]:
    made = recipe.analysis
    parts = [made.get("analysis_name"), made.get("channel"), made.get("year")]
    title = " ".join(dict.fromkeys(str(p) for p in parts if p))
    n, rule = recipe.fold.n_splits, " ".join([recipe.fold.kind, *recipe.fold.columns])
    n_models = f"{n} cross-trained models (fold: {rule}, {n} folds)" if n > 1 else "One model"
    signals = recipe.training.get("signal_classes") or []
    classes = [c.name + (" (signal)" if c.name in signals else "") for c in recipe.classes]
    rows = [m["n_train"] for m in recipe.models if "n_train" in m]
    yield f"**{_plain(title)}** · {n_models} · {kind(recipe.model_kind).TITLE}"
    yield ""
    yield f"- **{len(classes)} classes:** {_listed(classes)}"
    yield f"- **{len(recipe.features)} features:** {_listed(recipe.features)}"
    yield f"- **Training weight:** {_plain(recipe.weight)}" + (
        f"; events of each training: {', '.join(f'{r:,}' for r in rows[:10])}" if rows else ""
    )
    yield f"- **Leak audit of the training:** {'passed' if recipe.audit_passed else 'FAILED'}"


def _evaluations(run: Run) -> Iterator[str]:
    for folder in run.artifacts("plots"):
        manifest = run.manifest(f"{folder}/manifest.json")
        said = manifest.about.get("headline") if manifest else None
        if manifest is None or not isinstance(said, Mapping):
            continue
        yield ""
        dataset = _plain(manifest.about.get("dataset", folder))
        yield f"**Evaluation of {dataset}**, {said['n_events']:,} events"
        yield ""
        yield "| | value | 95 % interval |"
        yield "|---|---|---|"
        for row in said["numbers"]:
            ends = row["interval"]
            interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
            yield f"| {_plain(row['name'])} | **{row['value']:.4f}** | {interval} |"
        yield from (f"\n> {_plain(verdict)}" for verdict in said["verdicts"])
        place = f"{folder}/report.html"
        if place in manifest.files:
            link = f"#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/{place}"
            yield f"\nReport: [{place}]({link}) among the artifacts"


def _predictions(run: Run) -> Iterator[str]:
    listed = [p for p in run.artifacts("pred") if run.lists(p)]
    for ending, what in ((".parquet", "Tables"), (".root", "Friend trees")):
        names = [p.rsplit("/", 1)[-1].removesuffix(ending) for p in listed if p.endswith(ending)]
        if names:
            yield f"\n**{what}** in `pred/`: {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(_plain(name) for name in names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _plain(text: object) -> str:
    """Return text of which Markdown takes every character as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~$" else c for c in " ".join(str(text).split()))
