"""htt-ml in a notebook: `import htt_ml; run = htt_ml.open_run()`; docs/notebook.md shows more.

After `pip install -e .` this module, and nothing else, is importable from anywhere. The project's
package `utils` is loaded from this folder when the module is imported, for this process only: the
environment has no package of that name.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_UTILS = Path(__file__).resolve().parent / "utils"


def _load() -> None:
    """Import `utils` of this project, wherever Python would look for that name.

    Raises ImportError where another `utils` is imported already, or the project is not here.
    """
    known = sys.modules.get("utils")
    if known is not None:
        if Path(str(known.__file__)).resolve().parent == _UTILS:
            return
        raise ImportError(
            f"another package 'utils' is imported already ({known.__file__}): import htt_ml first, "
            "or rename yours"
        )
    if not (_UTILS / "__init__.py").is_file():
        raise ImportError(f"there is no {_UTILS}: install the project in place, pip install -e .")
    spec = spec_from_file_location(
        "utils", _UTILS / "__init__.py", submodule_search_locations=[str(_UTILS)]
    )
    assert spec is not None and spec.loader is not None  # noqa: PT018  # the file is there
    module = module_from_spec(spec)
    sys.modules["utils"] = module
    spec.loader.exec_module(module)


_load()

from utils.schema import ConfigError, InputError, PipelineError, RunError  # noqa: E402
from utils.stages.notebook import OpenedRun, Shown, open_run  # noqa: E402

__all__ = [
    "ConfigError",
    "InputError",
    "OpenedRun",
    "PipelineError",
    "RunError",
    "Shown",
    "open_run",
]
