"""What the modules hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    names the set of samples that share events. `tags` say what it is, for variations to go by.
    `stands_for` is the nominal sample in whose place a variation puts this one.
    `role`: 'test' for a labelled sample that is listed with the training samples to be evaluated.
    """

    name: str
    files: tuple[str, ...]
    tree: str
    processes: tuple[Process, ...]
    factor: float = 1.0
    weight: str | None = None
    group: str = ""
    never_trained: bool = False
    tags: tuple[str, ...] = ()
    stands_for: str = ""
    role: Literal["training", "test"] = "training"
