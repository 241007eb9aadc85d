"""predict.py: the models of a run score samples into friend trees or tables."""

from utils.stages.prediction.publishing import output_kind, publish
from utils.stages.prediction.scorer import open_scorer

__all__ = ["open_scorer", "output_kind", "publish"]
