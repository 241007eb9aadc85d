"""A training that is kept on the local disk until its run has all of it.

Each fold is kept when it is trained. Where the command is killed, or the store is lost, `train.py
resume=RUN_ID` trains the folds that are missing and delivers all of them to the same run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from utils.formats.runs import NewRun, open_run, uri_prefix
from utils.formats.skims import Skim
from utils.models import FoldResult
from utils.schema import PROJECT, ConfigError, PipelineError, RunError, TrainConfig, load, portable
from utils.system import units
from utils.system.files import complete, kept_alive, system_message
from utils.system.processes import Process
from utils.system.units import UnitOfWork

log = logging.getLogger(__name__)

TRAININGS = PROJECT / "outputs" / "trainings"
"""A folder for each training that its run does not have yet."""

_OF_NO_MODEL = {"engine", "experiment_name", "run_name"}
"""Keys that no model follows from; the number of threads is that of each fold's own."""


@dataclass(frozen=True)
class KeptTraining:
    """A training and where it is kept; `run_id` is that of the run to go on with, if any."""

    folder: Path
    config: TrainConfig
    run_id: str | None = None
    force: bool = False

    def unit(self, skim: Skim, index: int) -> UnitOfWork:
        """Return the unit that trains a fold."""
        stated = self.config.model_dump(mode="json", by_alias=True)
        path = self.folder / f"fold_{index}.json"
        return UnitOfWork(
            name=f"fold {index}",
            key=portable(path),
            step="utils.stages.training",
            inputs=[portable(skim.path), list(skim.stamp)],
            configuration={k: v for k, v in stated.items() if k not in _OF_NO_MODEL},
            files=[path],
        )

    def known(self, skim: Skim, index: int) -> FoldResult | None:
        """Return a fold that is trained already, nothing having changed since."""
        unit = self.unit(skim, index)
        if units.recall(unit, self.force) is None:
            return None
        raw = json.loads(unit.files[0].read_text(encoding="utf-8"))
        curves = {n: [(int(step), value) for step, value in c] for n, c in raw["curves"].items()}
        importances = {name: tuple(values) for name, values in raw["importances"].items()}
        return FoldResult(**{**raw, "curves": curves, "importances": importances})

    def keep(self, skim: Skim, result: FoldResult) -> None:
        """Keep a fold that has just been trained."""
        unit = self.unit(skim, result.index)
        with complete(unit.files[0]) as partial:
            partial.write_text(json.dumps(asdict(result)), encoding="utf-8")
        units.record(unit, True)

    @property
    def folds(self) -> Sequence[Path]:
        """The folds that are kept."""
        return sorted(self.folder.glob("fold_*.json"))

    def of_run(self, run: NewRun) -> None:
        """Remember which run this is to go to, and its keys."""
        stated = self.config.model_dump(mode="json", by_alias=True)
        _write(self.folder / "config.json", stated)
        _write(self.folder / "run.json", {"run_id": run.run_id})

    def drop(self) -> None:
        """Remove what is kept: the run has it."""
        _discard(self.folder)


def _write(path: Path, content: object) -> None:
    with complete(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


@contextlib.contextmanager
def keeping(config: TrainConfig, typed: Sequence[str]) -> Iterator[KeptTraining]:
    """Provide a new training, or the one to go on with (`resume`), all of its keys with it.

    `typed` are the keys that the command gives. Where it fails, what is kept and the command that
    delivers it stand in the error. Raises ConfigError or RunError where a training can't be gone
    on with.
    """
    kept = _new(config) if config.resume is None else _found(config, config.resume, typed)
    owner = kept.folder / "owner.json"
    _write(owner, {"process": str(Process.current())})
    with kept_alive(owner):
        try:
            yield kept
        except (PipelineError, OSError) as error:
            run_id = _run_of(kept.folder)
            if not kept.folds or run_id is None:
                kept.drop()
                raise
            told = PipelineError(system_message(error)) if isinstance(error, OSError) else error
            raise type(told)(
                f"{told}; {len(kept.folds)} trained folds are kept in {kept.folder}: "
                f"'{uri_prefix()}python train.py resume={run_id}' goes on and delivers them"
            ) from error


def _new(config: TrainConfig) -> KeptTraining:
    _discard_lost()
    name = f"{Process.current()}-{uuid.uuid4().hex[:8]}"
    return KeptTraining(TRAININGS / name, config, force=config.force)


def _found(config: TrainConfig, run_id: str, typed: Sequence[str]) -> KeptTraining:
    if "MLFLOW_RUN_ID" in os.environ:
        raise ConfigError(
            "resume is not for mlflow run, which opens another run: use python train.py "
            f"resume={run_id}"
        )
    others = [k for k in typed if k.split(".")[0] not in ("resume", "force", "engine")]
    if others:
        raise ConfigError(
            f"resume={run_id} takes every key from that run: leave {', '.join(others)} out, or "
            "train anew without resume"
        )
    folder = next((p for p in sorted(TRAININGS.glob("*")) if _run_of(p) == run_id), None)
    if folder is None:
        done = open_run(run_id).lists("recipe/recipe.json")
        raise RunError(
            f"run {run_id} is complete: there is nothing to resume"
            if done
            else f"nothing of run {run_id} is kept in {TRAININGS}: it was trained elsewhere, or "
            "failed before it began: train anew"
        )
    _refuse_alive(folder, run_id)
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    before = load(TrainConfig, raw)
    if any(key.split(".")[0] == "engine" for key in typed):
        before = before.model_copy(update={"engine": config.engine})
    return KeptTraining(folder, before, run_id, config.force)


def _discard_lost() -> None:
    """Remove trainings that ended before they had a run: nothing can go on with them."""
    for folder in TRAININGS.glob("*/"):
        with contextlib.suppress(OSError):  # in doubt it stays
            if not (folder / "run.json").exists() and _living_owner(folder) is None:
                _discard(folder)


def _discard(folder: Path) -> None:
    """Remove a kept training, and that its folds are done."""
    for fold in folder.glob("fold_*.json"):
        units.forget(portable(fold))
    shutil.rmtree(folder, ignore_errors=True)


def _living_owner(folder: Path) -> Process | None:
    """Return the process that trains, None where it is dead.

    The folder is named by the one that began the training.
    """
    owner = folder / "owner.json"
    try:
        process, touched = Process.named_in(owner.read_text(encoding="utf-8")), owner
    except FileNotFoundError:
        process, touched = Process.named_in(folder.name), folder
    alive = process is not None and not process.is_dead(touched.stat().st_mtime)
    return process if alive else None


def _refuse_alive(folder: Path, run_id: str) -> None:
    process = _living_owner(folder)
    if process not in (None, Process.current()):
        raise RunError(
            f"run {run_id} is still being trained, by process {process}: if that is on another "
            "machine and has ended, wait ten minutes"
        )


def _run_of(folder: Path) -> str | None:
    """Return the run that a kept training belongs to, None where it had none yet."""
    try:
        return str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
