"""What an evaluation is made with: the analysis of the run, and what the command changes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from utils.results.events import EvaluationTable
from utils.results.plotting.style import parse_color
from utils.schema import (
    AnalysisConfig,
    ClassInfo,
    ConfigError,
    EvaluateConfig,
    Recipe,
    load,
    load_part,
)

_CHANGED = (
    *("experiment_text", "luminosity", "reference_luminosity", "center_of_mass_energy"),
    *("signal_classes", "background_uncertainty"),
)
"""Keys of an analysis that evaluate.py takes too: they change no model and no score."""


def with_class_style(recipe: Recipe, config: EvaluateConfig) -> Recipe:
    """Return the recipe with the names, labels and colours that the command gives its classes.

    Raises ConfigError where it names a class that the run does not have, or no colour.
    """
    classes = list(recipe.classes)
    for class_id, given in (config.class_to_info or {}).items():
        where = f"class_to_info.{class_id}"
        if class_id not in range(len(classes)):
            raise ConfigError(f"{where}: the classes of the run are 0 to {len(classes) - 1}")
        known = classes[class_id].model_dump()
        classes[class_id] = load_part(ClassInfo, {**known, **given}, where)
        if classes[class_id].color:
            parse_color(classes[class_id].color, classes[class_id].name)
    return replace(recipe, classes=tuple(classes))


def analysis_of(recipe: Recipe, config: EvaluateConfig) -> AnalysisConfig:
    """Return the analysis of a run with what the command changes of it.

    `recipe` has the classes of `with_class_style`, by whose names signal classes go. Raises
    ConfigError where what is changed contradicts itself.
    """
    raw = {k: v for k, v in recipe.training.items() if k in AnalysisConfig.model_fields}
    former = {info["name"]: int(i) for i, info in (raw.get("class_to_info") or {}).items()}
    raw["signal_classes"] = [
        recipe.classes[former[name]].name if name in former else name
        for name in raw.get("signal_classes") or []
    ]
    raw["class_to_info"] = {i: info.model_dump() for i, info in enumerate(recipe.classes)}
    given = {key: getattr(config, key) for key in _CHANGED}
    raw |= {key: value for key, value in given.items() if value is not None}
    raw["feature_info"] = _labelled(raw.get("feature_info") or {}, config)
    return load(AnalysisConfig, raw)


def _labelled(known: dict[str, Any], config: EvaluateConfig) -> dict[str, Any]:
    """Return what is known of the features, with the labels and units of the command."""
    changed = dict(known)
    for name, info in (config.feature_info or {}).items():
        given = info.model_dump(exclude_unset=True)
        if "missing" in given:
            raise ConfigError(
                f"feature_info.{name}.missing: what is missing was decided before the training; "
                "evaluate.py changes labels and units"
            )
        changed[name] = {**changed.get(name, {}), **given}
    return changed


def normalised(table: EvaluationTable, analysis: AnalysisConfig) -> tuple[EvaluationTable, str]:
    """Return the table with yields of the luminosity asked for, and a sentence on what they are.

    The physics weights add up to the events of `reference_luminosity`, where that is given; nothing
    else tells what they stand for, and then they stay as they are.
    """
    asked, reference = analysis.luminosity, analysis.reference_luminosity
    if table.weight is None or asked is None:
        return table, ""
    if reference is None:
        return table, (
            f"Yields are sums of the physics weights as they are, and {asked:g}/fb is a label: "
            "reference_luminosity does not say which luminosity the weights stand for."
        )
    if asked == reference:
        return table, f"Yields are those of {asked:g}/fb, for which the physics weights stand."
    scaled = replace(table, weight=table.weight * (asked / reference))
    return (
        scaled,
        f"Yields are scaled from {reference:g}/fb, for which the weights stand, to {asked:g}/fb.",
    )
