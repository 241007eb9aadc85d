"""What a repeated evaluation need not do again: one that the run holds, nothing having changed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from utils.formats.manifests import manifest_of
from utils.formats.runs import RECIPE, Run, open_run
from utils.schema import EvaluateConfig, RunError, slug
from utils.system import units
from utils.system.units import UnitOfWork

log = logging.getLogger(__name__)

_OF_NO_RESULT = {"engine", "run_id", "experiment_id", "year"}
"""Keys that no number or figure follows from."""


def unit_of(run: Run, config: EvaluateConfig) -> UnitOfWork:
    """Return the unit that evaluates a table: it follows from the tables and what was trained."""
    stated = config.model_dump(mode="json", by_alias=True)
    others = [open_run(config.against)] if config.against else []
    return UnitOfWork(
        name=f"evaluation of {_name(config)}",
        key=f"evaluation {run.run_id} {_name(config)}",
        step="utils.stages.evaluation",
        inputs=[
            _published(run, [*_tables(_name(config)), *_alternatives(run, config)]),
            *(_published(of, _tables(_name(config))) for of in others),
        ],
        configuration={k: v for k, v in stated.items() if k not in _OF_NO_RESULT},
    )


def _name(config: EvaluateConfig) -> str:
    return config.dataset.removesuffix(".csv").removesuffix(".parquet")


def _published(run: Run, tables: Sequence[str]) -> Any:
    """Return the checksums of a run's training and of the tables that an evaluation looks at."""
    places = [manifest_of(p) for p in (RECIPE, *tables)]
    manifests = [run.manifest(place) for place in places]
    return [
        {path: listed.sha256 for path, listed in manifest.files.items()} if manifest else None
        for manifest in manifests
    ]


def _tables(dataset: str) -> list[str]:
    return [f"pred/{name}.parquet" for name in dict.fromkeys([dataset, "train", "test"])]


def _alternatives(run: Run, config: EvaluateConfig) -> list[str]:
    """Return the tables that may be those of alternative samples, which variations look at."""
    if config.sections is not None and "variations" not in config.sections:
        return []
    known = _tables(_name(config))
    there = [path for path in run.artifacts("pred") if path.endswith(".parquet")]
    return [path for path in there if path not in known]


def report_of(run: Run, config: EvaluateConfig) -> str | None:
    """Return where the report of this evaluation is; None where it is to be made (again)."""
    place = f"plots/{slug(_name(config))}/manifest.json"
    manifest = run.manifest(place)
    before = manifest.about.get("made_from") if manifest is not None else None
    if manifest is None or not isinstance(before, dict):
        return None
    unit = unit_of(run, config)
    why = units.changed(unit, before, config.force)
    try:
        for path in () if why else manifest.files:
            run.artifact(path, what="figure")
    except RunError as error:
        why = str(error)
    units.tell(unit, why)
    if why:
        return None
    where = run.address(f"plots/{slug(_name(config))}/report.html")
    log.info("Report: %s", where)
    return where
