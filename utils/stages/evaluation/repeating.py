"""What a repeated evaluation need not do again: what the run holds, or single sections of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from utils.formats.manifests import manifest_of
from utils.formats.runs import RECIPE, Run, open_run
from utils.results import stored
from utils.schema import PROJECT, EvaluateConfig, RunError, portable, slug
from utils.stages.evaluation.settings import analysis_of, with_class_style
from utils.system import units
from utils.system.files import discard_abandoned
from utils.system.units import UnitOfWork

log = logging.getLogger(__name__)

T = TypeVar("T")

STEP = "utils.stages.evaluation"

SECTIONS = PROJECT / "outputs" / "evaluations"
"""A folder a run and dataset: its sections as they were made last, each a file."""

_OF_NO_RESULT = {"engine", "run_id", "experiment_id", "year"}
"""Keys that no number or figure follows from."""


def unit_of(run: Run, config: EvaluateConfig) -> UnitOfWork:
    """Return the unit that evaluates a table: it follows from the tables and what was trained."""
    stated = config.model_dump(mode="json", by_alias=True)
    others = [open_run(config.against)] if config.against else []
    return UnitOfWork(
        name=f"evaluation of {_name(config)}",
        key=f"evaluation {run.run_id} {_name(config)}",
        step=STEP,
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


def report_of(run: Run, config: EvaluateConfig, unit: UnitOfWork) -> str | None:
    """Return where the report of an evaluation is; None where `unit` is to be made (again)."""
    place = f"plots/{slug(_name(config))}/manifest.json"
    manifest = run.manifest(place)
    before = manifest.about.get("made_from") if manifest is not None else None
    if manifest is None or not isinstance(before, dict):
        return None
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


# --- section by section ---------------------------------------------------------------------------


@dataclass(frozen=True)
class KeptSections:
    """The sections of a dataset's evaluations, kept on the local disk (a `Keeper`).

    An evaluation that was ended, or is repeated with another key, makes those only that are not
    there or follow from what has changed. `inputs`: checksums of the table and the training;
    `of_section`: of what single sections look at besides. `common`: choices that all depend on.
    """

    dataset: str
    folder: Path
    inputs: Any
    of_section: Mapping[str, Any]
    common: Mapping[str, Any]
    force: bool

    def __call__(self, section: str, made_with: Mapping[str, Any], make: Callable[[], T]) -> T:
        """Return a section from before, or make and keep it."""
        unit = self._unit(section, made_with)
        if units.recall(unit, self.force) is not None:
            try:
                known: T = stored.read(unit.files[0])
                return known
            except ValueError as error:
                log.info("%s: done again, %s", unit.name, error)
        result = make()
        [path] = unit.files
        stored.write(path, result)
        for earlier in self.folder.glob(f"{section}.*.npz"):
            if earlier != path:
                earlier.unlink(missing_ok=True)
        discard_abandoned(self.folder)
        units.record(unit, True)
        return result

    def _unit(self, section: str, made_with: Mapping[str, Any]) -> UnitOfWork:
        def unit(*files: Path) -> UnitOfWork:
            return UnitOfWork(
                name=f"section {section} of {self.dataset}",
                key=f"{portable(self.folder)} {section}",
                step=STEP,
                inputs=[self.inputs, self.of_section.get(section)],
                configuration=[dict(self.common), dict(made_with)],
                files=files,
            )

        # Two commands at once, with choices of their own, have a file each.
        return unit(self.folder / f"{section}.{unit().fingerprint[:12]}.npz")


def kept_sections(run: Run, config: EvaluateConfig) -> KeptSections:
    """Return what is kept of the evaluations of the dataset that `config` names."""
    dataset = _name(config)
    recipe = with_class_style(run.recipe, config)
    analysis = analysis_of(recipe, config)
    against = open_run(config.against) if config.against else None
    own = _tables(dataset)[0]
    return KeptSections(
        dataset=dataset,
        folder=SECTIONS / run.run_id / slug(dataset),
        inputs=[_published(run, [own]), config.dataset.endswith(".csv")],
        of_section={
            "over_training": _published(run, _tables(dataset)),
            "variations": _published(run, _alternatives(run, config)),
            "comparison": against and [against.run_id, _published(against, [own])],
        },
        common={
            "classes": [c.name for c in recipe.classes],
            "luminosity": [analysis.luminosity, analysis.reference_luminosity],
        },
        force=config.force,
    )
