"""Points side by side, and their ranks."""

from __future__ import annotations

import numpy as np

from utils.results.plotting.importance import ranks, swarm


def test_swarm_and_ranks() -> None:
    offsets = swarm(np.array([0.0, 0.0, 0.0, 1.0]))
    assert len(set(offsets[:3])) == 3
    assert np.abs(offsets).max() <= 0.4
    assert ranks(np.array([3.0, 1.0, 3.0, np.nan])).tolist() == [1, 0, 1, 0.5]
