"""Configuration: the keys users may write, their types, and what follows from them.

Every module may import this one; it imports none of them. A configuration arrives as plain
containers (what Hydra composed), and leaves as one frozen, typed object. A key nobody declared is
refused with its nearest relative, unless an interpolation refers to it (a user's own helper key).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

PROJECT = Path(__file__).resolve().parents[1]
"""The project folder: relative paths are relative to it, wherever a script is started."""

TARGET = "target"
"""Column of the true class id in a skim's `targets` group, -1 where it is unknown."""

COMPUTED_COLUMNS = (TARGET, "w_class_imbalance", "w_cp")
"""Columns that preprocessing computes; they may be named among `misc_features`."""

PHYSICS_WEIGHT = "weight"
"""Column of the physics weight in a skim's `weights` group."""

FILLER_CLASS = -1
"""`pred_class` of an entry that a cut removed, and the target of an event of unknown class."""


class PipelineError(Exception):
    """A mistake the user can mend; its text is one line: what is wrong, where, what to do."""


class ConfigError(PipelineError):
    """The configuration says something impossible."""


class InputError(PipelineError):
    """An input file, tree, branch or value is missing or unusable."""


class RunError(PipelineError):
    """An MLflow run, or something it should hold, is missing or unusable."""


class ProofError(PipelineError):
    """A friend tree does not belong to its input, or its scores not to its run."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error text: the known name most like `name`, else the known names."""
    names = sorted(set(map(str, known)))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"nearest: '{close[0]}'"
    if not names:
        return "there are none"
    return "known: " + ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")


