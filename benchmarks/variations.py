"""An ntuple with the branches of twenty shifts, for what variations cost.

python -m benchmarks.variations --analysis ANALYSIS.yaml --sample NAME --output FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import uproot
import yaml

SHIFTED = ("pt_1", "pt_2", "m_sv", "m_vis", "pt_tt", "puppimet")
"""Features that each shift moves, of the 26 of the analysis; the models use all of them."""

N_VARIATIONS = 10
CHUNK = 50_000


def with_shifts(analysis_file: Path, sample: str, output: Path) -> None:
    """Write a sample's ntuple anew with partners of branches, and an analysis that declares these.

    The partners are drawn around the nominal values, so that each moves every event.
    """
    analysis = yaml.safe_load(analysis_file.read_text())
    output.mkdir(parents=True, exist_ok=True)
    names = [f"v{i}" for i in range(N_VARIATIONS)]
    ntuple = Path(analysis["input_path"]) / f"{sample}.root"
    _copy(ntuple, output / ntuple.name, analysis["input_tree_name"], names)
    declared = {n: {d.lower(): f"{{branch}}__{n}{d}" for d in ("Up", "Down")} for n in names}
    changes = {
        "input_path": str(output),
        "skim_path": str(output / "skims"),
        "prediction_samples": [sample],
        "variations": declared,
    }
    text = yaml.safe_dump({**analysis, **changes}, sort_keys=False)
    (output / "analysis.yaml").write_text("# @package _global_\n" + text)


def _copy(source: Path, target: Path, tree: str, names: list[str]) -> None:
    rng = np.random.default_rng(7)
    with uproot.open(source) as file, uproot.recreate(target, compression=uproot.ZLIB(1)) as new:
        writer: Any = None
        for columns in file[tree].iterate(library="np", step_size=CHUNK):
            n = len(columns[SHIFTED[0]])
            for feature in SHIFTED:
                for name in (f"{v}{d}" for v in names for d in ("Up", "Down")):
                    factor = rng.uniform(0.95, 1.05, n).astype(np.float32)
                    columns[f"{feature}__{name}"] = columns[feature] * factor
            if writer is None:
                writer = new.mktree(tree, {k: v.dtype for k, v in columns.items()})
            writer.extend(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analysis", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sample", required=True)
    given = parser.parse_args()
    with_shifts(given.analysis, given.sample, given.output)


if __name__ == "__main__":
    main()
