"""Who an event is: the identity that folds, duplicates and the leak audit go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils import folds
from utils.schema import FoldRule

Array = NDArray[Any]


def of_rows(
    rule: FoldRule,
    identity: Mapping[str, Array],
    provenance: Mapping[str, Array],
    samples: Sequence[Mapping[str, Any]],
    files: Sequence[Mapping[str, Any]],
) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row's identity, `(n,)`.

    `identity` are the identity columns and `provenance` the codes of a skim; `samples` and `files`
    are the entries of its metadata that the codes point to. An event is (group of samples that
    share events, identity columns); where folds are entry numbers it is (file, entry number).
    """
    if rule.kind == "entry":
        codes = np.array([folds.file_code(f) for f in files], np.uint64)
        return folds.identity_hash(
            codes[provenance["file"]], {"entry": provenance["entry"].astype(np.uint64)}
        )
    codes = np.array([folds.group_code(s["group"]) for s in samples], np.uint64)
    return folds.identity_hash(codes[provenance["sample"]], dict(identity))


def folds_of_rows(
    rule: FoldRule, identity: Mapping[str, Array], provenance: Mapping[str, Array]
) -> NDArray[np.int32]:
    """Return each row's fold, `(n,)`, from the identity columns and entry numbers of a skim."""
    return folds.fold_of(rule, identity, provenance["entry"])
