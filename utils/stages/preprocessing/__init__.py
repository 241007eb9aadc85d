"""preprocess.py: ntuples are cut, checked, split and transformed into skims."""

from utils.stages.preprocessing.checking import check
from utils.stages.preprocessing.cut_flow import log_cut_flow, log_missing, refuse_empty
from utils.stages.preprocessing.labelled_skims import plan_labelled, write_labelled_skim
from utils.stages.preprocessing.prediction_skims import prediction_tasks, write_prediction_skims
from utils.stages.preprocessing.repeating import training_unit
from utils.stages.preprocessing.skim_content import save_configuration
from utils.stages.preprocessing.training_skims import (
    are_done,
    fit,
    nominal_and_marked,
    plan_alternatives,
    plan_training,
    read_all,
    record_done,
    refusals_leave_nothing,
    split_skims,
    tell_next,
    with_weights,
    write_alternative,
    write_training_skims,
)

__all__ = [
    "are_done",
    "check",
    "fit",
    "log_cut_flow",
    "log_missing",
    "nominal_and_marked",
    "plan_alternatives",
    "plan_labelled",
    "plan_training",
    "prediction_tasks",
    "read_all",
    "record_done",
    "refusals_leave_nothing",
    "refuse_empty",
    "save_configuration",
    "split_skims",
    "tell_next",
    "training_unit",
    "with_weights",
    "write_alternative",
    "write_labelled_skim",
    "write_prediction_skims",
    "write_training_skims",
]
