"""Reading, cuts and weights against an outside oracle: the histograms that the authors of the CMS
open-data H -> tau tau analysis published with its ntuples. All 680 agree to the last bit.
"""

from __future__ import annotations

import numpy as np
import pytest
import uproot
from real_data import DATA

from utils.formats.ntuples import open_tree, stream

CMS = DATA / "cms_htt_skim"

pytestmark = pytest.mark.skipif(
    not CMS.is_dir(), reason=f"the CMS open data ntuples are not in {CMS} (see HEP_CMS)"
)

COMMON = "mt_1 < 30 && iso_1 < 0.1"
REGIONS = {"": "q_1 * q_2 < 0", "_cr": "q_1 * q_2 > 0"}
PROCESSES = {
    "ggH": ("GluGluToHToTauTauSkim", "true"),
    "qqH": ("VBF_HToTauTauSkim", "true"),
    "ZTT": ("DYJetsToLLSkim", "gen_match"),
    "ZLL": ("DYJetsToLLSkim", "!gen_match"),
    "TT": ("TTbarSkim", "true"),
    "W1J": ("W1JetsToLNuSkim", "true"),
    "W2J": ("W2JetsToLNuSkim", "true"),
    "W3J": ("W3JetsToLNuSkim", "true"),
    "dataRunB": ("Run2012B_TauPlusXSkim", "true"),
    "dataRunC": ("Run2012C_TauPlusXSkim", "true"),
}


@pytest.fixture(scope="module")
def published() -> dict:
    """Each histogram's (bins, low edge, high edge, contents, sums of squared weights)."""
    found = {}
    with uproot.open(CMS / "histograms.root") as file:
        for name in file.keys(cycle=False):
            histogram = file[name]
            axis = histogram.member("fXaxis")
            edges = (axis.member("fNbins"), axis.member("fXmin"), axis.member("fXmax"))
            found[name] = (*edges, histogram.values(), histogram.variances())
    return found


def fill(x, weight, n_bins, low, high):
    """Add weights bin by bin in the order of the events, with ROOT's formula for the bin."""
    x = x.astype(np.float64)
    inside = (x >= low) & (x < high)
    bins = (n_bins * (x[inside] - low) / (high - low)).astype(np.int64)
    return np.bincount(bins, weight[inside], minlength=n_bins)


def test_there_are_680_histograms(published):
    assert len(published) == 680
    assert {name.split("_")[0] for name in published} == set(PROCESSES)


@pytest.mark.parametrize("process", PROCESSES)
def test_published_histograms_bit_for_bit(published, process):
    file, cut = PROCESSES[process]
    names = [
        name.removeprefix(f"{process}_") for name in published if name.startswith(f"{process}_")
    ]
    variables = sorted({name.removesuffix("_cr") for name in names})
    assert len(variables) == 34
    info = open_tree(CMS / f"{file}.root", "Events")
    chunks = list(
        stream(
            info,
            columns=[*variables, "w"],
            cuts=[f"({cut}) && ({region})" for region in REGIONS.values()],
            common_cut=COMMON,
            definitions={"w": "weight"},
            chunk_entries=1_999,  # several chunks a file, across its baskets
        )
    )
    for position, suffix in enumerate(REGIONS):
        rows = [chunk.selections[position].columns for chunk in chunks]
        weight = np.concatenate([columns["w"] for columns in rows])
        for variable in variables:
            x = np.concatenate([columns[variable] for columns in rows])
            *edges, contents, squares = published[f"{process}_{variable}{suffix}"]
            where = f"{process}_{variable}{suffix}"
            assert np.array_equal(fill(x, weight, *edges), contents), where
            assert np.array_equal(fill(x, weight**2, *edges), squares), where
