"""predict.py: the models of a run score samples into friend trees or tables."""

from utils.stages.prediction.publishing import (
    next_commands,
    open_scorer,
    publish_friends,
    publish_tables,
)

__all__ = ["next_commands", "open_scorer", "publish_friends", "publish_tables"]
