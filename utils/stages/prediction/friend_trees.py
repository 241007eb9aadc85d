"""One sample through a run's models: the unit of work of predict.py.

Skims and ntuples give the same stream of rows (a range of entries of one input file, and the
selected rows in it), so friend trees are made by the same code from either.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Columns
from utils.columns.audit import LeakAudit, audit_prediction, merge_audits, trained_on
from utils.columns.folds import fold_of
from utils.columns.identity import identity_of_rows
from utils.columns.pipeline import FeaturePipeline, feature_matrix
from utils.columns.values import clip_columns
from utils.formats import ntuples
from utils.formats.friend_proof import Proof, prove_alignment
from utils.formats.friends import FOLD, FriendWriter, fill_rows, friend_metadata, score_columns
from utils.formats.skims import Skim
from utils.models import scoring
from utils.schema import InputError, ProofError, RunError
from utils.stages.prediction.tasks import TRAINED_ON, FriendTask, InputFile
from utils.stages.preprocessing import reading
from utils.system.files import complete
from utils.system.threads import ahead


@dataclass(frozen=True)
class Rows:
    """Entries start .. stop-1 of one input file, and the rows of them that are to be scored.

    `entry` are their entry numbers, ascending; `matrix` their features in the models' order;
    `provenance` says whose events they are.
    """

    start: int
    stop: int
    entry: NDArray[np.int64]
    columns: Columns
    identity: Columns
    provenance: Columns
    matrix: NDArray[np.float32]


@dataclass(frozen=True)
class FriendResult:
    """What became of a sample: its friend trees with their proofs, and the audit of its rows."""

    sample: str
    proofs: tuple[Proof, ...]
    audit: LeakAudit
    paths: tuple[Path, ...]


# --- rows ----------------------------------------------------------------------------------------


def rows_of(task: FriendTask, file: InputFile) -> Iterator[Rows]:
    """Yield all entries of an input file in ranges, with the rows to be scored in each."""
    n_entries = int(file.fingerprint["n_entries"])
    source = _from_skim(task, file) if task.skim is not None else _from_ntuple(task, file)
    done = 0
    for rows in source:
        yield rows
        done = rows.stop
    if done != n_entries:
        raise InputError(
            f"{file.path} has {n_entries} entries, but only {done} were read: preprocess it again"
        )


def _from_skim(task: FriendTask, file: InputFile) -> Iterator[Rows]:
    skim, n_entries = task.skim, int(file.fingerprint["n_entries"])
    assert skim is not None
    stored_misc = [n for n in task.misc if n in skim.groups["misc_features"]]
    identity = list(skim.groups["identity"])
    wanted = {
        "misc_features": stored_misc,
        "identity": identity,
        "provenance": ["sample", "file", "entry"],
    }
    first, last = _rows_of_file(skim, file.code)
    done = 0
    for start in range(first, max(last, first + 1), task.config.chunk_size):
        stop = min(start + task.config.chunk_size, last)
        columns = skim.read(wanted, start, stop)
        entry = columns["provenance"]["entry"]
        matrix = skim.matrix(task.scorer.models.features, start, stop)
        end = n_entries if stop >= last else int(entry[-1]) + 1
        # Few rows may be left of very many entries, of which only so many fit in memory.
        for low in range(done, max(end, done + 1), task.config.chunk_size):
            high = min(low + task.config.chunk_size, end)
            mine = slice(*np.searchsorted(entry, [low, high]))
            of_mine = {g: {n: c[mine] for n, c in named.items()} for g, named in columns.items()}
            yield Rows(
                start=low,
                stop=high,
                entry=entry[mine],
                columns={**of_mine["identity"], **of_mine["misc_features"]},
                identity=of_mine["identity"],
                provenance=of_mine["provenance"],
                matrix=matrix[mine],
            )
        done = end


def _rows_of_file(skim: Skim, code: int) -> tuple[int, int]:
    """Return the range of rows that came from input file `code`; rows are in input order."""
    if len(skim.metadata["files"]) == 1:
        return 0, skim.n_rows

    def file_of(row: int) -> int:
        return int(skim.read({"provenance": ["file"]}, row, row + 1)["provenance"]["file"][0])

    rows = range(skim.n_rows)
    first = bisect.bisect_left(rows, code, key=file_of)
    return first, bisect.bisect_right(rows, code, lo=first, key=file_of)


def _from_ntuple(task: FriendTask, file: InputFile) -> Iterator[Rows]:
    plan = task.plan
    assert plan is not None
    pipeline = FeaturePipeline.from_json(task.scorer.recipe.pipeline)
    for unit in plan.units:
        if unit.file_code != file.code:
            continue
        done = 0
        parts = reading.stream(unit) if unit.stop > unit.start else [reading.empty(plan)]
        for part in parts:
            yield Rows(
                start=done,
                stop=done + part.n_read,
                entry=part.groups["provenance"]["entry"],
                columns={**part.groups["identity"], **part.groups["misc_features"]},
                identity=part.groups["identity"],
                provenance=part.groups["provenance"],
                matrix=feature_matrix(
                    {**part.groups["cont_features"], **part.groups["cat_features"]},
                    pipeline,
                    task.scorer.models.features,
                ),
            )
            done += part.n_read


# --- friend trees --------------------------------------------------------------------------------


def write_friends(task: FriendTask) -> FriendResult:
    """Score one sample into friend trees, prove each, and only then let it have its name.

    Raises ProofError, leaving no file of the sample, where a friend tree is not what it should be.
    """
    audits: list[LeakAudit] = []
    proofs = []
    with ExitStack() as until_all_are_proved:
        for file in task.files:
            partial = until_all_are_proved.enter_context(complete(file.output))
            audits += _write_friend(task, file, partial)
            proofs.append(prove_alignment(file.path, partial, friend_name=file.output.name))
        audit = merge_audits(audits)
        if not audit.passed:
            raise RunError(f"sample {task.sample.name}: {audit.summary}: it gets no friend trees")
    return FriendResult(task.sample.name, tuple(proofs), audit, tuple(f.output for f in task.files))


def _write_friend(task: FriendTask, file: InputFile, path: Path) -> list[LeakAudit]:
    scorer, recipe = task.scorer, task.scorer.recipe
    meta = friend_metadata(
        input_file=file.fingerprint,
        run_id=scorer.run_id,
        models=scorer.models.fingerprints,
        rule=scorer.models.rule,
        identity=task.scorer.analysis.identity_columns,
        misc=_copied(task),
        probabilities=scorer.probability_names,
        cut=task.config.cut if task.skim is None else task.skim.metadata["config"]["common_cut"],
        classes=[c.name for c in recipe.classes],
        sample=task.sample.name,
    )
    tree_name = task.config.output_tree_name or "pred"
    writer: FriendWriter | None = None
    audits = []
    with ExitStack() as stack:
        for branches, audit in ahead(_scored(task, file)):
            if writer is None:
                types = {name: column.dtype for name, column in branches.items()}
                writer = stack.enter_context(FriendWriter(path, tree_name, types, meta))
            writer.append(branches)
            audits.append(audit)
    return audits


def _scored(task: FriendTask, file: InputFile) -> Iterator[tuple[Columns, LeakAudit]]:
    """Yield the friend branches of all entries of a file in ranges, and the audit of each range."""
    tree: ntuples.TreeInfo | None = None
    for rows in rows_of(task, file):
        if len(rows.entry) != rows.stop - rows.start and tree is None:
            tree = ntuples.open_tree(file.path, file.tree)
        yield _friend_rows(task, file, rows, tree)


def _copied(task: FriendTask) -> list[str]:
    """Return the misc branches that are copies of the input's: those that nothing clips."""
    analysis = task.scorer.analysis
    features = {*analysis.cont_features, *analysis.cat_features}
    return [n for n in task.misc if n not in analysis.clip or n in features]


