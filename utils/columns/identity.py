"""Who an event is: the identity that folds, duplicates and the leak audit go by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from utils.columns.arrays import Array, UInt64
from utils.columns.folds import hash64
from utils.schema import FoldRule


def identity_of_rows(
    rule: FoldRule,
    identity: Mapping[str, Array],
    provenance: Mapping[str, Array],
    samples: Sequence[Mapping[str, Any]],
    files: Sequence[Mapping[str, Any]],
) -> UInt64:
    """Return a 64-bit hash of each row's identity, `(n,)`.

    `identity` are the identity columns and `provenance` the codes of a skim; `samples` and `files`
    are the entries of its metadata that the codes point to. An event is (group of samples that
    share events, identity columns); where folds are entry numbers it is (file, entry number).
    """
    columns = {"entry": provenance["entry"]} if rule.kind == "entry" else identity
    return identity_hash(group_of_rows(rule, provenance, samples, files), columns)


def group_of_rows(
    rule: FoldRule,
    provenance: Mapping[str, Array],
    samples: Sequence[Mapping[str, Any]],
    files: Sequence[Mapping[str, Any]],
) -> UInt64:
    """Return the code of each row's group, `(n,)`; that of its file where folds are entry numbers.

    Rows of different groups are different events.
    """
    place = provenance["file" if rule.kind == "entry" else "sample"]
    return np.array(group_codes(rule, samples, files), np.uint64)[place]


def group_codes(
    rule: FoldRule, samples: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Return the code of each sample's group; of each file where folds are entry numbers."""
    if rule.kind == "entry":
        return [file_code(file) for file in files]
    return [group_code(sample["group"]) for sample in samples]


def group_code(name: str) -> int:
    """Return a stable 64-bit code of a sample (or group of samples that share events) by name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def file_code(fingerprint: Mapping[str, Any]) -> int:
    """Return a stable code of a file: with entry-number folds an identity is (file, entry)."""
    return group_code(f"{fingerprint['uuid']}/{fingerprint['tree']}/{fingerprint['n_entries']}")


def identity_hash(group: Array | int, columns: Mapping[str, Array]) -> UInt64:
    """Return a 64-bit hash of every event's identity, `(n,)`: its group and identity columns.

    `group` is one `group_code` (or `file_code`), or one per event as uint64. Among 10^8 events a
    chance collision has a probability of 3e-4.
    """
    return hash64(columns, np.asarray(group, np.uint64))
