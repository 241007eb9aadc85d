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
    channel: Text = ""
    year: Text = ""
    data_root: str = "data"
    experiment_text: str = ""
    luminosity: float | None = Field(None, gt=0)
    reference_luminosity: float | None = Field(None, gt=0)
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
    class_to_info: Annotated[dict[int, ClassInfo], BeforeValidator(as_class_ids)] = {}
    signal_classes: list[Text] = []
    background_uncertainty: float = Field(0.1, ge=0)
    cont_features: list[str] = []
    cat_features: list[str] = []
    misc_features: list[str] = []
    training_features: list[str] = []
    derived_features: dict[str, str] = {}
    feature_info: dict[str, FeatureInfo] = {}
    profile_features: list[str] = []
    missing: float | MissingConfig | None = None
    clip: dict[str, tuple[float | None, float | None]] = {}
    variations: dict[str, VariationConfig] = Field({}, exclude_if=is_empty)

    # identity, folds and weights
    identity: list[str] = ["run", "evt"]
    fold_rule: Literal["modulo", "hash", "entry"] = "modulo"
    xtrain_split_feature: str = "evt"
    n_splits: int = Field(2, ge=1, le=1000)
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
