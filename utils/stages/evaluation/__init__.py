"""evaluate.py: a logged table becomes numbers, figures and one report page in its run."""

from utils.stages.evaluation.numbers import evaluate_dataset
from utils.stages.evaluation.publishing import log_summary, papers, publish
from utils.stages.evaluation.repeating import is_done

__all__ = ["evaluate_dataset", "is_done", "log_summary", "papers", "publish"]
