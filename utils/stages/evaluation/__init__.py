"""evaluate.py: a logged table becomes numbers, figures and one report page in its run."""

from utils.stages.evaluation.checking import check
from utils.stages.evaluation.numbers import evaluate_dataset
from utils.stages.evaluation.publishing import log_summary, papers, publish, style_of
from utils.stages.evaluation.repeating import kept_sections, report_of, unit_of

__all__ = [
    "check",
    "evaluate_dataset",
    "kept_sections",
    "log_summary",
    "papers",
    "publish",
    "report_of",
    "style_of",
    "unit_of",
]
