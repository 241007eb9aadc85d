"""Prove a friend tree against its input, entry by entry, and its scores against a run.

    python -m utils.proof INPUT.root FRIEND.root [--scores RUN_ID]
    python -m utils.proof --show FRIEND.root

Ends with status 0 and one line, or with status 1 and the first entry that is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple, NoReturn

import numpy as np

from utils.columns.arrays import Array, Columns, Floats, RowRange
from utils.columns.variations import rows_at_once, shift_of
from utils.formats.friend_proof import CHUNK_ENTRIES, differing, prove_alignment
from utils.formats.friends import (
    BranchNames,
    Friend,
    fold_rule,
    iterate,
    open_friend,
    stated_names,
)
from utils.schema import Location, PipelineError, ProofError, given_location

__all__ = ["Recomputation", "Recomputed", "main", "prove_alignment", "prove_scores", "run_scores"]

log = logging.getLogger(__name__)


class Recomputed(NamedTuple):
    """Probabilities of entries `(n, n_classes)`, NaN where a cut removed the entry.

    `derived` are columns by name, `shifted` the probabilities under shifts by suffix.
    """

    scores: Floats
    derived: Columns
    shifted: Mapping[str, Floats] = {}


class Recomputation(NamedTuple):
    """What a run makes of entries, with the names of `derived` and the suffixes of `shifts`."""

    of: Callable[[RowRange], Recomputed]
    derived: tuple[str, ...] = ()
    shifts: tuple[str, ...] = ()


def prove_scores(
    friend_path: str | Location,
    recompute: Recomputation,
    *,
    tree: str | None = None,
    chunk_entries: int = CHUNK_ENTRIES,
) -> float:
    """Compare every stored score with a recomputed one and return the largest difference.

    Equal means the same float32 within one unit in the last place (float64 branches: within 1e-14),
    the same `pred_class` unless two classes tie within that, and fillers in the same rows. Derived
    columns are compared bit by bit. Raises ProofError with the first entry that differs and its
    values.
    """
    friend = open_friend(friend_path, tree)
    nominal = stated_names(friend.metadata)
    names = {"": nominal, **{suffix: nominal.shifted(suffix) for suffix in recompute.shifts}}
    of_scores = [n for of in names.values() for n in (of.pred_class, *of.probabilities)]
    largest = 0.0
    compared = [*of_scores, *recompute.derived]
    n_rows = rows_at_once(chunk_entries, len(recompute.shifts))
    for span, found in iterate(friend.path, friend.tree, compared, n_rows):
        expected = recompute.of(span)
        for name, values in expected.derived.items():
            first, text = differing(name, values, found[name], "as recomputed")
            if text:
                raise ProofError(f"{friend.path.name}: entry {span.start + first}: {text}")
        for suffix, scores in {"": expected.scores, **expected.shifted}.items():
            deviation = _compare(friend, names[suffix], span, found, scores)
            largest = max(largest, deviation)
    return largest


def _compare(
    friend: Friend, names: BranchNames, span: RowRange, found: Columns, expected: Floats
) -> float:
    """Return the largest difference of stored scores from recomputed ones, nominal or shifted."""
    stored = np.stack([found[name] for name in names.probabilities], axis=1)
    if expected.shape[1] != stored.shape[1]:
        raise ProofError(
            f"{friend.path.name} has scores of {stored.shape[1]} classes, the run's models of "
            f"{expected.shape[1]}"
        )
    if len(expected) != len(stored):
        raise ProofError(
            f"{friend.path.name} has {friend.n_entries} entries, the input "
            f"{span.start + len(expected)}"
        )
    tolerance = _tolerance(stored)
    difference = np.abs(stored - expected.astype(stored.dtype)).astype(np.float64)
    removed = np.isnan(expected)
    bad = np.where(removed, ~np.isnan(stored), ~(difference <= tolerance))
    if bad.any():
        row, column = np.unravel_index(np.argmax(bad), bad.shape)
        raise ProofError(
            f"{friend.path.name} holds other scores: entry {span.start + int(row)}: "
            f"{names.probabilities[int(column)]} is {stored[row, column]!s} and was recomputed as "
            f"{expected.astype(stored.dtype)[row, column]!s} ({int(bad.any(axis=1).sum())} of "
            f"entries {span.start} to {span.stop - 1} differ)"
        )
    _check_classes(friend, names.pred_class, span.start, expected, found[names.pred_class])
    return float(np.max(difference[~removed], initial=0.0))


def _tolerance(stored: Array) -> Array | float:
    if stored.dtype == np.float64:
        return 1e-14
    spacing: Array = np.spacing(np.abs(np.nan_to_num(stored))).astype(np.float64)
    return spacing


def _check_classes(friend: Friend, name: str, start: int, expected: Floats, chosen: Array) -> None:
    scored = np.flatnonzero(~np.isnan(expected[:, 0]))
    best = expected[scored].max(axis=1)
    given = expected[scored, np.clip(chosen[scored], 0, expected.shape[1] - 1)]
    bad = (chosen[scored] < 0) | (chosen[scored] >= expected.shape[1]) | (best - given > 1e-14)
    if bad.any():
        row = int(scored[np.argmax(bad)])
        raise ProofError(
            f"{friend.path.name} holds another class: entry {start + row}: "
            f"{name} is {chosen[row]!s} and was recomputed as {int(np.argmax(expected[row]))}"
        )


# --- a run's scores -------------------------------------------------------------------------------


def check_run(friend: Friend, run_id: str, models: Sequence[str]) -> None:
    """Raise ProofError unless the friend tree names this run and these model fingerprints."""
    made_by = friend.metadata["run_id"]
    if made_by != run_id:
        raise ProofError(f"{friend.path.name} was made by run {made_by}, not by run {run_id}")
    for i, pair in enumerate(zip_longest(friend.metadata["models"], models, fillvalue="absent")):
        if pair[0] != pair[1]:
            raise ProofError(
                f"{friend.path.name} was made with other models: model {i} is {pair[0]} there and "
                f"{pair[1]} in run {run_id}"
            )


def run_scores(
    run_id: str, friend: Friend, input_path: str | Location, input_tree: str
) -> Recomputation:
    """Return what computes scores and derived columns of any entries anew from the input tree.

    Everything comes from the run: derived features, missing values, clipping, feature pipeline,
    fold rule and models. From the friend tree come only the cut and the shifts that it states.
    Raises RunError for a run that lacks something, ProofError for a friend tree of another run,
    fold rule or models.
    """
    # What scoring needs is slow to import, and most proofs do without.
    from utils.columns.roles import roles_of
    from utils.formats import ntuples, runs
    from utils.stages.prediction.scorer import Scorer, models_of
    from utils.stages.preprocessing import reading
    from utils.stages.preprocessing.shifting import restated_tree

    run = runs.open_run(run_id)
    scorer = Scorer(run.run_id, models_of(run), run.recipe)
    rule, identity = scorer.recipe.fold, list(scorer.analysis.identity_columns)
    check_run(friend, run.run_id, scorer.models.fingerprints)
    if list(friend.metadata["identity"]) != identity:
        raise ProofError(
            f"{friend.path.name} identifies events by {', '.join(friend.metadata['identity'])}, "
            f"run {run.run_id} by {', '.join(identity)}"
        )
    if fold_rule(friend.metadata) != rule:
        raise ProofError(f"{friend.path.name} has another fold rule than run {run.run_id}")
    info = ntuples.open_tree(given_location(input_path), input_tree)
    misc = [n for n in friend.metadata["misc"] if n in scorer.analysis.derived_features]
    roles, cut = roles_of(scorer.analysis, misc), friend.metadata["cut"]
    shifts = [(shift_of(of), of["replaced"]) for of in friend.metadata.get("shifts", [])]
    tree = restated_tree(info, shifts, roles, cut, scorer.analysis.missing_values)
    n_rows = rows_at_once(scorer.analysis.chunk_size, len(shifts))
    entries = reading.Entries(info, roles, cut, n_rows, tree)
    source = scorer.ntuple_entries(entries, friend.path.stem)
    suffixes = tuple(shift.suffix for shift, _ in shifts)

    def of(span: RowRange) -> Recomputed:
        parts = list(replace(source, span=span).rows(rule))
        columns = {n: np.concatenate([p.groups["misc_features"][n] for p in parts]) for n in misc}
        scores = [scorer.scores(part) for part in parts]
        shifted = [scorer.shifted_scores(*pair) for pair in zip(parts, scores, strict=True)]
        return Recomputed(
            np.concatenate(scores),
            columns,
            {name: np.concatenate([of[name] for of in shifted]) for name in suffixes},
        )

    return Recomputation(of, tuple(misc), suffixes)


# --- the command ---------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ProofError(f"{message}; usage: {' '.join(self.format_usage().split()[1:])}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 proved, 1 refuted or impossible."""
    parser = _Parser(
        prog="python -m utils.proof",
        description="Prove that a friend tree belongs to its input, entry by entry.",
    )
    parser.add_argument("input", nargs="?", metavar="INPUT.root", help="the input ntuple")
    parser.add_argument("friend", nargs="?", metavar="FRIEND.root", help="its friend tree")
    parser.add_argument("--scores", metavar="RUN_ID", help="recompute all scores from this run")
    parser.add_argument("--tree", metavar="NAME", help="the friend tree, if the file has several")
    parser.add_argument("--input-tree", metavar="NAME", help="the input tree, if it was renamed")
    parser.add_argument("--show", metavar="FRIEND.root", help="print what a friend was made from")
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        given = parser.parse_args(arguments)
        if given.show:
            shown = json.dumps(dict(open_friend(given.show, given.tree).metadata), indent=2)
            sys.stdout.write(shown + "\n")
            return 0
        if not (given.input and given.friend):
            parser.error("name INPUT.root and FRIEND.root")
        proof = prove_alignment(
            given.input, given.friend, tree=given.tree, input_tree=given.input_tree
        )
        if given.scores:
            from utils.formats import runs  # imports what most proofs do without

            friend = open_friend(given.friend, given.tree)
            tree = given.input_tree or friend.metadata["input"]["tree"]
            run_id = runs.open_run(given.scores).run_id
            recompute = run_scores(run_id, friend, given.input, tree)
            largest = prove_scores(given.friend, recompute, tree=given.tree)
            proof = replace(proof, run_id=run_id, deviation=largest)
        for note in proof.notes:
            log.warning("note: %s", note)
        sys.stdout.write(proof.summary + "\n")
    except PipelineError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
