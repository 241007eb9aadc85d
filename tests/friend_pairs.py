"""A small input tree and its right friend, to be spoiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import uproot
from numpy.typing import NDArray

from utils.columns.folds import fold_of
from utils.formats import friends
from utils.schema import FoldRule

Columns = dict[str, NDArray[Any]]


N = 500
RULE = FoldRule("modulo", ("evt",), 3)
NAMES = ["prob_sig", "prob_bkg", "prob_tau"]
MODELS = ["m0", "m1", "m2"]


def events(n: int = N, seed: int = 1) -> Columns:
    rng = np.random.default_rng(seed)
    pt = rng.exponential(40, n).astype("f4")
    pt[3::50] = np.nan
    return {
        "run": rng.integers(1, 5, n).astype("u4"),
        "evt": rng.integers(2**53, 2**64, n, dtype="u8"),
        "pt_1": pt,
        "x": rng.normal(size=n),
    }


def score(columns: Columns, fold: NDArray[Any], strength: float = 1.0) -> NDArray[np.float64]:
    """Stands in for the models: another function of x in each fold."""
    raw = columns["x"][:, None] * np.array([1.0, -0.5, 0.3]) * (fold[:, None] + strength)
    e = np.exp(raw)
    return e / e.sum(axis=1, keepdims=True)


def write_input(path: Path, columns: Columns, tree: str = "TauCheck", **options: Any) -> Path:
    with uproot.recreate(path, **options) as file:
        writer = file.mktree(tree, {n: c.dtype for n, c in columns.items()})
        if len(columns["run"]):
            writer.extend(columns)
    return path


def metadata_of(path: Path, rule: FoldRule = RULE, **changes: Any) -> dict[str, Any]:
    with uproot.open(path) as file:
        fingerprint = {
            "name": path.name,
            "size": path.stat().st_size,
            "uuid": str(file.file.uuid),
            "tree": "TauCheck",
            "n_entries": int(file["TauCheck"].num_entries),
        }
    return {
        **friends.friend_metadata(
            input_file=fingerprint,
            run_id="run-a",
            models=MODELS,
            rule=rule,
            identity=["run", "evt"],
            misc=["pt_1"],
            names=friends.BranchNames(tuple(NAMES)),
            cut="x <= 1.5",
        ),
        **changes,
    }


def friend_rows(columns: Columns, rule: FoldRule = RULE, strength: float = 1.0) -> Columns:
    """All rows of a right friend; entries with x > 1.5 were cut."""
    n = len(columns["x"])
    fold = fold_of(rule, columns, np.arange(n))
    cut = (columns["x"] > 1.5)[:, None]
    scores = friends.score_columns(
        np.where(cut, np.nan, score(columns, fold, strength)), friends.BranchNames(tuple(NAMES))
    )
    del scores["pred_class_proba"]
    return {**{k: columns[k] for k in ("run", "evt", "pt_1")}, "fold": fold, **scores}


def write_friend(path: Path, rows: Columns, metadata: dict[str, Any]) -> Path:
    branches = {n: c.dtype for n, c in rows.items()}
    with friends.FriendWriter(path, "TauCheck", branches, metadata) as writer:
        writer.append(rows)
    return path
