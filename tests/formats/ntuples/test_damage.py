"""A changed bit in an input file is refused wherever the format keeps a checksum of the data."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from numpy.typing import NDArray

from utils.formats import ntuples
from utils.schema import InputError

Columns = dict[str, NDArray[Any]]
Spans = list[tuple[int, int]]

N = 6_000
N_FLIPS = 40

COMPRESSIONS = {"none": 0, "ZLIB": 101, "LZMA": 207, "LZ4": 404, "ZSTD": 505}
"""ROOT's numbers of them, a level that compresses included."""

CHECKED = {"ZLIB", "LZMA", "LZ4"}
"""Whose data have a checksum in a TTree."""


def columns() -> Columns:
    random = np.random.default_rng(1)
    return {
        "evt": np.arange(N, dtype=np.int64),
        "a": random.integers(0, 900, N).astype(np.float32),
        "q": random.integers(0, 50, N).astype(np.int32),
    }


def read(path: Path, names: Sequence[str] = ("evt", "a", "q")) -> Columns:
    info = ntuples.open_tree(path, "t")
    chunks = list(ntuples.stream(info, columns=list(names), cuts=[None], chunk_entries=1_700))
    return {n: np.concatenate([c.selections[0].columns[n] for c in chunks]) for n in names}


def write_ttree(path: Path, compression: str) -> Spans:
    """Write a TTree with uproot and return where the data of its baskets lie."""
    code = COMPRESSIONS[compression]
    packer = getattr(uproot, compression)(code % 100) if code else None
    with uproot.recreate(path, compression=packer) as file:
        tree = file.mktree("t", {n: c.dtype for n, c in columns().items()})
        for start in range(0, N, 2_000):
            tree.extend({n: c[start : start + 2_000] for n, c in columns().items()})
    spans = []
    content = path.read_bytes()
    for branch in uproot.open(path)["t"].branches:
        for seek, size in zip(
            branch.member("fBasketSeek"), branch.member("fBasketBytes"), strict=True
        ):
            if size:
                key_length = int.from_bytes(content[seek + 14 : seek + 16], "big")
                # Of a block's header the version of its method means nothing.
                header = 0 if not code else 17 if compression == "LZ4" else 9
                spans.append((int(seek) + key_length + header, int(seek + size)))
    return spans


def flips(path: Path, spans: Spans) -> Counter[str]:
    """Return how often a file with one changed bit is refused, the same, or gives other numbers."""
    expected, content = read(path), path.read_bytes()
    random = np.random.default_rng(7)
    found: Counter[str] = Counter()
    for _ in range(N_FLIPS):
        low, high = spans[random.integers(len(spans))]
        spoilt = bytearray(content)
        spoilt[random.integers(low, high)] ^= 1 << int(random.integers(8))
        path.write_bytes(spoilt)
        try:
            got = read(path)
        except InputError as error:
            said = str(error)
            found["refused" if str(path) in said and "\n" not in said else "said badly"] += 1
        else:
            same = all(np.array_equal(got[n], expected[n]) for n in expected)
            found["same" if same else "other numbers"] += 1
    path.write_bytes(content)
    return found


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_changed_bit_in_a_basket(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.root"
    found = flips(path, write_ttree(path, compression))
    if compression in CHECKED:
        assert found == {"refused": N_FLIPS}
    else:  # docs/architecture.md says so: there is nothing to compare with
        assert found["other numbers"] > 0


def test_a_checksum_of_lz4_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    [(first, _), *_] = write_ttree(path, "LZ4")
    content = bytearray(path.read_bytes())
    content[first - 8] ^= 1  # of the checksum itself
    path.write_bytes(content)
    with pytest.raises(
        InputError,
        match=r"branch 'evt' of tree 't' of .*a.root cannot be read, entries 0 to 1999"
        ": ValueError: a compressed block has another checksum than when it was written",
    ):
        read(path)


def test_checksums_cover_many_blocks(tmp_path: Path) -> None:
    """A basket above 16 MB is several blocks, each with a checksum of its own."""
    path = tmp_path / "a.root"
    n = 2_500_000
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        file.mktree("t", {"evt": np.int64}).extend({"evt": np.arange(n) // 3})
    assert np.array_equal(read(path, ["evt"])["evt"], np.arange(n) // 3)
    branch = uproot.open(path)["t"]["evt"]
    content = bytearray(path.read_bytes())
    content[int(branch.member("fBasketSeek")[0] + branch.member("fBasketBytes")[0]) - 100] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match="another checksum"):
        read(path, ["evt"])


# --- what ROOT wrote -----------------------------------------------------------------------------

BY_ROOT = """
import sys, warnings
warnings.simplefilter("ignore")
import ROOT
path, code, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rows = [(i, (i * 7919) % 900, (i * 104729) % 50) for i in range(6000)]
if kind == "RNTuple":
    model = ROOT.RNTupleModel.Create()
    for field, type in (("evt", "std::int64_t"), ("a", "float"), ("q", "std::int32_t")):
        model.MakeField[type](field)
    options = ROOT.RNTupleWriteOptions()
    options.SetCompression(code)
    options.SetApproxZippedClusterSize(20_000)
    writer = ROOT.RNTupleWriter.Recreate(model, "t", path, options)
    entry = writer.CreateEntry()
    for row in rows:
        entry["evt"], entry["a"], entry["q"] = row
        writer.Fill(entry)
    del writer
else:
    from array import array
    file = ROOT.TFile(path, "recreate", "", code)
    tree = ROOT.TTree("t", "")
    cells = {"evt/L": array("q", [0]), "a/F": array("f", [0]), "q/I": array("i", [0])}
    for leaf, cell in cells.items():
        tree.Branch(leaf[:-2], cell, leaf)
    for row in rows:
        for cell, value in zip(cells.values(), row):
            cell[0] = value
        tree.Fill()
    tree.Write()
    file.Close()
"""


def by_root(path: Path, code: int, kind: str) -> None:
    if importlib.util.find_spec("ROOT") is None:
        pytest.skip("ROOT is not installed")
    done = subprocess.run(
        [sys.executable, "-c", BY_ROOT, str(path), str(code), kind],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_changed_bit_in_a_page(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.root"
    by_root(path, COMPRESSIONS[compression], "RNTuple")
    got, i = read(path), np.arange(N)
    assert np.array_equal(got["evt"], i)
    assert np.array_equal(got["a"], i * 7919 % 900)
    ntuple = uproot.open(path)["t"]
    locators = [p.locator for cluster in ntuple.page_link_list for c in cluster for p in c.pages]
    spans = [(int(where.offset), int(where.offset + where.num_bytes)) for where in locators]
    assert flips(path, spans) == {"refused": N_FLIPS}
    lists = [group.page_list_link.locator for group in ntuple.footer.cluster_group_records]
    spans = [(int(where.offset), int(where.offset + where.num_bytes)) for where in lists]
    assert flips(path, spans)["other numbers"] == 0


def test_the_oldest_compression_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    by_root(path, 301, "TTree")
    with pytest.raises(
        InputError, match=r"a.root: tree 't' cannot be opened: .*'CS'.*; re-compress it: hadd -f505"
    ):
        read(path)
