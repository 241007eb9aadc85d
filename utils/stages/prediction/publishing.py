"""Predictions of a run: made for all samples, proved, then logged with a manifest written last."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.columns.audit import LeakAudit, merge_audits
from utils.formats.runs import Run
from utils.schema import PROJECT, ConfigError, PredictConfig, nearest
from utils.stages.prediction.friend_trees import FriendTrees
from utils.stages.prediction.outputs import Outcome, OutputKind, write
from utils.stages.prediction.scorer import Scorer
from utils.stages.prediction.tables import Tables
from utils.system.engine import Engine, available_cores, progress
from utils.system.files import scratch

log = logging.getLogger(__name__)

OUTPUT_KINDS: dict[str, Callable[[PredictConfig, Scorer], OutputKind]] = {
    "for_datacards": FriendTrees,
    "for_evaluation": Tables,
}
"""What the key `kind` may name."""


def output_kind(config: PredictConfig, scorer: Scorer) -> OutputKind:
    """Return the kind of output that is asked for. Raises ConfigError where there is none such."""
    if config.kind not in OUTPUT_KINDS:
        raise ConfigError(
            f"kind: there is no '{config.kind}'; {nearest(config.kind, OUTPUT_KINDS)}"
        )
    return OUTPUT_KINDS[config.kind](config, scorer)


def publish(run: Run, kind: OutputKind, workers: Engine) -> None:
    """Write all outputs that are asked for, and log them under `pred/`."""
    n_threads = 1 if workers.n_workers > 1 else available_cores()
    # Workers elsewhere need a folder that they share with this process.
    with scratch(None if workers.shares_memory else PROJECT / "outputs") as temporary:
        tasks = kind.tasks(temporary, n_threads)
        # The largest first: begun last, it would be worked on alone at the end.
        tasks.sort(key=lambda task: task.n_rows, reverse=True)
        outcomes: list[Outcome] = []
        audits: list[LeakAudit] = []
        with progress(sum(t.n_rows for t in tasks), "events", "predicting") as bar:
            done = workers.map(write, tasks, threads=True)
            for task, (written, audit) in zip(tasks, done, strict=True):
                for line in (line for outcome in written for line in outcome.said):
                    log.info("%s", line)
                outcomes += written
                audits.append(audit)
                bar.update(task.n_rows)
        audit = merge_audits(audits)
        log.info("%s", audit.summary)
        files = {f"pred/{name}": p for o in outcomes for name, p in o.files.items()}
        name = "_".join([kind.name, *sorted(kind.datasets)])[:80]
        content = {kind.name: [o.entry for o in outcomes], "audit_passed": audit.passed}
        run.publish({**files, **_described(temporary, name, audit, content)})
    log.info("%s", kind.summary(len(outcomes)))


def _described(
    folder: Path, name: str, audit: LeakAudit, content: dict[str, Any]
) -> dict[str, Path]:
    """Return the audit table and, last, the manifest that says the prediction is complete."""
    table, manifest = folder / f"audit_{name}.csv", folder / f"manifest_{name}.json"
    rows = audit.to_rows()
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    manifest.write_text(json.dumps(content, indent=1))
    return {f"pred/{table.name}": table, f"pred/{manifest.name}": manifest}
