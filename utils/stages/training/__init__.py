"""train.py: a training skim becomes a run with one model a fold."""

from utils.stages.training.checking import check
from utils.stages.training.fitting import folds_training, settings_of
from utils.stages.training.keeping import keeping
from utils.stages.training.publishing import (
    log_training,
    next_commands,
    places,
    tags,
)
from utils.stages.training.ranking import ranked, run_name
from utils.stages.training.training_set import load_training_set, open_training_skim, split_rows

__all__ = [
    "check",
    "folds_training",
    "keeping",
    "load_training_set",
    "log_training",
    "next_commands",
    "open_training_skim",
    "places",
    "ranked",
    "run_name",
    "settings_of",
    "split_rows",
    "tags",
]
