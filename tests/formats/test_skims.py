"""Skims: what is appended is what pandas and we read back, and files are complete or absent."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import HANGS

from utils.columns.arrays import RowRange
from utils.formats.skims import CHUNK_ROWS, FORMAT, GROUPS, Skim, SkimWriter, open_skim
from utils.schema import PROJECT, InputError

pytestmark = pytest.mark.filterwarnings("error")

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64"),
)


def values(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    """Return n values over the whole range of a type, its extremes and NaN among them."""
    kind = np.dtype(dtype)
    raw = np.random.default_rng(seed).integers(0, 256, n * kind.itemsize, dtype=np.uint8)
    if kind.kind == "b":
        return raw > 127
    if kind.kind == "f":
        column = (raw.reshape(n, kind.itemsize)[:, 0] - 100).astype(kind) / 3
        column[::3] = np.nan
        return column
    column = raw.view(kind).copy()
    column[: min(n, 2)] = [np.iinfo(kind).min, np.iinfo(kind).max][: min(n, 2)]
    return column


def write(path: Path, n: int = 10, *, metadata: dict | None = None, **groups: dict) -> Path:
    """Write a skim of n rows with the groups' columns {name: dtype} in one piece."""
    groups = groups or {"cont_features": {"pt_1": "f4"}, "identity": {"evt": "u8"}}
    with SkimWriter(path, groups, metadata or {}) as writer:
        writer.append(
            {g: {c: values(np.dtype(d).name, n) for c, d in of.items()} for g, of in groups.items()}
        )
    return path


# --- what is written is read back ----------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
columns = st.dictionaries(names, st.sampled_from(DTYPES), max_size=8)


@settings(max_examples=12)
@given(
    groups=st.dictionaries(st.sampled_from(GROUPS), columns, max_size=3),
    sizes=st.lists(st.integers(0, 40), max_size=4),
    cut=st.tuples(st.integers(0, 160), st.integers(0, 160)),
)
def test_pandas_and_we_read_back_what_was_appended(groups, sizes, cut):
    parts = [
        {g: {c: values(d, n, seed=i) for c, d in of.items()} for g, of in groups.items()}
        for i, n in enumerate(sizes)
    ]
    # Without any column there is nothing that says how many rows an empty table has.
    n_rows = sum(sizes) if any(groups.values()) else 0
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.h5")
        with SkimWriter(path, groups, {}) as writer:
            for part in parts:
                writer.append(part)
        skim = open_skim(path)
        start, stop = sorted(min(c, n_rows) for c in cut)
        read, some = skim.read(), skim.read(rows=RowRange(start, stop))
        assert skim.n_rows == n_rows
        for group in GROUPS:
            dtypes = groups.get(group, {})
            want = pd.DataFrame(
                {
                    c: np.concatenate([np.empty(0, d), *(p[group][c] for p in parts)])
                    for c, d in dtypes.items()
                },
                index=pd.RangeIndex(n_rows),
            ).astype(dtypes)
            assert {c: d.name for c, d in skim.groups[group].items()} == dtypes
            assert list(skim.groups[group]) == list(dtypes)
            pd.testing.assert_frame_equal(pd.read_hdf(path, group), want)
            if group in groups:
                pd.testing.assert_frame_equal(
                    pd.read_hdf(path, group, start=start, stop=stop), want.iloc[start:stop]
                )
            ours = pd.DataFrame(read[group], index=want.index)
            pd.testing.assert_frame_equal(ours, want, check_column_type=False)
            ours = pd.DataFrame(some[group], index=want.index[start:stop])
            pd.testing.assert_frame_equal(ours, want.iloc[start:stop], check_column_type=False)


def test_rows_beyond_one_hdf5_chunk_keep_their_order(tmp_path):
    n = 5 * CHUNK_ROWS + 7
    evt = np.arange(n, dtype=np.uint64) + np.uint64(2**63)
    with SkimWriter(tmp_path / "a.h5", {"identity": {"evt": "u8"}}, {}) as writer:
        for start, stop in [(0, 10_000), (10_000, 10_001), (10_001, n)]:
            writer.append({"identity": {"evt": evt[start:stop]}})
    skim = open_skim(tmp_path / "a.h5")
    np.testing.assert_array_equal(skim.read()["identity"]["evt"], evt)
    for start, stop in [(0, 0), (1, n), (CHUNK_ROWS - 1, 4 * CHUNK_ROWS + 1), (n, n)]:
        read = skim.read({"identity": ["evt"]}, RowRange(start, stop))["identity"]["evt"]
        np.testing.assert_array_equal(read, evt[start:stop])
    assert pd.read_hdf(tmp_path / "a.h5", "identity")["evt"].dtype == np.uint64


