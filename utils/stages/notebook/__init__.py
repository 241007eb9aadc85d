"""htt_ml.py: a run, in a notebook: scores of events in memory, figures and tables as objects."""

from utils.stages.notebook.opened_run import OpenedRun, open_run
from utils.stages.notebook.shown import Shown

__all__ = ["OpenedRun", "Shown", "open_run"]
