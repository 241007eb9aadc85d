"""Keys of preprocessing that are given to train.py: they must be those of the skim."""

from __future__ import annotations

import json
from typing import Any

from utils.columns.roles import physics_weight
from utils.formats.skims import Skim, row_keys
from utils.schema import (
    COMPUTED_COLUMNS,
    ConfigError,
    PreprocessConfig,
    TrainConfig,
    load,
    nearest,
)

TRAINING_KEYS = frozenset(
    {"seed", "duplicates", "fold_rule", "xtrain_split_feature", "class_to_info", "pipe_name"}
    | {"cont_features", "cat_features", "misc_features", "analysis_name", "channel"}
)
"""Keys of preprocessing that a training uses in its own way or checks by itself, and names."""


def check_preprocessing(config: TrainConfig, skim: Skim) -> None:
    """Raise ConfigError where a key of preprocessing is given and unlike that of the skim.

    Its rows are made: the key would be ignored.
    """
    its = row_keys(skim.metadata["config"])
    given = row_keys(config.model_dump(mode="json", by_alias=True))
    made = load(PreprocessConfig, skim.metadata["config"])
    its["weight"], given["weight"] = physics_weight(made), physics_weight(config)
    its["training_samples"] = its.get("input_samples") or its["training_samples"]
    used = TRAINING_KEYS | ({"train_size"} if config.n_splits == 1 else set())
    for key in sorted(config.model_fields_set & given.keys() & its.keys() - used):
        for name, mine, other in _pairs(key, given[key], its[key]):
            if json.dumps(mine) != json.dumps(other):  # as text, in which NaN equals NaN
                raise ConfigError(
                    f"{name} is {json.dumps(mine)}, but {skim.path} was made with "
                    f"{json.dumps(other)}: preprocess again, or train with the skim's"
                )
    stored = {*skim.groups["misc_features"], *skim.groups["identity"], *COMPUTED_COLUMNS}
    for name in config.misc_features:
        if name not in stored:
            raise ConfigError(
                f"misc_features: '{name}' is not in {skim.path}; {nearest(name, stored)}: "
                "preprocess again with it, or leave it out"
            )


def _pairs(key: str, mine: Any, its: Any) -> list[tuple[str, Any, Any]]:
    """Return what is compared of a key's values: entry by entry where it is a mapping.

    What is said of a further sample, cut or derived feature changes no row of the skim.
    """
    if not (isinstance(mine, dict) and isinstance(its, dict)):
        return [(key, mine, its)]
    names = mine if key in ("clip", "feature_info") else mine.keys() & its.keys()
    return [(f"{key}.{name}", mine[name], its.get(name)) for name in sorted(names)]