def test_every_group_has_the_same_rows_with_and_without_columns(tmp_path):
    write(tmp_path / "a.h5", 4)
    for group in GROUPS:
        assert list(pd.read_hdf(tmp_path / "a.h5", group).index) == [0, 1, 2, 3]


def test_types_that_fit_are_widened_and_others_refused(tmp_path):
    with SkimWriter(tmp_path / "a.h5", {"identity": {"evt": "i8"}}, {}) as writer:
        writer.append({"identity": {"evt": np.array([-1], ">i2")}})
        with pytest.raises(InputError, match=r"'evt' of identity is int64.* has it as uint64"):
            writer.append({"identity": {"evt": np.array([1], "u8")}})
    assert open_skim(tmp_path / "a.h5").read()["identity"]["evt"].tolist() == [-1]


def test_metadata_of_any_size_and_alphabet_comes_back(tmp_path):
    metadata = {"classes": [{"id": 0, "name": "H→ττ"}], "config": {"cut": "x" * 200_000}}
    with SkimWriter(tmp_path / "a.h5", {}, metadata) as writer:
        writer.metadata["n_entries"] = 12
    read = open_skim(tmp_path / "a.h5").metadata
    assert read == {**metadata, "n_entries": 12, "format": FORMAT}


# --- matrix --------------------------------------------------------------------------------------

FEATURES = {
    "cont_features": {"a": "f4", "b": "f8", "c": "f4", "d": "f4"},
    "cat_features": {"n": "i4", "flag": "bool", "m": "i4"},
}


@settings(max_examples=30)
@given(
    names=st.lists(st.sampled_from([*"abcdnm", "flag"]), max_size=9),
    cut=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_matrix_has_the_features_in_the_order_asked(matrix_skim, names, cut):
    start, stop = sorted(cut)
    matrix = matrix_skim.matrix(names, RowRange(start, stop))
    read = matrix_skim.read(rows=RowRange(start, stop))
    every = {**read["cat_features"], **read["cont_features"]}
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert matrix.shape == (stop - start, len(names))
    for j, name in enumerate(names):
        np.testing.assert_array_equal(matrix[:, j], every[name].astype(np.float32))


@pytest.fixture(scope="module")
def matrix_skim(tmp_path_factory) -> Skim:
    return open_skim(write(tmp_path_factory.mktemp("skim") / "a.h5", 30, **FEATURES))


def test_matrix_of_exactly_one_block_is_that_block(tmp_path):
    skim = open_skim(write(tmp_path / "a.h5", 9, cont_features={"a": "f4", "b": "f4"}))
    stored = skim.read()["cont_features"]
    np.testing.assert_array_equal(skim.matrix(["a", "b"]), np.c_[stored["a"], stored["b"]])
    np.testing.assert_array_equal(skim.matrix(["b", "a"]), np.c_[stored["b"], stored["a"]])


def test_matrix_refuses_what_float32_cannot_hold(tmp_path):
    with SkimWriter(tmp_path / "a.h5", {"cont_features": {"x": "f8", "y": "f8"}}, {}) as writer:
        writer.append({"cont_features": {"x": np.array([1.0, np.inf]), "y": np.array([1e39, 0])}})
    with pytest.raises(InputError, match=r"a\.h5.* exceed .*: y; clip"):
        open_skim(tmp_path / "a.h5").matrix(["x", "y"])


def test_a_skim_can_be_sent_to_another_process(tmp_path):
    skim = pickle.loads(pickle.dumps(open_skim(write(tmp_path / "a.h5"))))
    assert len(skim.matrix(["pt_1"])) == 10


def test_unknown_names_are_answered_with_the_nearest(tmp_path):
    skim = open_skim(write(tmp_path / "a.h5"))
    with pytest.raises(InputError, match=r"a\.h5 has no feature 'pt_l'; nearest: 'pt_1'"):
        skim.matrix(["pt_l"])
    with pytest.raises(InputError, match=r"no column 'pt' in cont_features"):
        skim.read({"cont_features": ["pt"]})
    with pytest.raises(InputError, match=r"no group 'cont'; known: cat_features, cont_features"):
        skim.read({"cont": ["pt_1"]})
    with pytest.raises(InputError, match=r"has 10 rows: it has no rows 3 to 11"):
        skim.read(rows=RowRange(3, 11))


# --- complete or absent --------------------------------------------------------------------------


def write_and_raise(path: Path, error: type[BaseException]) -> None:
    with SkimWriter(path, {"targets": {"target": "i4"}}, {}) as writer:
        writer.append({"targets": {"target": np.zeros(5, "i4")}})
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_writer_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        write_and_raise(tmp_path / "a.h5", error)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_writer_leaves_the_earlier_file_alone(tmp_path):
    before = write(tmp_path / "a.h5").read_bytes()
    writer = SkimWriter(tmp_path / "a.h5", {"targets": {"target": "i4"}}, {})
    with pytest.raises(TypeError), writer:
        writer.metadata["unserialisable"] = object()
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == before


def test_the_final_name_appears_at_the_end_only(tmp_path):
    with SkimWriter(tmp_path / "sub" / "a.h5", {"targets": {"target": "i4"}}, {}) as writer:
        writer.append({"targets": {"target": np.zeros(5, "i4")}})
        assert not (tmp_path / "sub" / "a.h5").exists()
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a.h5"]
    with pytest.raises(RuntimeError, match="not open"):
        writer.append({"targets": {"target": np.zeros(5, "i4")}})


def test_of_two_writers_in_turns_the_later_wins(tmp_path):
    groups = {"targets": {"target": "i4"}}
    with SkimWriter(tmp_path / "a.h5", groups, {"who": 1}) as first:
        with SkimWriter(tmp_path / "a.h5", groups, {"who": 2}) as second:
            for writer, n in ((first, 3), (second, 5), (first, 4)):
                writer.append({"targets": {"target": np.full(n, n, "i4")}})
        assert open_skim(tmp_path / "a.h5").metadata["who"] == 2
    skim = open_skim(tmp_path / "a.h5")
    assert skim.metadata["who"] == 1
    assert skim.read()["targets"]["target"].tolist() == [3] * 3 + [4] * 4


WRITER = """
import sys
import numpy as np
from utils.formats.skims import SkimWriter
path, who = sys.argv[1], int(sys.argv[2])
for _ in range(8):
    with SkimWriter(path, {"targets": {"target": "i4"}}, {"who": who}) as writer:
        for _ in range(3):
            writer.append({"targets": {"target": np.full(1000, who, "i4")}})
"""


def test_processes_writing_one_path_do_not_mix(tmp_path):
    path = tmp_path / "a.h5"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, str(who)], cwd=PROJECT) for who in (1, 2)]
    assert [writer.wait(timeout=HANGS) for writer in writers] == [0, 0]
    skim = open_skim(path)
    assert set(skim.read()["targets"]["target"]) == {skim.metadata["who"]}
    assert skim.n_rows == 3000
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


