"""uproot, imported without awkward arrays: `from utils.system.libraries.rootfiles import uproot`.

Importing awkward is half of the processor time of `import uproot`. It is used where jagged branches
are read and where trees are written, and imported then.
"""

from __future__ import annotations

from utils.system.libraries.imports import later

later("awkward")

import uproot  # noqa: E402

__all__ = ["uproot"]
