"""`check=true`: what an evaluation would be made of, without making it."""

from __future__ import annotations

import logging

import numpy as np

from utils.formats.runs import Run, check_store, open_run
from utils.schema import EvaluateConfig, slug
from utils.stages.evaluation.numbers import asked
from utils.stages.evaluation.scored_events import load_table

log = logging.getLogger(__name__)


def check(run: Run, config: EvaluateConfig) -> None:
    """Tell what would be evaluated. Raises what the evaluation would raise before it computes."""
    check_store()
    what = asked(run, config)
    table = what.table
    for code, name in enumerate(table.names):
        log.info("Class %s: %d events", name, np.count_nonzero(table.target == code))
    if table.weight is None:
        log.info("No physics weight: everything is balanced or counted")
    if config.against:
        other = open_run(config.against)
        load_table(other, other.recipe, config.dataset)
        log.info("Compared with run %s", other.run_id)
    for section, reason in what.gaps.items():
        log.info("Left out: %s: %s", section, reason)
    log.info("Sections: %s", ", ".join(what.options.sections))
    log.info("Would be logged under plots/%s of run %s", slug(config.dataset), run.run_id)
    log.info("Checked; nothing was written")
