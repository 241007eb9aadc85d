"""Seeded H -> tau tau kinematics and their backgrounds, as columns of a toy ntuple.

A cartoon that gives a classifier honest work: a resonance (or a continuum) decays isotropically and
is boosted; of each tau (or lepton) a part stays visible, neutrinos and fakes make missing momentum,
jets recoil. Masses and angles are computed from the resulting four-vectors (`measured`), so
features are correlated as in data. Energies are in GeV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from utils.columns.arrays import Array, Columns
from utils.schema import ConfigError, nearest
from utils.toys.measured import LOWEST_JET, Jets, Pair, visible_mass, wrapped
from utils.toys.shifts import (
    LEG_SCALES,
    SOFTEST_JET,
    jet_energy,
    leg_energy,
    tagging_efficiency,
)

Channel = Literal["tt", "em"]

MAX_JETS = 7
JET_SLOPE, B_JET_SLOPE = 32.0, 38.0
ELECTRON_MASS, MUON_MASS, PION_MASS = 0.000511, 0.10566, 0.13957

CANDIDATES = 16_384
"""Decays generated at a time, before the preselection."""


@dataclass(frozen=True)
class Physics:
    """How one process looks.

    `mass`: mean and width of the pair's mass. `pt`: mean transverse momentum of the pair.
    `visible`: beta distribution of the visible momentum fraction of each leg. `jets`, `bjets`: mean
    numbers of light and b jets. `genuine`: probability that a leg is what it is identified as.
    `opposite`: probability of opposite charges. `forward`: fraction with two forward jets.
    """

    mass: tuple[float, float]
    pt: float
    visible: tuple[float, float] = (4.0, 2.2)
    jets: float = 0.8
    bjets: float = 0.03
    genuine: float = 1.0
    opposite: float = 0.995
    forward: float = 0.0


PHYSICS = {
    "ggH": Physics((125.0, 0.1), 60.0, bjets=0.12),
    "bbH": Physics((125.0, 0.1), 55.0, jets=0.5, bjets=1.1),
    "VBF": Physics((125.0, 0.1), 80.0, jets=0.4, forward=0.75),
    "VH": Physics((125.0, 0.1), 85.0, jets=1.0, bjets=0.25),
    "Ztt": Physics((91.2, 2.5), 48.0, bjets=0.05),
    "Zll": Physics((91.2, 2.5), 40.0, visible=(9.0, 1.5), genuine=0.3),
    "TT": Physics((170.0, 80.0), 85.0, visible=(2.2, 1.6), jets=1.4, bjets=1.7, genuine=0.7),
    "ST": Physics((150.0, 70.0), 70.0, visible=(2.4, 1.6), jets=1.0, bjets=1.1, genuine=0.7),
    "W": Physics((115.0, 55.0), 50.0, (3.0, 1.5), 1.1, 0.05, genuine=0.5, opposite=0.7),
    "VV": Physics((120.0, 45.0), 60.0, visible=(3.5, 1.8), jets=0.9, bjets=0.08, genuine=0.85),
    "QCD": Physics((105.0, 45.0), 40.0, (6.0, 1.5), 1.2, 0.08, genuine=0.0, opposite=0.52),
}
TUNED = {
    "TT_tuneUp": replace(PHYSICS["TT"], pt=95.0, jets=1.9),
    "TT_tuneDown": replace(PHYSICS["TT"], pt=77.0, jets=1.0),
}
"""Top pairs with more or less radiation: samples of their own."""
PHYSICS |= TUNED


@dataclass(frozen=True)
class Toy:
    """What a sample is made of: fractions of processes, where it comes from, how large it is.

    `share` is its part of all events written; `expected` the number of events it stands for in
    60 fb^-1, the sum of its weights; `negative` the fraction of negative generator weights.
    """

    mixture: Mapping[str, float]
    share: float
    expected: float
    origin: Literal["simulation", "embedded", "data"] = "simulation"
    negative: float = 0.0


_DATA = {"QCD": 0.82, "Ztt": 0.11, "TT": 0.05, "W": 0.02}
TOYS: tuple[tuple[tuple[str, ...], Toy], ...] = (
    (("SUSYGluGluToBBHToTauTau", "bbHToTauTau", "BBHToTauTau"), Toy({"bbH": 1}, 9, 60)),
    (("GluGluHToTauTau",), Toy({"ggH": 1}, 10, 1500)),
    (("VBFHToTauTau",), Toy({"VBF": 1}, 6, 250)),
    (("ZHToTauTau", "WplusHToTauTau", "WminusHToTauTau"), Toy({"VH": 1}, 2, 60)),
    (
        ("DYJetsToLL", "DY1Jets", "DY2Jets", "DY3Jets", "DY4Jets"),
        Toy({"Ztt": 0.8, "Zll": 0.2}, 1.2, 9000, negative=0.05),
    ),
    (("TTTo",), Toy({"TT": 1}, 1.2, 3000)),
    (("ST_t-channel", "ST_tW"), Toy({"ST": 1}, 0.8, 300)),
    (
        ("WJetsToLNu", "W1Jets", "W2Jets", "W3Jets", "W4Jets"),
        Toy({"W": 1}, 0.8, 1500, negative=0.05),
    ),
    (("VVTo", "WZTo", "ZZTo"), Toy({"VV": 1}, 0.8, 200, negative=0.02)),
    (("EmbeddedTauTau_Run",), Toy({"Ztt": 1}, 4, 12000, "embedded")),
    (("Tau_Run", "MuonEG_Run"), Toy(_DATA, 9, 0, "data")),
)
"""The toys by how the names of their samples begin."""


def toy_of(sample: str) -> Toy:
    """Return the toy for a sample's name; raises ConfigError where none fits.

    A sample of top pairs whose name ends in `_tuneUp` or `_tuneDown` has another tune.
    """
    for prefixes, toy in TOYS:
        if sample.startswith(prefixes):
            tuned = next((t for t in TUNED if sample.endswith(t.removeprefix("TT"))), None)
            if tuned is not None and "TT" in toy.mixture and toy.origin == "simulation":
                return replace(toy, mixture={tuned: 1})
            return toy
    known = [prefix for prefixes, _ in TOYS for prefix in prefixes]
    raise ConfigError(f"there are no toys for the sample '{sample}'; {nearest(sample, known)}")


def events(
    rng: np.random.Generator, toy: Toy, n: int, channel: Channel, shifts: Sequence[str] = ()
) -> Columns:
    """Return all columns but the identity of `n` preselected events, float32 and int32.

    The branches of `shifts` come last, and change no value of the others.
    """
    processes = [PHYSICS[name] for name in toy.mixture]
    fractions = np.array(list(toy.mixture.values()), dtype=float)
    kept: list[Columns] = []
    while sum(len(k["of"]) for k in kept) < n:
        of = rng.choice(len(processes), CANDIDATES, p=fractions / fractions.sum())
        decays = _decays(rng, processes, of, channel)
        accepted = _preselected(decays["legs"], channel)
        kept.append({name: values[..., accepted] for name, values in decays.items()})
    decays = {name: np.concatenate([k[name] for k in kept], axis=-1)[..., :n] for name in kept[0]}
    pair = _pair(rng, decays, channel)
    jets = _jets(rng, processes, decays)
    columns = pair.columns() | jets.columns()
    columns |= _flags(rng, processes, decays, columns, channel)
    columns |= _generator(rng, toy, decays, jets, columns)
    if toy.origin == "data":
        shifts = ()
    for shift in shifts:
        if shift in LEG_SCALES:
            columns |= leg_energy(pair, columns, shift)
        elif shift == "JES":
            of, step = decays["of"], LOWEST_JET - SOFTEST_JET
            soft = _each(processes, of, "jets") * step / JET_SLOPE
            soft += _each(processes, of, "bjets") * step / B_JET_SLOPE
            # A generator of its own, which takes nothing of the stream of the others.
            columns |= jet_energy(rng.spawn(1)[0], pair, jets, soft)
        elif toy.origin == "simulation":  # what is embedded has no weight for b tagging
            columns |= tagging_efficiency(columns["btagweight"], columns["nbtag"])
    return {k: v.astype("i4" if v.dtype.kind in "bi" else "f4") for k, v in columns.items()}


def _each(processes: Sequence[Physics], of: Array, value: str) -> Array:
    """Return a quantity of the process of each event; (n,), or (n, 2) for a pair of numbers."""
    return np.array([getattr(p, value) for p in processes], dtype=float)[of]


def _decays(
    rng: np.random.Generator, processes: Sequence[Physics], of: Array, channel: Channel
) -> Columns:
    """Return what became of each candidate, events along the last axis.

    `legs` (2, 3, n) are the visible px, py, pz of both, `genuine` (2, n) whether they are what they
    are identified as, `pair` (3, n) and `missing` (2, n) the momenta of the pair and of neutrinos.
    """
    n = len(of)
    mass_mean, mass_width = _each(processes, of, "mass").T
    mass = np.maximum(rng.normal(mass_mean, mass_width), 40.0)
    pt = rng.gamma(1.6, _each(processes, of, "pt") / 1.6)
    phi = rng.uniform(-np.pi, np.pi, n)
    rapidity = rng.normal(0.0, 1.0, n)
    transverse = np.hypot(mass, pt)
    energy = transverse * np.cosh(rapidity)
    pair = np.stack([pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(rapidity)])
    # Isotropic decay into two massless legs, boosted from the pair's rest frame.
    cosine, azimuth = rng.uniform(-1, 1, n), rng.uniform(-np.pi, np.pi, n)
    sine = np.sqrt(1 - cosine**2)
    at_rest = mass / 2 * np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine])
    along = (pair * at_rest).sum(axis=0) / (energy + mass) / mass + 0.5
    first = at_rest + pair * along
    second = pair - first
    visible = _each(processes, of, "visible")
    genuine = rng.random((2, n)) < _each(processes, of, "genuine")
    # A tau's decay to a lepton has two neutrinos: less stays visible.
    softer = np.where(genuine & (channel == "em"), 0.62, 1.0)
    fraction = rng.beta(visible[:, 0], visible[:, 1], (2, n)) * softer
    response = rng.normal(1.0, 0.03, (2, n))
    lost = (1 - fraction) * genuine
    return {
        "of": of,
        "mass": mass,
        "genuine": genuine,
        "legs": np.stack([first, second]) * fraction[:, None] * response[:, None],
        "pair": pair,
        "missing": lost[0] * first[:2] + lost[1] * second[:2],
    }


def _preselected(legs: Array, channel: Channel) -> Array:
    pt = np.hypot(legs[:, 0], legs[:, 1])
    eta = np.arcsinh(legs[:, 2] / pt)
    low, high, widest = (30.0, 30.0, 2.1) if channel == "tt" else (13.0, 22.0, 2.4)
    hard = (pt.min(axis=0) > low) & (pt.max(axis=0) > high)
    accepted: Array = hard & (abs(eta) < widest).all(axis=0)
    return accepted


def _pair(rng: np.random.Generator, decays: Columns, channel: Channel) -> Pair:
    """Return the legs, the missing momentum and the mass, as they are measured."""
    n = len(decays["of"])
    legs, genuine = decays["legs"], decays["genuine"]
    if channel == "tt":  # the taus are ordered by transverse momentum; e and mu are what they are
        swap = np.less(*np.hypot(legs[:, 0], legs[:, 1]))
        legs, genuine = np.where(swap, legs[::-1], legs), np.where(swap, genuine[::-1], genuine)
    puppi = decays["missing"] + rng.normal(0.0, 10.0, (2, n))
    pf = decays["missing"] + rng.normal(0.0, 15.0, (2, n))
    # The mass estimate sees the true mass only where there are neutrinos to reconstruct.
    estimate = np.where(genuine.all(axis=0), decays["mass"], 1.35 * visible_mass(legs))
    m_sv = estimate * np.exp(rng.normal(0.0, 0.14, n))
    return Pair(legs, genuine, puppi, pf, m_sv, np.exp(rng.normal(0.0, 0.05, n)))


def _jets(rng: np.random.Generator, processes: Sequence[Physics], decays: Columns) -> Jets:
    """Return the jets; the leading one recoils against the pair."""
    of, pair = decays["of"], decays["pair"]
    n = len(of)
    n_b = np.minimum(rng.poisson(_each(processes, of, "bjets")), 3)
    forward = rng.random(n) < _each(processes, of, "forward")
    n_light = rng.poisson(_each(processes, of, "jets")) + 2 * forward
    slot = np.arange(MAX_JETS)
    present = slot < np.minimum(n_b + n_light, MAX_JETS)[:, None]
    is_b = slot < n_b[:, None]
    pt = LOWEST_JET + rng.exponential(
        np.where(is_b, B_JET_SLOPE, JET_SLOPE) + 12.0 * forward[:, None]
    )
    pt[:, 0] += 0.5 * np.hypot(pair[0], pair[1]) * rng.random(n)
    eta = np.clip(rng.normal(0.0, np.where(is_b, 1.1, 1.7)), -4.7, 4.7)
    phi = rng.uniform(-np.pi, np.pi, (n, MAX_JETS))
    phi[:, 0] = wrapped(np.arctan2(-pair[1], -pair[0]) + rng.normal(0, 0.6, n))
    side = rng.choice([-1.0, 1.0], n)
    for jet, sign in ((0, side), (1, -side)):
        tagging = sign * abs(rng.normal(2.4, 0.8, n))
        eta[:, jet] = np.where(forward, np.clip(tagging, -4.7, 4.7), eta[:, jet])
    csv = np.where(is_b, rng.beta(4.0, 1.3, (n, MAX_JETS)), rng.beta(1.1, 7.0, (n, MAX_JETS)))
    return Jets(present, is_b, pt, eta, phi, csv)


TAU_IDS = {
    # Thresholds on the raw score for DeepTau's working points.
    "VSjet": {"VVVLoose": 0.15, "VLoose": 0.35, "Loose": 0.46, "Medium": 0.58, "Tight": 0.7},
    "VSe": {"VVVLoose": 0.03, "VVLoose": 0.06, "VLoose": 0.15, "Tight": 0.6},
    "VSmu": {"VLoose": 0.04, "Tight": 0.4},
}


def _flags(
    rng: np.random.Generator,
    processes: Sequence[Physics],
    decays: Columns,
    pair: Columns,
    channel: Channel,
) -> Columns:
    """Return charges, identification, isolation, impact parameters, vetoes and triggers."""
    n = len(decays["of"])
    opposite = rng.random(n) < _each(processes, decays["of"], "opposite")
    charge = rng.choice([-1, 1], n)
    columns: Columns = {"os": opposite, "q_1": charge, "q_2": np.where(opposite, -charge, charge)}
    for i in (1, 2):
        genuine = pair[f"genuine_{i}"]
        columns[f"iso_{i}"] = rng.exponential(np.where(genuine, 0.05, 0.18))
        columns[f"d0_{i}"] = rng.normal(0.0, np.where(genuine, 0.006, 0.003))
        columns[f"dZ_{i}"] = rng.normal(0.0, 0.01, n)
        if channel == "em":
            columns[f"m_{i}"] = np.full(n, ELECTRON_MASS if i == 1 else MUON_MASS)
            continue
        mode = rng.choice([0, 1, 10, 11], n, p=[0.2, 0.5, 0.2, 0.1])
        columns[f"tau_decay_mode_{i}"] = mode
        columns[f"m_{i}"] = np.where(mode == 0, PION_MASS, rng.normal(0.95, 0.2, n).clip(0.3, 1.7))
        for against, points in TAU_IDS.items():
            fake = 1.6 if against == "VSjet" else 3.0
            score = np.where(genuine, rng.beta(5.0, 1.4, n), rng.beta(fake, 1.5, n))
            columns[f"byDeepTau2017v2p1{against}raw_{i}"] = score
            for point, threshold in points.items():
                columns[f"by{point}DeepTau2017v2p1{against}_{i}"] = score > threshold
    columns["extraelec_veto"] = rng.random(n) < 0.02
    columns["extramuon_veto"] = rng.random(n) < 0.02
    columns["dilepton_veto"] = rng.random(n) < 0.01
    if channel == "tt":
        columns["trg_doubletau"] = rng.random(n) < _turn_on(pair["pt_2"], 36.0)
        return columns
    high, low = rng.random(n), rng.random(n)
    for trigger, hard, soft in (("ehigh_mulow", "pt_1", "pt_2"), ("muhigh_elow", "pt_2", "pt_1")):
        fires = (high < _turn_on(pair[hard], 23.0)) & (low < _turn_on(pair[soft], 12.0))
        columns[f"trg_{trigger}"] = fires
    columns["trg_singleelectron"] = rng.random(n) < _turn_on(pair["pt_1"], 33.0)
    columns["trg_singlemuon"] = rng.random(n) < _turn_on(pair["pt_2"], 25.0)
    return columns


def _turn_on(pt: Array, threshold: float) -> Array:
    """Return a trigger's efficiency: a plateau of 95 % above `threshold`, 2 GeV wide."""
    efficiency: Array = 0.95 / (1 + np.exp(np.clip((threshold - pt) / 2.0, -50, 50)))
    return efficiency


