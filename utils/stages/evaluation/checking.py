"""`check=true`: what an evaluation would be made of, without making it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

from utils.formats.runs import Run, artifact_folder, check_store, open_run
from utils.results.evaluation import evaluate
from utils.schema import EvaluateConfig, slug
from utils.stages.evaluation.numbers import Asked, asked
from utils.stages.evaluation.scored_events import load_table
from utils.system.places import check_space, duration

log = logging.getLogger(__name__)

SAMPLED = 20_000
"""Events whose numbers are made to see how long that takes."""

NEEDED = 15e6
"""Bytes of the report and the figures of an evaluation, which hardly depend on its events."""

_OF_EVENTS = {"densities", "scores", "confusion", "roc", "precision_recall", "calibration"}
"""Sections that take as long as the table has events, and nothing but the table."""


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
    log.info("Sections: %s", ", ".join(s for s in what.options.sections if s not in what.gaps))
    log.info("Time: about %s for the numbers, figures aside", _time(what))
    folder = artifact_folder()
    if folder is not None:
        log.info("Disk: %s, in %s", check_space(folder, NEEDED, "report and figures"), folder)
    log.info("Would be logged under plots/%s of run %s", slug(config.dataset), run.run_id)
    log.info("Checked; nothing was written")


def _time(what: Asked) -> str:
    """Return the time to expect of the sections of the table, by making them of fewer events."""
    n_events = len(what.table.target)
    chosen = np.zeros(n_events, np.bool_)
    chosen[np.random.default_rng(0).permutation(n_events)[:SAMPLED]] = True
    sections = tuple(s for s in what.options.sections if s in _OF_EVENTS)
    begin = time.perf_counter()
    evaluate(what.table.of(chosen), replace(what.options, sections=sections))
    seconds = time.perf_counter() - begin
    return duration(seconds * n_events / max(int(chosen.sum()), 1))
