"""Samples as users list them -> samples as they are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from utils.schema.analysis import AnalysisConfig
from utils.schema.basics import (
    FILLER_CLASS,
    ConfigError,
    nearest,
    refuse_repeated,
)
from utils.schema.exchange import Process, Sample
from utils.schema.loading import load_part
from utils.schema.locations import is_url, joined
from utils.schema.parts import ProcessConfig, SampleEntry

_PB_IN_FB = 1000.0


def samples_to_read(
    config: AnalysisConfig, listed: Sequence[Any], for_training: bool
) -> tuple[Sample, ...]:
    """Return the listed samples with their files, trees, processes and classes.

    Raises ConfigError where a sample is malformed, named twice or its class unknown.
    """
    if not listed:
        raise ConfigError("input_samples is empty: name at least one sample")
    samples = tuple(_sample_of(config, item, for_training) for item in listed)
    if not for_training:
        samples = tuple(_as_declared(config, sample) for sample in samples)
        samples += alternatives_of(config, samples)
    names = [s.name for s in samples]
    refuse_repeated(names, "input_samples")
    if for_training:
        samples = _with_roles(samples)
        _refuse_trained_never_trained(config, [s for s in samples if s.role == "training"])
    known = {*names, *_groups(config), *_alternatives(config)}
    unknown = sorted(set(config.samples) - known)
    if unknown:
        raise ConfigError(
            f"samples describes '{unknown[0]}', which is read nowhere; {nearest(unknown[0], names)}"
        )
    return samples


def alternatives_of(config: AnalysisConfig, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the samples that variations put in the place of some of these, once each.

    They have the processes, tree and weight of those they stand for, and no event of theirs is ever
    trained on.
    """
    names, found = {sample.name for sample in samples}, []
    for nominal in (sample for sample in samples if sample.role == "training"):
        for alternative, of in _alternatives(config).items():
            if of == nominal.name and alternative not in names:
                found.append(_alternative(config, nominal, alternative))
    return tuple(found)


def _as_declared(config: AnalysisConfig, sample: Sample) -> Sample:
    """Return a listed sample as what it is: one that stands for another, or itself."""
    nominal = _alternatives(config).get(sample.name)
    if nominal is None:
        return sample
    items = {sample_name(item): item for item in config.prediction_samples}
    return _alternative(config, _sample_of(config, items.get(nominal, nominal), False), sample.name)


def _alternatives(config: AnalysisConfig) -> dict[str, str]:
    """Return the nominal sample of each alternative one."""
    pairs = [(v.samples_up or {}, v.samples_down or {}) for v in config.variations.values()]
    return {other: nominal for both in pairs for of in both for nominal, other in of.items()}


def _alternative(config: AnalysisConfig, nominal: Sample, name: str) -> Sample:
    entry = _entry_of(config, name)
    if not {"factor", "cross_section"} & entry.model_fields_set and nominal.factor != 1:
        raise ConfigError(
            f"samples.{name} has no factor, and '{nominal.name}', which it stands for, has "
            f"{nominal.factor:g}: give its own, since it was generated with its own number of "
            "events"
        )
    own = _sample_of(config, entry.model_dump(exclude_unset=True), for_training=False)
    processes = nominal.processes
    if all(process.class_id == FILLER_CLASS for process in processes):
        processes = own.processes
    return replace(
        own,
        tree=entry.tree or nominal.tree,
        processes=processes,
        weight=entry.weight or nominal.weight,
        never_trained=True,
        stands_for=nominal.name,
    )


