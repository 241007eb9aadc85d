"""How ntuples name shifted branches: a guess from names alone, for a first `variations` block.

`pt_1__tauESUp` and `pt_1_tauESUp` are the partners of `pt_1`, `w_btagUp` or `w_btag_up` that of
`w_btag`, and `tau_pt_TES_DETECTOR__1up` that of `tau_pt_NOSYS`, each only where there is the branch
it shifts. The direction is written Up, UP, up or 1up.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

Way = Literal["up", "down"]

NOMINAL_ENDING = "_NOSYS"
"""How the name of a nominal branch ends where each shift has an ending of its own."""

_ENDING = re.compile(r"(_+1?(up|down)|_*(Up|Down|UP|DOWN))$")


@dataclass
class GuessedShifts:
    """The partners that end alike, but for the direction: what one variation would read.

    name: as a variation may be called. endings: what follows the branch's name, by direction.
    partners: shifted branches by the nominal one, by direction.
    """

    name: str
    endings: dict[Way, str] = field(default_factory=dict)
    partners: dict[Way, dict[str, str]] = field(default_factory=dict)

    @property
    def two_sided(self) -> bool:
        return len(self.partners) == 2

    @property
    def branches(self) -> list[str]:
        """Nominal branches that have a partner in some direction."""
        return list(dict.fromkeys(n for of in self.partners.values() for n in of))

    @property
    def shifted(self) -> list[str]:
        """The shifted branches, of both directions."""
        return list(dict.fromkeys(n for of in self.partners.values() for n in of.values()))

    @property
    def patterns(self) -> dict[Way, str] | None:
        """`{branch}` and the ending, by direction; None where nominal names have an ending too."""
        if any(n.endswith(NOMINAL_ENDING) for n in self.branches):
            return None
        return {way: f"{{branch}}{ending}" for way, ending in self.endings.items()}


def guess_shifts(names: Collection[str]) -> list[GuessedShifts]:
    """Return the shifts that the names of branches (or of samples) tell of, in their order."""
    known = set(names)
    found: dict[tuple[str, bool], GuessedShifts] = {}
    for name in names:
        if (parts := _parts(name, known)) is None:
            continue
        branch, ending, stem, way = parts
        key = (stem or branch, branch.endswith(NOMINAL_ENDING))
        shifts = found.setdefault(key, GuessedShifts(stem.strip("_") or branch))
        # The same shift under two spellings: the first one counts, the other is no partner of it.
        if shifts.endings.setdefault(way, ending) == ending:
            shifts.partners.setdefault(way, {})[branch] = name
    # `lookup` is no shift of `look`: what has no name of its own has two directions.
    sure = [shifts for (stem, _), shifts in found.items() if "_" in stem[:1] or shifts.two_sided]
    _name_uniquely(sure)
    return sure


def _parts(name: str, known: set[str]) -> tuple[str, str, str, Way] | None:
    """Return nominal branch, ending, ending without the direction, and direction of a name."""
    if (match := _ENDING.search(name)) is None:
        return None
    way: Way = "up" if name.lower().endswith("up") else "down"
    # The longest branch that the name begins with; a stem begins where a word can.
    for end in range(match.start(), 0, -1):
        rest = name[end : match.start()]
        if rest and not rest.startswith("_"):
            continue
        for branch in (name[:end], name[:end] + NOMINAL_ENDING):
            if branch in known:
                return branch, name[end:], rest, way
    return None


def _name_uniquely(found: list[GuessedShifts]) -> None:
    """Give each of the shifts a name that a variation may have, no two alike."""
    taken: set[str] = set()
    for shifts in found:
        name = re.sub(r"[^A-Za-z0-9]+", "_", shifts.name).strip("_")
        name = name if name[:1].isalpha() else f"shift_{name}".strip("_")
        n, unique = 1, name
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        taken.add(unique)
        shifts.name = unique
