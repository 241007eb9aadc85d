"""Friend trees: one for every input file, row i for entry i, each proved before it has its name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from utils.columns.arrays import Columns
from utils.formats import ntuples
from utils.formats.friend_proof import Proof, prove_alignment
from utils.formats.friends import (
    BranchNames,
    FriendWriter,
    branch_names,
    check_branch,
    friend_metadata,
    friend_stems,
    score_columns,
)
from utils.formats.runs import Run
from utils.schema import ConfigError, InputError, PredictConfig, portable, project_path
from utils.stages.prediction.inputs import InputFile, InputSample, input_samples
from utils.stages.prediction.outputs import Moved, Outcome, Scored, Task
from utils.stages.prediction.rows import RowSource
from utils.stages.prediction.scorer import Scorer
from utils.system.files import complete, discard_abandoned

log = logging.getLogger(__name__)


class FriendTrees:
    """Friend trees in a folder of the user's, which go to the run as well."""

    name = "friends"

    def __init__(self, config: PredictConfig, scorer: Scorer) -> None:
        self.datasets: Sequence[str] = config.sample_names
        self._config, self._scorer = config, scorer

    def tasks(self, _: Path) -> list[Task]:
        tasks, all_trees = [], []
        scorer = self._scorer
        prefix = self._config.output_branch_prefix or ""
        names = branch_names(scorer.models.n_classes, prefix)
        samples = input_samples(self._config, scorer)
        for name in [*names.all, *samples[0].misc, *scorer.analysis.identity_columns]:
            check_branch(name, "a friend tree")
        _tell_of_hidden(samples, names)
        for sample in samples:
            stems = friend_stems(sample.name, [f.path for f in sample.files])
            trees = [
                FriendTree(self._config, sample, file, names, self.folder, self._template(stem))
                for file, stem in zip(sample.files, stems, strict=True)
            ]
            tasks.append(Task(f"sample {sample.name}", scorer, trees))
            all_trees += trees
        _check_paths(all_trees)
        discard_abandoned(*{tree.path.parent for tree in all_trees})
        return tasks

    @property
    def folder(self) -> Path:
        """The folder of the friend trees: as configured, else beside the skims, by run."""
        if self._config.output_path:
            return project_path(self._config.output_path)
        skim_path = self._scorer.analysis.skim_path
        if not skim_path:
            raise ConfigError("output_path is not set: name the folder the friend trees go to")
        return project_path(skim_path).parent / "friends" / self._scorer.run_id

    def _template(self, stem: str) -> PurePath:
        return PurePath(self._config.output_filename_template.format(sample_name=stem))

    def summary(self, n_outputs: int) -> str:
        return f"Wrote {n_outputs} friend trees to {self.folder} and logged them under pred/"

    def next_commands(self, run: Run, prefix: str) -> Sequence[str]:
        return [
            "Next: add the trees as friends, or prove any of them again:",
            f"  {prefix}python -m utils.proof INPUT.root FRIEND.root --scores {run.run_id}",
        ]


def _check_paths(trees: Sequence[FriendTree]) -> None:
    """Raise an error where a friend tree would replace an input file or another friend tree."""
    paths = [tree.file.path for tree in trees]
    inputs, names = {p.resolve() for p in paths if isinstance(p, Path)}, [t.name for t in trees]
    for tree in trees:
        if tree.path.resolve() in inputs:
            raise ConfigError(
                f"the friend tree {tree.path} would replace an input file: give another "
                "output_path or output_filename_template"
            )
        if names.count(tree.name) > 1:
            raise InputError(
                f"two input files would both make {tree.path}: let output_filename_template have "
                "{sample_name} in it, or name the samples otherwise"
            )


