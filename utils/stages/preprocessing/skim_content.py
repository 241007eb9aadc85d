"""What a skim holds: its columns as they are stored, and what it says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Array, Groups
from utils.columns.pipeline import FeaturePipeline
from utils.columns.variations import shifted_name
from utils.formats import ntuples
from utils.formats.skims import SHIFTED
from utils.schema import (
    COMPUTED_COLUMNS,
    SELECTED,
    TARGET,
    WEIGHT_FACTOR,
    AnalysisConfig,
    ClassInfo,
    ConfigError,
    PreprocessConfig,
    Sample,
    classes_as_rows,
    portable_location,
)
from utils.stages.preprocessing.reading import Plan, StoredShift
from utils.system.files import complete


def continuous(groups: Groups, names: Sequence[str]) -> NDArray[np.float32]:
    """Return continuous features as a matrix `(n_events, n_features)`, stored by columns."""
    columns = groups["cont_features"]
    n_rows = len(groups["targets"][TARGET])
    matrix = np.empty((n_rows, len(names)), np.float32, order="F")
    for position, name in enumerate(names):
        matrix[:, position] = columns[name]
    return matrix


def finished(
    config: PreprocessConfig,
    groups: Groups,
    pipeline: FeaturePipeline,
    shifts: Sequence[StoredShift] = (),
) -> Groups:
    """Return the columns as a skim stores them: features transformed, computed columns in place.

    `shifts` are those whose columns are among `groups`.
    """
    transformed = pipeline.transform(continuous(groups, pipeline.inputs))
    computed = {**groups["targets"], **groups["weights"]}
    known = {
        **groups["misc_features"],
        **{n: computed[n] for n in COMPUTED_COLUMNS if n in computed},
    }
    misc = [n for n in config.misc_features if n in known]
    made = {
        **groups,
        "cont_features": {n: transformed[:, i] for i, n in enumerate(pipeline.outputs)},
        "misc_features": {n: known[n] for n in misc},
    }
    return {**made, SHIFTED: _shifted(groups, pipeline, shifts)} if shifts else made


def _shifted(
    groups: Groups, pipeline: FeaturePipeline, shifts: Sequence[StoredShift]
) -> dict[str, Array]:
    """Return what shifts make of the rows, features transformed: NaN where a cut removed one."""
    raw = groups[SHIFTED]
    suffixes = [shift.suffix for shift in shifts]
    kept = [SELECTED, *(shifted_name(n, s) for n in (SELECTED, WEIGHT_FACTOR) for s in suffixes)]
    found = {name: raw[name] for name in kept if name in raw}
    for shift in shifts:
        changed = {name: raw[shifted_name(name, shift.suffix)] for name in shift.features}
        outputs = {
            **pipeline.transform_changed(groups["cont_features"], changed),
            **{n: c for n, c in changed.items() if n in groups["cat_features"]},
        }
        selected = raw.get(shifted_name(SELECTED, shift.suffix))
        for name, values in outputs.items():
            if selected is not None and not selected.all():
                values = np.where(selected, values, np.float32(np.nan))
            found[shifted_name(name, shift.suffix)] = values
    return found


def save_configuration(config: PreprocessConfig) -> None:
    """Save the resolved configuration beside the skims."""
    kind = "training" if config.for_training else "prediction"
    path = config.output_folder / f"config_{kind}.json"
    with complete(path) as partial:
        # By json, which keeps NaN as such; pydantic would write null.
        partial.write_text(
            json.dumps(config.model_dump(mode="json", by_alias=True), indent=1), encoding="utf-8"
        )


def metadata(
    config: PreprocessConfig,
    plan: Plan,
    pipeline: FeaturePipeline,
    dataset: str,
    fraction: float,
    of_process: Mapping[str, float],
) -> dict[str, Any]:
    """Return what a skim says about itself: configuration, classes, pipeline, inputs."""
    groups = {unit.file_code: unit.sample.group for unit in plan.units}
    return {
        "kind": "training" if config.for_training else "prediction",
        "dataset": dataset,
        "config": config.model_dump(mode="json", by_alias=True),
        "classes": classes_as_rows(class_list(config, plan)),
        "features": {"cont": list(pipeline.outputs), "cat": list(config.cat_features)},
        "pipeline": pipeline.to_json(),
        "samples": [sample_entry(s) for s in plan.samples],
        "processes": list(plan.processes),
        "files": [_file_entry(config, t, groups[i]) for i, t in enumerate(plan.trees)],
        "n_entries": [t.n_entries for t in plan.trees],
        "identity": list(config.identity_columns),
        "fraction": fraction,
        "process_fractions": dict(of_process),
        **_stated_shifts(plan),
    }


def _stated_shifts(plan: Plan) -> dict[str, Any]:
    """Return what a skim says of its variations: nothing where there are none.

    For each shift what is stored of it, and which branches it replaces in the trees of a sample.
    """
    if not plan.shifts:
        return {}
    every = {of.suffix: of.shift for unit in plan.units for of in unit.tree.shifts}
    replaced: dict[str, dict[str, dict[str, str]]] = {}
    for unit in plan.units:
        for of in unit.tree.shifts:
            replaced.setdefault(of.suffix, {})[unit.sample.name] = dict(of.replaced)
    return {
        "shifts": [
            {
                **every[stored.suffix].described,
                "features": list(stored.features),
                "cut": stored.cut,
                "factor": stored.factor,
                "replaced": replaced[stored.suffix],
            }
            for stored in plan.shifts
        ]
    }


def _file_entry(config: PreprocessConfig, tree: ntuples.TreeInfo, group: str) -> dict[str, Any]:
    """Return what a skim remembers of a file, `group` being that of its sample.

    Also the types that joining several may widen.
    """
    copied = [*config.identity_columns, *config.misc_features]
    types = {n: str(tree.branches[n]) for n in copied if n in tree.branches}
    path = portable_location(tree.path)
    return {**ntuples.fingerprint(tree), "path": path, "types": types, "group": group}


def class_list(config: PreprocessConfig, plan: Plan) -> tuple[ClassInfo, ...]:
    """Return the classes in order of ids; where the file names none, processes name them."""
    if config.classes or not config.for_training:
        return tuple(config.classes.values())
    names: dict[int, dict[str, None]] = {}
    for sample in plan.samples:
        for process in sample.processes:
            names.setdefault(process.class_id, {})[process.name] = None
    if sorted(names) != list(range(len(names))):
        raise ConfigError(f"processes have the classes {sorted(names)}: number them 0 to n-1")
    return tuple(ClassInfo(name="+".join(names[i])) for i in sorted(names))


def sample_entry(sample: Sample) -> dict[str, Any]:
    """Return what a skim, and later a run, remembers of a sample."""
    return {
        "name": sample.name,
        "group": sample.group,
        "never_trained": sample.never_trained,
        "factor": sample.factor,
        "weight": sample.weight,
        "tree": sample.tree,
        "processes": [vars(p) for p in sample.processes],
    }


def _n_rows(groups: Groups) -> int:
    return len(groups["targets"][TARGET])


def _class_names(config: AnalysisConfig) -> list[str]:
    return [c.name for c in config.classes.values()]


def _types(groups: Groups) -> dict[str, dict[str, np.dtype[Any]]]:
    return {g: {n: c.dtype for n, c in columns.items()} for g, columns in groups.items()}
