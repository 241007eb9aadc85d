"""The keys of each stage, beyond those of the analysis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from utils.schema.analysis import AnalysisConfig
from utils.schema.basics import (
    DEFAULT_KIND,
    LABELLED,
    ConfigError,
    pipeline_path,
    project_path,
    skim_name,
)
from utils.schema.exchange import Sample
from utils.schema.parts import (
    Closed,
    EngineConfig,
    FeatureInfo,
    SampleName,
    Template,
    Text,
    as_class_ids,
)
from utils.schema.samples import alternatives_of, check_restrictions, samples_to_read


class PreprocessConfig(AnalysisConfig):
    """Keys of preprocess.py.

    `force`: do again what is done already and has not changed.
    """

    check: bool = Field(False, exclude=True)
    """Only tell what the command would do, from headers and a sample of entries."""
    for_training: bool = True
    """Whether skims are for training (train and test) or prediction."""
    input_samples: list[Any] = []
    """Samples to read instead of those of the analysis."""
    input_branches: list[str] | None = None
    """Branches that files must have, whether used or not."""
    output_path: str = ""
    """The folder the skims go to; none: by `skim_path`."""
    output_filename_template: Template = "{sample_name}.h5"
    """The name of a skim's file."""
    output_samples: list[SampleName] = ["train", "test"]
    """The names of the two training skims."""
    input_pipe_file: str = ""
    """The feature pipeline of a prediction; none: by `skim_path`."""
    chunk_size: int = Field(24_576, ge=1)
    """Entries in memory at a time, for each unit of work."""
    force: bool = Field(False, exclude=True)
    """Whether what is done already and has not changed is done again."""

    @model_validator(mode="after")
    def _outputs_differ(self) -> Self:
        if LABELLED in self.output_samples:
            raise ConfigError(
                f"output_samples: '{LABELLED}' is the skim of the samples of role: test"
            )
        if self.for_training and len(set(self.output_samples)) != 2:
            raise ConfigError(
                f"output_samples is {self.output_samples}: name two, for train and test"
            )
        if "{sample_name" not in self.output_filename_template:
            raise ConfigError(
                f"output_filename_template is {self.output_filename_template}: with no "
                "{sample_name} in it every skim would replace the one before"
            )
        return self

    @property
    def output_folder(self) -> Path:
        if not (self.output_path or self.skim_path):
            raise ConfigError("output_path is not set: name the folder the skims go to")
        kind = "training" if self.for_training else "prediction"
        return project_path(self.output_path or f"{self.skim_path}/{kind}")

    @property
    def pipe_file(self) -> Path:
        """The file of the fitted feature pipeline: written for training, read for prediction."""
        if self.for_training:
            return pipeline_path(self.output_folder / self.pipe_name)
        if not (self.input_pipe_file or self.skim_path):
            raise ConfigError("input_pipe_file is not set: name the pipeline that training wrote")
        named = self.input_pipe_file or f"{self.skim_path}/training/{self.pipe_name}"
        return pipeline_path(project_path(named))

    def skim_file(self, sample_name: str) -> Path:
        return self.output_folder / skim_name(self.output_filename_template, sample_name)

    @property
    def read_samples(self) -> tuple[Sample, ...]:
        """The samples to read, with their files, trees, processes and classes.

        Raises ConfigError where a sample is malformed, named twice or its class unknown.
        """
        listed = self.input_samples or (
            self.training_samples if self.for_training else self.prediction_samples
        )
        check_restrictions(self, listed)
        return samples_to_read(self, listed, self.for_training)

    @property
    def alternative_samples(self) -> tuple[Sample, ...]:
        """The samples that variations put in the place of training samples, to be tested on."""
        return alternatives_of(self, self.read_samples) if self.for_training else ()


_NUM_THREADS = frozenset(("num_threads", "num_thread", "nthread", "nthreads", "n_jobs"))
"""LightGBM's names of its number of threads, which is one for the whole process."""


