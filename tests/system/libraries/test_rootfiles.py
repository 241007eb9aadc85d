"""uproot is imported without awkward, which is there when it is asked for."""

from __future__ import annotations

from interpreters import passes


def test_uproot_reads_and_writes_with_awkward_put_off() -> None:
    passes("""
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
