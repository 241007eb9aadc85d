"""What a run keeps of its training: the recipe that prediction and evaluation follow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from utils.schema.basics import DEFAULT_KIND, LABELLED
from utils.schema.exchange import FoldRule
from utils.schema.parts import ClassInfo, classes_as_rows, classes_of_rows

_ROWS: dict[str, set[str]] = {
    "classes": {"name"},
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
    classes: in order of their ids. features: training features in order.
    pipeline: numbers and fingerprint of the feature pipeline. fold: the fold rule. weight: the
    training weight. models: index, fingerprint, best_iteration. samples: name, group, processes.
    files: fingerprints of the training ntuples. skims: paths of train and test (and of the labelled
    one), and where the rows of these two come from (`origin`, `test_origin`).
    audit: rows of the leak audit; `audit_passed` sums them up.
    """

    analysis: dict[str, Any]
    training: dict[str, Any]
    classes: tuple[ClassInfo, ...]
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

    @property
    def model_kind(self) -> str:
        """The kind of the models; trainings from before there were several named none."""
        return str(self.training.get("model_kind", DEFAULT_KIND))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The skims with known classes that tables are made of where none are named."""
        return ("train", "test", *([LABELLED] if LABELLED in self.skims else []))

    def to_json(self) -> str:
        fields = {**vars(self), "classes": classes_as_rows(self.classes), "fold": vars(self.fold)}
        return json.dumps(fields, indent=1)

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
        raw["classes"] = classes_of_rows(raw["classes"])
        tuples = ("features", "models", "samples", "files", "audit")
        return cls(**{**raw, **{name: tuple(raw[name]) for name in tuples}})