class TrainConfig(AnalysisConfig):
    """Keys of train.py.

    `model_kind`: the kind of model that `model_param` are parameters of, set by model=...
    `resume`: a run to go on with, which all other keys come from; `force` trains its folds again.
    """

    check: bool = Field(False, exclude=True)
    """Only tell what the command would do, from headers and a sample of entries."""
    model_kind: Text = DEFAULT_KIND
    """The kind of model that `model_param` are parameters of, set by `model=...`."""
    train_file: str = ""
    """The skim to train on; none: by `skim_path`."""
    test_file: str = ""
    """The test skim; none: that which was made with the train skim."""
    experiment_name: Text | None = None
    """The MLflow experiment of the run."""
    run_name: Text | None = None
    """What the run is called; none: channel, year and kind of model."""
    train_metric_every: int | None = Field(None, ge=1)
    """Iterations between evaluations of the training rows where these cost time; none: 1."""
    resume: Text | None = Field(None, exclude=True)
    """A run to go on with, which all other keys come from."""
    force: bool = Field(False, exclude=True)
    """Whether what is done already and has not changed is done again."""

    @model_validator(mode="before")
    @classmethod
    def _threads_of_the_engine(cls, raw: Any) -> Any:
        """Take `model_param.num_threads` for what it bounds: the threads of the whole command."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("model_param"), Mapping):
            return raw
        model_param, engine = dict(raw["model_param"]), raw.get("engine") or {}
        given = {name: model_param.pop(name) for name in _NUM_THREADS & model_param.keys()}
        bounds = {value for value in given.values() if value is not None and value not in (0, -1)}
        engine = {"kind": engine} if isinstance(engine, str) else engine
        if bounds and isinstance(engine, Mapping):
            bounds |= {engine["n_workers"]} if engine.get("n_workers") is not None else set()
            if len(bounds) > 1:
                raise ConfigError(
                    f"model_param.num_threads and engine.n_workers bound the same threads, and "
                    f"are {' and '.join(map(str, sorted(bounds)))}: give one of them"
                )
            engine = {**engine, "n_workers": bounds.pop()}
        return {**raw, "model_param": model_param, "engine": engine}

    @property
    def features(self) -> tuple[str, ...]:
        """Training features in order: `training_features`, else all continuous and categorical."""
        return tuple(self.training_features or [*self.cont_features, *self.cat_features])

    @property
    def skim_file(self) -> Path:
        if not (self.train_file or self.skim_path):
            raise ConfigError("train_file is not set: name the training skim")
        return project_path(self.train_file or f"{self.skim_path}/training/train.h5")


class RunStageConfig(Closed):
    """Keys that predict.py and evaluate.py share: they find everything else in the run."""

    check: bool = Field(False, exclude=True)
    """Only tell what the command would do, from headers and a sample of entries."""
    run_id: Text
    """The run, by its id; `last` is the newest one trained in this project folder."""
    experiment_id: Text | None = None
    """The run's experiment, which is checked where it is given."""
    year: Text = ""
    """The run's year, which is checked where it is given."""

    @model_validator(mode="before")
    @classmethod
    def _spelled_out_none(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            return {k: (None if v in ("None", "null", "") else v) for k, v in raw.items()}
        return raw


Compression = Literal["ZSTD", "ZLIB", "LZ4", "LZMA", "none"]
"""How a ROOT file may be compressed: ZSTD needs ROOT 6.20 or later, or uproot with zstandard."""


class PredictConfig(RunStageConfig):
    """Keys of predict.py.

    `preprocess_cfg` is the preprocessing file that a predict file may compose, to take values from
    by interpolation; its feature lists, there or at top level, have to be those of the run.
    `analysis_file` (on the command line `analysis`) names an analysis, of whose variations (and the
    samples they are declared for) there are scores instead of the run's; all else stays the run's.
    """

    analysis_file: Text | None = None
    """An analysis of whose variations there are scores, instead of the run's (`analysis=FILE`)."""

    preprocess_cfg: dict[str, Any] = {}
    """A composed preprocessing file, to take values from by interpolation."""
    cont_features: list[str] | None = None
    """Continuous features, which are checked to be the run's."""
    cat_features: list[str] | None = None
    """Categorical features, which are checked to be the run's."""
    kind: Text
    """What is made: `for_datacards` (friend trees) or `for_evaluation` (tables)."""
    source: Literal["skims", "ntuples"] = "skims"
    """Whether prediction skims or the ntuples themselves are read."""
    sample_names: list[SampleName] = []
    """What to predict; none: all prediction samples, or train and test."""
    misc_features: list[str] | None = None
    """Columns to copy, instead of those of the analysis."""
    input_path: str | None = None
    """The folder of the skims (or ntuples), instead of the run's."""
    input_filename_template: Template = "{sample_name}.h5"
    """The name of a sample's skim."""
    orig_path: str | None = None
    """The folder of the ntuples that skims were made of, if it moved."""
    orig_filename_template: Template | None = None
    """The name of a sample's ntuple."""
    output_path: str | None = None
    """The folder of the friend trees; none: `friends/RUN_ID` beside the skims."""
    output_filename_template: Template = "{sample_name}_pred.root"
    """The name of a friend tree's file."""
    output_tree_name: str | None = None
    """The name of the friend tree; none: `pred`."""
    output_branch_prefix: Text | None = None
    """What stands before the names of the branches that predictions make."""
    output_compression: Compression = "ZSTD"
    """How friend trees are compressed; ZSTD is the smallest and fastest."""
    cut: str | None = None
    """Entries that it removes get fillers."""
    double_precision: bool = False
    """Whether probabilities are written as float64 instead of float32."""
    chunk_size: int = Field(24_576, ge=1)
    """Entries in memory at a time, for each unit of work."""
    force: bool = Field(False, exclude=True)
    """Whether what is done already and has not changed is done again."""
    engine: EngineConfig = EngineConfig()
    """Where the work runs, and on how many cores."""


class EvaluateConfig(RunStageConfig):
    """Keys of evaluate.py.

    `class_to_info` changes what it names of the run's classes, `feature_info` labels and units.
    Where these and other keys that an analysis has too are left out, they are as in the run.
    """

    dataset: Text = "test"
    """The logged table to evaluate."""
    against: Text | None = None
    """Another run, scored on the same events, to compare with."""
    class_to_info: Annotated[dict[int, dict[str, Any]] | None, BeforeValidator(as_class_ids)] = None
    """What is changed of the run's classes: names, colours, labels."""
    feature_info: dict[str, FeatureInfo] | None = None
    """What is changed of the labels and units of features."""
    experiment_text: str | None = None
    """The text on figures, instead of the analysis's."""
    luminosity: float | None = Field(None, gt=0)
    """The integrated luminosity, in fb^-1, instead of the run's."""
    reference_luminosity: float | None = Field(None, gt=0)
    """The luminosity that the weights stand for, in fb^-1, instead of the run's."""
    center_of_mass_energy: float | None = Field(None, gt=0)
    """The centre-of-mass energy on figures, in TeV, instead of the run's."""
    signal_classes: list[Text] | None = None
    """The names of the classes that are signal, instead of the run's."""
    background_uncertainty: float | None = Field(None, ge=0)
    """The relative uncertainty of the background in significances, instead of the run's."""
    stacked: bool = False
    """Whether score densities are drawn stacked as well."""
    sections: list[Text] | None = None
    """The parts to make (docs/metrics.md); none: all."""
    n_bootstrap: int = Field(200, ge=2)
    """Bootstrap replicates of the intervals."""
    seed: int = 1357
    """The seed of bootstraps and permutations."""
    force: bool = Field(False, exclude=True)
    """Whether what is done already and has not changed is done again."""
    engine: EngineConfig = EngineConfig()
    """How many cores compute, by `engine.n_workers`."""

    @model_validator(mode="after")
    def _computed_here(self) -> Self:
        if self.engine.kind == "dask":
            raise ConfigError("evaluate.py computes in its own process: leave engine=dask out")
        return self
