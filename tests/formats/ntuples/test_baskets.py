"""Baskets: every compression, read where they are needed, and refused where they are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot
from ntuple_trees import N, read, some_columns, write_tree

from utils.formats.ntuples import TreeInfo, open_tree
from utils.schema import InputError


@pytest.mark.parametrize(
    "compression",
    [None, uproot.ZLIB(1), uproot.LZMA(1), uproot.LZ4(1), uproot.ZSTD(5)],
    ids=["none", "zlib", "lzma", "lz4", "zstd"],
)
def test_every_compression(tmp_path, columns, compression):
    some = {name: columns[name] for name in ("pt", "flag", "evt")}
    path = write_tree(tmp_path / "z.root", some, compression=compression)
    _, got = read(open_tree(path, "TauCheck"), list(some), chunk_entries=300)
    for name, column in some.items():
        np.testing.assert_array_equal(got[name], column)


def test_a_basket_of_many_compressed_blocks(tmp_path):
    # ROOT compresses at most 16 MB - 1 at a time.
    x = np.arange(2_200_000, dtype=np.float64)
    path = write_tree(tmp_path / "big.root", {"x": x}, basket=len(x), compression=uproot.LZ4(1))
    entry, got = read(open_tree(path, "TauCheck"), ["x"], "x % 100003 == 7")
    np.testing.assert_array_equal(entry, np.arange(7, len(x), 100003))
    np.testing.assert_array_equal(got["x"], entry)


def test_only_branches_that_are_needed_are_read(tmp_path, columns):
    """A damaged branch does not matter to who does not read it, nor where no row survives."""
    path = write_tree(tmp_path / "d.root", {n: columns[n] for n in ("pt", "mass")}, basket=100)
    info = open_tree(path, "TauCheck")
    spoil(path, info, "mass", 5)
    read(info, ["pt"])
    entry, _ = read(info, ["pt", "mass"], "pt > 0", stop=500, chunk_entries=100)
    assert len(entry) == 500
    with pytest.raises(
        InputError, match=r"branch 'mass' of tree 'TauCheck' of .*entries 500 to 599"
    ):
        read(info, ["pt", "mass"], chunk_entries=100)
    few = np.flatnonzero((columns["pt"] > 30) & (np.arange(N) // 100 != 5))[:3]
    cut = " || ".join(f"pt == {float(columns['pt'][i])!r}" for i in few)
    assert read(info, ["mass"], cut)[0].tolist() == few.tolist()


def spoil(path: Path, info: TreeInfo, branch: str, basket: int, at: int = 0) -> None:
    """Overwrite a few bytes of a basket, by default where it says how long it is."""
    where = info.sources[branch].baskets
    assert where is not None
    with path.open("r+b") as file:
        file.seek(int(where.seek[basket]) + at)
        file.write(b"\x7f\xff\xff\xf0")


@pytest.mark.parametrize("at", [0, 6, 14, 66, 70, 78, 200])
def test_a_damaged_basket_is_refused(tmp_path, at):
    """In its length, its length unpacked, the length of its key, its entries and its data."""
    rounded = np.round(some_columns()["mass"])  # compressible, so that it is compressed
    path = write_tree(tmp_path / "d.root", {"mass": rounded}, basket=200)
    info = open_tree(path, "TauCheck")
    spoil(path, info, "mass", 3, at)
    with pytest.raises(
        InputError, match=r"branch 'mass' .*d.root cannot be read, entries 600 to 799"
    ):
        read(info, ["mass"])
