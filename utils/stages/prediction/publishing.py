"""Predictions of a run: made for all samples, proved, then logged with a manifest written last."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.columns.audit import LeakAudit, merge_audits
from utils.columns.folds import check_entry_rule
from utils.formats.runs import Run
from utils.formats.skims import Skim, open_skim, origin
from utils.models import scoring
from utils.schema import (
    PROJECT,
    ConfigError,
    InputError,
    PredictConfig,
    RunError,
    portable,
    project_path,
)
from utils.stages.prediction.friend_trees import write_friends
from utils.stages.prediction.tables import TableTask, misc_of, write_table
from utils.stages.prediction.tasks import (
    Scorer,
    check_skim,
    friend_tasks,
    preprocess_config,
    skim_folder,
)
from utils.system.engine import Engine, available_cores, progress
from utils.system.files import scratch

log = logging.getLogger(__name__)


def open_scorer(run: Run, config: PredictConfig) -> Scorer:
    """Return the models of a run, compiled, with what each was trained on.

    Raises RunError where the run's audit failed or something is missing, ConfigError where `year`
    is not the run's.
    """
    recipe = run.recipe
    if not recipe.audit_passed:
        raise RunError(f"the leak audit of run {run.run_id} failed: it must not be used to predict")
    if not config.input_path:
        run.check_year(config.year, "give the input_path of the other year's skims")
    n_models = len(recipe.models)
    models = scoring.open_models(
        recipe.model_kind,
        [run.model_text(i) for i in range(n_models)],
        recipe.fold,
        recipe.features,
        f"run {run.run_id}",
    )
    stated = [m["fingerprint"] for m in recipe.models]
    if models.fingerprints != stated:
        raise RunError(
            f"the models of run {run.run_id} are not those its recipe names: train again"
        )
    trained = tuple(run.trained_identities(i) for i in range(n_models))
    return Scorer(run.run_id, models, recipe, trained)


def publish_friends(run: Run, config: PredictConfig, scorer: Scorer, workers: Engine) -> None:
    """Write a proved friend tree for every input file, and log them under `pred/`."""
    folder = output_folder(run, config)
    tasks = friend_tasks(config, scorer, folder, _threads(workers))
    audits: list[LeakAudit] = []
    proofs: list[dict[str, Any]] = []
    outputs: list[Path] = []
    with progress(sum(t.n_entries for t in tasks), "events", "predicting") as bar:
        # The largest sample first: begun last, it would be worked on alone at the end.
        tasks.sort(key=lambda task: task.n_entries, reverse=True)
        results = workers.map(write_friends, tasks, threads=True)
        for task, result in zip(tasks, results, strict=True):
            for proof, path in zip(result.proofs, result.paths, strict=True):
                log.info(
                    "%s: %d entries, %d scored, proved row by row",
                    path.name,
                    proof.n_entries,
                    proof.n_scored,
                )
                for note in proof.notes:
                    log.info("  note: %s", note)
                proofs.append(
                    {
                        "friend": path.name,
                        "path": portable(path),
                        "input": proof.input_path.name,
                        "n_entries": proof.n_entries,
                        "n_scored": proof.n_scored,
                        "identity": list(proof.identity),
                        "notes": list(proof.notes),
                    }
                )
            outputs += result.paths
            audits.append(result.audit)
            bar.update(task.n_entries)
    audit = merge_audits(audits)
    log.info("%s", audit.summary)
    with scratch() as temporary:
        name = "_".join(["friends", *sorted(config.sample_names)])
        extra = _audit_files(temporary, name[:80], audit, {"friends": proofs})
        run.publish({**{f"pred/{p.name}": p for p in outputs}, **extra})
    log.info("Wrote %d friend trees to %s and logged them under pred/", len(outputs), folder)


def publish_tables(run: Run, config: PredictConfig, scorer: Scorer, workers: Engine) -> None:
    """Write a table of scored events for every dataset, and log them under `pred/`."""
    analysis = preprocess_config(scorer.recipe)
    chosen = analysis.misc_features if config.misc_features is None else config.misc_features
    # Workers elsewhere need a folder that they share with this process.
    with scratch(None if workers.shares_memory else PROJECT / "outputs") as temporary:
        tasks = []
        for name in config.sample_names or ["train", "test"]:
            skim = open_skim(_table_skim(config, scorer, name))
            check_skim(skim, scorer)
            _check_origin(skim, name, config, scorer)
            never = all(s["never_trained"] for s in skim.metadata["samples"])
            for file in skim.metadata["files"]:
                check_entry_rule(scorer.models.rule, scorer.recipe.files, file, never)
            misc = misc_of(chosen, skim)
            tasks.append(TableTask(name, skim, scorer, misc, temporary, _threads(workers)))
        results = []
        with progress(sum(t.skim.n_rows for t in tasks), "events", "predicting") as bar:
            done = workers.map(write_table, tasks, threads=True)
            for task, result in zip(tasks, done, strict=True):
                log.info("%s: %d events scored", result.name, result.n_events)
                results.append(result)
                bar.update(task.skim.n_rows)
        audit = merge_audits([r.audit for r in results])
        log.info("%s", audit.summary)
        content = {"tables": [{"name": r.name, "n_events": r.n_events} for r in results]}
        name = "tables_" + "_".join(sorted(r.name for r in results))
        extra = _audit_files(temporary, name[:80], audit, content)
        files = {f"pred/{p.name}": p for r in results for p in (r.csv, r.parquet)}
        run.publish({**files, **extra})
    log.info("Logged %d tables under pred/ of run %s", len(results), run.run_id)


def output_folder(run: Run, config: PredictConfig) -> Path:
    """Return the folder of the friend trees: as configured, else beside the skims, by run."""
    if config.output_path:
        return project_path(config.output_path)
    skim_path = run.recipe.analysis.get("skim_path")
    if not skim_path:
        raise ConfigError("output_path is not set: name the folder the friend trees go to")
    return project_path(skim_path).parent / "friends" / run.run_id


def _table_skim(config: PredictConfig, scorer: Scorer, name: str) -> Path:
    if config.input_path:
        folder = project_path(config.input_path)
        return folder / config.input_filename_template.format(sample_name=name)
    known = scorer.recipe.skims
    if name in known:
        return project_path(known[name])
    analysis = preprocess_config(scorer.recipe)
    return skim_folder(config, analysis) / config.input_filename_template.format(sample_name=name)


def _check_origin(skim: Skim, name: str, config: PredictConfig, scorer: Scorer) -> None:
    """Raise InputError where the run's own train or test skim was made anew since the training."""
    known = scorer.recipe.skims
    if config.input_path or name not in ("train", "test") or name not in known:
        return
    now, then = origin(skim.metadata), known["origin" if name == "train" else "test_origin"]
    if now != then:
        raise InputError(
            f"{skim.path} was made anew since run {scorer.run_id} was trained (origin {now}, "
            f"then {then}): train again, or name it with input_path={skim.path.parent}"
        )


def _audit_files(
    folder: Path, name: str, audit: LeakAudit, content: dict[str, Any]
) -> dict[str, Path]:
    """Return the audit table and, last, the manifest that says the prediction is complete."""
    table, manifest = folder / f"audit_{name}.csv", folder / f"manifest_{name}.json"
    rows = audit.to_rows()
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    manifest.write_text(json.dumps({**content, "audit_passed": audit.passed}, indent=1))
    return {f"pred/{table.name}": table, f"pred/{manifest.name}": manifest}


def _threads(workers: Engine) -> int:
    return 1 if workers.n_workers > 1 else available_cores()


def next_commands(run: Run, config: PredictConfig, prefix: str) -> Sequence[str]:
    """Return the commands that come next, ids filled in, to paste."""
    ids = f"experiment_id={run.experiment_id} run_id={run.run_id}"
    if config.kind == "for_evaluation":
        names = config.sample_names or ["train", "test"]
        return ["Next:", *(f"  {prefix}python evaluate.py {ids} dataset={n}" for n in names)]
    return [
        "Next: add the trees as friends, or prove any of them again:",
        f"  {prefix}python -m utils.proof INPUT.root FRIEND.root --scores {run.run_id}",
    ]