def _tell_of_hidden(samples: Sequence[InputSample], names: BranchNames) -> None:
    """Say which branches of friend trees the input's own hide; a sample's files are alike."""
    hidden: dict[str, str] = {}
    for sample in samples:
        file = sample.files[0]
        tree = ntuples.open_tree(file.path, file.fingerprint["tree"])
        known = {*tree.branches, *tree.unreadable, *tree.shared}
        hidden |= {name: file.path.name for name in names.all if name in known}
    if hidden:
        log.warning(
            "Warning: inputs (%s) have branches named %s themselves, which ROOT reads unless the "
            "friend's name stands in front (pred.%s): output_branch_prefix=ml_ names the friend's "
            "ml_%s",
            ", ".join(dict.fromkeys(hidden.values())),
            ", ".join(hidden),
            *[next(iter(hidden))] * 2,
        )


@dataclass(frozen=True)
class FriendTree:
    """The friend tree of a file of a sample, its branches and where it is to be: in `folder`."""

    config: PredictConfig
    sample: InputSample
    file: InputFile
    names: BranchNames
    folder: Path
    template: PurePath

    @property
    def source(self) -> RowSource:
        return self.file.source

    @property
    def path(self) -> Path:
        return self.folder / self.template

    @property
    def lasting(self) -> Sequence[Path]:
        return [self.path]

    @property
    def name(self) -> str:
        """The name in the run: with the folders of the template, as long as these lead inwards."""
        path = self.template
        return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()

    @contextmanager
    def written(self, scorer: Scorer, scored: Iterable[Scored]) -> Iterator[Outcome]:
        tree, metadata = self.config.output_tree_name or "pred", self._metadata(scorer)
        moved = Moved()
        with complete(self.path) as partial:
            with ExitStack() as stack:
                writer = None
                for part in scored:
                    moved.add(part)
                    branches = self._branches(scorer, part)
                    if writer is None:
                        types = {name: column.dtype for name, column in branches.items()}
                        writer = FriendWriter(
                            partial, tree, types, metadata, self.config.output_compression
                        )
                        stack.enter_context(writer)
                    writer.append(branches)
            proof = prove_alignment(self.file.path, partial, friend_name=self.path.name)
            yield self._outcome(proof, moved)

    def _metadata(self, scorer: Scorer) -> dict[str, Any]:
        alternative = self.sample.alternative
        return friend_metadata(
            input_file=self.file.fingerprint,
            run_id=scorer.run_id,
            models=scorer.models.fingerprints,
            rule=scorer.models.rule,
            identity=scorer.analysis.identity_columns,
            misc=self.sample.misc,
            names=self.names,
            cut=self.sample.cut,
            classes=[c.name for c in scorer.recipe.classes],
            sample=self.sample.name,
            **({"shifts": list(self.file.shifts)} if self.file.shifts else {}),
            **({"alternative": dict(alternative)} if alternative else {}),
        )

    def _branches(self, scorer: Scorer, scored: Scored) -> Columns:
        rows, double = scored.rows, self.config.double_precision
        branches = {
            **rows.groups["identity"],
            **rows.groups["misc_features"],
            self.names.fold: rows.fold,
            **scorer.trained_flag(rows, self.names.trained_on),
            **score_columns(scored.scores, self.names, double),
        }
        for suffix, scores in scored.shifted.items():
            branches |= score_columns(scores, self.names.shifted(suffix), double)
        return branches

    def _outcome(self, proof: Proof, moved: Moved) -> Outcome:
        name = self.name
        entry = {
            "friend": name,
            "path": portable(self.path),
            "input": proof.input_path.name,
            "n_entries": proof.n_entries,
            "n_scored": proof.n_scored,
            "identity": list(proof.identity),
            "notes": [*proof.notes, *moved.notes],
            **({"moved": dict(moved.n_rows)} if moved.n_rows else {}),
        }
        n_scored = f"{proof.n_scored} scored"
        if proof.shifts:
            n_scored += f", nominal and under {len(proof.shifts)} shifts"
        said = [f"{name}: {proof.n_entries} entries, {n_scored}, proved row by row"]
        said += [f"  note: {note}" for note in (*proof.notes, *moved.notes)]
        return Outcome({name: self.path}, entry, said)
