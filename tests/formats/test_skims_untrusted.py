"""A skim is data, whoever made it: opening one executes nothing and reads no other file."""

from __future__ import annotations

import fcntl
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tables

from utils.formats.skims import SkimWriter, open_skim
from utils.schema import PROJECT, InputError


def write(path: Path, n: int = 100) -> Path:
    groups = {"cont_features": {"pt": "f4"}, "identity": {"evt": "u8"}, "misc_features": {"b": "?"}}
    with SkimWriter(path, groups, {}) as writer:
        writer.append(
            {
                "cont_features": {"pt": np.arange(n, dtype="f4")},
                "identity": {"evt": np.arange(n, dtype="u8")},
                "misc_features": {"b": np.arange(n) % 2 == 0},
            }
        )
    return path


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


NODES = (
    *("/", "/targets", "/targets/axis0", "/metadata", "/cont_features/axis1"),
    *("/cont_features/block0_values", "/cont_features/block0_items"),
)
ATTRIBUTES = ("VERSION", "TITLE", "CLASS", "FLAVOR", "FILTERS", "EXTDIM", "pandas_type", "nblocks")


@pytest.mark.parametrize("node", NODES)
def test_no_attribute_is_unpickled(tmp_path: Path, node: str) -> None:
    path, marker = write(tmp_path / "a.h5"), tmp_path / "executed"
    with h5py.File(path, "a") as file:
        for name in ATTRIBUTES:
            file[node].attrs[name] = np.bytes_(pickle.dumps(Touch(marker), protocol=0))
    skim = open_skim(path)
    assert skim.n_rows == 100
    np.testing.assert_array_equal(skim.read()["cont_features"]["pt"], np.arange(100))
    skim.matrix(["pt"])
    assert not marker.exists()


def test_the_attribute_of_the_first_test_is_one_that_pytables_executes(tmp_path: Path) -> None:
    """Should this fail one day, PyTables has become harmless."""
    path, marker = write(tmp_path / "a.h5"), tmp_path / "executed"
    with h5py.File(path, "a") as file:
        pickled = np.bytes_(pickle.dumps(Touch(marker), protocol=0))
        file["/targets/axis0"].attrs["VERSION"] = pickled
    with tables.open_file(str(path)) as opened:
        opened.get_node("/targets/axis0")
    assert marker.exists()


def test_reading_does_without_pytables(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    code = (
        "import sys; from utils.formats.skims import open_skim; open_skim(sys.argv[1]).read(); "
        "sys.exit('tables' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        open_skim(path).read()
    assert str(path) in str(error.value)
    return str(error.value)


def replaced(path: Path, name: str) -> h5py.File:
    file = h5py.File(path, "a")
    del file[name]
    return file


VALUES = "/cont_features/block0_values"


def test_links_are_not_followed(tmp_path: Path) -> None:
    other = write(tmp_path / "other.h5")
    for link in (h5py.SoftLink("/identity/block0_values"), h5py.ExternalLink(str(other), VALUES)):
        path = write(tmp_path / "a.h5")
        with replaced(path, VALUES) as file:
            file[VALUES] = link
        assert "is a link to elsewhere" in refused(path)
    path = write(tmp_path / "a.h5")
    with replaced(path, "/cont_features") as file:
        file["/cont_features"] = h5py.ExternalLink(str(other), "/cont_features")
    assert "is a link to elsewhere" in refused(path)


def test_no_other_file_is_read_as_rows(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_bytes(b"secret--" * 50)
    path = write(tmp_path / "a.h5")
    with replaced(path, VALUES) as file:
        file.create_dataset(VALUES, (100, 1), "f4", external=[(str(private), 0, 400)])
    assert "is stored in another file" in refused(path)
    path = write(tmp_path / "a.h5")
    with replaced(path, VALUES) as file:
        layout = h5py.VirtualLayout((100, 1), "f4")
        layout[:] = h5py.VirtualSource(str(private), "x", (100, 1))
        file.create_virtual_dataset(VALUES, layout)
    assert "is stored in another file" in refused(path)


def test_rows_that_are_declared_and_not_stored_fill_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        for name in ("/cont_features/axis1", VALUES):
            file[name].resize(10**12, axis=0)
    assert "declares rows that are not stored" in refused(path)


def test_objects_and_references_are_refused(tmp_path: Path) -> None:
    for kind in (h5py.string_dtype(), h5py.ref_dtype):
        path = write(tmp_path / "a.h5")
        with replaced(path, VALUES) as file:
            file.create_dataset(VALUES, (100, 1), kind)
        assert "is no array of numbers" in refused(path)


def test_truth_values_come_back_as_such(tmp_path: Path) -> None:
    read = open_skim(write(tmp_path / "a.h5")).read()["misc_features"]["b"]
    assert read.dtype == np.bool_
    np.testing.assert_array_equal(read, np.arange(100) % 2 == 0)


def test_skims_need_no_file_locks(tmp_path: Path) -> None:
    """A file that somebody else holds a lock on is read all the same."""
    path = write(tmp_path / "a.h5")
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert open_skim(path).n_rows == 100
    code = (
        "import os, sys; from utils.formats.skims import _pytables; _pytables(); "
        "sys.exit(os.environ['HDF5_USE_FILE_LOCKING'] != 'FALSE')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False)
    assert done.returncode == 0