def _with_roles(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return training samples of which those of `role: test` are never trained on.

    One in the group of a sample that is trained on may share its events: the audit compares them.
    """
    trained = {s.group for s in samples if s.role == "training"}
    if not trained:
        raise ConfigError("every training sample has role: test: nothing is left to train on")
    return tuple(
        replace(s, never_trained=s.group not in trained) if s.role == "test" else s for s in samples
    )


def check_restrictions(config: AnalysisConfig, listed: Sequence[Any]) -> None:
    """Raise ConfigError where a variation is declared for samples that nothing is called.

    `listed` are the samples of the command, beside those of the analysis.
    """
    entries = [
        _entry_of(config, item)
        for item in (*listed, *config.training_samples, *config.prediction_samples)
    ]
    names = {entry.sample for entry in entries}
    own = {sample_name(item) for item in (*config.training_samples, *config.prediction_samples)}
    tags = {tag for entry in entries for tag in entry.tags}
    for variation, declared in config.variations.items():
        for name in declared.samples:
            if name not in names | tags:
                raise ConfigError(
                    f"variations.{variation}.samples names '{name}', which is no sample and no tag "
                    f"of one; {nearest(name, names | tags)}"
                )
        for key in ("samples_up", "samples_down"):
            for nominal, alternative in (getattr(declared, key) or {}).items():
                where = f"variations.{variation}.{key}"
                if nominal not in names:
                    raise ConfigError(
                        f"{where}: '{nominal}' is no sample; {nearest(nominal, names)}"
                    )
                if alternative in own:
                    raise ConfigError(
                        f"{where}: '{alternative}' is a sample of the analysis itself: drop it "
                        "from its lists, the variation adds it where it belongs"
                    )


def sample_name(item: Any) -> str:
    """Return the name of one item of `input_samples`, in whichever form."""
    if isinstance(item, Mapping):
        return str(item.get("sample", next(iter(item), "")))
    return str(item)


def _refuse_trained_never_trained(config: AnalysisConfig, samples: Iterable[Sample]) -> None:
    """`never_trained` lifts the protection of entry-number folds: hold users to it."""
    trained = {name for s in samples for name in (s.name, s.group)}
    for item in config.prediction_samples:
        entry = _entry_of(config, item)
        if entry.never_trained and trained & {entry.sample, entry.group}:
            raise ConfigError(
                f"prediction_samples.{entry.sample} is declared never_trained, but it (or its "
                "group) is a training sample: drop never_trained"
            )


def _groups(config: AnalysisConfig) -> dict[str, str]:
    """Return the group of each sample, by name, of the training and the prediction list.

    Raises ConfigError where the lists disagree: the leak audit would compare nothing.
    """
    groups: dict[str, str] = {}
    for item in [*config.training_samples, *config.prediction_samples]:
        entry = _entry_of(config, item)
        group = entry.group or entry.sample
        if groups.setdefault(entry.sample, group) != group:
            raise ConfigError(
                f"sample '{entry.sample}' has the group '{groups[entry.sample]}' in "
                f"training_samples and '{group}' in prediction_samples: "
                "give it once, under samples"
            )
    return groups


def _sample_of(config: AnalysisConfig, item: Any, for_training: bool) -> Sample:
    entry = _entry_of(config, item)
    where = f"input_samples.{entry.sample}"
    if for_training and not entry.processes:
        raise ConfigError(f"{where} names no process: give 'process: {{cut: ..., class: 0}}'")
    if for_training and entry.never_trained:
        raise ConfigError(f"{where} is declared never_trained: it can't be a training sample")
    if entry.role == "test" and not for_training:
        raise ConfigError(f"{where} has role: test, which an entry of training_samples may have")
    if entry.processes and not for_training:
        raise ConfigError(
            f"{where} has processes, but for_training is false: "
            "prediction takes a list of sample names"
        )
    processes = [_process(config, where, name, raw) for name, raw in entry.processes.items()]
    files = entry.files
    if files is None:
        files = config.input_filename_template.format(sample_name=entry.sample)
    files = [files] if isinstance(files, str) else files
    if not config.input_path and not all(is_url(f) or Path(f).is_absolute() for f in files):
        raise ConfigError("input_path is not set: name the folder of the ntuples")
    return Sample(
        name=entry.sample,
        files=tuple(str(joined(config.input_path, f)) for f in files),
        tree=entry.tree or config.tree_name,
        processes=tuple(processes) or (Process(entry.sample, None, FILLER_CLASS),),
        factor=_factor(config, entry, where),
        weight=entry.weight or config.weight,
        group=entry.group or entry.sample,
        never_trained=entry.never_trained,
        tags=tuple(entry.tags),
        role=entry.role,
    )


def _entry_of(config: AnalysisConfig, item: Any) -> SampleEntry:
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
    return load_part(SampleEntry, raw, f"input_samples.{raw['sample']}")


def _factor(config: AnalysisConfig, entry: SampleEntry, where: str) -> float:
    """Return what multiplies the sample's physics weight: its factor and its normalisation."""
    factor = _number(entry.factor, f"{where}.factor")
    given = (entry.cross_section, entry.generated)
    if given == (None, None):
        return factor
    if entry.cross_section is None or entry.generated is None:
        missing = "cross_section" if entry.cross_section is None else "generated"
        raise ConfigError(f"{where}.{missing} is missing: cross_section and generated go together")
    if config.reference_luminosity is None:
        raise ConfigError(
            f"{where} has a cross_section, but no reference_luminosity says to which luminosity "
            "(fb^-1) the weights are normalised"
        )
    section = _number(entry.cross_section, f"{where}.cross_section")
    generated = _number(entry.generated, f"{where}.generated")
    for key, value in (("cross_section", section), ("generated", generated)):
        if not 0 < value < float("inf"):
            raise ConfigError(f"{where}.{key} is {value:g}: give a positive number")
    return factor * section * _PB_IN_FB * config.reference_luminosity / generated


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


def _process(config: AnalysisConfig, where: str, name: str, raw: Any) -> Process:
    where = f"{where}.{name}"
    parsed = load_part(ProcessConfig, raw, where)
    if config.class_to_info and parsed.class_id not in config.class_to_info:
        raise ConfigError(
            f"{where}.class is {parsed.class_id}, which class_to_info does not name; "
            f"known: {', '.join(map(str, config.classes))}"
        )
    return Process(name, parsed.cut, parsed.class_id)
