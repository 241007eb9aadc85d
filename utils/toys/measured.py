"""From momenta to what an ntuple holds of them: the pair with missing momentum, and the jets.

Nothing is drawn here, so that the same event can be measured again with another energy scale.
Energies are in GeV; quantities of an absent jet are -10.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from utils.columns.arrays import Array, Columns, Floats

ABSENT = -10.0

LOWEST_JET = 20.0
"""Transverse momentum from which a jet is counted at all."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two legs and the missing momentum of n events.

    legs (2, 3, n): px, py, pz. genuine (2, n): whether they are what they are identified as. puppi,
    pf (2, n): two estimates of the missing x and y. m_sv, sv_response (n,): the fitted mass, and
    the ratio of the fitted transverse momentum to that of legs and missing momentum.
    """

    legs: Floats
    genuine: Array
    puppi: Floats
    pf: Floats
    m_sv: Floats
    sv_response: Floats

    def scaled(self, scale: Floats) -> Pair:
        """Return the pair with legs `scale` (2, n) times as hard, balanced by missing momentum."""
        legs = self.legs * scale[:, None]
        more = (legs - self.legs).sum(axis=0)[:2]
        # A fitted mass moves with the visible one: as the root of the product of both scales.
        m_sv = self.m_sv * np.sqrt(scale.prod(axis=0))
        return replace(self, legs=legs, m_sv=m_sv, puppi=self.puppi - more, pf=self.pf - more)

    def recoiled(self, more: Floats) -> Pair:
        """Return the pair where something else has the momentum `more` (2, n) besides."""
        return replace(self, puppi=self.puppi - more, pf=self.pf - more)

    def columns(self) -> Columns:
        """Return the legs, missing momentum, and the masses and angles made of them."""
        legs, puppi = self.legs, self.puppi
        pt = np.hypot(legs[:, 0], legs[:, 1])
        eta, phi = np.arcsinh(legs[:, 2] / pt), np.arctan2(legs[:, 1], legs[:, 0])
        both = legs[0] + legs[1]
        puppimt = np.array([_transverse_mass(leg, puppi) for leg in legs])
        mt = np.array([_transverse_mass(leg, self.pf) for leg in legs])
        mt_pair = _transverse_mass(legs[0], legs[1])
        # D_zeta = p_zeta(miss) - 0.85 p_zeta(vis), along the bisector of the legs' directions.
        bisector = (legs[:, :2] / pt[:, None]).sum(axis=0)
        bisector /= np.maximum(np.hypot(*bisector), 1e-6)
        pzetavis = (both[:2] * bisector).sum(axis=0)
        pt_tt = np.hypot(*(both[:2] + puppi))
        pt_sv = pt_tt * self.sv_response
        dphi_tt = abs(wrapped(phi[0] - phi[1]))
        return {
            **_numbered({"pt": pt, "eta": eta, "phi": phi, "genuine": self.genuine}),
            "puppimet": np.hypot(*puppi),
            "puppimetphi": np.arctan2(puppi[1], puppi[0]),
            "met": np.hypot(*self.pf),
            "metphi": np.arctan2(self.pf[1], self.pf[0]),
            **_numbered({"puppimt": puppimt, "mt": mt}),
            "mt_tot": np.sqrt(mt[0] ** 2 + mt[1] ** 2 + mt_pair**2),
            "pzetavis": pzetavis,
            "pzeta": (puppi * bisector).sum(axis=0) - 0.85 * pzetavis,
            "m_vis": visible_mass(legs),
            "m_sv": self.m_sv,
            "pt_vis": np.hypot(both[0], both[1]),
            "pt_tt": pt_tt,
            "pt_sv": pt_sv,
            "mt_sv": np.hypot(self.m_sv, pt_sv),
            "dphi_tt": dphi_tt,
            "dr_tt": np.hypot(eta[0] - eta[1], dphi_tt),
        }


@dataclass(frozen=True, eq=False)
class Jets:
    """Massless jets of n events in m slots, each (n, m); a slot without a jet is not `there`.

    is_b: whether it comes from a b quark. csv: its score as such a jet.
    """

    there: Array
    is_b: Array
    pt: Floats
    eta: Floats
    phi: Floats
    csv: Floats

    def scaled(self, scale: Floats) -> Jets:
        """Return the jets `scale` (n, m) times as hard."""
        return replace(self, pt=self.pt * scale)

    def with_more(self, other: Jets) -> Jets:
        """Return these jets and those of `other`."""
        return Jets(
            *(
                np.concatenate([getattr(jets, name) for jets in (self, other)], axis=1)
                for name in ("there", "is_b", "pt", "eta", "phi", "csv")
            )
        )

    def momentum(self) -> Floats:
        """Return the sums of the jets' px and py, (2, n), of those that are not counted too."""
        pt = np.where(self.there, self.pt, 0.0)
        parts = (pt * np.cos(self.phi), pt * np.sin(self.phi))
        return np.stack([part.sum(axis=1) for part in parts])

    def columns(self) -> Columns:
        """Return the jets, b jets and dijet quantities, of the jets hard enough to be counted."""
        present = self.there & (self.pt >= LOWEST_JET)
        order = np.argsort(-np.where(present, self.pt, 0.0), axis=1, kind="stable")
        present = np.take_along_axis(present, order, axis=1)
        pt, eta, phi, csv = (
            np.take_along_axis(values, order, axis=1)
            for values in (self.pt, self.eta, self.phi, self.csv)
        )
        tagged = present & (csv > 0.42) & (abs(eta) < 2.5)
        jets = {"pt": pt, "eta": eta, "phi": phi, "csv": csv}
        b_order = np.argsort(~tagged, axis=1, kind="stable")[:, :2]
        b_there = np.take_along_axis(tagged, b_order, axis=1)
        b_jets = {name: np.take_along_axis(v, b_order, axis=1) for name, v in jets.items()}
        dijet = _two_jets({name: v[:, :2] for name, v in jets.items()})
        bb = _two_jets(b_jets)
        two, two_b = present[:, 1], b_there[:, 1]
        return {
            "njets": (present & (pt > 30)).sum(axis=1),
            "njetspt20": present.sum(axis=1),
            "nbtag": tagged.sum(axis=1),
            **_numbered({f"j{name}": np.where(present, v, ABSENT).T for name, v in jets.items()}),
            **_numbered({f"b{name}": np.where(b_there, v, ABSENT).T for name, v in b_jets.items()}),
            **{n: np.where(two, dijet[n], ABSENT) for n in ("mjj", "jdeta", "dijetpt", "dijeteta")},
            "mbb": np.where(two_b, bb["mjj"], ABSENT),
            "dRbb": np.where(two_b, bb["dr"], ABSENT),
        }


