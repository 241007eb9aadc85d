"""When to stop a training: the rule is LightGBM's, for every kind of model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.models.metrics import LARGER_IS_BETTER


class EarlyStopping:
    """Tells when validation metrics have not improved for `patience` iterations.

    The best value so far counts; only a strictly better one is an improvement. Each metric is
    looked at in turn, with `first_metric_only` the first one; the first to have waited long enough
    decides which iteration is the best. Where none has, it is the first metric's best iteration.
    """

    def __init__(self, metrics: Sequence[str], patience: int, first_metric_only: bool) -> None:
        self.metrics = list(metrics)
        self.patience = patience
        self._watched = self.metrics[:1] if first_metric_only else self.metrics
        self._best: dict[str, tuple[int, float]] = {}

    def improved(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Take the values of an iteration; return the metrics that are now at their best."""
        found = []
        for name in self.metrics:
            value = -values[name] if name in LARGER_IS_BETTER else values[name]
            if name not in self._best or value < self._best[name][1]:
                self._best[name] = (step, value)
                found.append(name)
        return found

    def decider(self, step: int, last: bool) -> str | None:
        """Return the metric whose best iteration is the model's, or None to go on."""
        for name in self._watched:
            if last or step - self._best[name][0] >= self.patience:
                return name
        return None

    def best(self, name: str) -> int:
        """Return the best iteration of a metric so far."""
        return self._best[name][0]

    def earliest(self) -> int:
        """Return the first iteration, from here, that could be the last one."""
        return self.patience + min(
            self._best[n][0] if n in self._best else 1 for n in self._watched
        )
