"""One sample through a run's models: the unit of work of predict.py.

Skims and ntuples give the same stream of rows (a range of entries of one input file, and the
selected rows in it), so friend trees and tables are made by the same code from either.
"""

from __future__ import annotations

import bisect
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils import folds, identities, inference, ntuples, selection
from utils.alignment import Proof, prove_alignment
from utils.expressions import expand
from utils.files import complete
from utils.friends import (
    FOLD,
    PRED_CLASS,
    FriendWriter,
    fill_rows,
    friend_metadata,
    score_columns,
)
from utils.inference import FoldModels
from utils.processing import FeaturePipeline, clip_columns, feature_matrix
from utils.schema import (
    COMPUTED_COLUMNS,
    AnalysisConfig,
    ConfigError,
    InputError,
    PredictConfig,
    PreprocessConfig,
    ProofError,
    Recipe,
    RunError,
    Sample,
    load,
    nearest,
    project_path,
)
from utils.skims import Skim, open_skim

log = logging.getLogger(__name__)

Array = NDArray[Any]
Columns = dict[str, Array]

TRAINED_ON = "trained_on"
"""Branch that flags rows the scoring model was trained on; only with one fold can there be any."""


@dataclass(frozen=True)
class Scorer:
    """A run as prediction needs it: models, recipe and what each model was trained on."""

    run_id: str
    models: FoldModels
    recipe: Recipe
    trained: tuple[NDArray[np.uint64], ...]

    @cached_property
    def analysis(self) -> AnalysisConfig:
        return preprocess_config(self.recipe)

    @property
    def probability_names(self) -> list[str]:
        return [f"pred_class_{i}_proba" for i in range(self.models.n_classes)]


def preprocess_config(recipe: Recipe) -> PreprocessConfig:
    """Return the configuration of the preprocessing that a run's training skim was made with."""
    return load(PreprocessConfig, recipe.analysis)


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
class InputFile:
    """One input file of a sample and the friend tree to be made of it.

    `types` are those of the columns a friend copies, where a skim may have widened them because
    another file of the sample has other types.
    """

    path: Path
    tree: str
    fingerprint: Mapping[str, Any]
    types: Mapping[str, str]
    code: int
    output: Path


@dataclass(frozen=True)
class FriendTask:
    """A sample to be scored into friend trees, from its skim or straight from its ntuples."""

    sample: Sample
    config: PredictConfig
    scorer: Scorer
    skim: Skim | None
    plan: selection.Plan | None
    files: tuple[InputFile, ...]
    misc: tuple[str, ...]
    n_threads: int

    def __str__(self) -> str:
        return f"sample {self.sample.name}"

    @property
    def n_entries(self) -> int:
        return sum(int(f.fingerprint["n_entries"]) for f in self.files)


@dataclass(frozen=True)
class FriendResult:
    """What became of a sample: its friend trees with their proofs, and the audit of its rows."""

    sample: str
    proofs: tuple[Proof, ...]
    audit: folds.LeakAudit
    paths: tuple[Path, ...]


# --- plans ---------------------------------------------------------------------------------------


def friend_tasks(
    config: PredictConfig, scorer: Scorer, output_folder: Path, n_threads: int
) -> list[FriendTask]:
    """Return one task a sample, all checked against the run's recipe before any work.

    Raises ConfigError or InputError where a sample, skim or file is missing or does not fit.
    """
    if config.cut is not None and config.source == "skims":
        raise ConfigError(
            "cut is for source=ntuples: a skim holds what its own cut left, so preprocess the "
            "prediction samples with common_cut"
        )
    analysis = prediction_analysis(config, scorer.recipe)
    misc = _misc(config, analysis)
    tasks = []
    for sample in analysis.read_samples:
        skim = plan = None
        if config.source == "skims":
            skim = open_skim(skim_folder(config, analysis) / _named(config, sample.name))
            check_skim(skim, scorer)
            described = [
                (project_path(f["path"]), f["tree"], _without(f, "types"), f.get("types", {}))
                for f in skim.metadata["files"]
            ]
            stored = {**skim.groups["misc_features"], **skim.groups["identity"]}
            for name in misc:
                if name not in stored:
                    raise InputError(
                        f"misc_features: '{name}' is not in {skim.path}; {nearest(name, stored)}"
                    )
        else:
            plan = selection.plan(analysis, [sample], misc=misc, weighted=False)
            described = [(t.path, t.tree, ntuples.fingerprint(t), {}) for t in plan.trees]
        files = _files(config, sample, described, output_folder)
        for file in files:
            never = sample.never_trained
            if skim is not None:
                never = all(s["never_trained"] for s in skim.metadata["samples"])
            folds.check_entry_rule(scorer.models.rule, scorer.recipe.files, file.fingerprint, never)
            if skim is not None and scorer.models.rule.kind == "entry":
                _check_same_file(file, skim)
        tasks.append(FriendTask(sample, config, scorer, skim, plan, files, misc, n_threads))
    groups = {s["group"] for s in scorer.recipe.samples}
    for task in tasks:
        if scorer.models.rule.n_splits == 1 and task.sample.group not in groups:
            log.info(
                "%s shares no events with a training sample (its group is %s): none of its rows "
                "counts as trained on",
                task.sample.name,
                task.sample.group,
            )
    outputs = [f.output for t in tasks for f in t.files]
    inputs = {f.path.resolve() for t in tasks for f in t.files}
    for output in outputs:
        if output.resolve() in inputs:
            raise ConfigError(
                f"the friend tree {output} would replace an input file: give another output_path "
                "or output_filename_template"
            )
        if outputs.count(output) > 1:
            raise InputError(f"two input files would both make {output}: rename one of them")
    return tasks


