"""What a skim and a run must agree on, so that the run's models may score the skim."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from typing import Any

from utils.columns.roles import other_meaning
from utils.columns.variations import Shift, variations_of
from utils.formats import ntuples
from utils.formats.skims import Skim, origin
from utils.schema import InputError, Location, PreprocessConfig, load, nearest
from utils.stages.prediction.scorer import Scorer

log = logging.getLogger(__name__)


def check_skim(skim: Skim, scorer: Scorer, misc: Sequence[str]) -> None:
    """Raise InputError where a skim has another pipeline, class list, or meaning of its columns.

    Compared are features and the columns that `misc` names.
    """
    recipe, meta = scorer.recipe, skim.metadata
    names = [c["name"] for c in meta["classes"]]
    for what, its, mine in (
        ("feature pipeline", [meta["pipeline"]["fingerprint"]], [recipe.pipeline["fingerprint"]]),
        ("list of classes", names, [c.name for c in recipe.classes if names]),
        ("identity of events", meta["identity"], list(scorer.analysis.identity_columns)),
    ):
        if its != mine:
            raise InputError(
                f"{skim.path} was made with another {what} ({', '.join(its)}) than run "
                f"{scorer.run_id} ({', '.join(mine)}): preprocess it again with the run's"
            )
    _check_groups(skim, scorer)
    check_trained_files(meta["files"], {sample["group"] for sample in meta["samples"]}, scorer)
    other = other_meaning(scorer.analysis, load(PreprocessConfig, meta["config"]), misc)
    if other:
        raise InputError(
            f"{skim.path} was made with another {other} than the training skim of run "
            f"{scorer.run_id}: preprocess it again with the run's"
        )
    stored = {**skim.groups["cont_features"], **skim.groups["cat_features"]}
    for name in recipe.features:
        if name not in stored:
            raise InputError(
                f"{skim.path} has no feature '{name}' of run {scorer.run_id}; "
                f"{nearest(name, stored)}"
            )


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


def check_trained_files(
    files: Sequence[Mapping[str, Any]], groups: Set[str], scorer: Scorer
) -> None:
    """Raise InputError where a file that was trained on is predicted in another group.

    Its events would be other ones, and the leak audit would compare nothing. `files` are
    fingerprints, with the group of their sample where a skim knows it, else one of `groups`.
    """
    recipe = scorer.recipe
    if recipe.fold.kind == "entry":  # by which an event is its file and entry number
        return
    everyone = {sample["group"] for sample in recipe.samples}
    trained = {file["uuid"]: file for file in recipe.files}
    for file in files:
        its = trained.get(file["uuid"], file)
        mine = {file["group"]} if "group" in file else groups
        known = {its["group"]} if "group" in its else everyone
        if its is not file and not mine <= known:
            theirs, ours = (" or ".join(sorted(names)) for names in (known, mine))
            raise InputError(
                f"run {scorer.run_id} was trained on {its['name']} in the group {theirs}, and "
                f"{file['name']}, which is the same, is predicted in the group {ours}, so the leak "
                f"audit would compare nothing: declare 'group: {sorted(known)[0]}' for its sample, "
                "and preprocess it again"
            )


def check_variations(skim: Skim, wanted: Sequence[Shift]) -> None:
    """Raise InputError where a skim was made with other variations than those `wanted` of it.

    One that holds more than is wanted can be used: that is told.
    """
    made = load(PreprocessConfig, skim.metadata["config"])
    declared = {s.suffix: s for v in variations_of(made) for s in v.shifts}
    stored = {shift["suffix"] for shift in skim.metadata.get("shifts", [])}
    its = {suffix: of for suffix, of in declared.items() if suffix in stored}
    for shift in wanted:
        other = its.get(shift.suffix)
        if other is None or (other.variation.kind, other.replacement) != (
            shift.variation.kind,
            shift.replacement,
        ):
            found = "lacks it" if other is None else f"has it as {other.replacement}"
            raise InputError(
                f"{shift.where} is {shift.replacement}, and {skim.path} {found}: preprocess it "
                "again, or let source=ntuples read the ntuples"
            )
    more = sorted(stored - {shift.suffix for shift in wanted})
    if more:
        log.info(
            "%s has the shifts %s, which are not asked for: analysis=FILE names the file that "
            "declares them",
            skim.path,
            ", ".join(more),
        )


def check_concerned(skim: Skim, wanted: Mapping[str, Sequence[Shift]]) -> None:
    """Raise InputError where a skim has a shift for other samples than those it is `wanted` for."""
    for stated in skim.metadata.get("shifts", []):
        suffix, found = stated["suffix"], {*stated["replaced"]}
        its = {sample for sample, of in wanted.items() if suffix in {s.suffix for s in of}}
        if its and its != found:
            raise InputError(
                f"{suffix} is declared for the samples {', '.join(sorted(its))}, and {skim.path} "
                f"has it for {', '.join(sorted(found))}: preprocess it again, or let analysis=FILE "
                "name the file that it was made with"
            )


def check_same_file(path: Location, stated: Mapping[str, Any], skim: Skim) -> None:
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
