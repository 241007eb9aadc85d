"""What an evaluation makes, and the choices it is made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from utils.schema import ClassInfo

SECTIONS = (
    *("densities", "scores", "confusion", "roc", "precision_recall", "thresholds", "calibration"),
    *("significance", "over_training", "features", "correlations", "profiles"),
    *("learning_curves", "importances", "shap", "comparison", "variations"),
)
"""Parts of an evaluation that can be asked for: the fields of `Evaluation` that hold results."""

NOT_ASKED = "not asked for"
"""Reason of a gap that was wanted."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Choices of an evaluation.

    signal_classes: names of the classes that are signal; none means no significance.
    profile_features: features (masses) that scores are profiled against.
    background_uncertainty: relative systematic uncertainty of the background yield.
    min_background: effective events, (sum w)^2 / sum w^2, of background that a best cut leaves.
    luminosity: in 1/fb, None where yields are not scaled to one (then no significance).
    n_bootstrap, n_permutations: size of the resampling. max_permuted_rows: of each class.
    n_calibration_bins: most bins of a reliability diagram, equally populated by 100 events or more
        (but 5 bins at least).
    density_bin: default width of score bins, wider where events are few; a class's `bin_size`
    comes first.
    sections: what to make, of `SECTIONS`; curves come with the numbers ('scores') of their areas.
    n_threads: threads to work with; no number depends on it.
    """

    seed: int = 1357
    n_bootstrap: int = 200
    n_permutations: int = 500
    max_permuted_rows: int = 50_000
    signal_classes: tuple[str, ...] = ()
    profile_features: tuple[str, ...] = ()
    luminosity: float | None = None
    background_uncertainty: float = 0.1
    min_background: float = 10.0
    n_calibration_bins: int = 20
    density_bin: float = 0.025
    sections: tuple[str, ...] = SECTIONS
    n_threads: int = 1

    @property
    def of_intervals(self) -> dict[str, Any]:
        """What intervals are made with."""
        return {"seed": self.seed, "n_bootstrap": self.n_bootstrap}

    def of_densities(self, classes: Sequence[ClassInfo]) -> dict[str, Any]:
        """What densities of the scores of these classes are made with."""
        return {"bin widths": [c.bin_size or self.density_bin for c in classes]}

    @property
    def of_permutations(self) -> dict[str, Any]:
        """What permutation tests are made with, their seed aside."""
        return {"permutations": self.n_permutations, "of rows": self.max_permuted_rows}

    @property
    def of_significances(self) -> dict[str, Any]:
        """What significances are made with."""
        return {
            "signal_classes": self.signal_classes,
            "luminosity": self.luminosity,
            "background_uncertainty": self.background_uncertainty,
            "min_background": self.min_background,
        }
