"""Features of very different scales, and what may be fitted to them."""

from __future__ import annotations

import numpy as np

from utils.schema import PcaConfig, ScalerConfig

SCALERS = [None, ScalerConfig(), ScalerConfig(with_mean=False), ScalerConfig(with_std=False)]
PCAS = [None, PcaConfig(), PcaConfig(n_components=2), PcaConfig(n_components=0.9, whiten=True)]
NAMES = ("pt", "eta", "m_sv", "mjj", "x:y/z")


def matrix(n: int = 500, seed: int = 0, dtype: str = "f4") -> np.ndarray:
    """Return correlated features of very different scales, one of them constant."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5))
    mixed[:, 4] = 3
    return (mixed * [50, 1, 100, 1e4, 1] + [60, 0, 120, 500, 0]).astype(dtype)
