"""Kinds of models behind one interface: `kind(name)` gives the module that trains and opens them.

Nothing outside this package asks which kind a model is. A new one is a module beside `mlp.py` and
a line in `interface.KINDS`.
"""

from typing import TYPE_CHECKING

from utils.models.interface import (
    FoldResult,
    FoldTask,
    Kind,
    Model,
    Settings,
    Split,
    kind,
    splits,
)

if TYPE_CHECKING:
    from utils.models import boosting, mlp

    _KINDS: tuple[Kind, ...] = (boosting, mlp)  # whether they are kinds is checked here

__all__ = ["FoldResult", "FoldTask", "Kind", "Model", "Settings", "Split", "kind", "splits"]
