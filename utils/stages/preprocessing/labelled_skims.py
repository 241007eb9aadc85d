"""The labelled set: samples of `role: test`, which are read and transformed and never trained on.

They follow the training's cuts, weights and feature pipeline, and become one skim beside train and
test. Nothing of them enters the split, the pipeline or a weight of the training.
"""

from __future__ import annotations

import logging

import numpy as np

from utils.columns.pipeline import FeaturePipeline
from utils.schema import LABELLED, TARGET, PreprocessConfig
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.reading import Plan, Selected
from utils.stages.preprocessing.skim_content import finished, metadata
from utils.stages.preprocessing.training_skims import (
    UNIT_ENTRIES,
    nominal_and_marked,
    process_fractions,
    take,
    with_marked,
    with_weights,
    write,
)

log = logging.getLogger(__name__)


def plan_labelled(config: PreprocessConfig, trained: Plan) -> Plan | None:
    """Open and check every file of the labelled samples; None where there are none.

    Raises InputError where one of them is also a file of `trained`, under another group.
    """
    samples = [s for s in config.read_samples if s.role == "test"]
    if not samples:
        return None
    plan = reading.plan(config, samples, unit_size=UNIT_ENTRIES)
    reading.refuse_shared_files([*trained.units, *plan.units])
    log.info("Labelled, not trained on: %d entries of %d files", plan.n_entries, len(plan.trees))
    return plan


def write_labelled_skim(
    config: PreprocessConfig, plan: Plan, selected: Selected, pipeline: FeaturePipeline
) -> None:
    """Write all events of the labelled samples, in input order, with the training's pipeline."""
    nominal, marked = nominal_and_marked(selected.groups)
    groups = with_weights(config, nominal)
    events = take(config, groups, np.arange(len(groups["targets"][TARGET])))
    [shares] = process_fractions(plan.processes, [events])
    path = config.skim_file(LABELLED)
    rows = with_marked(config, events, marked)
    write(path, finished(config, rows, pipeline, plan.shifts),
          metadata(config, plan, pipeline, LABELLED, 1.0, shares))  # fmt: skip
    log.info("Wrote %d events to %s", selected.n_rows, path)
