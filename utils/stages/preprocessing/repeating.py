"""What a repeated preprocessing need not do again: whole skims, and rows that were read."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.columns.pipeline import FeaturePipeline
from utils.columns.roles import physics_weight
from utils.formats import ntuples
from utils.formats.skims import row_keys
from utils.schema import PreprocessConfig, Sample, portable, portable_location, short_name
from utils.stages.preprocessing.reading import Plan, Selected
from utils.system.files import complete
from utils.system.units import UnitOfWork, stamp

STEP = "utils.stages.preprocessing"

_OF_SAMPLES = {"training_samples", "prediction_samples", "input_samples", "samples"}
_NOWHERE = {"engine", "chunk_size"}
"""Keys that no skim follows from."""

_AFTER_READING = frozenset(
    {"seed", "train_size", "duplicates", "class_to_info", "class_balance", "compute_w_CP"}
    | {"scaler", "pca", "pipe_name", "output_samples", "output_filename_template"}
)
"""Keys of what is done with rows that were read: no kept row follows from them.

That weights are balanced or normalised decides of rows only whether they have a physics weight,
which is looked at by itself.
"""


def prediction_unit(
    config: PreprocessConfig, plan: Plan, pipeline: FeaturePipeline, path: Path
) -> UnitOfWork:
    """Return the unit that makes the skim of a sample."""
    [sample] = plan.samples
    return UnitOfWork(
        name=f"sample {sample.name}",
        key=f"skim {portable(path)}",
        step=STEP,
        inputs=[_inputs(plan), pipeline.to_json()],
        configuration=_rows_of(config, [sample]),
        files=[path],
    )


def training_unit(
    config: PreprocessConfig, plans: Sequence[Plan], paths: Sequence[Path]
) -> UnitOfWork:
    """Return the unit that makes the skims, at `paths`, of all plans.

    It is done again when anything changes that they say of themselves.
    """
    stated = config.model_dump(mode="json", by_alias=True)
    return UnitOfWork(
        name="training skims",
        key=f"skim {portable(paths[0])}",
        step=STEP,
        inputs=[_inputs(plan) for plan in plans],
        configuration={k: v for k, v in stated.items() if k not in _NOWHERE},
        files=[
            *(*paths, config.pipe_file),
            *(config.output_folder / n for n in ("config_training.json", "cut_flow_training.csv")),
        ],
    )


def rows_unit(config: PreprocessConfig, plan: Plan, code: int) -> UnitOfWork:
    """Return the unit that reads the rows of one sample of the training path."""
    sample = plan.samples[code]
    path = kept_folder(config) / f"{short_name(sample.name)}.npz"
    return UnitOfWork(
        name=f"sample {sample.name}",
        key=f"rows {portable(path)}",
        step=STEP,
        inputs=_inputs(plan, code),
        configuration=[
            _rows_of(config, [sample], _AFTER_READING),
            *(plan.processes, code, _codes(plan, code), list(plan.shifts)),
        ],
        files=[path],
    )


def kept_folder(config: PreprocessConfig) -> Path:
    """Return where rows are kept until the skims of `config` are whole."""
    return config.output_folder / f".{config.skim_file(config.output_samples[0]).stem}.rows"


def _rows_of(
    config: PreprocessConfig, samples: Sequence[Sample], without: Collection[str] = ()
) -> Any:
    """Return what of the configuration the rows of some samples follow from; not keys `without`."""
    stated = config.model_dump(mode="json", by_alias=True)
    others = {*_OF_SAMPLES, *_NOWHERE, *without}
    made = {k: v for k, v in row_keys(stated).items() if k not in others}
    weights = [physics_weight(config), config.weight_name if config.for_training else None]
    return [
        made,
        weights,
        stated.get("variations"),
        list(samples),
    ]


def _inputs(plan: Plan, sample_code: int | None = None) -> Any:
    """Return what tells the files of a plan, or of one of its samples, from others."""
    trees = [plan.trees[code] for code in _codes(plan, sample_code)]
    return [[ntuples.fingerprint(t), portable_location(t.path), stamp(t.path)] for t in trees]


def _codes(plan: Plan, sample_code: int | None) -> list[int]:
    """Return the codes, which rows hold, of the files of a plan or of one of its samples."""
    return sorted(
        {
            unit.file_code
            for unit in plan.units
            if sample_code is None or unit.sample_code == sample_code
        }
    )


# --- rows that are kept until their skims are whole ----------------------------------------------


def keep_rows(path: Path, rows: Selected) -> None:
    """Write the selected events of a sample, as arrays and their names."""
    names = [[group, name] for group, columns in rows.groups.items() for name in columns]
    arrays: dict[str, Any] = {
        str(i): rows.groups[group][name] for i, (group, name) in enumerate(names)
    }
    said = {
        "names": names,
        "groups": list(rows.groups),
        "counts": [rows.n_read, rows.n_common, list(rows.n_selected)],
        "missing": dict(rows.n_missing),
    }
    text = np.frombuffer(json.dumps(said).encode(), np.uint8)
    with complete(path) as partial, partial.open("wb") as file:
        np.savez(file, said=text, **arrays)


def kept_rows(path: Path) -> Selected:
    """Return what `keep_rows` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        said: Mapping[str, Any] = json.loads(arrays["said"].tobytes())
        groups: dict[str, Any] = {group: {} for group in said["groups"]}
        for i, (group, name) in enumerate(said["names"]):
            groups[group][name] = arrays[str(i)]
    n_read, n_common, n_selected = said["counts"]
    return Selected(n_read, n_common, tuple(n_selected), said["missing"], groups)
