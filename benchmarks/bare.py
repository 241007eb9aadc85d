"""The libraries alone, doing the part of a stage that is theirs; each prints its figures as JSON.

python -m benchmarks.bare read --analysis A.yaml [--path prediction]
python -m benchmarks.bare rdataframe --analysis A.yaml
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import yaml

N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COMPUTED = ("w_class_imbalance", "w_cp")


def needed(analysis: dict[str, Any], cuts: list[str]) -> list[str]:
    """Return the branches that a path needs of a sample, with those of `cuts`."""
    columns = [*analysis["cont_features"], *analysis["cat_features"], *analysis["misc_features"]]
    columns += [*analysis["identity"], analysis["weight"]]
    for cut in cuts:
        columns += re.findall(r"[A-Za-z_]\w*", cut)
    return [name for name in dict.fromkeys(columns) if name not in COMPUTED]


def cuts_of(processes: dict[str, Any]) -> list[str]:
    return [process["cut"] for process in processes.values()]


def samples_of(analysis: dict[str, Any], path: str) -> dict[str, list[str]]:
    """Return the samples of a path, each with its cuts; a prediction has none."""
    if path == "prediction":
        return {sample: [] for sample in analysis["prediction_samples"]}
    return {
        sample: [analysis["common_cut"], *cuts_of(processes)]
        for item in analysis["training_samples"]
        for sample, processes in item.items()
    }


def read(analysis: dict[str, Any], path: str) -> dict[str, Any]:
    """Read the branches of a path with uproot on all cores, and drop them."""
    import uproot

    begin = time.perf_counter()
    n = 0
    with ThreadPoolExecutor(N_CORES) as pool:
        for sample, cuts in samples_of(analysis, path).items():
            file_path = Path(analysis["input_path"]) / f"{sample}.root"
            with uproot.open(file_path, num_workers=N_CORES) as file:
                tree = file[analysis["input_tree_name"]]
                tree.arrays(
                    needed(analysis, cuts),
                    library="np",
                    decompression_executor=pool,
                    interpretation_executor=pool,
                )
                n += tree.num_entries
    return {"seconds": time.perf_counter() - begin, "entries": n}


def rdataframe(analysis: dict[str, Any], path: str) -> dict[str, Any]:
    """Select the training path's events with ROOT's RDataFrame on all cores, into numpy arrays."""
    if path != "training":
        raise ValueError("only the training path selects")
    import ROOT

    ROOT.EnableImplicitMT(N_CORES)
    begin = time.perf_counter()
    n = 0
    for item in analysis["training_samples"]:
        for sample, processes in item.items():
            frame = ROOT.RDataFrame(
                analysis["input_tree_name"], str(Path(analysis["input_path"]) / f"{sample}.root")
            )
            columns = needed(analysis, [analysis["common_cut"]])
            for cut in cuts_of(processes):
                both = f"({analysis['common_cut']}) && ({cut})"
                # The ampersand and the bar combine bits in C++, which truth values survive.
                n += len(frame.Filter(f"bool({both})").AsNumpy(columns)[columns[0]])
    return {"seconds": time.perf_counter() - begin, "selected": n}


PEERS = {function.__name__: function for function in (read, rdataframe)}


def main() -> None:
    """Run one peer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--analysis", type=Path, required=True)
    parser.add_argument("--path", choices=("training", "prediction"), default="training")
    options = parser.parse_args()
    analysis = yaml.safe_load(options.analysis.read_text())
    print(json.dumps(PEERS[options.peer](analysis, options.path)))


if __name__ == "__main__":
    main()