def _generator(
    rng: np.random.Generator, toy: Toy, decays: Columns, jets: Jets, columns: Columns
) -> Columns:
    """Return weights, pile-up and, for simulation only, what the generator knows.

    Intermediate quantities that no real ntuple holds are taken out of `columns`.
    """
    n = len(decays["of"])
    genuine = [columns.pop(f"genuine_{i}") for i in (1, 2)]
    vertices = np.maximum(rng.poisson(33.0, n), 1)
    found: Columns = {"npv": vertices, "rho": 0.6 * vertices + rng.normal(0.0, 2.0, n)}
    found["weight"] = np.ones(n)
    if toy.origin == "data":
        return found
    found["effweight"] = rng.normal(0.95, 0.03, n)
    found["trigweight"] = rng.normal(0.97, 0.02, n)
    found["gen_match_1"], found["gen_match_2"] = (np.where(g, 5, 6) for g in genuine)
    found["weight"] = found["effweight"] * found["trigweight"]
    if toy.origin == "embedded":
        found["embweight"] = rng.beta(2.0, 6.0, n)
        found["weight"] = found["weight"] * found["embweight"]
        return found
    found["npu"] = vertices * 1.3 + rng.normal(0.0, 4.0, n)
    found["puweight"] = np.exp(rng.normal(0.0, 0.2, n))
    found["btagweight"] = rng.normal(1.0, 0.05, n)
    found["prefiringweight"] = 1 - rng.beta(1.0, 60.0, n)
    found["mcweight"] = np.where(rng.random(n) < toy.negative, -1.0, 1.0)
    for factor in ("puweight", "btagweight", "prefiringweight", "mcweight"):
        found["weight"] = found["weight"] * found[factor]
    found["gen_nbjets_cut"] = jets.is_b.sum(axis=1)
    found["genbosonmass"] = decays["mass"]
    found["genbosonpt"] = np.hypot(*decays["pair"][:2])
    return found
