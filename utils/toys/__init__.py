"""Toy ntuples: seeded, physically plausible ROOT files for the demo, tests and benchmarks.

`python -m utils.toys --help` writes the files that an analysis file names.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from utils.columns.arrays import Columns
from utils.schema import ConfigError, nearest
from utils.toys.physics import Channel, Toy, events, toy_of
from utils.toys.shifts import SHIFTS

__all__ = ["write_ntuples"]

DISTINCT = 50_000
"""Events of a file generated in full; a larger file repeats them with their energies varied."""

BASKETS = 4
"""Baskets of each branch, at least."""

# First and last run of a year or period; a period that is not listed is a quarter of its year.
RUNS = {
    "2016": (272007, 284044),
    "2017": (297020, 306462),
    "2018A": (315252, 316995),
    "2018B": (317080, 319310),
    "2018C": (319337, 320065),
    "2018D": (320673, 325175),
}


def write_ntuples(
    folder: Path | str,
    samples: Sequence[str] | Mapping[str, float],
    n_events: int,
    *,
    seed: int = 1,
    channel: Channel = "tt",
    tree: str = "TauCheck",
    n_branches: int = 0,
    n_workers: int = 1,
    shifts: Sequence[str] = (),
) -> dict[str, Path]:
    """Write `{sample}.root` for each of `samples` into `folder` and return the files by sample.

    `n_events` is divided among the samples in proportion to the values of `samples`, where it is a
    mapping, else to the toys' own shares. Branches `spare_0`, ... fill up to `n_branches`. A file's
    content follows from `seed`, its name and its number of events alone. `n_workers` processes
    share the files. `shifts`, of `utils.toys.shifts.SHIFTS`, add their branches and change no
    other. Raises ConfigError, before anything is written, where there is no toy for a sample's name
    or no shift of a name.
    """
    for shift in shifts:
        if shift not in SHIFTS:
            raise ConfigError(f"toys have no shift '{shift}'; {nearest(shift, SHIFTS)}")
    toys = {name: toy_of(name) for name in samples}
    shares = {n: samples[n] if isinstance(samples, Mapping) else t.share for n, t in toys.items()}
    total = sum(shares.values())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        (folder / f"{name}.root", toy, max(1, round(n_events * shares[name] / total)))
        for name, toy in toys.items()
    ]
    write = partial(
        _write, seed=seed, channel=channel, tree=tree, n_branches=n_branches, shifts=tuple(shifts)
    )
    if n_workers == 1:
        return {path.stem: write((path, toy, n)) for path, toy, n in files}
    # uproot declares a tree of 100 branches in a quarter of a second: processes, not threads.
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        largest_first = sorted(files, key=lambda file: -file[2])
        paths = {path.stem: path for path in pool.map(write, largest_first)}
    return {name: paths[name] for name in toys}


def _write(
    file: tuple[Path, Toy, int],
    *,
    seed: int,
    channel: Channel,
    tree: str,
    n_branches: int,
    shifts: Sequence[str],
) -> Path:
    """Write one file; it has its name only when it is complete."""
    from utils.system.libraries.rootfiles import uproot

    path, toy, n = file
    # Not `complete`: a ROOT file holds the name it is written under, and no chance belongs there.
    incomplete = path.with_suffix(".root.tmp")
    try:
        with uproot.recreate(incomplete, compression=uproot.ZLIB(1)) as root_file:
            output = None
            for columns in _blocks(path.stem, toy, n, seed, channel, n_branches, shifts):
                if output is None:
                    output = root_file.mktree(tree, {k: v.dtype for k, v in columns.items()})
                output.extend(columns)
        incomplete.replace(path)
    finally:
        incomplete.unlink(missing_ok=True)
    return path


def _blocks(
    name: str,
    toy: Toy,
    n: int,
    seed: int,
    channel: Channel,
    n_branches: int,
    shifts: Sequence[str] = (),
) -> Iterator[Columns]:
    """Yield the columns of a sample's `n` events, a basket of each at a time."""
    size = max(1, min(DISTINCT, -(-n // BASKETS)))
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    distinct = events(rng, toy, min(n, DISTINCT), channel, shifts)
    if toy.origin != "data":
        distinct["weight"] *= toy.expected / max(float(distinct["weight"].sum()), 1e-9)
        distinct["weight"] *= min(n, DISTINCT) / n
    for k in range(n_branches - len(distinct) - 3):
        distinct[f"spare_{k}"] = rng.standard_normal(min(n, DISTINCT), dtype=np.float32)
    last_event = 0
    for start in range(0, n, size):
        stop = min(start + size, n)
        if stop <= DISTINCT:
            columns = {k: v[start:stop] for k, v in distinct.items()}
        else:
            columns = _varied(rng, distinct, stop - start)
        identity = _identity(rng, name, toy, start, stop, n, last_event)
        last_event = int(identity["evt"][-1])
        yield {**identity, **columns}


def _identity(
    rng: np.random.Generator, name: str, toy: Toy, start: int, stop: int, n: int, last_event: int
) -> Columns:
    """Return run, lumi and evt: 1, 1.. for simulation; ascending runs and events for the rest."""
    number = np.arange(start, stop)
    if toy.origin == "simulation":
        run, lumi, evt = np.ones_like(number), 1 + number // 100, number + 1
    else:
        first, last = _run_range(name)
        run = first + number * (last - first) // n
        lumi = 1 + number % 1500
        # Collision event numbers pass 2^32, so steps are drawn that do so in any file.
        step = 5_000_000_000 // n
        evt = last_event + np.cumsum(rng.integers(1, max(2, 2 * step), stop - start))
    return {"run": run.astype("i4"), "lumi": lumi.astype("i4"), "evt": evt.astype("u8")}


def _run_range(name: str) -> tuple[int, int]:
    period = name.partition("_Run")[2]
    if period in RUNS:
        return RUNS[period]
    first, last = RUNS.get(period[:4], (272007, 325175))
    if period[4:5] in tuple("ABCD"):
        part = (last - first) // 4
        first += part * "ABCD".index(period[4])
        last = first + part
    return first, last


def _varied(rng: np.random.Generator, columns: Columns, n: int) -> Columns:
    """Return `n` of the events in another order, their energies scaled by a few percent."""
    order = rng.permutation(len(columns["pt_1"]))[:n]
    scale = rng.normal(1.0, 0.03, n).astype(np.float32)
    varied = {name: column[order] for name, column in columns.items()}
    for name in [n for n in varied if n.partition("__")[0] in _ENERGIES]:
        energy = varied[name]
        np.multiply(energy, scale, out=energy, where=energy > 0)
    return varied


_ENERGIES = frozenset(
    {"pt_1", "pt_2", "m_sv", "m_vis", "pt_tt", "pt_vis", "pt_sv", "mt_sv", "puppimet", "met"}
    | {"mt_1", "mt_2", "mt_tot", "puppimt_1", "puppimt_2", "jpt_1", "jpt_2", "bpt_1", "bpt_2"}
    | {"dijetpt", "mjj", "mbb"}
)
