"""What a skim and a run must agree on, so that the run's models may score the skim."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.columns.expressions import expand
from utils.formats import ntuples
from utils.formats.skims import Skim, origin
from utils.schema import InputError, nearest
from utils.stages.prediction.scorer import Scorer


def check_skim(skim: Skim, scorer: Scorer) -> None:
    """Raise InputError where a skim was made with another pipeline, class list or features."""
    recipe, meta = scorer.recipe, skim.metadata
    names = [c["name"] for c in meta["classes"]]
    for what, its, mine in (
        ("feature pipeline", *(p["fingerprint"][:12] for p in (meta["pipeline"], recipe.pipeline))),
        ("list of classes", names, [c.name for c in recipe.classes if names]),
        ("identity of events", meta["identity"], list(scorer.analysis.identity_columns)),
    ):
        if its != mine:
            raise InputError(
                f"{skim.path} was made with another {what} ({_listed(its)}) than run "
                f"{scorer.run_id} ({_listed(mine)}): preprocess it again with the run's"
            )
    _check_groups(skim, scorer)
    _check_definitions(skim, scorer)
    stored = {**skim.groups["cont_features"], **skim.groups["cat_features"]}
    for name in recipe.features:
        if name not in stored:
            raise InputError(
                f"{skim.path} has no feature '{name}' of run {scorer.run_id}; "
                f"{nearest(name, stored)}"
            )


def _listed(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _check_groups(skim: Skim, scorer: Scorer) -> None:
    """Raise InputError where a skim has a training sample's events under another name.

    The leak audit would compare nothing, and `never_trained` would lift the protection of folds.
    """
    trained = {s["name"]: s["group"] for s in scorer.recipe.samples}
    for sample in skim.metadata["samples"]:
        name, group = sample["name"], sample["group"]
        expected = trained.get(name, group)
        if group != expected:
            raise InputError(
                f"{skim.path} has sample {name} in the group {group}, run {scorer.run_id} was "
                f"trained on it in the group {expected}: preprocess it again with the run's"
            )
        if sample["never_trained"] and group in trained.values():
            raise InputError(
                f"{skim.path} declares sample {name} never_trained, but run {scorer.run_id} was "
                "trained on it (or its group): drop never_trained and preprocess it again"
            )


def _check_definitions(skim: Skim, scorer: Scorer) -> None:
    """Raise InputError where a feature means something else in a skim than in the run."""
    run, its = scorer.recipe.analysis, skim.metadata["config"]
    compared = [("missing", "missing", run["missing"], its["missing"])]
    for name in sorted({*run["cont_features"], *run["cat_features"]}):
        for key in ("derived_features", "clip", "feature_info"):
            values = [config[key].get(name) for config in (run, its)]
            if key == "feature_info":  # of which labels may change
                values = [(value or {}).get("missing") for value in values]
            elif key == "derived_features":
                values = [_meaning(config, name) for config in (run, its)]
            compared.append((key, name, values[0], values[1]))
    for key, name, mine, other in compared:
        if json.dumps(mine) != json.dumps(other):  # as text, in which NaN equals NaN
            raise InputError(
                f"{skim.path} was made with another `{key}` ('{name}') than the training skim of "
                f"run {scorer.run_id}: preprocess it again with the run's"
            )


def _meaning(config: Mapping[str, Any], name: str) -> list[str] | None:
    """Return what computes a derived feature, its definitions filled in; None for a branch."""
    if name not in config["derived_features"]:
        return None
    definitions = {**config["derived_features"], **config["cuts"]}
    return [str(step) for step in expand(definitions[name], definitions).program]


def check_same_file(path: Path, stated: Mapping[str, Any], skim: Skim) -> None:
    """Raise InputError where a skim's entry numbers mean other events in the file of today."""
    now = ntuples.fingerprint(ntuples.open_tree(path, stated["tree"]))
    for key in ("uuid", "n_entries", "size"):
        if now[key] != stated[key]:
            raise InputError(
                f"{path} is not the file {skim.path} was made from ({key} {now[key]}, then "
                f"{stated[key]}): folds are entry numbers, so preprocess it again"
            )


def check_origin(skim: Skim, name: str, scorer: Scorer) -> None:
    """Raise InputError where the run's own train or test skim was made anew since the training."""
    known = scorer.recipe.skims
    if name not in ("train", "test") or name not in known:
        return
    now, then = origin(skim.metadata), known["origin" if name == "train" else "test_origin"]
    if now != then:
        raise InputError(
            f"{skim.path} was made anew since run {scorer.run_id} was trained (origin {now}, "
            f"then {then}): train again, or name it with input_path={skim.path.parent}"
        )
