"""A channel of three small files, and the file that describes it: for tests of the scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import uproot

CLASSES = ("signal", "top", "dy")

DESCRIPTION = """\
analysis_name: small
channel: mu
year: 2018
input_path: {folder}
input_tree_name: events
scaler: {{with_mean: true, with_std: true}}
skim_path: {folder}/skims
training_samples:
  - H: {{signal: {{cut: 'x > -2', class: 0}}}}
  - TT: {{top: {{class: 1}}}}
  - DY: {{dy: {{class: 2}}}}
prediction_samples: [H, TT, DY]
common_cut: y < 3
class_to_info:
  0: {{name: signal, color: red}}
  1: {{name: top, color: blue}}
  2: {{name: dy, color: green}}
cont_features: [x, y, ratio]
cat_features: [n]
misc_features: [x]
derived_features: {{ratio: x / z}}
feature_info: {{y: {{missing: {{values: [-10]}}}}}}
clip: {{x: [-1.5, 2.5]}}
weight: w
model_param: {{num_iterations: 8, min_data_in_leaf: 5}}
"""


def small_channel(folder: Path, n: int = 400, seed: int = 5) -> Path:
    """Write the ntuples into `folder` with the analysis file, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for code, (name, shift) in enumerate((("H", 1.0), ("TT", 0.0), ("DY", -1.0))):
        rng = np.random.default_rng(seed + code)
        y = rng.normal(0, 1, n).astype(np.float32)
        columns = {
            "run": np.ones(n, np.int32),
            "evt": np.arange(1, n + 1, dtype=np.int64),
            "x": rng.normal(shift, 1, n).astype(np.float32),
            "y": np.where(rng.random(n) < 0.1, np.float32(-10), y + np.float32(code == 1)),
            "z": rng.uniform(0.5, 2, n),
            "n": rng.integers(0, 3 + code, n).astype(np.int32),
            "w": rng.uniform(0.5, 1.5, n) * (1 + code),
        }
        with uproot.recreate(folder / f"{name}.root") as file:
            tree = file.mktree("events", {key: column.dtype for key, column in columns.items()})
            tree.extend(columns)
    path = folder / "small.yaml"
    path.write_text(DESCRIPTION.format(folder=folder))
    return path
