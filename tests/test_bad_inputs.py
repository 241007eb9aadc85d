"""Odd, broken and shortened ROOT files: each ends in one line that names it, or simply works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot
from patience import HANGS
from real_data import DATA

from utils.formats.ntuples import open_tree, stream
from utils.schema import InputError

needs_data = pytest.mark.skipif(
    not (DATA / "bad_inputs").is_dir(), reason=f"{DATA}/bad_inputs is absent (see HEP_DATA)"
)


def read_everything(
    path: Path, tree: str, columns: list[str] | None = None
) -> dict[str, np.ndarray]:
    """All entries of the named columns, or of all that hold one number per entry."""
    info = open_tree(path, tree)
    if columns is None:
        columns = [n for n in info.columns if n in info.branches and not info.branches[n].shape]
    chunks = list(stream(info, columns=columns, cuts=[None], chunk_entries=1_000))
    assert sum(chunk.n_common for chunk in chunks) == info.n_entries
    return {
        name: np.concatenate([c.selections[0].columns[name] for c in chunks])
        for name in columns
        if chunks
    }


READS = [
    # file, tree, entries, branches that hold one number per entry
    ("string-example", "Refs", 0, 0),
    ("uproot-empty", "tree", 0, 2),
    ("uproot-issue335", "empty_tree", 0, 1),
    ("uproot-issue-697", "tree", 0, 2),
    ("uproot-issue261", "events", 0, 0),
    ("uproot-issue-880", "Z", 116, 9),
    ("uproot-issue-214", "E", 10, 16),
    ("uproot-issue243", "triggerList", 7_032, 2),
    ("uproot-issue31", "T", 5, 3),
    ("uproot-from-geant4", "Details", 1, 5),
    ("uproot-from-geant4", "HitStrips", 4_808, 3),
    ("uproot-issue-250", "B4", 1_000, 4),
    ("uproot-issue-791", "tree", 2, 5),
    ("uproot-Zmumu", "events", 2_304, 19),
    ("uproot-issue-172", "events", 10, 0),
    ("uproot-issue-816", "AnalysisMiniTree", 100, 7),
    ("uproot-HZZ-objects", "events", 2_421, 4),
    ("uproot-double32-float16", "tree", 17, 10),
    ("uproot-issue-85", "Hyp3O2", 39_308, 48),
    ("uproot-issue501", "T", 1, 0),
    ("nanoAOD_2015_CMS_Open_Data_ttbar", "Events", 200, 603),
    ("test_int_float_rntuple_v1-0-0-0", "ntuple", 10, 2),
    ("Run2012BC_DoubleMuParked_Muons_1000evts_rntuple_v1-0-0-0", "Events", 1_000, 0),
]


@needs_data
@pytest.mark.parametrize(("file", "tree", "n_entries", "n_flat"), READS)
def test_what_can_be_read_is_what_uproot_reads(file, tree, n_entries, n_flat):
    path = DATA / "bad_inputs" / f"{file}.root"
    info = open_tree(path, tree)
    assert info.n_entries == n_entries
    assert isinstance(info.n_entries, int)
    flat = [n for n in info.columns if n in info.branches and not info.branches[n].shape]
    assert len(flat) == n_flat
    got = read_everything(path, tree, flat[:6])
    with uproot.open(path) as opened:
        for name, column in got.items():
            expected = opened[tree][info.sources[name].branch].array(library="np")
            np.testing.assert_array_equal(column, expected)
            assert column.dtype == expected.dtype.newbyteorder("=")


REFUSED = [
    # file, tree, column, what is said
    (
        "uproot-issue70",
        "events",
        "x",
        "tree 'events' is not there in {path}; the file holds no tree",
    ),
    ("uproot-histograms", "one", "x", "tree 'one' is a TH1F, no tree, in {path}"),
    ("uproot-histograms", "events", "x", "tree 'events' is not there in {path}"),
    (
        "uproot-issue261",
        "events",
        "x",
        "branch 'x' is not in tree 'events' of {path}; there are none",
    ),
    ("string-example", "Refs", "Links", "branch 'Links' of {tree} holds no numbers .*char"),
    ("uproot-Zmumu", "events", "Type", "branch 'Type' of {tree} holds no numbers .*char"),
    ("uproot-issue243", "triggerList", "triggerMap", "'triggerMap' of {tree} holds no .*std::map"),
    ("uproot-issue31", "T", "name", "branch 'name' of {tree} holds no numbers"),
    ("uproot-issue31", "T", "data", "branch 'data' is not in {tree}"),
    ("uproot-issue-214", "E", "usr_names", "'usr_names' of {tree} holds no .*std::vector"),
    ("uproot-issue-172", "events", "rec_part_px", "'rec_part_px' of {tree} holds no .*std::vector"),
    (
        "uproot-issue-816",
        "AnalysisMiniTree",
        "mcEventWeights",
        "'mcEventWeights' of {tree} holds no",
    ),
    ("uproot-HZZ-objects", "events", "jetp4", "'jetp4' of {tree} holds no .*TLorentzVector"),
    ("uproot-issue-880", "Z", "pK", "'pK' of {tree} holds no .*TLorentzVector"),
    ("uproot-issue-880", "Z", "ig", r"choose one, from ig\[0\] to ig\[5\] \({tree}"),
    ("uproot-issue501", "T", "point", r"'point' .*choose one.* \({tree}\)"),
    ("nanoAOD_2015_CMS_Open_Data_ttbar", "Events", "Jet_pt", r"'Jet_pt' of {tree} .*float\[\]"),
    ("nanoAOD_2015_CMS_Open_Data_ttbar", "Events", "MET_ptt", "'MET_ptt' is not in .*'MET_pt'"),
    (
        "Run2012BC_DoubleMuParked_Muons_1000evts_rntuple_v1-0-0-0",
        "Events",
        "Muon_pt",
        "'Muon_pt' of {tree} holds no .*RVec",
    ),
]


@needs_data
@pytest.mark.parametrize(("file", "tree", "column", "said"), REFUSED)
def test_what_cannot_be_read_is_said_in_one_line(file, tree, column, said):
    path = DATA / "bad_inputs" / f"{file}.root"
    where = f"tree '{tree}' of {re.escape(str(path))}"
    said = said.replace("{path}", re.escape(str(path))).replace("{tree}", where)
    with pytest.raises(InputError, match=said) as error:
        read_everything(path, tree, [column])
    assert "\n" not in str(error.value)


@needs_data
def test_every_bad_input_has_a_row():
    present = {path.stem for path in (DATA / "bad_inputs").glob("*.root")}
    assert present == {row[0] for row in [*READS, *REFUSED]}


# --- shortened and damaged copies ----------------------------------------------------------------

FRACTIONS = (0.999, 0.9, 0.5, 0.1)

GOOD = [
    ("cms_htt_skim/DYJetsToLLSkim", "Events"),
    ("hzz4mu/ntuple_4mu_gg", "HZZ4LeptonsAnalysisReduced"),
    ("bad_inputs/uproot-Zmumu", "events"),
    ("bad_inputs/uproot-double32-float16", "tree"),
    ("bad_inputs/test_int_float_rntuple_v1-0-0-0", "ntuple"),
]


@needs_data
@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize(("file", "tree"), GOOD)
def test_a_shortened_copy_is_refused(tmp_path, file, tree, fraction):
    content = (DATA / f"{file}.root").read_bytes()
    path = tmp_path / "short.root"
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(
        InputError, match=rf"{re.escape(str(path))} is cut short: it holds \d+ of \d+"
    ):
        read_everything(path, tree)


def write_toy(path: Path, n: int = 4_000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    columns = {name: np.round(rng.normal(0, 100, n)).astype("f4") for name in ("x", "y")}
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        file.mktree("t", {"x": "f4", "y": "f4"})
        for start in range(0, n, 500):
            file["t"].extend({k: v[start : start + 500] for k, v in columns.items()})
    return columns


def refused_or_whole(path: Path, columns: dict[str, np.ndarray]) -> bool:
    """Return whether reading is refused, in a line naming the file; else all data must be right."""
    try:
        got = read_everything(path, "t", ["x", "y"])
    except InputError as error:
        said = str(error)
    else:
        for name, column in columns.items():
            np.testing.assert_array_equal(got[name], column)
        return False
    assert str(path) in said
    assert "\n" not in said
    return True


@pytest.mark.parametrize("fraction", [*FRACTIONS, 0.01, 0.0])
def test_a_shortened_toy_is_refused(tmp_path, fraction):
    path = tmp_path / "a.root"
    columns = write_toy(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    assert refused_or_whole(path, columns)


@pytest.mark.parametrize("fraction", [0.98, *FRACTIONS[1:], 0.01, 0.0])
def test_a_copy_whose_end_is_zeros_is_refused(tmp_path, fraction):
    path = tmp_path / "a.root"
    columns = write_toy(path)
    content = path.read_bytes()
    kept = content[: int(len(content) * fraction)]
    path.write_bytes(kept + bytes(len(content) - len(kept)))
    assert refused_or_whole(path, columns)


@pytest.mark.parametrize("fraction", [0.98, *FRACTIONS[1:]])
def test_a_shortened_copy_that_hides_it_is_refused(tmp_path, fraction):
    """Its header was mended to the new length, as a careless recovery does."""
    path = tmp_path / "a.root"
    columns = write_toy(path)
    content = bytearray(path.read_bytes())
    n = int(len(content) * fraction)
    content[12:16] = n.to_bytes(4, "big")
    path.write_bytes(content[:n])
    assert refused_or_whole(path, columns)


def test_damaged_bytes_are_found_or_harmless(tmp_path):
    """A few bytes are overwritten. zlib's checksums make any change of the data known."""
    path = tmp_path / "a.root"
    columns = write_toy(path, n=1_500)
    content = path.read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(15):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), size=rng.integers(1, 30)):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        refused += refused_or_whole(path, columns)
    assert refused > 8


MEASURE = """
import resource, sys
sys.path += ["tests"]
from patience import HANGS
from real_data import DATA
from test_bad_inputs import READS, read_everything
from utils.formats.ntuples import open_tree
for file, tree, *_ in READS:
    path = DATA / "bad_inputs" / f"{file}.root"
    flat = [n for n, kind in open_tree(path, tree).branches.items() if not kind.shape]
    read_everything(path, tree, flat[:2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@needs_data
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in Linux's units")
def test_memory_stays_below_a_gigabyte():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        timeout=HANGS,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000