def _friend_rows(
    task: FriendTask, file: InputFile, rows: Rows, tree: ntuples.TreeInfo | None
) -> tuple[Columns, LeakAudit]:
    """Return the friend branches of a range of entries, and the audit of its scored rows.

    `tree` is the input tree where a cut removed entries: these get fillers.
    """
    scorer, models = task.scorer, task.scorer.models
    fold = fold_of(models.rule, rows.identity, rows.entry)
    identity = _identity(task, rows.identity, rows.provenance)
    audit = audit_prediction(scorer.trained, identity, fold)
    proba = scoring.score(models, rows.matrix, fold, task.n_threads)
    scored = score_columns(proba, scorer.probability_names, task.config.double_precision)
    scored["pred_class_proba"] = np.max(
        [scored[n] for n in scorer.probability_names], axis=0
    ).astype(scored[scorer.probability_names[0]].dtype)
    columns = {
        name: values.astype(file.types.get(name, values.dtype), copy=False)
        for name, values in rows.columns.items()
    }
    if tree is not None:
        scored = fill_rows(rows.start, rows.stop, rows.entry, scored)
        columns, provenance = _all_entries(task, file, tree, rows.start, rows.stop)
        names = scorer.analysis.identity_columns
        _refuse_other_events(file, rows, {n: columns[n] for n in names})
        every = np.arange(rows.start, rows.stop, dtype=np.int64)
        fold = fold_of(models.rule, columns, every)
        identity = _identity(task, {n: columns[n] for n in names}, provenance)
    flag = {}
    if models.rule.n_splits == 1:
        flag[TRAINED_ON] = trained_on(scorer.trained[0], identity)
    return {**columns, FOLD: fold, **flag, **scored}, audit


