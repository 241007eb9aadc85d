"""Friend trees: one for every input file, row i for entry i, each proved before it has its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utils.columns.arrays import Columns, Floats
from utils.formats.friend_proof import Proof, prove_alignment
from utils.formats.friends import FOLD, FriendWriter, friend_metadata, score_columns
from utils.formats.runs import Run
from utils.schema import ConfigError, InputError, PredictConfig, portable, project_path
from utils.stages.prediction.inputs import InputFile, InputSample, input_samples
from utils.stages.prediction.outputs import Outcome, Scored, Task
from utils.stages.prediction.rows import InputRows, RowSource
from utils.stages.prediction.scorer import Scorer
from utils.system.files import complete


class FriendTrees:
    """Friend trees in a folder of the user's, which go to the run as well."""

    name = "friends"

    def __init__(self, config: PredictConfig, scorer: Scorer) -> None:
        self.datasets: Sequence[str] = config.sample_names
        self._config, self._scorer = config, scorer

    def tasks(self, _: Path, n_threads: int) -> list[Task]:
        scorer = replace(self._scorer, n_threads=n_threads)
        tasks, all_trees = [], []
        for sample in input_samples(self._config, scorer):
            trees = [FriendTree(self._config, sample, f, self._folder) for f in sample.files]
            tasks.append(Task(f"sample {sample.name}", scorer, trees))
            all_trees += trees
        _check_paths(all_trees)
        return tasks

    @property
    def _folder(self) -> Path:
        """The folder of the friend trees: as configured, else beside the skims, by run."""
        if self._config.output_path:
            return project_path(self._config.output_path)
        skim_path = self._scorer.analysis.skim_path
        if not skim_path:
            raise ConfigError("output_path is not set: name the folder the friend trees go to")
        return project_path(skim_path).parent / "friends" / self._scorer.run_id

    def summary(self, n_outputs: int) -> str:
        return f"Wrote {n_outputs} friend trees to {self._folder} and logged them under pred/"

    def next_commands(self, run: Run, prefix: str) -> Sequence[str]:
        return [
            "Next: add the trees as friends, or prove any of them again:",
            f"  {prefix}python -m utils.proof INPUT.root FRIEND.root --scores {run.run_id}",
        ]


def _check_paths(trees: Sequence[FriendTree]) -> None:
    """Raise an error where a friend tree would replace an input file or another friend tree."""
    inputs, outputs = {tree.file.path.resolve() for tree in trees}, [tree.path for tree in trees]
    for output in outputs:
        if output.resolve() in inputs:
            raise ConfigError(
                f"the friend tree {output} would replace an input file: give another output_path "
                "or output_filename_template"
            )
        if outputs.count(output) > 1:
            raise InputError(f"two input files would both make {output}: rename one of them")


@dataclass(frozen=True)
class FriendTree:
    """The friend tree of a file of a sample, to be written to `folder`."""

    config: PredictConfig
    sample: InputSample
    file: InputFile
    folder: Path

    @property
    def source(self) -> RowSource:
        return self.file.source

    @property
    def path(self) -> Path:
        stem = self.sample.name if len(self.sample.files) == 1 else self.file.path.stem
        return self.folder / self.config.output_filename_template.format(sample_name=stem)

    @contextmanager
    def written(self, scorer: Scorer, scored: Iterable[Scored]) -> Iterator[Outcome]:
        name, metadata = self.config.output_tree_name or "pred", self._metadata(scorer)
        with complete(self.path) as partial:
            with ExitStack() as stack:
                writer = None
                for rows, scores in scored:
                    branches = self._branches(scorer, rows, scores)
                    if writer is None:
                        types = {name: column.dtype for name, column in branches.items()}
                        writer = FriendWriter(partial, name, types, metadata)
                        stack.enter_context(writer)
                    writer.append(branches)
            proof = prove_alignment(self.file.path, partial, friend_name=self.path.name)
            yield self._outcome(proof)

    def _metadata(self, scorer: Scorer) -> dict[str, Any]:
        return friend_metadata(
            input_file=self.file.fingerprint,
            run_id=scorer.run_id,
            models=scorer.models.fingerprints,
            rule=scorer.models.rule,
            identity=scorer.analysis.identity_columns,
            misc=self.sample.misc,
            probabilities=scorer.probability_names,
            cut=self.sample.cut,
            classes=[c.name for c in scorer.recipe.classes],
            sample=self.sample.name,
        )

    def _branches(self, scorer: Scorer, rows: InputRows, scores: Floats) -> Columns:
        return {
            **rows.groups["identity"],
            **rows.groups["misc_features"],
            FOLD: rows.fold,
            **scorer.trained_flag(rows),
            **score_columns(scores, scorer.probability_names, self.config.double_precision),
        }

    def _outcome(self, proof: Proof) -> Outcome:
        name = self.path.name
        entry = {
            "friend": name,
            "path": portable(self.path),
            "input": proof.input_path.name,
            "n_entries": proof.n_entries,
            "n_scored": proof.n_scored,
            "identity": list(proof.identity),
            "notes": list(proof.notes),
        }
        said = f"{name}: {proof.n_entries} entries, {proof.n_scored} scored, proved row by row"
        return Outcome({name: self.path}, entry, [said, *(f"  note: {n}" for n in proof.notes)])
