"""What a toy ntuple would hold if an energy scale or an efficiency were another.

The same event is measured again; nothing of the nominal event is drawn anew. A shift's branches
are those it can change, named `{branch}__{shift}Up` and `{branch}__{shift}Down`, for every sample
but data.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from utils.columns.arrays import Columns, Floats
from utils.toys.measured import LOWEST_JET, Jets, Pair

SHIFTS: Mapping[str, str] = {
    "tauES": "energy of genuine hadronic taus, 3 %",
    "eleES": "energy of electrons, 1 %",
    "JES": "energy of jets, 2 % in the centre and more forward",
    "btag": "efficiency of b tagging: btagweight__btagUp and btagweight__btagDown",
}
"""The shifts there are, and what each moves."""

LEG_SCALES = {"tauES": (0.03, 0.03), "eleES": (0.01, 0.0)}
"""By how much a shift moves the energies of both legs."""

SOFTEST_JET = 16.0
"""Transverse momentum from which a jet can be counted when its energy moves up."""

SIGNS = {"Up": 1.0, "Down": -1.0}

_MISSING_PARTS = frozenset(
    {"puppimet", "puppimetphi", "met", "metphi", "puppimt_1", "puppimt_2", "mt_1", "mt_2"}
    | {"mt_tot", "pzeta", "pt_tt", "pt_sv", "mt_sv"}
)
"""Quantities of the pair that are made of the missing momentum."""

_DIRECTIONS = frozenset(
    {"eta_1", "eta_2", "phi_1", "phi_2", "dphi_tt", "dr_tt", "genuine_1", "genuine_2"}
)
"""Quantities of the pair that no energy enters."""


def leg_energy(pair: Pair, masses: Columns, shift: str) -> Columns:
    """Return the shifted branches of `tauES` or `eleES`; `masses`: m_1 and m_2."""
    columns: Columns = {}
    for direction, sign in SIGNS.items():
        scale = 1 + sign * np.array(LEG_SCALES[shift])[:, None] * pair.genuine
        moved = {n: v for n, v in pair.scaled(scale).columns().items() if n not in _DIRECTIONS}
        moved |= {f"m_{i}": masses[f"m_{i}"] * scale[i - 1] for i in (1, 2)}
        columns |= {f"{name}__{shift}{direction}": v for name, v in moved.items()}
    return columns


def jet_energy(rng: np.random.Generator, pair: Pair, jets: Jets, soft: Floats) -> Columns:
    """Return the shifted branches of `JES`: jets enter and leave, and missing momentum balances.

    `soft` (n,): mean number of jets just too soft to be counted, which are drawn here.
    """
    jets = jets.with_more(_soft_jets(rng, soft))
    columns: Columns = {}
    for direction, sign in SIGNS.items():
        scaled = jets.scaled(1 + sign * (0.02 + 0.01 * abs(jets.eta)))
        balanced = pair.recoiled(scaled.momentum() - jets.momentum()).columns()
        moved = scaled.columns() | {n: v for n, v in balanced.items() if n in _MISSING_PARTS}
        columns |= {f"{name}__JES{direction}": v for name, v in moved.items()}
    return columns


def _soft_jets(rng: np.random.Generator, mean: Floats, n_slots: int = 2) -> Jets:
    """Return light jets just too soft to be counted, `mean` (n,) of them but at most `n_slots`."""
    shape = (len(mean), n_slots)
    return Jets(
        there=np.arange(n_slots) < rng.poisson(mean)[:, None],
        is_b=np.zeros(shape, dtype=bool),
        pt=rng.uniform(SOFTEST_JET, LOWEST_JET, shape),
        eta=np.clip(rng.normal(0.0, 1.7, shape), -4.7, 4.7),
        phi=rng.uniform(-np.pi, np.pi, shape),
        csv=rng.beta(1.1, 7.0, shape),
    )


def tagging_efficiency(weight: Floats, n_tagged: Floats) -> Columns:
    """Return the shifted branches of `btag`: 4 % of the weight for each b-tagged jet."""
    return {f"btagweight__btag{d}": weight * (1 + s * 0.04 * n_tagged) for d, s in SIGNS.items()}
