"""A tree with a branch of every type, and how its rows are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot
from real_data import DATA

from utils.formats.ntuples import TreeInfo, stream

N = 1_000


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent (see HEP_DATA)")


def some_columns(n: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    return {
        "pt": rng.exponential(40, n).astype(np.float32),
        "mass": rng.normal(90, 10, n),
        "njets": rng.integers(0, 6, n).astype(np.int32),
        "flag": rng.integers(0, 2, n).astype(np.bool_),
        "charge": rng.integers(-1, 2, n).astype(np.int8),
        "bits": rng.integers(0, 2**16, n).astype(np.uint16),
        "small": rng.integers(-9, 9, n).astype(np.int16),
        "byte": rng.integers(0, 255, n).astype(np.uint8),
        "lumi": rng.integers(0, 2**32, n).astype(np.uint32),
        "run": rng.integers(-(2**62), 2**62, n),
        "evt": rng.integers(0, 2**64, n, dtype=np.uint64),
        "jet_pt": rng.exponential(30, (n, 4)).astype(np.float32),
    }


def write_tree(path: Path, columns: dict[str, np.ndarray], basket: int = 137, **options) -> Path:
    types = {name: np.dtype((column.dtype, column.shape[1:])) for name, column in columns.items()}
    n = len(next(iter(columns.values())))
    with uproot.recreate(path, **options) as file:
        tree = file.mktree("TauCheck", types)
        for start in range(0, n, basket):
            tree.extend({name: c[start : start + basket] for name, c in columns.items()})
    return path


def read(info: TreeInfo, names, cut=None, **options) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All rows of one cut: entry numbers and columns."""
    chunks = list(stream(info, columns=names, cuts=[cut], **options))
    rows = [chunk.selections[0] for chunk in chunks]
    entry = np.concatenate([r.entry for r in rows])
    return entry, {name: np.concatenate([r.columns[name] for r in rows]) for name in names}
