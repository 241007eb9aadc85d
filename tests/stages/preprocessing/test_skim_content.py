"""What stands in a skim beside its columns."""

from __future__ import annotations

import json
import math
from pathlib import Path

from small_analysis import config

from utils.schema import PreprocessConfig, load
from utils.stages.preprocessing.skim_content import save_configuration


def test_the_saved_configuration_keeps_a_missing_nan(tmp_path: Path) -> None:
    made = config(tmp_path, missing=float("nan"))
    save_configuration(made)
    saved = json.loads((tmp_path / "skims" / "training" / "config_training.json").read_text())
    assert math.isnan(saved["missing"])
    assert load(PreprocessConfig, saved).missing_values(["x"])["x"].values != ()