def visible_mass(legs: Floats) -> Floats:
    """Return the mass of two massless legs (2, 3, n)."""
    both = legs[0] + legs[1]
    energy = np.linalg.norm(legs, axis=1).sum(axis=0)
    mass: Floats = np.sqrt(np.maximum(energy**2 - (both**2).sum(axis=0), 0.0))
    return mass


def wrapped(angle: Array) -> Array:
    """Return an angle between -pi and pi."""
    turned: Array = np.mod(angle + np.pi, 2 * np.pi) - np.pi
    return turned


def _numbered(quantities: Columns) -> Columns:
    """Return the first two rows of each quantity as columns that end in _1 and _2."""
    return {f"{name}_{i}": rows[i - 1] for i in (1, 2) for name, rows in quantities.items()}


def _transverse_mass(one: Array, other: Array) -> Array:
    squared = np.hypot(one[0], one[1]) * np.hypot(other[0], other[1])
    squared = squared - one[0] * other[0] - one[1] * other[1]
    mass: Array = np.sqrt(np.maximum(2 * squared, 0.0))
    return mass


def _two_jets(jets: Columns) -> Columns:
    """Return mass, angles and the sum's pt and eta of two massless jets; each (n, 2)."""
    px, py = jets["pt"] * np.cos(jets["phi"]), jets["pt"] * np.sin(jets["phi"])
    pz = jets["pt"] * np.sinh(jets["eta"])
    x, y, z = px.sum(axis=1), py.sum(axis=1), pz.sum(axis=1)
    jdeta = abs(jets["eta"][:, 0] - jets["eta"][:, 1])
    dphi = wrapped(jets["phi"][:, 0] - jets["phi"][:, 1])
    squared = 2 * jets["pt"].prod(axis=1) * (np.cosh(jdeta) - np.cos(dphi))
    pt = np.hypot(x, y)
    return {
        "mjj": np.sqrt(np.maximum(squared, 0.0)),
        "jdeta": jdeta,
        "dr": np.hypot(jdeta, dphi),
        "dijetpt": pt,
        "dijeteta": np.arcsinh(z / np.maximum(pt, 1e-6)),
    }
