"""The keys of an analysis file: one description of a channel, for all four stages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from utils.schema.basics import (
    COMPUTED_COLUMNS,
    NOT_IN_BRANCHES,
    ConfigError,
    nearest,
    refuse_repeated,
)
from utils.schema.exchange import FoldRule, Missing
from utils.schema.parts import (
    ClassInfo,
    Closed,
    EngineConfig,
    FeatureInfo,
    MissingConfig,
    PcaConfig,
    SampleInfo,
    ScalerConfig,
    Template,
    Text,
    as_class_ids,
    is_empty,
)
from utils.schema.variations import VariationConfig, check_variations


class AnalysisConfig(Closed):
    """The description of a channel: the keys an analysis file may hold, for all four stages."""

    analysis_name: Text = "analysis"
    """What the analysis is called, in runs and titles."""
    channel: Text = ""
    """The channel's name, for tags and titles of runs."""
    year: Text = ""
    """The data-taking year; `${year}` may stand in paths and names."""
    data_root: str = "data"
    """The folder that paths begin with by `${data_root}`; relative to the project folder."""
    experiment_text: str = ""
    """The text on figures, such as `CMS Preliminary`."""
    luminosity: float | None = Field(None, gt=0)
    """The integrated luminosity on figures, in fb^-1."""
    reference_luminosity: float | None = Field(None, gt=0)
    """The luminosity that the weights stand for, in fb^-1; yields are scaled from it."""
    center_of_mass_energy: float | None = Field(None, gt=0)
    """The centre-of-mass energy on figures, in TeV."""

    # input
    input_path: str = ""
    """The folder of the ntuples."""
    input_filename_template: Template = "{sample_name}.root"
    """The name of a sample's file, below `input_path`."""
    input_tree_name: str = ""
    """The TTree (or RNTuple) to read."""
    samples: dict[str, SampleInfo] = {}
    """What is special about samples, by name: files, tree, weight, factor, group."""
    training_samples: list[Any] = []
    """Samples to train on, with the cut and class of each process."""
    prediction_samples: list[Any] = []
    """Samples to predict: names, or samples in long form."""
    cuts: dict[str, str] = {}
    """Names for cuts, which may stand in every cut."""
    common_cut: str | None = None
    """A cut for all samples, before those of processes."""

    # classes and columns by role
    class_to_info: Annotated[dict[int, ClassInfo], BeforeValidator(as_class_ids)] = {}
    """The classes by their ids 0 to n-1: name, colour, label."""
    signal_classes: list[Text] = []
    """The names of the classes that are signal."""
    background_uncertainty: float = Field(0.1, ge=0)
    """The relative uncertainty of the background in significances."""
    cont_features: list[str] = []
    """Continuous features: scaled, and turned by `pca`."""
    cat_features: list[str] = []
    """Categorical features, which are not scaled."""
    misc_features: list[str] = []
    """Columns that are copied as they are to skims, friend trees and tables."""
    training_features: list[str] = []
    """The features that models take, in order; none: all."""
    derived_features: dict[str, str] = {}
    """Columns by the expression that computes them from branches."""
    feature_info: dict[str, FeatureInfo] = {}
    """Labels, units and missing values of single features."""
    profile_features: list[str] = []
    """Features against which the mean score is drawn."""
    missing: float | MissingConfig | None = None
    """The value (or values) that means `not measured`, in all features."""
    clip: dict[str, tuple[float | None, float | None]] = {}
    """The lowest and the highest value of features; null for no limit."""
    variations: dict[str, VariationConfig] = Field({}, exclude_if=is_empty)
    """Systematic variations by name."""

    # identity, folds and weights
    identity: list[str] = ["run", "evt"]
    """The branches that tell events of a sample apart."""
    fold_rule: Literal["modulo", "hash", "entry"] = "modulo"
    """How events get folds: by one number, a hash of the identity, or the entry number."""
    xtrain_split_feature: str = "evt"
    """The branch whose value modulo `n_splits` is the fold."""
    n_splits: int = Field(2, ge=1, le=1000)
    """The number of folds, and of models."""
    duplicates: Literal["error", "keep_same_fold", "drop_later"] = "keep_same_fold"
    """What becomes of an event that occurs twice."""
    weight: str | None = None
    """The physics weight, an expression; none: 1."""
    weight_name: str | None = None
    """The training weight, an expression; none: `w_class_imbalance`."""
    class_balance: Literal["count", "weight"] = "count"
    """Whether classes are balanced by events or by physics weights."""
    negative_weights: Literal["error", "keep", "absolute", "drop", "rescale"] = "error"
    """What becomes of events with a negative training weight."""
    compute_w_CP: bool = False  # noqa: N815  # the users' vocabulary
    """Whether skims get the weight `w_cp`."""

    # transformation and training
    train_size: float = Field(0.9, gt=0, lt=1)
    """The share of the events that goes to the train skim, the rest to the test skim."""
    seed: int = 1357
    """The seed of splits, of models that have none, and of the feature pipeline."""
    scaler: ScalerConfig | None = None
    """Standardisation of the continuous features; null for none."""
    pca: PcaConfig | None = None
    """Principal components of the continuous features; null for none."""
    pipe_name: str = "pipe"
    """The file name of the fitted feature pipeline."""
    skim_path: str = ""
    """The folder of the skims."""
    model_param: dict[str, Any] = {}
    """Parameters of the model, by its library's names."""
    validation: Literal["left_out", "inner"] = "left_out"
    """What early stopping looks at: the left-out fold, or a part of the others."""
    validation_size: float = Field(0.1, gt=0, lt=1)
    """The share of the training folds that `validation: inner` takes."""

    engine: EngineConfig = EngineConfig()
    """Where the work runs, and on how many cores."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_features(self)
        _check_classes(self)
        check_variations(
            self.variations,
            features=frozenset((*self.cont_features, *self.cat_features)),
            fixed=frozenset(self.identity_columns),
            defined=frozenset((*self.derived_features, *self.cuts)),
        )
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
        columns = {"modulo": [self.xtrain_split_feature], "hash": self.identity, "entry": []}
        return FoldRule(self.fold_rule, tuple(columns[self.fold_rule]), self.n_splits)

    @property
    def identity_columns(self) -> tuple[str, ...]:
        """Columns that identify an event, the fold column among them, without repetition."""
        return tuple(dict.fromkeys([*self.identity, *self.fold.columns]))

    def missing_values(self, names: Iterable[str]) -> dict[str, Missing]:
        """Return the declared missing values of those features among `names` that have any."""
        found = {}
        for name in names:
            own = self.feature_info.get(name, FeatureInfo()).missing
            declared = self.missing if own is None else own
            if isinstance(declared, float):
                found[name] = Missing((declared,))
            elif declared is not None:
                to = declared.to
                replace = to if isinstance(to, float) else float("nan")
                found[name] = Missing(tuple(declared.values), replace, refuse=to == "refuse")
        return found

    def feature_label(self, name: str) -> str:
        """Return `name` as an axis title: its label and unit where the analysis gives them."""
        info = self.feature_info.get(name, FeatureInfo())
        label = info.label or name
        return f"{label} [{info.unit}]" if info.unit else label


def _check_features(config: AnalysisConfig) -> None:
    for role in ("cont_features", "cat_features", "misc_features", "training_features"):
        refuse_repeated(getattr(config, role), role)
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
        if set(name) & set(NOT_IN_BRANCHES):
            raise ConfigError(
                f"'{name}' identifies events, but no branch of a friend tree can be called so: "
                "ROOT would read it as something else; rename it, or write its leaf's name"
            )
    reserved = sorted(set(COMPUTED_COLUMNS) & {*config.cont_features, *config.cat_features})
    if reserved:
        raise ConfigError(
            f"{', '.join(reserved)} is computed by preprocessing and gives the class away: "
            "it can be in misc_features, never a feature"
        )
    components = [n for n in config.cat_features if re.fullmatch(r"pca_\d+", n)]
    if config.pca is not None and components:
        raise ConfigError(
            f"cat_features: '{components[0]}' is also the name of a component of pca: give it "
            "another one in derived_features"
        )


def _check_classes(config: AnalysisConfig) -> None:
    ids = list(config.classes)
    if ids and ids != list(range(len(ids))):
        raise ConfigError(f"class_to_info has the ids {ids}: number the classes 0 to n-1")
    names = [info.name for info in config.classes.values()]
    refuse_repeated(names, "class_to_info", "each class")
    for signal in config.signal_classes:
        if signal not in names:
            raise ConfigError(f"signal class '{signal}' is not a class; {nearest(signal, names)}")
