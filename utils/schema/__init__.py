"""Configuration: the keys users may write, their types, and what follows from them.

Every module may import this one; it imports none of them. A configuration arrives as plain
containers (what Hydra composed), and leaves as one frozen, typed object. A key nobody declared is
refused with its nearest relative, unless an interpolation refers to it (a user's own helper key).
`analysis` declares the keys of a channel and `stages` those of each script.
"""

from utils.schema.analysis import AnalysisConfig
from utils.schema.basics import (
    COMPUTED_COLUMNS,
    DEFAULT_KIND,
    FILLER_CLASS,
    LABELLED,
    NOT_IN_BRANCHES,
    PHYSICS_WEIGHT,
    PROJECT,
    TARGET,
    ConfigError,
    InputError,
    PipelineError,
    ProofError,
    RunError,
    nearest,
    pipeline_path,
    portable,
    project_path,
    short_name,
    skim_name,
    slug,
    unique_slugs,
)
from utils.schema.exchange import FoldRule, Missing, Process, Sample
from utils.schema.loading import load, load_part, undeclared_keys
from utils.schema.parts import (
    ClassInfo,
    EngineConfig,
    PcaConfig,
    SampleInfo,
    ScalerConfig,
    classes_as_rows,
    classes_of_rows,
)
from utils.schema.recipe import Recipe
from utils.schema.samples import sample_name
from utils.schema.stages import EvaluateConfig, PredictConfig, PreprocessConfig, TrainConfig
from utils.schema.variations import (
    SELECTED,
    WEIGHT_FACTOR,
    Replacement,
    VariationConfig,
    VariationKind,
    alternative_samples,
)

__all__ = [
    "COMPUTED_COLUMNS",
    "DEFAULT_KIND",
    "FILLER_CLASS",
    "LABELLED",
    "NOT_IN_BRANCHES",
    "PHYSICS_WEIGHT",
    "PROJECT",
    "SELECTED",
    "TARGET",
    "WEIGHT_FACTOR",
    "AnalysisConfig",
    "ClassInfo",
    "ConfigError",
    "EngineConfig",
    "EvaluateConfig",
    "FoldRule",
    "InputError",
    "Missing",
    "PcaConfig",
    "PipelineError",
    "PredictConfig",
    "PreprocessConfig",
    "Process",
    "ProofError",
    "Recipe",
    "Replacement",
    "RunError",
    "Sample",
    "SampleInfo",
    "ScalerConfig",
    "TrainConfig",
    "VariationConfig",
    "VariationKind",
    "alternative_samples",
    "classes_as_rows",
    "classes_of_rows",
    "load",
    "load_part",
    "nearest",
    "pipeline_path",
    "portable",
    "project_path",
    "sample_name",
    "short_name",
    "skim_name",
    "slug",
    "undeclared_keys",
    "unique_slugs",
]
