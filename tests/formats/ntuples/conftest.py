"""The tree with a branch of every type."""

from __future__ import annotations

import numpy as np
import pytest
from ntuple_trees import some_columns, write_tree

from utils.formats.ntuples import TreeInfo, open_tree


@pytest.fixture(scope="session")
def columns() -> dict[str, np.ndarray]:
    return some_columns()


@pytest.fixture(scope="session")
def info(tmp_path_factory, columns) -> TreeInfo:
    return open_tree(write_tree(tmp_path_factory.mktemp("in") / "a.root", columns), "TauCheck")