FULL_DISK = """
import resource, sys
import numpy as np
from utils.schema import InputError
from utils.formats.skims import SkimWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    with SkimWriter(sys.argv[1], {"weights": {"weight": "f8"}}, {}) as writer:
        for _ in range(100):
            writer.append({"weights": {"weight": np.ones(100_000)}})
except InputError as error:
    sys.stdout.write(str(error))
"""


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.h5")],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a.h5 cannot be written: " in done.stdout
    assert "\n" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"a\.h5 cannot be written: "),
        SkimWriter(tmp_path / "file" / "a.h5", {}, {}),
    ):
        pass


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path):
    (tmp_path / "a.h5" / "sub").mkdir(parents=True)
    with (
        pytest.raises(InputError, match=r"a\.h5 cannot be written: Is a directory"),
        SkimWriter(tmp_path / "a.h5", {}, {}),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_threads_may_read_and_write_side_by_side(tmp_path):
    skim = open_skim(write(tmp_path / "a.h5", 50, **FEATURES))
    expected = skim.matrix(["a", "n"])

    def work(i: int) -> bool:
        write(tmp_path / f"{i}.h5", 20)
        return np.array_equal(skim.matrix(["a", "n"]), expected, equal_nan=True)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(16)))


# --- what a writer refuses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"features": {}}, r"no group 'features'; nearest: 'cat_features'"),
        ({"targets": {"target": "U5"}}, r"'target' of targets is <U5, which no skim holds"),
        ({"targets": {"target": "f2"}}, r"'target' of targets is float16"),
        ({"targets": {"": "f4"}}, r"named ''"),
        ({"targets": {"a\0": "f4"}}, r"named 'a\\x00'"),
        ({"targets": {"\ud800": "f4"}}, r"named '\\ud800'"),
    ],
)
def test_what_no_skim_can_hold_is_refused_at_once(tmp_path, groups, message):
    with pytest.raises(InputError, match=message):
        SkimWriter(tmp_path / "a.h5", groups, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": {"w": np.ones(2)}}, r"column 'v' of weights was not given"),
        ({"weights": {"w": np.ones(2), "v": np.ones(3)}}, r"weights/w has 2 rows, weights/v 3"),
        ({"weights": {"w": np.ones(2), "v": np.ones((2, 2))}}, r"'v' of weights has 2 dimensions"),
        ({"weights": {"w": np.ones(2), "x": np.ones(2)}}, r"'x' was not declared in weights"),
        ({"weight": {}}, r"no group 'weight'; nearest: 'weights'"),
    ],
)
def test_columns_other_than_declared_are_refused(tmp_path, given, message):
    with (
        pytest.raises(InputError, match=message),
        SkimWriter(tmp_path / "a.h5", {"weights": {"w": "f8", "v": "f8"}}, {}) as writer,
    ):
        writer.append(given)
    assert list(tmp_path.iterdir()) == []


