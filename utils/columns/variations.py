"""Systematic variations: what they are, and what their columns are called everywhere.

A *variation* (`tauES`) has one or two *shifts* (`tauESUp`, `tauESDown`), by whose `suffix` all that
a shift makes is called, in the same row as the nominal value:

* **Friend trees** have, for each shift that changes features or the cut of their sample, each
  branch of scores again: `pred_class__tauESUp`, `pred_class_proba__tauESUp`,
  `pred_class_0_proba__tauESUp`, ... Identity, misc columns and `fold` never shift.
* **Evaluation tables** (Parquet) have the same for each shift of kind `branches` or `expressions`;
  `feature/pt_1__tauESUp`, untransformed, for the features that it changes; `selected` and
  `selected__tauESUp`, true where a row passes the nominal and the shift's own selection (both are
  there only where a shift changes the common cut: without them every row passes). A row that is not
  `selected` is there for shifts only and enters no nominal number; CSV tables leave it out.
  `weight_factor__btagUp` is there for each shift that changes the physics weight, by which factor.
* **Alternative samples** (kind `samples`) are tables and friend trees of their own sample's name.
* Metadata of tables and friend trees have `shifts`, a list of what `Shift.described` gives, and
  those of an alternative sample `alternative`: `{"variation", "direction", "nuisance", "of"}`, `of`
  being the nominal sample.

Where a shift's own selection fails its columns hold fillers: -1 in `pred_class`, NaN elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from utils.schema import AnalysisConfig, Replacement, Sample, VariationKind

Direction = Literal["Up", "Down"]

SELECTED = "selected"
"""Column that marks rows by the common cut: its nominal one, or behind a suffix a shift's own."""

WEIGHT_FACTOR = "weight_factor"
"""Column, always with a suffix, of a factor on the physics weight."""


@dataclass(frozen=True)
class Variation:
    """A systematic uncertainty. `up` and `down` are what each direction replaces (`Replacement`).

    A pattern with `{branch}` for kind `branches`, expressions by branch for `expressions`, a factor
    for `weight`, and samples by the nominal one for `samples`. `samples` are the names and tags of
    those it is declared for, none meaning all.
    """

    name: str
    kind: VariationKind
    up: Replacement
    down: Replacement
    nuisance: str
    one_sided: Literal["mirror"] | bool = False
    samples: tuple[str, ...] = ()

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """The directions that are declared, up first."""
        ways: tuple[Direction, Direction] = ("Up", "Down")
        return tuple(
            Shift(self, way)
            for way, given in zip(ways, (self.up, self.down), strict=True)
            if given is not None
        )

    def concerns(self, sample: Sample) -> bool:
        """Return whether it is declared for a sample."""
        if self.kind == "samples":
            named = (self.up or {}, self.down or {})
            return any(sample.name in of for of in named)
        return not self.samples or bool({sample.name, *sample.tags} & {*self.samples})


@dataclass(frozen=True)
class Shift:
    """One direction of one variation."""

    variation: Variation
    direction: Direction

    @property
    def suffix(self) -> str:
        return f"{self.variation.name}{self.direction}"

    @property
    def replacement(self) -> Replacement:
        return self.variation.up if self.direction == "Up" else self.variation.down

    @property
    def where(self) -> str:
        """The key that declares it, as errors name it."""
        before = {"weight": "weight_", "samples": "samples_"}.get(self.variation.kind, "")
        return f"variations.{self.variation.name}.{before}{self.direction.lower()}"

    def named(self, column: str) -> str:
        """Return what a column is called under this shift."""
        return shifted_name(column, self.suffix)

    @property
    def described(self) -> dict[str, Any]:
        """What a table or a friend tree says of it."""
        return {
            "suffix": self.suffix,
            "variation": self.variation.name,
            "direction": self.direction,
            "kind": self.variation.kind,
            "nuisance": self.variation.nuisance,
            "one_sided": self.variation.one_sided,
        }


def shifted_name(column: str, suffix: str) -> str:
    return f"{column}__{suffix}"


def variations_of(config: AnalysisConfig) -> tuple[Variation, ...]:
    """Return the variations that an analysis declares."""
    return tuple(
        Variation(
            name=name,
            kind=declared.kind,
            up=_frozen(declared.directions[0]),
            down=_frozen(declared.directions[1]),
            nuisance=declared.nuisance or name,
            one_sided=declared.one_sided,
            samples=tuple(declared.samples),
        )
        for name, declared in config.variations.items()
    )


def shifts_of(config: AnalysisConfig, sample: Sample) -> tuple[Shift, ...]:
    """Return the shifts that are declared for a sample and read from its own entries."""
    return tuple(
        shift
        for variation in variations_of(config)
        if variation.kind != "samples" and variation.concerns(sample)
        for shift in variation.shifts
    )


def _frozen(replacement: Replacement) -> Replacement:
    return dict(replacement) if isinstance(replacement, Mapping) else replacement
