"""Where real data are: no part of the repository; tests that need them skip where they are not."""

from __future__ import annotations

import os
from pathlib import Path

from utils.schema import PROJECT

DATA = Path(os.environ.get("HEP_DATA", PROJECT.parent / "shared" / "data"))
