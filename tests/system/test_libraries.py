"""What is put off is imported when it is used, and what is hidden is there afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

from utils.schema import PROJECT


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
    _passes(code)


def test_a_hidden_module_is_missing_meanwhile() -> None:
    _passes("""
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


def test_uproot_reads_and_writes_with_awkward_put_off() -> None:
    _passes("""
import pathlib, sys, tempfile
import numpy
from utils.system.libraries.rootfiles import uproot
assert "awkward.contents" not in sys.modules
path = pathlib.Path(tempfile.mkdtemp()) / "a.root"
with uproot.recreate(path) as file:
    tree = file.mktree("t", {"x": "f4"})
    tree.extend({"x": numpy.arange(3, dtype="f4")})
assert uproot.open(f"{path}:t")["x"].array(library="ak").tolist() == [0, 1, 2]
""")


def _passes(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
