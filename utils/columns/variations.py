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
  being the nominal sample. Those of tables have `marked` where their skim marks rows that are there
  for shifts only: `selected` is there then, also where none of these shifts is asked for.

Where a shift's own selection fails its columns hold fillers: -1 in `pred_class`, NaN elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from utils.columns.arrays import Array
from utils.columns.expressions import Expression
from utils.columns.values import holds_missing
from utils.schema import (
    AnalysisConfig,
    InputError,
    Missing,
    Replacement,
    Sample,
    VariationKind,
)

Direction = Literal["Up", "Down"]


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
    """Return the shifts that are declared for a sample and read from its own entries.

    There are none of an alternative sample, which is one itself.
    """
    if sample.stands_for:
        return ()
    return tuple(
        shift
        for variation in variations_of(config)
        if variation.kind != "samples" and variation.concerns(sample)
        for shift in variation.shifts
    )


def alternative_of(config: AnalysisConfig, name: str) -> dict[str, str]:
    """Return what the metadata of an alternative sample say of it; nothing of another sample."""
    for variation in variations_of(config):
        for shift in variation.shifts if variation.kind == "samples" else ():
            replaced = shift.replacement
            for nominal, other in replaced.items() if isinstance(replaced, Mapping) else ():
                if other == name:
                    return {
                        "variation": variation.name,
                        "direction": shift.direction,
                        "nuisance": variation.nuisance,
                        "of": nominal,
                    }
    return {}


def shift_of(stated: Mapping[str, Any]) -> Shift:
    """Return the shift that a friend tree states; what it replaces is stated beside."""
    direction: Direction = "Up" if stated["direction"] == "Up" else "Down"
    kind: VariationKind = "branches" if stated["kind"] == "branches" else "expressions"
    name = str(stated["variation"])
    return Shift(Variation(name, kind, None, None, name), direction)


LEAST_ROWS = 8192
"""Rows of a chunk under any number of shifts: with fewer, what each chunk costs would count."""


def rows_at_once(chunk_rows: int, n_shifts: int) -> int:
    """Return the rows of a chunk, which is `chunk_rows` without shifts.

    Each shift has columns and scores of its own in memory: they share the room of the nominal rows.
    """
    return min(chunk_rows, max(LEAST_ROWS, chunk_rows // (1 + n_shifts)))


def _frozen(replacement: Replacement) -> Replacement:
    return dict(replacement) if isinstance(replacement, Mapping) else replacement


# --- a branch computed from others ----------------------------------------------------------------


@dataclass(frozen=True)
class ComputedBranch:
    """What stands in the place of `branch`: an expression's value, in the branch's type.

    Cells of the branch that hold one of its declared missing values stay as they are; where another
    column of the expression is missing the cell becomes missing too. `missing` has what is declared
    of the columns that are read; `where` is the key that errors name.
    """

    branch: str
    dtype: np.dtype[Any]
    expression: Expression
    missing: Mapping[str, Missing]
    where: str

    @property
    def names(self) -> frozenset[str]:
        """The branches it is made from."""
        return self.expression.names | {self.branch}

    def evaluate(self, columns: Mapping[str, Array]) -> Array:
        """Return the branch, `(n,)`, made from nominal columns.

        Raises InputError where an integer branch can't hold a value; fractions are dropped.
        """
        nominal = columns[self.branch]
        value = self.expression.evaluate(columns, len(nominal))
        holes = [holds_missing(columns[n], m) for n, m in self.missing.items() if n != self.branch]
        if np.any(holes):
            own = self.missing.get(self.branch) or next(iter(self.missing.values()))
            value = np.where(np.logical_or.reduce(holes), own.values[0], value)
        own_missing = self.missing.get(self.branch)
        kept = np.zeros(len(nominal), np.bool_)
        if own_missing is not None:
            kept = holds_missing(nominal, own_missing)
        if self.dtype.kind in "iub":
            self._check_integers(value, kept)
            value = np.where(kept, 0, np.trunc(value))
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(kept, nominal, value.astype(self.dtype))

    def _check_integers(self, value: Array, kept: Array) -> None:
        limits = np.iinfo(self.dtype) if self.dtype.kind in "iu" else None
        lowest, highest = (limits.min, limits.max) if limits else (0, 1)
        bad = ~((value >= lowest) & (value <= highest)) & ~kept
        if bad.any():
            raise InputError(
                f"{self.where}.{self.branch}: '{self.expression.text}' gives "
                f"{value[np.argmax(bad)]:g}, which {self.dtype} can't hold: correct the expression"
            )
