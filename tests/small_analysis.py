"""An analysis of one sample, as small as they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from utils.schema import (
    PreprocessConfig,
    load,
)


def config(folder: Path, **keys: Any) -> PreprocessConfig:
    base = {
        "input_tree_name": "T",
        "input_path": str(folder),
        "skim_path": str(folder / "skims"),
        "training_samples": [{"S": {"p": {"class": 0}}}],
        "cont_features": ["x"],
        "misc_features": [],
    }
    return load(PreprocessConfig, {**base, **keys})


def preprocess_config(**keys: Any) -> PreprocessConfig:
    base = {
        "input_tree_name": "T",
        "input_path": "in",
        "input_samples": [{"S": {"p": {"class": 0}}}],
    }
    return load(PreprocessConfig, {**base, **keys})
