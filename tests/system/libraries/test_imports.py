"""What is put off is imported when it is used, and what is hidden is there afterwards."""

from __future__ import annotations

import pytest
from interpreters import passes


@pytest.mark.parametrize(
    "use",
    ["json.dumps([])", "importlib.import_module('json.decoder').JSONDecodeError"],
)
def test_a_module_put_off_is_imported_when_it_is_used(use: str) -> None:
    code = f"""
import importlib, sys
for name in [m for m in sys.modules if m.split(".")[0] == "json"]:
    del sys.modules[name]
from utils.system.libraries.imports import later
later("json")
import json
assert "json.decoder" not in sys.modules
{use}
assert "json.decoder" in sys.modules
assert json.loads("[1]") == [1]
assert sys.modules["json"] is not json
later("json")
assert type(sys.modules["json"]).__name__ == "module"
"""
    passes(code)


def test_a_hidden_module_is_missing_meanwhile() -> None:
    passes("""
import sys
from utils.system.libraries.imports import hidden
assert "colorsys" not in sys.modules
with hidden("colorsys"):
    try:
        import colorsys
    except ImportError:
        pass
    else:
        raise AssertionError("it was found")
import colorsys
with hidden("colorsys"):
    import colorsys
""")


def test_other_threads_can_import_what_is_hidden() -> None:
    passes("""
import threading
from importlib import import_module
from utils.system.libraries.imports import hidden
found = []
with hidden("colorsys"):
    thread = threading.Thread(target=lambda: found.append(import_module("colorsys")))
    thread.start()
    thread.join()
assert found
""")
