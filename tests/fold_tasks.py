"""A small training of one fold."""

from __future__ import annotations

from typing import Any

import numpy as np

from utils.models import FoldTask, boosting, splits

N = 600


def task(data: dict[str, Any], index: int, n_classes: int = 3, **model_param: Any) -> FoldTask:
    target = np.minimum(data["target"], n_classes - 1)
    return FoldTask(
        index=index,
        load=lambda: data["matrix"],
        features=("a", "b", "c"),
        target=target,
        weight=np.ones(N),
        split=splits(data["fold"], 2, None)[index],
        settings=boosting.settings({"num_iterations": 6, **model_param}, n_classes, 11),
        n_threads=1,
        n_preparing_threads=1,
        train_metric_every=2,
    )