def _refuse_other_events(file: InputFile, rows: Rows, columns: Columns) -> None:
    """Raise ProofError where the rows to be scored are not the input tree's events.

    `columns` are the identity of the entries rows.start .. rows.stop-1 in the input tree. They end
    in the friend tree, so its proof could not see that the scores are of other events.
    """
    place = rows.entry - rows.start
    for name, values in columns.items():
        if len(values) != rows.stop - rows.start:
            raise ProofError(
                f"{file.path} has {rows.start + len(values)} entries, but its skim was made of "
                f"{file.fingerprint['n_entries']}: preprocess it again"
            )
        differ = values[place] != rows.identity[name]
        if differ.any():
            row = int(np.argmax(differ))
            raise ProofError(
                f"{file.path}: entry {rows.entry[row]} has {name} {values[place[row]]!s}, but its "
                f"skim was made when that was {rows.identity[name][row]!s}: preprocess it again"
            )


def _identity(task: FriendTask, columns: Columns, provenance: Columns) -> NDArray[np.uint64]:
    if task.skim is not None:
        samples, files = task.skim.metadata["samples"], task.skim.metadata["files"]
    else:
        samples = [{"group": task.sample.group}]
        files = [f.fingerprint for f in task.files]
    return identity_of_rows(task.scorer.models.rule, columns, provenance, samples, files)


def _all_entries(
    task: FriendTask, file: InputFile, tree: ntuples.TreeInfo, start: int, stop: int
) -> tuple[Columns, Columns]:
    """Return identity and misc columns of every entry, read from the input tree itself."""
    analysis = task.scorer.analysis
    names = [*dict.fromkeys([*analysis.identity_columns, *task.misc])]
    chunks = ntuples.stream(
        tree,
        columns=names,
        cuts=[None],
        definitions={**analysis.derived_features, **analysis.cuts},
        start=start,
        stop=stop,
    )
    parts = [chunk.selections[0] for chunk in chunks]
    columns = {
        n: np.concatenate([p.columns[n] for p in parts]) if parts else np.empty(0) for n in names
    }
    copied = {*_copied(task), *analysis.identity_columns}
    columns = clip_columns(columns, {n: analysis.clip[n] for n in names if n not in copied})
    n_rows = stop - start
    return columns, {
        "sample": np.zeros(n_rows, np.int64),
        "file": np.full(n_rows, file.code, np.int64),
        "entry": np.arange(start, stop, dtype=np.int64),
    }