def prediction_analysis(config: PredictConfig, recipe: Recipe) -> PreprocessConfig:
    """Return the run's analysis as the prediction path reads it, with the asked-for samples."""
    raw = dict(recipe.analysis)
    known = {
        name: item
        for item in raw.get("prediction_samples") or []
        for name in [
            str(item.get("sample", next(iter(item)))) if isinstance(item, Mapping) else str(item)
        ]
    }
    names = list(config.sample_names) or list(known)
    if not names and config.input_path:
        suffix = config.input_filename_template.split("{sample_name}")[-1]
        folder = project_path(config.input_path)
        names = sorted(p.name.removesuffix(suffix) for p in folder.glob(f"*{suffix}"))
    if not names:
        raise RunError("the run's analysis names no prediction samples: give sample_names=[...]")
    raw["input_samples"] = [known.get(name, name) for name in names]
    described = raw.get("samples") or {}
    raw["samples"] = {name: described[name] for name in names if name in described}
    raw["for_training"], raw["common_cut"], raw["chunk_size"] = False, config.cut, config.chunk_size
    raw["input_branches"] = None  # those of training samples
    if config.source == "ntuples":
        raw["input_path"] = config.input_path or raw["input_path"]
    return load(PreprocessConfig, raw)


def skim_folder(config: PredictConfig, analysis: PreprocessConfig) -> Path:
    """Return the folder of the prediction skims."""
    if config.input_path:
        return project_path(config.input_path)
    if not analysis.skim_path:
        raise InputError("input_path is not set, and the run does not know: name the skims' folder")
    return project_path(analysis.skim_path) / "prediction"


