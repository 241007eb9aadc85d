"""predict.py: the models of a run score samples into friend trees or tables."""

from collections.abc import Callable

from utils.schema import ConfigError, PredictConfig, nearest
from utils.stages.prediction.checking import check
from utils.stages.prediction.evaluation_tables import Tables
from utils.stages.prediction.friend_trees import FriendTrees
from utils.stages.prediction.outputs import OutputKind, publish
from utils.stages.prediction.scorer import Scorer, open_scorer

__all__ = ["OUTPUT_KINDS", "check", "open_scorer", "output_kind", "publish"]

OUTPUT_KINDS: dict[str, Callable[[PredictConfig, Scorer], OutputKind]] = {
    "for_datacards": FriendTrees,
    "for_evaluation": Tables,
}
"""What the key `kind` may name."""


def output_kind(name: str) -> Callable[[PredictConfig, Scorer], OutputKind]:
    """Return what makes a kind of output. Raises ConfigError where there is none of that name."""
    if name not in OUTPUT_KINDS:
        raise ConfigError(f"kind '{name}' is unknown; {nearest(name, OUTPUT_KINDS)}")
    return OUTPUT_KINDS[name]
