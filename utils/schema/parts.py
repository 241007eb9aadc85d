"""Parts of a configuration: what may stand inside the keys of an analysis or a stage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from string import Formatter
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)


def as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def as_class_ids(value: object) -> object:
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


def is_empty(value: object) -> bool:
    """Say that a key at its default is not stored, as before there was one."""
    return not value


def _as_template(value: str) -> str:
    try:
        parts = [tuple(part[1:]) for part in Formatter().parse(value)]
    except ValueError:
        parts = [()]
    # With nothing behind the name: a width could make a text of gigabytes.
    if set(parts) - {("sample_name", "", None), (None, None, None)}:
        raise ValueError("the one placeholder of a file template is {sample_name}")
    return value


def _as_sample_name(value: str) -> str:
    if set(value.split("/")) & {"", ".", ".."} or not value.isprintable():
        raise ValueError("a sample's name becomes the name of files, so it can't lead elsewhere")
    return value


_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def _seconds(value: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)\s*([a-z]*)", value.strip()).groups()  # type: ignore[union-attr]
    return float(number) * _SECONDS[unit]


def _as_duration(value: str | None) -> str | None:
    try:
        if value is not None and not _seconds(value) > 0:
            raise ValueError
    except (AttributeError, KeyError, ValueError):
        raise ValueError("a duration is seconds, or a number with s, min, h or d") from None
    return value


Text = Annotated[str, BeforeValidator(as_text)]
"""A string in which YAML's habit of reading 2018 as a number is undone."""

SampleName = Annotated[str, BeforeValidator(as_text), AfterValidator(_as_sample_name)]
"""A sample's name, which becomes the name of files: no part of it leads to another folder."""

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
            taken = types_in(cls.model_fields[info.field_name].annotation)
            if {int, float} & {*taken} and bool not in taken:
                raise ValueError("a number is needed, not true or false")
        return value


def types_in(annotation: Any) -> tuple[Any, ...]:
    """Return the types a value may have beside None: the members of a union, else the one type."""
    if get_origin(annotation) is Annotated:
        return types_in(get_args(annotation)[0])
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        members = [t for member in get_args(annotation) for t in types_in(member)]
        return tuple(t for t in members if t is not NoneType)
    return (annotation,)


class ClassInfo(Closed):
    """A class: its name and how it is drawn. `bin_size`: the least width of its density's bins."""

    name: Text
    """The class's name."""
    color: str = ""
    """Its colour, as CSS writes one."""
    alpha: float = Field(0.4, ge=0, le=1)
    """How opaque its densities are filled."""
    bin_size: float | None = Field(None, gt=0)
    """The width of the bins of its score density; several in one where events are few."""
    label: str | None = None
    """What figures call it; none: its name."""


def classes_as_rows(classes: Iterable[ClassInfo]) -> list[dict[str, Any]]:
    """Return classes, in order of their ids, as a skim and a run store them."""
    return [{"id": i, **info.model_dump(mode="json")} for i, info in enumerate(classes)]


def classes_of_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[ClassInfo, ...]:
    """Return the classes, in order of their ids, that `classes_as_rows` gave `rows`.

    Raises ValueError where a row is something else.
    """
    return tuple(
        ClassInfo.model_validate({k: v for k, v in row.items() if k != "id"}) for row in rows
    )


