"""An evaluation -> figures, report and metrics in the run, with a manifest written last."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from utils.formats.runs import Run
from utils.models import kind
from utils.results import report
from utils.results.description import headline
from utils.results.estimates import Estimate
from utils.results.metrics.naming import flat_metrics, short_metrics
from utils.results.options import NOT_ASKED
from utils.results.plotting import Style, draw, opened_singly
from utils.results.report import PdfWriter
from utils.schema import EvaluateConfig, Recipe, RunError, slug
from utils.stages.evaluation.numbers import Evaluated
from utils.system.engine import cores_of
from utils.system.files import scratch

log = logging.getLogger(__name__)


def log_summary(evaluated: Evaluated) -> None:
    """Log the numbers people look at first, with their 95 % intervals."""
    result = evaluated.evaluation
    log.info("%s: %d events", result.dataset, result.n_events)
    if result.normalisation:
        log.info("  %s", result.normalisation)
    scores = result.view("balanced")
    if scores is not None:
        for c, area in zip(result.score_classes, scores.roc_auc, strict=True):
            log.info("  ROC AUC %-20s %s", result.name(c), _interval(area))
        if not result.binary:
            log.info("  ROC AUC %-20s %s", "macro", _interval(scores.roc_auc_macro))
        log.info("  log-loss %-19s %s", "", _interval(scores.log_loss))
    if result.over_training is not None:
        log.info("  %s", result.over_training.verdict)
    if result.comparison is not None:
        log.info("  %s", result.comparison.verdict)
    if result.variations is not None:
        log.info("  %s", result.variations.verdict)
    for section, reason in result.gaps.items():
        if section not in ("comparison", "variations") and reason != NOT_ASKED:
            log.info("  left out: %s: %s", section, reason)


def _interval(number: Estimate) -> str:
    if number.note and number.value != number.value:
        return f"undefined: {number.note}"
    return f"{number.value:.4f} [{number.low:.4f}, {number.high:.4f}]"


def papers(config: EvaluateConfig) -> PdfWriter:
    """Return what writes figures as PDFs; it is ready for them after the time it takes to start."""
    return PdfWriter(cores_of(config.engine))


def style_of(evaluated: Evaluated, config: EvaluateConfig) -> Style:
    """Return how the figures of an evaluation look."""
    analysis = evaluated.analysis
    return Style(
        classes=evaluated.evaluation.classes,
        experiment_text=analysis.experiment_text,
        luminosity=analysis.luminosity,
        center_of_mass_energy=analysis.center_of_mass_energy,
        feature_labels={name: analysis.feature_label(name) for name in analysis.feature_info},
        stacked=config.stacked,
    )


def publish(
    run: Run,
    config: EvaluateConfig,
    evaluated: Evaluated,
    writer: PdfWriter,
    made_from: Mapping[str, str],
) -> str:
    """Draw every figure into the report and as PDF, and log all of it and the metrics.

    Figures that people open singly have pages of their own too (`plotting.opened_singly`). Returns
    where the report is.

    They take the place of an earlier evaluation's together: figures that this one does not make are
    removed (in a local store). A PDF is drawn only where its figure is not that of the earlier one.
    `writer` (see `papers`) has finished then. `made_from` is what the unit followed from before its
    tables were read: one that is published meanwhile is no part of this evaluation.
    """
    result, style = evaluated.evaluation, style_of(evaluated, config)
    top = f"plots/{slug(result.dataset)}"
    files: dict[str, Path] = {}
    papers: dict[str, str] = {}
    earlier = _earlier_papers(run, top)
    with scratch() as folder:
        # As text once, for PDF, page and report; PDFs are made while the next figures are drawn.
        drawn: dict[str, report.Sheet] = {}
        for key, figure in draw(result, style):
            drawn[key] = report.sheet(figure)
            paper = f"{top}/pdf/{key.rsplit('/', 1)[-1]}.pdf"
            files[paper] = folder / Path(paper).relative_to(top)
            papers[paper] = _digest(drawn[key])
            is_same = papers[paper] == earlier.get(paper)
            if not (is_same and _taken_over(run, paper, files[paper])):
                writer.write(drawn[key], files[paper])
        for key, figure in drawn.items():
            if not opened_singly(key):
                continue
            page = f"{key.rsplit('/', 1)[-1]}.html"
            files[f"{top}/{page}"] = report.write_html(figure, folder / page, key)
        files[f"{top}/report.html"] = report.write_report(
            folder / "report.html",
            result,
            style,
            drawn,
            title=_title(evaluated.recipe),
            recipe=_recipe_table(run, evaluated.recipe),
            audit=list(evaluated.recipe.audit),
        )
        run.connect()  # while the last PDFs are written
        writer.finish()
        metrics = {**short_metrics(result), **flat_metrics(result)}
        about = {
            "dataset": result.dataset,
            "made_from": dict(made_from),
            "headline": headline(result),
            "metrics": metrics,
            "papers": papers,
        }
        run.publish(files, about)
    log.info(
        "Logged %d metrics and %d figures under %s of run %s",
        len(metrics),
        len(drawn),
        top,
        run.run_id,
    )
    where = run.address(f"{top}/report.html")
    log.info("Report: %s", where)
    return where


def _earlier_papers(run: Run, top: str) -> Mapping[str, str]:
    """Return of what the PDFs of the earlier evaluation were made (`_digest`), by their paths."""
    manifest = run.manifest(f"{top}/manifest.json")
    said = manifest.about.get("papers") if manifest is not None else None
    return said if isinstance(said, dict) else {}


def _digest(figure: report.Sheet) -> str:
    """Return what tells apart figures whose PDFs differ."""
    made_by = [f"{name} {version(name)}" for name in ("plotly", "kaleido")]
    return hashlib.sha256("\n".join([*made_by, figure.data]).encode()).hexdigest()


def _taken_over(run: Run, paper: str, place: Path) -> bool:
    """Copy a PDF of the earlier evaluation; False where it is not there as it was published."""
    try:
        source = run.artifact(paper, what="figure")
    except RunError:
        return False
    place.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, place)
    return True


def _title(recipe: Recipe) -> str:
    made = recipe.analysis
    parts = [made.get("analysis_name"), made.get("channel"), made.get("year")]
    return " ".join(dict.fromkeys(str(p) for p in parts if p))


def _recipe_table(run: Run, recipe: Recipe) -> dict[str, Any]:
    """Return what the run was made with, as the report shows it."""
    return {
        "run": run.run_id,
        "experiment": run.experiment_id,
        "classes": [c.name for c in recipe.classes],
        "features": list(recipe.features),
        "folds": recipe.fold.n_splits,
        "fold rule": " ".join([recipe.fold.kind, *recipe.fold.columns]),
        "training weight": recipe.weight,
        "feature pipeline": recipe.pipeline["fingerprint"],
        "models": list(recipe.models),
        f"{kind(recipe.model_kind).TITLE} parameters": recipe.training.get("model_param", {}),
        "samples": [
            {
                "sample": s["name"],
                "processes": ", ".join(
                    f"{p['name']} ({p['cut'] or 'all'})" for p in s["processes"]
                ),
            }
            for s in recipe.samples
        ],
        "common cut": recipe.analysis.get("common_cut") or "none",
        "input files": [
            {"file": f["name"], "entries": f["n_entries"], "uuid": f["uuid"]} for f in recipe.files
        ],
        "train skim": recipe.skims["train"],
    }
