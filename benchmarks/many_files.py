"""`python -m benchmarks.many_files`: what 2,000 small files cost on a local Dask cluster.

Writes the files into a temporary folder, plans and reads them as `preprocess.py` does, on threads
and on a Dask cluster of this machine, and prints a table: seconds, and milliseconds a file.
docs/scaling.md says what follows from it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from utils.schema import EngineConfig, PreprocessConfig, load
from utils.stages import preprocessing
from utils.system import engine

FEATURES = tuple(f"x{i}" for i in range(10))
N_SAMPLES = 20


def write_files(folder: Path, n_files: int, n_entries: int) -> None:
    """Write the samples' files, `n_entries` of ten features and an event number in each."""
    import uproot

    random = np.random.default_rng(1)
    for i in range(n_files):
        sample = folder / f"S{i % N_SAMPLES:02d}"
        sample.mkdir(exist_ok=True)
        columns = {name: random.normal(size=n_entries).astype(np.float32) for name in FEATURES}
        columns["evt"] = np.arange(i * n_entries, (i + 1) * n_entries, dtype=np.uint64)
        columns["run"] = np.ones(n_entries, np.uint32)
        with uproot.recreate(sample / f"{i:05d}.root") as file:
            file.mktree("T", {name: column.dtype for name, column in columns.items()})
            file["T"].extend(columns)


def analysis(folder: Path) -> PreprocessConfig:
    """Return the training path of an analysis of these files, which selects half of the events."""
    names = [f"S{i:02d}" for i in range(N_SAMPLES)]
    raw = {
        "input_tree_name": "T",
        "input_path": str(folder),
        "skim_path": str(folder / "skims"),
        "force": True,  # what one engine has read is not taken over by the next
        "common_cut": "x0 > 0",
        "cont_features": list(FEATURES),
        "samples": {name: {"files": f"{name}/*.root"} for name in names},
        "training_samples": [{name: {f"p{i}": {"class": i % 2}}} for i, name in enumerate(names)],
    }
    return load(PreprocessConfig, raw)


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return seconds by the clock and of this process's processors."""
    clock, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - clock, time.process_time() - processor


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_files", description=__doc__)
    parser.add_argument("--n-files", type=int, default=2000)
    parser.add_argument("--n-entries", type=int, default=1000, help="in each file")
    parser.add_argument("--n-workers", type=int, default=2)
    given = parser.parse_args(arguments)
    rows: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows.append(
            ("write the files", *timed(lambda: write_files(folder, given.n_files, given.n_entries)))
        )
        config = analysis(folder)
        plans = []
        rows.append(
            (
                "plan: open and check each file",
                *timed(lambda: plans.append(preprocessing.plan_training(config))),
            )
        )
        for kind in ("local", "dask"):
            started = time.perf_counter()
            with engine.start(EngineConfig(kind=kind, n_workers=given.n_workers)) as workers:
                start = time.perf_counter() - started
                if kind == "dask":
                    rows.append(("dask: start the workers", start, 0.0))
                    rows.append(
                        (
                            "dask: first task of each worker",
                            *timed(lambda: list(workers.map(abs, range(2 * given.n_workers)))),
                        )
                    )
                    rows.append(
                        (
                            "dask: empty tasks, one a file",
                            *timed(lambda: list(workers.map(abs, range(given.n_files)))),
                        )
                    )
                rows.append(
                    (
                        f"{kind}: read all files",
                        *timed(lambda: preprocessing.read_all(workers, config, plans[0])),
                    )
                )
    print(f"{given.n_files} files of {given.n_entries} entries, {given.n_workers} workers\n")
    print("| step | s | ms a file | of this, this process's ms |\n|---|---|---|---|")
    for name, seconds, own in rows:
        each = 1000 / given.n_files
        print(f"| {name} | {seconds:.1f} | {seconds * each:.2f} | {own * each:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
