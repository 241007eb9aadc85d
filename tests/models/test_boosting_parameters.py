"""Parameters of LightGBM are understood or refused, never ignored."""

from __future__ import annotations

from typing import Any

import pytest

from utils.models.boosting_parameters import settings
from utils.schema import ConfigError


@pytest.mark.parametrize(
    ("model_param", "reason"),
    [
        ({"forcedsplits_filename": "a.json"}, "reads or writes files"),
        ({"input_model": "old.txt"}, "reads or writes files"),
        ({"is_save_binary": True}, "reads or writes files"),
        ({"train": "events.csv"}, "reads or writes files"),
        ({"has_header": True}, "text files that LightGBM reads by itself"),
        ({"is_predict_raw_score": True}, "LightGBM's own predictions"),
        ({"tweedie_variance_power": 1.2}, "other objectives"),
        ({"unbalance": True}, "behind the run's back"),
        ({"scale_pos_weight": 2}, "behind the run's back"),
        ({"task": "refit"}, "trained in one process"),
        ({"tree_learner": "data"}, "trained in one process"),
        ({"linear_trees": True}, "linear trees end the process"),
    ],
)
def test_what_would_change_a_run_unseen_is_refused(
    model_param: dict[str, Any], reason: str
) -> None:
    [name] = model_param
    with pytest.raises(ConfigError, match=rf"model_param\.{name} is refused: .*{reason}"):
        settings(model_param, 2, 1)


def test_what_is_so_anyway_is_accepted() -> None:
    harmless = {"task": "train", "linear_tree": False, "scale_pos_weight": 1, "num_machines": 1}
    assert settings(harmless, 2, 1).objective == "binary"


def test_parameters_of_the_command_line_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    given = {"verbose": 1, "metric_freq": 5, "is_training_metric": True}
    assert "metric_freq" not in settings(given, 3, 1).own
    [line] = [r.message for r in caplog.records]
    assert line == (
        "Without effect here: model_param.verbose, model_param.metric_freq, "
        "model_param.is_training_metric"
    )