def project_path(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one starts at the project folder."""
    return PROJECT / Path(path).expanduser()


def portable(path: Path) -> str:
    """Return `path` relative to the project folder where it is inside, so that both can move."""
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


def slug(name: str) -> str:
    """Return `name` with every character that MLflow or a file system may refuse made `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or "class"


def unique_slugs(names: Iterable[str]) -> list[str]:
    """Return a slug for each name; where two collide the later ones get `_2`, `_3`, ..."""
    taken: set[str] = set()
    slugs = []
    for name in names:
        base = candidate = slug(name)
        count = 1
        while candidate in taken:
            count += 1
            candidate = f"{base}_{count}"
        taken.add(candidate)
        slugs.append(candidate)
    return slugs


# --- what the modules exchange -------------------------------------------------------------------


@dataclass(frozen=True)
class FoldRule:
    """How an event's fold follows from its identity.

    `modulo`: the one column of `columns`, modulo `n_splits`. `hash`: a 64-bit mix of all
    `columns`, modulo `n_splits`. `entry`: the entry number in the input tree, modulo `n_splits`
    (then `columns` is empty).
    """

    kind: Literal["modulo", "hash", "entry"]
    columns: tuple[str, ...]
    n_splits: int


@dataclass(frozen=True)
class Missing:
    """A declared missing value: cells equal to one of `values` become `replace` (NaN by default).

    With `refuse` any such cell is an error instead.
    """

    values: tuple[float, ...]
    replace: float = float("nan")
    refuse: bool = False


@dataclass(frozen=True)
class Process:
    """A part of a sample with its own cut; `class_id` is -1 where no class is known."""

    name: str
    cut: str | None
    class_id: int


@dataclass(frozen=True)
class Sample:
    """One sample to read: its files (paths, globs or lists of paths), tree and processes.

    `weight` is the expression of the physics weight (None: 1) and `factor` multiplies it. `group`
    names the set of samples that share events.
    """

    name: str
    files: tuple[str, ...]
    tree: str
    processes: tuple[Process, ...]
    factor: float = 1.0
    weight: str | None = None
    group: str = ""
    never_trained: bool = False


@dataclass(frozen=True)
class Recipe:
    """All a run needs to be used again: what its models are, and what they were made from.

    analysis: the resolved configuration of the preprocessing. training: that of the training.
    classes: id, name, color, ... in order of ids. features: training features in order.
    pipeline: numbers and fingerprint of the feature pipeline. fold: the fold rule. weight: the
    training weight. models: index, fingerprint, best_iteration. samples: name, group, processes.
    files: fingerprints of the training ntuples. skims: paths of train and test, and where their
    rows come from (`origin`, `test_origin`).
    audit: rows of the leak audit; `audit_passed` sums them up.
    """

    analysis: dict[str, Any]
    training: dict[str, Any]
    classes: tuple[dict[str, Any], ...]
    features: tuple[str, ...]
    pipeline: dict[str, Any]
    fold: FoldRule
    weight: str
    objective: str
    models: tuple[dict[str, Any], ...]
    samples: tuple[dict[str, Any], ...]
    files: tuple[dict[str, Any], ...]
    skims: dict[str, Any]
    audit: tuple[dict[str, Any], ...]
    audit_passed: bool
    format: str = "recipe-1"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        raw = json.loads(text)
        raw["fold"] = FoldRule(
            raw["fold"]["kind"], tuple(raw["fold"]["columns"]), raw["fold"]["n_splits"]
        )
        tuples = ("classes", "features", "models", "samples", "files", "audit")
        return cls(**{**raw, **{name: tuple(raw[name]) for name in tuples}})

    @property
    def class_infos(self) -> tuple[ClassInfo, ...]:
        """The classes in order of their ids."""
        return tuple(
            ClassInfo.model_validate({k: v for k, v in c.items() if k != "id"})
            for c in self.classes
        )


# --- what users write ----------------------------------------------------------------------------


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _as_class_ids(value: object) -> object:
    if isinstance(value, Mapping):
        classes: dict[Any, Any] = {}
        for key, info in value.items():
            class_id = int(key) if str(key).lstrip("-").isdigit() else key
            before = classes.get(class_id)
            # A dotted override, class_to_info.0.color=red, arrives as a second key, the text '0'.
            if isinstance(before, Mapping) and isinstance(info, Mapping):
                info = {**before, **info}
            classes[class_id] = info
        return classes
    return value


def _as_template(value: str) -> str:
    try:
        value.format(sample_name="name")
    except (AttributeError, IndexError, KeyError, ValueError):
        raise ValueError("the one placeholder of a file template is {sample_name}") from None
    return value


Text = Annotated[str, BeforeValidator(_as_text)]
"""A string in which YAML's habit of reading 2018 as a number is undone."""

Template = Annotated[str, AfterValidator(_as_template)]
"""A file name in which `{sample_name}` stands for the name of a sample."""


class Closed(BaseModel):
    """Base of everything users write: a key nobody declared is refused."""

    # Validators are built when first used: no script needs those of all configurations.
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values_as_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `missing: true`, which Python would read as `missing: 1`."""
        if isinstance(value, bool) and info.field_name is not None:
            taken = _types_in(cls.model_fields[info.field_name].annotation)
            if taken & {int, float} and bool not in taken:
                raise ValueError("a number is needed, not true or false")
        return value


def _types_in(annotation: Any) -> set[Any]:
    """Return the plain types a value may have: the members of a union, else the one type."""
    inner = getattr(annotation, "__args__", ())
    if isinstance(annotation, UnionType) or get_origin(annotation) in (Union, Annotated):
        return {t for argument in inner for t in _types_in(argument)}
    return {annotation}


class ClassInfo(Closed):
    """A class: its name and how it is drawn. `bin_size` sets the width of its density's bins."""

    name: Text
    color: str = ""
    alpha: float = Field(0.4, ge=0, le=1)
    bin_size: float | None = Field(None, gt=0)
    label: str | None = None


class FeatureInfo(Closed):
    """How a feature is labelled, and its own declaration of missing values."""

    label: str | None = None
    unit: str | None = None
    missing: float | MissingConfig | None = None


class MissingConfig(Closed):
    """Values that stand for `not measured`, and what becomes of them."""

    values: list[float]
    to: float | Literal["nan", "refuse"] = "nan"

    @model_validator(mode="before")
    @classmethod
    def _one_value(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and isinstance(raw.get("values"), int | float):
            return {**raw, "values": [raw["values"]]}
        return raw


class SampleInfo(Closed):
    """What is special about a sample: its files, tree, weight and event identity.

    `files` are relative to `input_path`: a path, a glob, a `.txt` list of paths, or several.
    `factor` (a number, or a product such as `11467 * 19.6 / 3e7`: cross-section, luminosity and
    generated events) multiplies the physics weight; `weight` replaces its expression. Samples with
    the same `group` share events. `never_trained` declares a sample that no model may train on.
    """

    files: str | list[str] | None = None
    tree: str | None = None
    factor: float | str = 1.0
    weight: str | None = None
    group: str | None = None
    never_trained: bool = False


class SampleEntry(SampleInfo):
    """A sample in long form: its name, processes (for training) and what is special about it."""

    sample: Text
    processes: dict[str, Any] = {}


class ProcessConfig(Closed):
    """A process of a training sample: its selection and class."""

    cut: str | None = None
    class_id: int = Field(alias="class", ge=0)


class ScalerConfig(Closed):
    """Arguments of scikit-learn's StandardScaler."""

    with_mean: bool = True
    with_std: bool = True


class PcaConfig(Closed):
    """Arguments of scikit-learn's PCA."""

    n_components: int | float | None = Field(None, gt=0)
    whiten: bool = False


class EngineConfig(Closed):
    """Where units of work run: `kind` local, serial or dask."""

    kind: Literal["local", "serial", "dask"] = "local"
    n_workers: int | None = Field(None, ge=1)
    address: str | None = None
    cluster: Literal["local", "htcondor", "slurm"] = "local"
    cluster_options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _just_a_name(cls, raw: Any) -> Any:
        return {"kind": raw} if isinstance(raw, str) else raw


class AnalysisConfig(Closed):
    """The description of a channel: the keys an analysis file may hold, for all four stages."""

    analysis_name: Text = "analysis"
    channel: Text = ""
    year: Text = ""
    data_root: str = "data"
    experiment_text: str = ""
    luminosity: float | None = Field(None, gt=0)
    center_of_mass_energy: float | None = Field(None, gt=0)

    # input
    input_path: str = ""
    input_filename_template: Template = "{sample_name}.root"
    input_tree_name: str = ""
    samples: dict[str, SampleInfo] = {}
    training_samples: list[Any] = []
    prediction_samples: list[Any] = []
    cuts: dict[str, str] = {}
    common_cut: str | None = None

    # classes and columns by role
    class_to_info: Annotated[dict[int, ClassInfo], BeforeValidator(_as_class_ids)] = {}
    signal_classes: list[Text] = []
    cont_features: list[str] = []
    cat_features: list[str] = []
    misc_features: list[str] = []
    training_features: list[str] = []
    derived_features: dict[str, str] = {}
    feature_info: dict[str, FeatureInfo] = {}
    profile_features: list[str] = []
    missing: float | MissingConfig | None = None
    clip: dict[str, tuple[float | None, float | None]] = {}

    # identity, folds and weights
    identity: list[str] = ["run", "evt"]
    fold_rule: Literal["modulo", "hash", "entry"] = "modulo"
    xtrain_split_feature: str = "evt"
    n_splits: int = Field(2, ge=1)
    duplicates: Literal["error", "keep_same_fold", "drop_later"] = "keep_same_fold"
    weight: str | None = None
    weight_name: str | None = None
    class_balance: Literal["count", "weight"] = "count"
    negative_weights: Literal["error", "keep", "absolute", "drop", "rescale"] = "error"
    compute_w_CP: bool = False  # noqa: N815  # the users' vocabulary

    # transformation and training
    train_size: float = Field(0.9, gt=0, lt=1)
    seed: int = 1357
    scaler: ScalerConfig | None = None
    pca: PcaConfig | None = None
    pipe_name: str = "pipe"
    skim_path: str = ""
    model_param: dict[str, Any] = {}
    validation: Literal["left_out", "inner"] = "left_out"
    validation_size: float = Field(0.1, gt=0, lt=1)

    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_features(self)
        _check_classes(self)
        return self

    @property
    def tree_name(self) -> str:
        if not self.input_tree_name:
            raise ConfigError("input_tree_name is not set: name the TTree (or RNTuple) to read")
        return self.input_tree_name

    @property
    def classes(self) -> dict[int, ClassInfo]:
        """Classes by id, in order of their ids; empty where the file names none."""
        return dict(sorted(self.class_to_info.items()))

    @property
    def fold(self) -> FoldRule:
        columns = {
            "modulo": (self.xtrain_split_feature,),
            "hash": tuple(self.identity),
            "entry": (),
        }[self.fold_rule]
        return FoldRule(self.fold_rule, columns, self.n_splits)

    @property
    def identity_columns(self) -> tuple[str, ...]:
        """Columns that identify an event, the fold column among them, without repetition."""
        return tuple(dict.fromkeys([*self.identity, *self.fold.columns]))

    def missing_values(self, names: Iterable[str]) -> dict[str, Missing]:
        """Return the declared missing values of those features among `names` that have any."""
        found = {}
        for name in names:
            info = self.feature_info.get(name)
            declared = info.missing if info and info.missing is not None else self.missing
            if declared is None:
                continue
            if not isinstance(declared, MissingConfig):
                declared = MissingConfig(values=[declared])
            to = declared.to
            found[name] = Missing(
                tuple(declared.values),
                replace=to if isinstance(to, float | int) else float("nan"),
                refuse=to == "refuse",
            )
        return found

    def feature_label(self, name: str) -> str:
        """Return `name` as an axis title: its label and unit where the analysis gives them."""
        info = self.feature_info.get(name, FeatureInfo())
        label = info.label or name
        return f"{label} [{info.unit}]" if info.unit else label


def _check_features(config: AnalysisConfig) -> None:
    for role in ("cont_features", "cat_features", "misc_features", "training_features"):
        names = getattr(config, role)
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ConfigError(f"{role} names {', '.join(doubled)} twice: name each once")
    both = sorted(set(config.cont_features) & set(config.cat_features))
    if both:
        raise ConfigError(
            f"{', '.join(both)} is named both in cont_features and in cat_features: choose one"
        )
    for name in config.identity_columns:
        if name in config.derived_features or "[" in name:
            raise ConfigError(
                f"'{name}' identifies events, so it must be a branch of its own in the ntuples: "
                "friend trees hold a copy of it, which is compared bit by bit with the input"
            )
    reserved = sorted(set(COMPUTED_COLUMNS) & {*config.cont_features, *config.cat_features})
    if reserved:
        raise ConfigError(
            f"{', '.join(reserved)} is computed by preprocessing and gives the class away: "
            "it can be in misc_features, never a feature"
        )


def _check_classes(config: AnalysisConfig) -> None:
    ids = list(config.classes)
    if ids and ids != list(range(len(ids))):
        raise ConfigError(f"class_to_info has the ids {ids}: number the classes 0 to n-1")
    names = [info.name for info in config.classes.values()]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise ConfigError(f"class_to_info names {', '.join(doubled)} twice: name each class once")
    for signal in config.signal_classes:
        if signal not in names:
            raise ConfigError(f"signal class '{signal}' is not a class; {nearest(signal, names)}")


class PreprocessConfig(AnalysisConfig):
    """Keys of preprocess.py."""

    for_training: bool = True
    input_samples: list[Any] = []
    input_branches: list[str] | None = None
    output_path: str = ""
    output_filename_template: Template = "{sample_name}.h5"
    output_samples: list[str] = ["train", "test"]
    input_pipe_file: str = ""
    chunk_size: int = Field(32_768, ge=1)

    @model_validator(mode="after")
    def _outputs_differ(self) -> Self:
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
            return (self.output_folder / self.pipe_name).with_suffix(".json")
        if not (self.input_pipe_file or self.skim_path):
            raise ConfigError("input_pipe_file is not set: name the pipeline that training wrote")
        named = self.input_pipe_file or f"{self.skim_path}/training/{self.pipe_name}"
        return project_path(named).with_suffix(".json")

    def skim_file(self, sample_name: str) -> Path:
        return self.output_folder / self.output_filename_template.format(sample_name=sample_name)

    @property
    def read_samples(self) -> tuple[Sample, ...]:
        """The samples to read, with their files, trees, processes and classes.

        Raises ConfigError where a sample is malformed, named twice or its class unknown.
        """
        listed = self.input_samples or (
            self.training_samples if self.for_training else self.prediction_samples
        )
        if not listed:
            raise ConfigError("input_samples is empty: name at least one sample")
        samples = tuple(_sample(self, item) for item in listed)
        names = [s.name for s in samples]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ConfigError(f"input_samples names {', '.join(doubled)} twice: name each once")
        if self.for_training:
            self._refuse_trained_never_trained(samples)
        unknown = sorted(set(self.samples) - set(names) - set(self._groups()))
        if unknown:
            raise ConfigError(
                f"samples describes '{unknown[0]}', which is read nowhere; "
                f"{nearest(unknown[0], names)}"
            )
        return samples

    def _refuse_trained_never_trained(self, samples: Iterable[Sample]) -> None:
        """`never_trained` lifts the protection of entry-number folds: hold users to it."""
        trained = {name for s in samples for name in (s.name, s.group)}
        for item in self.prediction_samples:
            entry = _entry(self, item)
            if entry.never_trained and trained & {entry.sample, entry.group}:
                raise ConfigError(
                    f"prediction_samples.{entry.sample} is declared never_trained, but it (or its "
                    "group) is a training sample: drop never_trained"
                )

    def _groups(self) -> dict[str, str]:
        """Return the group of each sample, by name, of the training and the prediction list.

        Raises ConfigError where the lists disagree: the leak audit would compare nothing.
        """
        groups: dict[str, str] = {}
        for item in [*self.training_samples, *self.prediction_samples]:
            entry = _entry(self, item)
            group = entry.group or entry.sample
            if groups.setdefault(entry.sample, group) != group:
                raise ConfigError(
                    f"sample '{entry.sample}' has the group '{groups[entry.sample]}' in "
                    f"training_samples and '{group}' in prediction_samples: "
                    "give it once, under samples"
                )
        return groups


def _sample(config: PreprocessConfig, item: Any) -> Sample:
    entry = _entry(config, item)
    where = f"input_samples.{entry.sample}"
    if config.for_training:
        if not entry.processes:
            raise ConfigError(f"{where} names no process: give 'process: {{cut: ..., class: 0}}'")
        processes = tuple(
            _process(config, f"{where}.{name}", str(name), raw)
            for name, raw in entry.processes.items()
        )
    else:
        if entry.processes:
            raise ConfigError(
                f"{where} has processes, but for_training is false: "
                "prediction takes a list of sample names"
            )
        processes = (Process(entry.sample, None, FILLER_CLASS),)
    if config.for_training and entry.never_trained:
        raise ConfigError(f"{where} is declared never_trained: it can't be a training sample")
    files = entry.files
    if files is None:
        files = config.input_filename_template.format(sample_name=entry.sample)
    files = [files] if isinstance(files, str) else files
    if not config.input_path and not all(Path(f).is_absolute() for f in files):
        raise ConfigError("input_path is not set: name the folder of the ntuples")
    return Sample(
        name=entry.sample,
        files=tuple(str(project_path(config.input_path) / Path(f).expanduser()) for f in files),
        tree=entry.tree or config.tree_name,
        processes=processes,
        factor=_number(entry.factor, f"{where}.factor"),
        weight=entry.weight or config.weight,
        group=entry.group or entry.sample,
        never_trained=entry.never_trained,
    )


def _entry(config: PreprocessConfig, item: Any) -> SampleEntry:
    """Return one item of `input_samples` in its long form, joined with what `samples` says."""
    if isinstance(item, Mapping) and isinstance(item.get("sample"), str | int):
        raw = dict(item)
    elif isinstance(item, Mapping) and len(item) == 1:
        [(name, processes)] = item.items()
        if not isinstance(processes, Mapping | None):
            raise ConfigError(f"input_samples.{name} is not '{{process: {{cut: ..., class: 0}}}}'")
        raw = {"sample": name, "processes": processes or {}}
    elif isinstance(item, Mapping):
        raise ConfigError(
            f"input_samples: {sorted(map(str, item))} is not one sample: "
            "start each with its own '-'"
        )
    else:
        raw = {"sample": item}
    described = config.samples.get(str(raw["sample"]))
    if described is not None:
        raw = {**described.model_dump(exclude_unset=True), **raw}
    try:
        return SampleEntry.model_validate(raw)
    except ValidationError as error:
        where = f"input_samples.{raw['sample']}"
        raise ConfigError(_one_line(error, SampleEntry, prefix=where)) from None


def _number(value: float | str, where: str) -> float:
    """Return a number written as such or as a product and quotient, e.g. `11467 * 19.6 / 3e7`."""
    if not isinstance(value, str):
        return float(value)
    parts = re.split(r"\s*([*/])\s*", value.strip())
    try:
        result = float(parts[0])
        for operator, number in zip(parts[1::2], parts[2::2], strict=True):
            result = result * float(number) if operator == "*" else result / float(number)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"{where}: '{value}' is not a product or quotient of numbers") from None
    return result


def _process(config: PreprocessConfig, where: str, name: str, raw: Any) -> Process:
    try:
        parsed = ProcessConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_one_line(error, ProcessConfig, prefix=where)) from None
    if config.class_to_info and parsed.class_id not in config.class_to_info:
        raise ConfigError(
            f"{where}.class is {parsed.class_id}, which class_to_info does not name; "
            f"known: {', '.join(map(str, config.classes))}"
        )
    return Process(name, parsed.cut, parsed.class_id)


class TrainConfig(AnalysisConfig):
    """Keys of train.py.

    `train_metric_every`: boosting rounds between evaluations of the training set, which cost a
    third of a round each; by default a twentieth of `num_iterations`.
    """

    train_file: str = ""
    test_file: str = ""
    experiment_name: Text | None = None
    run_name: Text | None = None
    train_metric_every: int | None = Field(None, ge=1)

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

    run_id: Text
    experiment_id: Text | None = None
    year: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _spelled_out_none(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            return {k: (None if v in ("None", "null", "") else v) for k, v in raw.items()}
        return raw


class PredictConfig(RunStageConfig):
    """Keys of predict.py."""

    kind: Literal["for_datacards", "for_evaluation"]
    source: Literal["skims", "ntuples"] = "skims"
    sample_names: list[Text] = []
    misc_features: list[str] | None = None
    input_path: str | None = None
    input_filename_template: Template = "{sample_name}.h5"
    orig_path: str | None = None
    orig_filename_template: Template | None = None
    output_path: str | None = None
    output_filename_template: Template = "{sample_name}_pred.root"
    output_tree_name: str | None = None
    cut: str | None = None
    double_precision: bool = False
    chunk_size: int = Field(32_768, ge=1)
    engine: EngineConfig = EngineConfig()


class EvaluateConfig(RunStageConfig):
    """Keys of evaluate.py."""

    dataset: Text = "test"
    against: Text | None = None
    class_to_info: Annotated[dict[int, ClassInfo] | None, BeforeValidator(_as_class_ids)] = None
    experiment_text: str | None = None
    stacked: bool = False
    sections: list[Text] | None = None
    n_bootstrap: int = Field(200, ge=2)
    seed: int = 1357


# --- from what Hydra composed to a typed object --------------------------------------------------

C = TypeVar("C", bound=BaseModel)


def load(model: type[C], raw: Mapping[str, Any], referred: Iterable[str] = ()) -> C:
    """Return the composed configuration `raw` as a typed `model`.

    `raw` is plain and resolved. `referred` names top-level keys that interpolations refer to:
    such helper keys are left out when the model does not declare them; any other undeclared key
    is refused. Raises ConfigError, in one line that names the key.
    """
    helpers = undeclared_keys(model, raw, referred)
    given = {str(k): v for k, v in raw.items() if k not in helpers}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_one_line(error, model)) from None


def undeclared_keys(
    model: type[BaseModel], raw: Mapping[str, Any], referred: Iterable[str]
) -> set[str]:
    """Return the helper keys of `raw`: undeclared, but referred to by interpolations.

    Raises ConfigError for an undeclared key that nothing refers to.
    """
    known = {field.alias or name for name, field in model.model_fields.items()}
    undeclared = {str(key) for key in raw} - known
    for key in sorted(undeclared - set(referred)):
        raise ConfigError(f"unknown key '{key}'; {nearest(key, known)}")
    return undeclared


def _one_line(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    details = error.errors(include_url=False)
    # An undeclared key explains other complaints (a misspelt mandatory key), so it goes first.
    first = min(details, key=lambda d: d["type"] != "extra_forbidden")
    path = [str(p) for p in first["loc"] if not _is_union_tag(p)]
    where = ".".join(filter(None, [prefix, *path]))
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        return f"unknown key '{where}'; {nearest(path[-1], known)}"
    if first["type"] == "missing":
        return f"{where} is not set and has no default: add {where}=..."
    given = json.dumps(first["input"], default=str)
    given = given if len(given) < 80 else given[:77] + "..."
    return f"{where}: {first['msg']}, got {given}"


def _is_union_tag(part: int | str) -> bool:
    return isinstance(part, str) and bool(re.fullmatch(_TAG, part))


# pydantic names the member of a union between the keys: of a user's own names none looks like it.
_TAG = (
    r"float|int|str|list|dict|bool|(literal|list|dict|tuple|function-\w+|constrained-\w+)\[.*\]"
    r"|MissingConfig"
)


def _keys_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys declared where `path` leads from `model`."""
    for part in path:
        names = {f.alias or n: f for n, f in model.model_fields.items()}
        if part in names:
            inner = list(_models_in(names[part].annotation))
            if not inner:
                return []
            model = inner[0]
    return [f.alias or n for n, f in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
