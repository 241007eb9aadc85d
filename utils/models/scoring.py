"""Fold-routed scores: every event by the model that never saw its fold, in input order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats
from utils.models.interface import Model, kind
from utils.schema import FoldRule, RunError


@dataclass(frozen=True)
class FoldModels:
    """The models of a run in fold order: model i scores the events of fold i.

    `features` are the columns of a feature matrix, in the order the models take them.
    """

    models: tuple[Model, ...]
    rule: FoldRule
    features: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        return self.models[0].n_classes

    @property
    def fingerprints(self) -> list[str]:
        return [model.fingerprint for model in self.models]


def open_models(
    name: str, texts: Sequence[str], rule: FoldRule, features: Sequence[str], where: str
) -> FoldModels:
    """Return the models of stored texts, of the kind `name`, ready to score.

    Raises RunError where their number is not that of the folds, or a model takes other features.
    """
    if len(texts) != rule.n_splits:
        raise RunError(f"{where} has {len(texts)} models for {rule.n_splits} folds")
    models = tuple(kind(name).open_model(text) for text in texts)
    for index, model in enumerate(models):
        if _stored(model.feature_names) != _stored(features):
            raise RunError(
                f"model {index} of {where} takes the features {', '.join(model.feature_names)}, "
                f"not {', '.join(features)}"
            )
    return FoldModels(models, rule, tuple(features))


def _stored(features: Sequence[str]) -> list[str]:
    """Return names as a text may hold them: where it separates names by spaces, none has one."""
    return [name.replace(" ", "_") for name in features]


def score(
    models: FoldModels, matrix: NDArray[np.float32], fold: NDArray[np.int32], n_threads: int = 1
) -> Floats:
    """Return class probabilities `(n, n_classes)`: row i by the model of `fold[i]`, at row i.

    `matrix` is `(n, n_features)` in the order of `models.features`.
    """
    scores = np.full((len(matrix), models.n_classes), np.nan)
    for index, model in enumerate(models.models):
        mine = fold == index
        scores[mine] = model.probabilities(matrix[mine], n_threads)
    return scores


def score_in_fold(
    models: FoldModels,
    matrix: NDArray[np.float32],
    trained: Sequence[NDArray[np.bool_]],
    n_threads: int = 1,
) -> Floats:
    """Return the mean probabilities `(n, n_classes)` of the models that trained on each row.

    `trained[i]` marks the rows, `(n,)`, that model i was trained on. NaN where none was.
    """
    total = np.zeros((len(matrix), models.n_classes))
    count = np.zeros((len(matrix), 1))
    for model, mine in zip(models.models, trained, strict=True):
        total[mine] += model.probabilities(matrix[mine], n_threads)
        count[mine] += 1
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean
