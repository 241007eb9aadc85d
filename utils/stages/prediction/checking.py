"""`check=true`: what a prediction would write, told from its inputs and the first rows of each."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from utils.columns.audit import LeakAudit, merge_audits
from utils.schema import PredictConfig, RunError
from utils.stages.prediction.outputs import OutputKind
from utils.stages.prediction.scorer import Scorer
from utils.system.engine import cores_of
from utils.system.places import check_space, check_writable, duration

log = logging.getLogger(__name__)

ROW_BYTES = 40
"""What a friend tree takes for an entry beside its probabilities, before compression."""


def check(config: PredictConfig, kind: OutputKind, scorer: Scorer) -> None:
    """Tell what would be written. Raises what the prediction would raise; nothing is made.

    The inputs are opened and compared with the run by the code of the full command, and the first
    chunk of each is read, scored and audited as it does.
    """
    tasks = kind.tasks(Path("unwritten"))
    if kind.folder is not None:
        check_writable(kind.folder, "the folder of the outputs")
    begin, n_read = time.process_time(), 0
    audits: list[LeakAudit] = []
    for task in tasks:
        log.info("%s: %d entries, %d outputs", task, task.n_rows, len(task.outputs))
        for output in task.outputs:
            rows = next(output.source.rows(scorer.models.rule))
            scorer.scores(rows)
            audits.append(scorer.audit(rows))
            n_read += rows.span.size
    audit = merge_audits(audits)
    log.info("Of %d entries that were read: %s", n_read, audit.summary)
    if not audit.passed:
        raise RunError(f"{audit.summary}: nothing would be written")
    n_rows = sum(task.n_rows for task in tasks)
    seconds = (time.process_time() - begin) * n_rows / max(n_read, 1)
    if kind.folder is not None:
        needed = n_rows * (ROW_BYTES + 4 * scorer.models.n_classes)
        log.info("Disk: %s, in %s", check_space(kind.folder, needed, "they"), kind.folder)
    log.info("Time: about %s", duration(seconds / cores_of(config.engine)))
    log.info("Checked; nothing was written")
