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
from utils.schema.locations import (
    Location,
    Url,
    given_location,
    is_url,
    is_within,
    joined,
    location,
    normal,
    portable_location,
    refuse_secrets,
    servers_of,
    without_secrets,
)
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
from utils.schema.stages import EvaluateConfig, PredictConfig, PreprocessConfig, TrainConfig
from utils.schema.variations import Replacement, VariationConfig, VariationKind

__all__ = [
    "COMPUTED_COLUMNS",
    "DEFAULT_KIND",
    "FILLER_CLASS",
    "NOT_IN_BRANCHES",
    "PHYSICS_WEIGHT",
    "PROJECT",
    "TARGET",
    "AnalysisConfig",
    "ClassInfo",
    "ConfigError",
    "EngineConfig",
    "EvaluateConfig",
    "FoldRule",
    "InputError",
    "Location",
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
    "Url",
    "VariationConfig",
    "VariationKind",
    "classes_as_rows",
    "classes_of_rows",
    "given_location",
    "is_url",
    "is_within",
    "joined",
    "load",
    "load_part",
    "location",
    "nearest",
    "normal",
    "pipeline_path",
    "portable",
    "portable_location",
    "project_path",
    "refuse_secrets",
    "servers_of",
    "short_name",
    "skim_name",
    "slug",
    "undeclared_keys",
    "unique_slugs",
    "without_secrets",
]
