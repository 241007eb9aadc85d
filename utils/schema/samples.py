"""Samples as users list them -> samples as they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from utils.schema.basics import FILLER_CLASS, ConfigError, project_path
from utils.schema.exchange import Process, Sample
from utils.schema.loading import one_line
from utils.schema.parts import ProcessConfig, SampleEntry

if TYPE_CHECKING:
    from utils.schema.stages import PreprocessConfig


def sample_of(config: PreprocessConfig, item: Any) -> Sample:
    entry = entry_of(config, item)
    where = f"input_samples.{entry.sample}"
    if config.for_training:
        if not entry.processes:
            raise ConfigError(f"{where} names no process: give 'process: {{cut: ..., class: 0}}'")
        processes = tuple(
            _process(config, f"{where}.{name}", str(name), raw)
            for name, raw in entry.processes.items()
        )
    else:
        if entry.processes:
            raise ConfigError(
                f"{where} has processes, but for_training is false: "
                "prediction takes a list of sample names"
            )
        processes = (Process(entry.sample, None, FILLER_CLASS),)
    if config.for_training and entry.never_trained:
        raise ConfigError(f"{where} is declared never_trained: it can't be a training sample")
    files = entry.files
    if files is None:
        files = config.input_filename_template.format(sample_name=entry.sample)
    files = [files] if isinstance(files, str) else files
    if not config.input_path and not all(Path(f).is_absolute() for f in files):
        raise ConfigError("input_path is not set: name the folder of the ntuples")
    return Sample(
        name=entry.sample,
        files=tuple(str(project_path(config.input_path) / Path(f).expanduser()) for f in files),
        tree=entry.tree or config.tree_name,
        processes=processes,
        factor=_number(entry.factor, f"{where}.factor"),
        weight=entry.weight or config.weight,
        group=entry.group or entry.sample,
        never_trained=entry.never_trained,
    )


def entry_of(config: PreprocessConfig, item: Any) -> SampleEntry:
    """Return one item of `input_samples` in its long form, joined with what `samples` says."""
    if isinstance(item, Mapping) and isinstance(item.get("sample"), str | int):
        raw = dict(item)
    elif isinstance(item, Mapping) and len(item) == 1:
        [(name, processes)] = item.items()
        if not isinstance(processes, Mapping | None):
            raise ConfigError(f"input_samples.{name} is not '{{process: {{cut: ..., class: 0}}}}'")
        raw = {"sample": name, "processes": processes or {}}
    elif isinstance(item, Mapping):
        raise ConfigError(
            f"input_samples: {sorted(map(str, item))} is not one sample: "
            "start each with its own '-'"
        )
    else:
        raw = {"sample": item}
    described = config.samples.get(str(raw["sample"]))
    if described is not None:
        raw = {**described.model_dump(exclude_unset=True), **raw}
    try:
        return SampleEntry.model_validate(raw)
    except ValidationError as error:
        where = f"input_samples.{raw['sample']}"
        raise ConfigError(one_line(error, SampleEntry, prefix=where)) from None


def _number(value: float | str, where: str) -> float:
    """Return a number written as such or as a product and quotient, e.g. `11467 * 19.6 / 3e7`."""
    if not isinstance(value, str):
        return float(value)
    parts = re.split(r"\s*([*/])\s*", value.strip())
    try:
        result = float(parts[0])
        for operator, number in zip(parts[1::2], parts[2::2], strict=True):
            result = result * float(number) if operator == "*" else result / float(number)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"{where}: '{value}' is not a product or quotient of numbers") from None
    return result


def _process(config: PreprocessConfig, where: str, name: str, raw: Any) -> Process:
    try:
        parsed = ProcessConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(one_line(error, ProcessConfig, prefix=where)) from None
    if config.class_to_info and parsed.class_id not in config.class_to_info:
        raise ConfigError(
            f"{where}.class is {parsed.class_id}, which class_to_info does not name; "
            f"known: {', '.join(map(str, config.classes))}"
        )
    return Process(name, parsed.cut, parsed.class_id)
