"""Systematic variations as users declare them, each of one kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from utils.schema.basics import ConfigError, refuse_repeated
from utils.schema.parts import Closed, SampleName, Text

Replacement = str | Mapping[str, str] | None
"""What one direction of a variation replaces: a pattern, texts by name, or nothing."""

VariationKind = Literal["branches", "expressions", "weight", "samples"]


SELECTED = "selected"
"""Column that marks rows by the common cut: its nominal one, or behind a suffix a shift's own."""

WEIGHT_FACTOR = "weight_factor"
"""Column, always with a suffix, of a factor on the physics weight."""


class VariationConfig(Closed):
    """A systematic variation: what stands in the place of what, upwards and downwards.

    `up`, `down`: a pattern with `{branch}` (wherever a branch with such a partner in the tree is
    named, the partner is read), or expressions by branch. `weight_up`, `weight_down`: factors on
    the physics weight. `samples_up`, `samples_down`: samples by the one that they stand for.
    `samples` restricts the variation to samples, by their names or `tags`; none means all.
    `nuisance` is the parameter of a fit, by default called as the variation. `one_sided` says that
    there is one direction only, `mirror` that a fit may take its mirror image for the other.
    """

    up: str | dict[str, str] | None = None
    """What is read upwards: a pattern with `{branch}`, or expressions by branch."""
    down: str | dict[str, str] | None = None
    """The same downwards."""
    weight_up: str | None = None
    """A factor on the physics weight, upwards."""
    weight_down: str | None = None
    """The same downwards."""
    samples_up: dict[SampleName, SampleName] | None = None
    """Alternative samples by the one that they stand for, upwards."""
    samples_down: dict[SampleName, SampleName] | None = None
    """The same downwards."""
    nuisance: Text | None = None
    """The parameter of a fit; none: called as the variation."""
    one_sided: Literal["mirror"] | bool = False
    """Whether there is one direction only; `mirror`: a fit may mirror it."""
    samples: list[Text] = []
    """The samples (names or tags) that it is for; none: all."""

    @model_validator(mode="after")
    def _texts(self) -> Self:
        for key in ("up", "down"):
            value = getattr(self, key)
            if isinstance(value, str) and "{branch}" not in value:
                raise ValueError(
                    f"{key}: '{value}' names the same branch for all: write {{branch}} where the "
                    "nominal branch's name stands, or a mapping of branches to expressions"
                )
        return self

    @property
    def kind(self) -> VariationKind:
        if self.weight_up is not None or self.weight_down is not None:
            return "weight"
        if self.samples_up is not None or self.samples_down is not None:
            return "samples"
        return "branches" if isinstance(self.up or self.down, str) else "expressions"

    @property
    def directions(self) -> tuple[Replacement, Replacement]:
        """What is replaced upwards and downwards, None for a direction there is not."""
        key = {"weight": "weight_", "samples": "samples_"}.get(self.kind, "")
        return getattr(self, f"{key}up") or None, getattr(self, f"{key}down") or None


def alternative_samples(variations: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the samples that variations, as they are written, name in the place of others."""
    keys = ("samples_up", "samples_down")
    named = [declared.get(key) or {} for declared in variations.values() for key in keys]
    return {sample for of in named for sample in of.values()}


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


def check_variations(
    declared: Mapping[str, VariationConfig],
    features: frozenset[str],
    fixed: frozenset[str],
    defined: frozenset[str],
) -> None:
    """Raise ConfigError where a variation can't mean what it says, whatever the samples hold.

    `features` are written with a variation's name behind theirs, `fixed` columns make the identity
    and the fold, `defined` ones are no branches.
    """
    for name, variation in declared.items():
        _check_one(f"variations.{name}", name, variation)
        for key, replacement in zip(("up", "down"), variation.directions, strict=True):
            if variation.kind == "expressions" and isinstance(replacement, Mapping):
                _check_keys(f"variations.{name}.{key}", replacement, fixed, defined)
    for name in sorted(features & {SELECTED, WEIGHT_FACTOR}) if declared else ():
        raise ConfigError(
            f"'{name}' is a feature, and under variations the name of a column that tables make: "
            "rename it in derived_features"
        )
    suffixes = [f"{name}{way}" for name in declared for way in ("Up", "Down")]
    written: dict[str, str] = {}
    for feature in sorted(features):
        for suffix in suffixes:
            branch = f"{feature}__{suffix}"
            other = written.setdefault(branch, suffix)
            if other != suffix or branch in features:
                whose = "a feature" if branch in features else f"variation {other}"
                raise ConfigError(
                    f"variations: '{feature}' under {suffix} and {whose} would both be written as "
                    f"'{branch}': rename one of them"
                )
    made = [
        str(sample)
        for variation in declared.values()
        if variation.kind == "samples"
        for replacement in variation.directions
        if isinstance(replacement, Mapping)
        for sample in replacement.values()
    ]
    refuse_repeated(made, "variations", "each alternative sample")


def _check_one(where: str, name: str, variation: VariationConfig) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: a variation's name ends the names of branches (pred_class__{name}Up): "
            "use letters, digits and single underscores"
        )
    pairs = (("up", "down"), ("weight_up", "weight_down"), ("samples_up", "samples_down"))
    given = [pair for pair in pairs if any(getattr(variation, key) for key in pair)]
    if len(given) != 1:
        said = " and ".join(key for pair in given for key in pair if getattr(variation, key))
        raise ConfigError(
            f"{where} {f'has {said}' if said else 'replaces nothing'}: give up and down, or "
            "weight_up and weight_down, or samples_up and samples_down"
        )
    up, down = variation.directions
    if (up is None) != (down is None) and not variation.one_sided:
        has, lacks = given[0] if down is None else given[0][::-1]
        raise ConfigError(
            f"{where} has {has} and no {lacks}: give {lacks}, or say 'one_sided: true' "
            "('one_sided: mirror' where a fit may mirror it)"
        )
    if up is not None and down is not None and variation.one_sided:
        raise ConfigError(f"{where} has both directions and says one_sided: drop one of them")
    if up is not None and down is not None and type(up) is not type(down):
        raise ConfigError(f"{where}: up and down are of two kinds: make both patterns, or mappings")
    if up is not None and up == down:
        raise ConfigError(f"{where}: up and down say the same: correct one of them")


def _check_keys(
    where: str, texts: Mapping[str, Any], fixed: frozenset[str], defined: frozenset[str]
) -> None:
    for branch in texts:
        if branch in fixed:
            raise ConfigError(
                f"{where} shifts '{branch}', which identifies events or gives their fold: an event "
                "keeps both, and with them its model; leave it out"
            )
        if branch in defined:
            raise ConfigError(
                f"{where} shifts '{branch}', which derived_features or cuts define: shift the "
                "branches it is made from, and it follows"
            )
