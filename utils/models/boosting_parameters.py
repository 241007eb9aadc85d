"""What LightGBM is told: the parameters of `model_param`, understood or refused, never ignored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from utils.models.interface import Settings, whole
from utils.schema import ConfigError, nearest

log = logging.getLogger(__name__)

_WITHOUT_EFFECT = ("verbosity", "metric_freq", "is_provide_training_metric")
"""Parameters of LightGBM's command line: the training logs and evaluates in its own way."""

_REFUSED: dict[str, tuple[str, ...]] = {
    "it reads or writes files that the run would not hold": (
        *("config", "convert_model", "convert_model_language", "data", "forcedbins_filename"),
        *("forcedsplits_filename", "input_model", "output_model", "output_result"),
        *("parser_config_file", "save_binary", "snapshot_freq", "valid"),
    ),
    "it is about text files that LightGBM reads by itself: events come from the skim": (
        *("group_column", "header", "ignore_column", "label_column", "pre_partition"),
        *("precise_float_parser", "two_round", "weight_column"),
    ),
    "it is about LightGBM's own predictions: predict.py makes them": (
        *("num_iteration_predict", "pred_early_stop", "pred_early_stop_freq"),
        *("pred_early_stop_margin", "predict_contrib", "predict_disable_shape_check"),
        *("predict_leaf_index", "predict_raw_score", "refit_decay_rate", "start_iteration_predict"),
    ),
    "it is for other objectives than binary and multiclass, and would be ignored": (
        *("alpha", "bagging_by_query", "eval_at", "fair_c", "label_gain", "lambdarank_norm"),
        *("lambdarank_position_bias_regularization", "lambdarank_truncation_level"),
        *("objective_seed", "poisson_max_delta_step", "reg_sqrt", "tweedie_variance_power"),
    ),
    "it changes what events weigh behind the run's back: weight_name and class_balance say that": (
        *("is_unbalance", "scale_pos_weight"),
    ),
    "folds are trained in one process: engine=dask shares them out": (
        *("local_listen_port", "machine_list_filename", "machines", "num_machines", "task"),
        *("time_out", "tree_learner"),
    ),
    "LightGBM's linear trees end the process when another fold's number of threads is set": (
        *("linear_lambda", "linear_tree"),
    ),
}
"""Parameters of LightGBM that mean nothing here, or another thing than the run would say."""

_HARMLESS = {
    "task": ("train", "training"),
    "tree_learner": ("serial",),
    "num_machines": ("1",),
    **dict.fromkeys(("linear_tree", "is_unbalance", "save_binary", "two_round"), ("false",)),
    **dict.fromkeys(("header", "pre_partition", "reg_sqrt"), ("false",)),
    "scale_pos_weight": ("1", "1.0"),
    "snapshot_freq": ("-1",),
}
"""Values at which such a parameter says what is so anyway."""


def settings(model_param: Mapping[str, Any], n_classes: int, seed: int) -> Settings:
    """Return what LightGBM is told, from the configured `model_param` and the number of classes.

    Raises ConfigError for an objective that gives no class probabilities.
    """
    given = _by_main_name({k: value for k, value in model_param.items() if value is not None})
    objective = str(given.setdefault("objective", "binary" if n_classes == 2 else "multiclass"))
    # The scores of multiclassova do not sum to 1, so they are no probabilities of classes.
    allowed = ("binary", "multiclass")
    if objective not in allowed:
        raise ConfigError(
            f"model_param.objective '{objective}' gives no class probabilities; "
            f"{nearest(objective, allowed)}"
        )
    if objective == "binary" and n_classes != 2:
        raise ConfigError(f"model_param.objective is binary, but there are {n_classes} classes")
    declared = given.pop("num_class", None)
    if declared not in (None, n_classes, 1 if objective == "binary" else n_classes):
        raise ConfigError(
            f"model_param.num_class is {declared}, but there are {n_classes} classes: leave it out"
        )
    if objective != "binary":
        given["num_class"] = n_classes
        given.setdefault("metric", "multi_logloss")
    else:
        given["metric"] = _binary_metrics(given.get("metric", []))
    given.setdefault("seed", seed)
    # Neither the number of threads nor the turns they take may change a model.
    given.setdefault("deterministic", True)
    if not given.get("force_row_wise"):
        # Left alone, LightGBM times both ways and takes the faster: not the same model every time.
        given.setdefault("force_col_wise", True)
    if not [m for m in _listed(given.get("metric")) if m.lower() not in ("", "none", "null", "na")]:
        raise ConfigError("model_param.metric names none: early stopping and curves need one")
    return Settings(
        objective=objective,
        num_iterations=whole(given.pop("num_iterations", 100), "num_iterations", 1),
        early_stopping_round=whole(given.pop("early_stopping_round", 0), "early_stopping_round", 0),
        first_metric_only=bool(given.pop("first_metric_only", False)),
        own={**given, "verbosity": -1},
    )


def _listed(value: Any) -> list[str]:
    return ",".join([value] if isinstance(value, str) else map(str, value or [])).split(",")


def metrics_of(settings: Settings) -> list[str]:
    """Return the metrics in order, each once."""
    return list(dict.fromkeys(_listed(settings.own["metric"])))


def _by_main_name(model_param: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by LightGBM's main names; most have others, such as eta.

    Raises ConfigError for what LightGBM would silently ignore: a parameter it does not have, and
    one that is given twice, under two names.
    """
    from utils.system.libraries.boosters import parameter_names

    main_name = parameter_names()
    given: dict[str, Any] = {}
    told: dict[str, str] = {}
    for key, value in model_param.items():
        if key not in main_name:
            raise ConfigError(
                f"LightGBM has no parameter model_param.{key}; {nearest(key, main_name)}"
            )
        main = main_name[key]
        _refuse(key, main, value)
        if main in given:
            raise ConfigError(
                f"model_param.{told[main]} and model_param.{key} are one parameter of LightGBM: "
                f"give it once, as model_param.{main}"
            )
        given[main], told[main] = value, key
    idle = [told[name] for name in _WITHOUT_EFFECT if given.pop(name, None) is not None]
    if idle:
        log.info("Without effect here: %s", ", ".join(f"model_param.{name}" for name in idle))
    return given


def _refuse(key: str, main: str, value: Any) -> None:
    """Raise ConfigError for a parameter that is not to be used here, saying why."""
    if str(value).lower() in _HARMLESS.get(main, ()):
        return
    for reason, names in _REFUSED.items():
        if main in names:
            raise ConfigError(f"model_param.{key} is refused: {reason}; leave it out")


def _binary_metrics(metric: Any) -> list[str]:
    """Return the metrics of a two-class training; the shared defaults name the multiclass ones."""
    names = [metric] if isinstance(metric, str) else list(metric)
    return [str(n).replace("multi_", "binary_") for n in names] or ["binary_logloss"]
