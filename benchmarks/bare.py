"""The libraries alone, doing the part of a stage that is theirs; each prints its figures as JSON.

python -m benchmarks.bare read --analysis A.yaml
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
    """Return the branches that the training path needs of a sample."""
    columns = [*analysis["cont_features"], *analysis["cat_features"], *analysis["misc_features"]]
    columns += [*analysis["identity"], analysis["weight"]]
    for cut in [analysis["common_cut"], *cuts]:
        columns += re.findall(r"[A-Za-z_]\w*", cut)
    return [name for name in dict.fromkeys(columns) if name not in COMPUTED]


def cuts_of(processes: dict[str, Any]) -> list[str]:
    return [process["cut"] for process in processes.values()]


def read(analysis: dict[str, Any]) -> dict[str, Any]:
    """Read the branches of the training path with uproot on all cores, and drop them."""
    import uproot

    begin = time.perf_counter()
    n = 0
    with ThreadPoolExecutor(N_CORES) as pool:
        for item in analysis["training_samples"]:
            for sample, processes in item.items():
                path = Path(analysis["input_path"]) / f"{sample}.root"
                with uproot.open(path, num_workers=N_CORES) as file:
                    tree = file[analysis["input_tree_name"]]
                    tree.arrays(
                        needed(analysis, cuts_of(processes)),
                        library="np",
                        decompression_executor=pool,
                        interpretation_executor=pool,
                    )
                    n += tree.num_entries
    return {"seconds": time.perf_counter() - begin, "entries": n}


def rdataframe(analysis: dict[str, Any]) -> dict[str, Any]:
    """Select the training path's events with ROOT's RDataFrame on all cores, into numpy arrays."""
    import ROOT

    ROOT.EnableImplicitMT(N_CORES)
    begin = time.perf_counter()
    n = 0
    for item in analysis["training_samples"]:
        for sample, processes in item.items():
            frame = ROOT.RDataFrame(
                analysis["input_tree_name"], str(Path(analysis["input_path"]) / f"{sample}.root")
            )
            columns = needed(analysis, [])
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
    options = parser.parse_args()
    print(json.dumps(PEERS[options.peer](yaml.safe_load(options.analysis.read_text()))))


if __name__ == "__main__":
    main()
