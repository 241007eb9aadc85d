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
    if rule.kind == "entry":
        codes, place = [file_code(f) for f in files], provenance["file"]
        identity = {"entry": provenance["entry"]}
    else:
        codes, place = [group_code(s["group"]) for s in samples], provenance["sample"]
    return identity_hash(np.array(codes, np.uint64)[place], identity)


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