class MissingConfig(Closed):
    """Values that stand for `not measured`, and what becomes of them."""

    values: list[float]
    """The values that mean `not measured`."""
    to: float | Literal["nan", "refuse"] = "nan"
    """What replaces them in features: a number, NaN, or a refusal."""

    @model_validator(mode="before")
    @classmethod
    def _one_value(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and isinstance(raw.get("values"), int | float):
            return {**raw, "values": [raw["values"]]}
        return raw


class FeatureInfo(Closed):
    """How a feature is labelled, and its own declaration of missing values."""

    label: str | None = None
    """What axes call the feature."""
    unit: str | None = None
    """Its unit on axes."""
    missing: float | MissingConfig | None = None
    """Its own value (or values) for `not measured`."""


class SampleInfo(Closed):
    """What is special about a sample: its files, tree, weight and event identity.

    `files` are relative to `input_path`: a path, a glob, a `.txt` list of paths, or several.
    `factor` (a number, or a product such as `11467 * 19.6 / 3e7`: cross-section, luminosity and
    generated events) multiplies the physics weight; `weight` replaces its expression. So does,
    given `cross_section` and `generated`, cross_section x 1000 x reference_luminosity / generated:
    the weights then add up to the events expected in that luminosity. Samples with
    the same `group` share events. `never_trained` declares a sample that no model may train on.
    `tags` are names of one's own for what several samples are (`simulation`). `role: test` makes an
    entry of the training samples one of the labelled set: with processes and classes, to be
    evaluated and never trained on.
    """

    files: str | list[str] | None = None
    """Its files, relative to `input_path`: paths, globs or a `.txt` list."""
    tree: str | None = None
    """Its tree, where that is another."""
    factor: float | str = 1.0
    """A factor on its physics weight: a number or a product."""
    cross_section: float | str | None = Field(None, exclude_if=lambda value: value is None)
    """Its cross-section in pb, a number or a product; needs `generated`, `reference_luminosity`."""
    generated: float | str | None = Field(None, exclude_if=lambda value: value is None)
    """The sum of generator weights (or number) of all its events before any selection."""
    weight: str | None = None
    """Its physics weight, instead of the analysis's."""
    group: str | None = None
    """A name shared by samples that share events."""
    never_trained: bool = False
    """Declares that no model may train on it."""
    tags: list[Text] = Field([], exclude_if=is_empty)
    """Names of one's own for what several samples are."""
    role: Literal["training", "test"] = Field("training", exclude_if=lambda role: role != "test")
    """Whether it is trained on, or labelled only, for a test set of its own (`labelled`)."""


class SampleEntry(SampleInfo):
    """A sample in long form: its name, processes (for training) and what is special about it."""

    sample: SampleName
    """The sample's name."""
    processes: dict[str, Any] = {}
    """Its processes by name, for training."""


class ProcessConfig(Closed):
    """A process of a training sample: its selection and class."""

    cut: str | None = None
    """The selection of the process."""
    class_id: int = Field(alias="class", ge=0)
    """The id of its class."""


class ScalerConfig(Closed):
    """Arguments of scikit-learn's StandardScaler."""

    with_mean: bool = True
    """Whether means are subtracted."""
    with_std: bool = True
    """Whether values are divided by standard deviations."""


class PcaConfig(Closed):
    """Arguments of scikit-learn's PCA."""

    n_components: int | float | None = Field(None, gt=0)
    """How many components, or which share of the variance; null: all."""
    whiten: bool = False
    """Whether components get unit variance."""


class EngineConfig(Closed):
    """Where units of work run."""

    kind: Literal["local", "serial", "dask"] = "local"
    """Cores of this machine, one after the other, or a Dask cluster."""
    n_workers: int | None = Field(None, ge=1)
    """Cores or workers; none: all cores of this machine."""
    address: str | None = None
    """The address of a running Dask scheduler."""
    cluster: Literal["local", "htcondor", "slurm"] = "local"
    """Where a Dask cluster is started, if none runs at an address."""
    cluster_options: dict[str, Any] = {}
    """Options of Dask's own cluster classes, such as cores and memory."""
    security: bool | dict[str, Any] = False
    """Whether Dask encrypts: true, or keywords of distributed.Security (TLS files)."""
    wait: Annotated[Text | None, AfterValidator(_as_duration)] = None
    """How long to stay without any worker: seconds, or `30 min`; null: as long as one can come."""
    dry_run: bool = False
    """Whether only the job script of a batch system is shown."""

    @model_validator(mode="before")
    @classmethod
    def _just_a_name(cls, raw: Any) -> Any:
        return {"kind": raw} if isinstance(raw, str) else raw

    @property
    def wait_seconds(self) -> float | None:
        """How long to stay without a worker; None: as the kind of cluster has it."""
        return None if self.wait is None else _seconds(self.wait)
