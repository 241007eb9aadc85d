"""What the modules hand to each other, and what a run keeps of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from utils.schema.parts import ClassInfo


@dataclass(frozen=True)
class FoldRule:
    """How an event's fold follows from its identity.

    `modulo`: the one column of `columns`, modulo `n_splits`. `hash`: a 64-bit mix of all
    `columns`, modulo `n_splits`. `entry`: the entry number in the input tree, modulo `n_splits`
    (then `columns` is empty).
    """

    kind: Literal["modulo", "hash", "entry"]
    columns: tuple[str, ...]
    n_splits: int


@dataclass(frozen=True)
class Missing:
    """A declared missing value: cells equal to one of `values` become `replace` (NaN by default).

    With `refuse` any such cell is an error instead.
    """

    values: tuple[float, ...]
    replace: float = float("nan")
    refuse: bool = False


@dataclass(frozen=True)
class Process:
    """A part of a sample with its own cut; `class_id` is -1 where no class is known."""

    name: str
    cut: str | None
    class_id: int


@dataclass(frozen=True)
class Sample:
    """One sample to read: its files (paths, globs or lists of paths), tree and processes.

    `weight` is the expression of the physics weight (None: 1) and `factor` multiplies it. `group`
    names the set of samples that share events.
    """

    name: str
    files: tuple[str, ...]
    tree: str
    processes: tuple[Process, ...]
    factor: float = 1.0
    weight: str | None = None
    group: str = ""
    never_trained: bool = False


_ROWS: dict[str, set[str]] = {
    "classes": {"id", "name"},
    "models": {"index", "fingerprint", "best_iteration"},
    "samples": {"name", "group", "processes"},
    "files": {"name", "n_entries", "uuid"},
    "audit": set(),
    "skims": {"train", "test", "origin", "test_origin"},
}
"""What each entry of a recipe's lists has, and its one entry of skims."""


@dataclass(frozen=True)
class Recipe:
    """All a run needs to be used again: what its models are, and what they were made from.

    analysis: the resolved configuration of the preprocessing. training: that of the training.
    classes: id, name, color, ... in order of ids. features: training features in order.
    pipeline: numbers and fingerprint of the feature pipeline. fold: the fold rule. weight: the
    training weight. models: index, fingerprint, best_iteration. samples: name, group, processes.
    files: fingerprints of the training ntuples. skims: paths of train and test, and where their
    rows come from (`origin`, `test_origin`).
    audit: rows of the leak audit; `audit_passed` sums them up.
    """

    analysis: dict[str, Any]
    training: dict[str, Any]
    classes: tuple[dict[str, Any], ...]
    features: tuple[str, ...]
    pipeline: dict[str, Any]
    fold: FoldRule
    weight: str
    objective: str
    models: tuple[dict[str, Any], ...]
    samples: tuple[dict[str, Any], ...]
    files: tuple[dict[str, Any], ...]
    skims: dict[str, Any]
    audit: tuple[dict[str, Any], ...]
    audit_passed: bool
    format: str = "recipe-1"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the recipe that `to_json` wrote.

        Raises ValueError, KeyError or TypeError, naming the part, where it is damaged.
        """
        raw = json.loads(text)
        for name in ("analysis", "training", "pipeline", "fold"):
            if not isinstance(raw[name], dict):
                raise ValueError(f"'{name}' is no mapping")
        for name, needed in _ROWS.items():
            rows = [raw[name]] if name == "skims" else raw[name]
            if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
                raise ValueError(f"'{name}' is no list of mappings")
            if any(not needed <= r.keys() for r in rows):
                raise ValueError(f"an entry of '{name}' lacks one of {', '.join(sorted(needed))}")
        raw["fold"] = FoldRule(
            raw["fold"]["kind"], tuple(raw["fold"]["columns"]), raw["fold"]["n_splits"]
        )
        tuples = ("classes", "features", "models", "samples", "files", "audit")
        return cls(**{**raw, **{name: tuple(raw[name]) for name in tuples}})

    @property
    def class_infos(self) -> tuple[ClassInfo, ...]:
        """The classes in order of their ids."""
        return tuple(
            ClassInfo.model_validate({k: v for k, v in c.items() if k != "id"})
            for c in self.classes
        )