# --- damaged and foreign files -------------------------------------------------------------------


def is_refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_skim(path).read()
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("percent", [99.9, 90, 50, 10, 0.1])
def test_a_truncated_skim_is_told(tmp_path, percent):
    whole = write(tmp_path / "a.h5", 100).read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: int(len(whole) * percent / 100)])
    assert "truncated" in is_refused(tmp_path / "a.h5")


def test_a_damaged_row_is_told(tmp_path):
    pt = np.arange(1000, dtype="f4")
    with SkimWriter(tmp_path / "a.h5", {"cont_features": {"pt": "f4"}}, {}) as writer:
        writer.append({"cont_features": {"pt": pt}})
    content = (tmp_path / "a.h5").read_bytes()
    at = content.index(pt[500:510].tobytes())
    (tmp_path / "a.h5").write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    assert "make it anew" in is_refused(tmp_path / "a.h5")


def test_a_lost_part_is_told(tmp_path):
    write(tmp_path / "a.h5", 100)
    with tables.open_file(str(tmp_path / "a.h5"), "a") as file:
        file.remove_node("/identity/block0_items")
    assert "a part of it is missing" in is_refused(tmp_path / "a.h5")


def test_rows_that_do_not_match_are_told(tmp_path):
    write(tmp_path / "a.h5", 100)
    with tables.open_file(str(tmp_path / "a.h5"), "a") as file:
        file.get_node("/identity/block0_values").truncate(99)
    assert r"has the shape (99, 1) instead of (100, 1)" in is_refused(tmp_path / "a.h5")


def test_another_format_is_told(tmp_path):
    write(tmp_path / "a.h5")
    with tables.open_file(str(tmp_path / "a.h5"), "a") as file:
        file.remove_node("/metadata")
        text = json.dumps({"format": "skim-0"}).encode()
        file.create_array("/", "metadata", np.frombuffer(text, np.uint8))
    assert "not a skim of format skim-1" in is_refused(tmp_path / "a.h5")


def test_foreign_files_are_told(tmp_path):
    pd.DataFrame({"a": [1.0]}).to_hdf(tmp_path / "pandas.h5", key="cont_features")
    assert "not a skim" in is_refused(tmp_path / "pandas.h5")
    for content in (b"", b"\x89HDF\r\n\x1a\n", b"root\0\0", b"run,evt\n1,2\n"):
        (tmp_path / "other.h5").write_bytes(content)
        is_refused(tmp_path / "other.h5")


def test_a_missing_skim_is_answered_with_its_neighbour(tmp_path):
    write(tmp_path / "train.h5")
    assert "does not exist; nearest: 'train.h5'" in is_refused(tmp_path / "trian.h5")
    assert "there is no folder" in is_refused(tmp_path / "none" / "train.h5")
    assert "does not exist" in is_refused(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_skim_one_may_not_read_is_told(tmp_path):
    write(tmp_path / "a.h5").chmod(0)
    assert "Permission denied" in is_refused(tmp_path / "a.h5")


def test_a_skim_replaced_while_it_is_read_is_told(tmp_path):
    skim = open_skim(write(tmp_path / "a.h5", 10))
    write(tmp_path / "a.h5", 11)
    os.utime(tmp_path / "a.h5", ns=(0, 0))
    with pytest.raises(InputError, match=r"a\.h5 was replaced while it was being read"):
        skim.matrix(["pt_1"])


@pytest.mark.parametrize("short_by", [1, 1000, 20_000])
def test_a_disk_that_fills_up_at_the_end_leaves_the_old_skim(tmp_path: Path, short_by: int) -> None:
    # HDF5 keeps the last of a file in memory until it is closed, and closing it tells no error.
    code = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from utils.schema import InputError\n"
        "from utils.formats.skims import SkimWriter\n"
        "path, rows = Path(sys.argv[1]), np.random.default_rng(1).random(40_000)\n"
        "def write():\n"
        "    with SkimWriter(path, {'cont_features': {'x': 'f8'}}, {}) as writer:\n"
        "        writer.append({'cont_features': {'x': rows}})\n"
        "write()\n"
        "whole = path.read_bytes()\n"
        "limit = len(whole) - int(sys.argv[2])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "try:\n"
        "    write()\n"
        "except InputError as error:\n"
        "    assert 'cannot be written' in str(error), error\n"
        "    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == whole\n"
        "    sys.exit(7)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.h5"), str(short_by)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stdout + done.stderr