def check_skim(skim: Skim, scorer: Scorer) -> None:
    """Raise InputError where a skim was made with another pipeline, class list or features."""
    recipe, meta = scorer.recipe, skim.metadata
    mine, its = recipe.pipeline["fingerprint"], meta["pipeline"]["fingerprint"]
    if mine != its:
        raise InputError(
            f"{skim.path} was made with the feature pipeline {its[:12]}, run {scorer.run_id} with "
            f"{mine[:12]}: preprocess it again with the run's pipeline"
        )
    names, wanted = [c["name"] for c in meta["classes"]], [c["name"] for c in recipe.classes]
    if names and names != wanted:
        raise InputError(
            f"{skim.path} was made for the classes {', '.join(names)}, run {scorer.run_id} has "
            f"{', '.join(wanted)}"
        )
    identity = list(scorer.analysis.identity_columns)
    if meta["identity"] != identity:
        raise InputError(
            f"{skim.path} identifies events by {', '.join(meta['identity'])}, run {scorer.run_id} "
            f"by {', '.join(identity)}: the leak audit would compare nothing; preprocess it again "
            "with the run's identity"
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


def _check_same_file(file: InputFile, skim: Skim) -> None:
    """Raise InputError where a skim's entry numbers mean other events in the file of today."""
    now = ntuples.fingerprint(ntuples.open_tree(file.path, file.tree))
    for key in ("uuid", "n_entries", "size"):
        if now[key] != file.fingerprint[key]:
            raise InputError(
                f"{file.path} is not the file {skim.path} was made from ({key} {now[key]}, then "
                f"{file.fingerprint[key]}): folds are entry numbers, so preprocess it again"
            )


def _misc(config: PredictConfig, analysis: AnalysisConfig) -> tuple[str, ...]:
    chosen = analysis.misc_features if config.misc_features is None else config.misc_features
    skipped = {*COMPUTED_COLUMNS, *analysis.identity_columns}
    misc = tuple(name for name in chosen if name not in skipped)
    for name in misc:
        if name in (FOLD, TRAINED_ON) or name.startswith(PRED_CLASS):
            raise ConfigError(
                f"misc_features: '{name}' is the name of a branch that predictions make: leave it "
                f"out, or give it another name in derived_features, for example 'old: {name}'"
            )
    return misc


def _without(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k != key}


def _named(config: PredictConfig, sample_name: str) -> str:
    return config.input_filename_template.format(sample_name=sample_name)


def _files(
    config: PredictConfig,
    sample: Sample,
    described: Sequence[tuple[Path, str, Mapping[str, Any], Mapping[str, str]]],
    folder: Path,
) -> tuple[InputFile, ...]:
    files = []
    for code, (path, tree, fingerprint, types) in enumerate(described):
        if config.orig_path is not None:
            name = path.name
            if config.orig_filename_template is not None and len(described) == 1:
                name = config.orig_filename_template.format(sample_name=sample.name)
            path = project_path(config.orig_path) / name
        stem = sample.name if len(described) == 1 else path.stem
        output = folder / config.output_filename_template.format(sample_name=stem)
        if not path.is_file():
            raise InputError(
                f"{path}, the input of sample {sample.name}, is not there: "
                "give its folder as orig_path=..."
            )
        files.append(InputFile(path, tree, fingerprint, types, code, output))
    return tuple(files)


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
        parts = selection.stream(unit) if unit.stop > unit.start else [selection.empty(plan)]
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
    audits: list[folds.LeakAudit] = []
    proofs = []
    with ExitStack() as until_all_are_proved:
        for file in task.files:
            partial = until_all_are_proved.enter_context(complete(file.output))
            audits += _write_friend(task, file, partial)
            proofs.append(prove_alignment(file.path, partial, friend_name=file.output.name))
        audit = folds.merge_audits(audits)
        if not audit.passed:
            raise RunError(f"sample {task.sample.name}: {audit.summary}: it gets no friend trees")
    return FriendResult(task.sample.name, tuple(proofs), audit, tuple(f.output for f in task.files))


def _write_friend(task: FriendTask, file: InputFile, path: Path) -> list[folds.LeakAudit]:
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
        classes=[c["name"] for c in recipe.classes],
        sample=task.sample.name,
    )
    tree_name = task.config.output_tree_name or "pred"
    writer: FriendWriter | None = None
    tree: ntuples.TreeInfo | None = None
    audits = []
    with ExitStack() as stack:
        for rows in rows_of(task, file):
            if len(rows.entry) != rows.stop - rows.start and tree is None:
                tree = ntuples.open_tree(file.path, file.tree)
            branches, audit = _friend_rows(task, file, rows, tree)
            if writer is None:
                types = {name: column.dtype for name, column in branches.items()}
                writer = stack.enter_context(FriendWriter(path, tree_name, types, meta))
            writer.append(branches)
            audits.append(audit)
    return audits


def _copied(task: FriendTask) -> list[str]:
    """Return the misc branches that are copies of the input's: those that nothing clips."""
    analysis = task.scorer.analysis
    features = {*analysis.cont_features, *analysis.cat_features}
    return [n for n in task.misc if n not in analysis.clip or n in features]


def _friend_rows(
    task: FriendTask, file: InputFile, rows: Rows, tree: ntuples.TreeInfo | None
) -> tuple[Columns, folds.LeakAudit]:
    """Return the friend branches of a range of entries, and the audit of its scored rows.

    `tree` is the input tree where a cut removed entries: these get fillers.
    """
    scorer, models = task.scorer, task.scorer.models
    fold = folds.fold_of(models.rule, rows.identity, rows.entry)
    identity = _identity(task, rows.identity, rows.provenance)
    audit = folds.audit_prediction(scorer.trained, identity, fold)
    proba = inference.score(models, rows.matrix, fold, task.n_threads)
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
        fold = folds.fold_of(models.rule, columns, every)
        identity = _identity(task, {n: columns[n] for n in names}, provenance)
    flag = {}
    if models.rule.n_splits == 1:
        flag[TRAINED_ON] = folds.trained_on(scorer.trained[0], identity)
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
    return identities.of_rows(task.scorer.models.rule, columns, provenance, samples, files)


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
