"""Trees on servers: the columns of the local file, value for value, and few of its bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from input_servers import Served, http, s3, xrootd
from ntuple_trees import read, some_columns, write_tree

from utils.formats import ntuples
from utils.formats.ntuples import files, find_files, fingerprint, open_tree
from utils.schema import InputError, Process, Sample, Url
from utils.system import remote

N_LARGE, N_BRANCHES = 90_000, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees of all types, of many branches, of few events, and an RNTuple."""
    folder = tmp_path_factory.mktemp("ntuples")
    columns = some_columns()
    write_tree(folder / "types.root", columns, compression=uproot.LZ4(1))
    write_tree(folder / "empty.root", {n: c[:0] for n, c in columns.items()})
    random = np.random.default_rng(5)
    many = {f"x{i}": random.normal(size=N_LARGE).astype(np.float32) for i in range(N_BRANCHES)}
    many["evt"] = np.arange(N_LARGE, dtype=np.uint64)
    write_tree(folder / "large.root", many, basket=6_000, compression=uproot.ZLIB(1))
    with uproot.recreate(folder / "rntuple.root") as file:
        file.mkrntuple("TauCheck", {"evt": np.arange(5_000), "pt": random.normal(size=5_000)})
    return folder


@pytest.fixture
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv(remote.PATIENCE, "2")
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.02)
    with http(folder) as server:
        yield server


CASES: list[tuple[str, dict[str, Any]]] = [
    ("types.root", {}),
    ("types.root", {"cut": "pt > 30 && jet_pt[1] > 20", "chunk_entries": 100}),
    ("types.root", {"cut": "pt > 1000"}),
    ("empty.root", {}),
    ("large.root", {"cut": "x3 > 1", "chunk_entries": 10_000}),
    ("large.root", {"cut": "x3 > 1", "start": 17_001, "stop": 60_000, "n_threads": 1}),
    ("rntuple.root", {"cut": "pt > 0", "chunk_entries": 1_000}),
]


def check_all(url: str, folder: Path) -> None:
    """Compare fingerprints and columns of trees on a server with those of the local files."""
    for name, options in CASES:
        here, there = open_tree(folder / name, "TauCheck"), open_tree(f"{url}/{name}", "TauCheck")
        assert fingerprint(there) == fingerprint(here)
        assert there.branches == here.branches
        names = [n if n != "jet_pt" else "jet_pt[2]" for n in here.branches if n != "x7"]
        if not here.n_entries:
            continue
        expected, found = (read(info, names, **options) for info in (here, there))
        np.testing.assert_array_equal(found[0], expected[0])
        for column in names:
            assert found[1][column].dtype == expected[1][column].dtype
            assert found[1][column].tobytes() == expected[1][column].tobytes(), (name, column)


def test_http(served: Served, folder: Path) -> None:
    check_all(served.url, folder)


def test_http_that_drops_connections(served: Served, folder: Path) -> None:
    served.fails = lambda number: number % 4 == 1
    check_all(served.url, folder)


def test_http_without_ranges(served: Served, folder: Path) -> None:
    served.ranges = False
    check_all(served.url, folder)


def test_xrootd(folder: Path) -> None:
    with xrootd() as (url, served_folder):
        for path in folder.glob("*.root"):
            shutil.copy(path, served_folder)
        check_all(url, folder)


def test_s3(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote._server_of.cache_clear()
    with s3() as (url, environment, put):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for path in folder.glob("*.root"):
            put(path)
        check_all(url, folder)
    remote._server_of.cache_clear()


# --- how much travels ----------------------------------------------------------------------------


def bytes_of(info: ntuples.TreeInfo, *names: str) -> int:
    return sum(int(info.sources[n].baskets.size.sum()) for n in names)  # type: ignore[union-attr]


def test_only_the_baskets_of_what_is_read_travel(served: Served) -> None:
    info = open_tree(f"{served.url}/large.root", "TauCheck")
    opening = served.n_bytes
    assert opening < 2 * (remote.TAIL + 3 * remote.BLOCK)
    entry, _ = read(info, ["x1", "evt"], cut="x3 > 0", chunk_entries=10_000)
    assert len(entry) > 0.4 * N_LARGE
    travelled = served.n_bytes - opening
    needed = bytes_of(info, "x1", "evt", "x3")
    assert needed <= travelled < 1.2 * needed + remote.TAIL + 3 * remote.BLOCK
    assert served.n_bytes < 0.25 * info.size
    # All of it came in a few requests for each branch, not in one for each basket.
    n_baskets = 3 * (N_LARGE // 6_000)
    assert len(served.requests) < n_baskets + 10


def test_baskets_without_a_selected_entry_stay_where_they_are(served: Served) -> None:
    info = open_tree(f"{served.url}/large.root", "TauCheck")
    opening = served.n_bytes
    wanted = [f"x{i}" for i in range(N_BRANCHES)]
    entry, _ = read(info, wanted, cut="evt > 54000 && evt < 54010", chunk_entries=10_000)
    assert len(entry) == 9
    first_of_each = bytes_of(info, *wanted) / (N_LARGE / 6_000)
    bound = bytes_of(info, "evt") + 2.5 * first_of_each + remote.TAIL + 3 * remote.BLOCK
    assert served.n_bytes - opening < bound + N_BRANCHES * remote.GAP
    assert served.n_bytes < 0.5 * info.size


def test_what_follows_comes_along_up_to_a_limit(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer bytes ahead are more rounds of requests, and the same baskets, each once."""
    info = open_tree(f"{served.url}/large.root", "TauCheck")
    fetched: list[int] = []
    original = remote.RemoteFile.prepare

    def counted(file: remote.RemoteFile, ranges: Any) -> None:
        fetched.extend([len(ranges)] if ranges else [])
        original(file, ranges)

    monkeypatch.setattr(remote.RemoteFile, "prepare", counted)
    totals = {}
    for ahead in (1, 200_000, 10**9):
        fetched.clear()
        monkeypatch.setattr(remote.RemoteFile, "ahead", ahead)
        entry, _ = read(info, ["x1", "x2"], chunk_entries=6_000)
        assert len(entry) == N_LARGE
        totals[ahead] = len(fetched), sum(fetched)
    assert {n for _, n in totals.values()} == {2 * N_LARGE // 6_000}
    rounds = [n for n, _ in totals.values()]
    assert rounds == sorted(rounds, reverse=True)
    assert (rounds[0], rounds[-1]) == (N_LARGE // 6_000, 1)


def test_baskets_are_asked_for_side_by_side(served: Served, folder: Path) -> None:
    """No basket of a branch is sent before all are asked for."""
    here, there = (open_tree(f"{at}/large.root", "TauCheck") for at in (folder, served.url))
    baskets = there.sources["x1"].baskets
    assert baskets is not None
    starts = set(map(int, baskets.seek))
    assert len(starts) == N_LARGE // 6_000
    served.most, served.together = 0, lambda start: len(starts) if start in starts else 1
    (_, expected), (_, found) = read(here, ["x1"]), read(there, ["x1"])
    assert found["x1"].tobytes() == expected["x1"].tobytes()
    assert served.most == len(starts)


# --- what is wrong -------------------------------------------------------------------------------


def test_damage_is_found_as_in_a_local_file(served: Served, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "large.root").read_bytes()
    info = open_tree(folder / "large.root", "TauCheck")
    baskets = info.sources["x5"].baskets
    assert baskets is not None
    at = int(baskets.seek[3]) + int(baskets.size[3]) // 2
    (tmp_path / "bad.root").write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
    (tmp_path / "short.root").write_bytes(whole[:-1000])
    (tmp_path / "other.root").write_bytes(b"no ROOT file, but long enough to have a header")
    with http(tmp_path) as server:
        for place in (str(tmp_path), server.url):
            bad = open_tree(f"{place}/bad.root", "TauCheck")
            with pytest.raises(InputError, match=rf"branch 'x5' of .*{place}/bad\.root cannot be"):
                read(bad, ["x4", "x5"])
            with pytest.raises(InputError, match=rf"{place}/short\.root is cut short: it holds"):
                open_tree(f"{place}/short.root", "TauCheck")
            with pytest.raises(InputError, match=rf"{place}/other\.root is not a ROOT file"):
                open_tree(f"{place}/other.root", "TauCheck")
            with pytest.raises(InputError, match="nearest: 'TauCheck'"):
                open_tree(f"{place}/bad.root", "TauChek")


def test_a_server_that_goes_ends_in_one_line(served: Served) -> None:
    info = open_tree(f"{served.url}/large.root", "TauCheck")
    before = len(served.requests)
    served.fails = lambda number: number > before + 3
    with pytest.raises(InputError, match=f"{served.url}/large.root: could not read .* attempts"):
        read(info, ["x1", "x2", "evt"], cut="x3 > 0", chunk_entries=6_000)


# --- lists and patterns --------------------------------------------------------------------------


def sample(*entries: str) -> Sample:
    return Sample("S", entries, "TauCheck", (Process("S", None, 0),))


def test_lists_of_urls(served: Served, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text(f"{served.url}/types.root  # on a server\n{folder}/large.root\n")
    assert set(map(str, find_files(sample(str(mine))))) == {
        f"{served.url}/types.root",
        str(folder / "large.root"),
    }
    (folder / "theirs.txt").write_text(f"types.root\n{served.url}/sub/large.root\n")
    assert find_files(sample(f"{served.url}/theirs.txt")) == (
        Url.of(f"{served.url}/sub/large.root"),
        Url.of(f"{served.url}/types.root"),
    )


@pytest.mark.parametrize("line", ["https://elsewhere/a.root", "/etc/passwd", "root://h//a.root"])
def test_a_list_on_a_server_names_nothing_elsewhere(
    served: Served, folder: Path, line: str
) -> None:
    (folder / "bad.list").write_text(f"types.root\n{line}\n")
    with pytest.raises(InputError, match="which is not on its own server"):
        find_files(sample(f"{served.url}/bad.list"))
    (folder / "bad.list").unlink()


def test_a_root_file_is_no_list(
    served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LONGEST_LIST", 1_000)
    shutil.copy(folder / "types.root", folder / "types.txt")
    with pytest.raises(InputError, match="is no list of files"):
        find_files(sample(f"{served.url}/types.txt"))
    (folder / "types.txt").unlink()


def test_patterns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(url: str) -> None:
        found = find_files(sample(f"{url}/[lt]*.root"))
        assert [str(place) for place in found] == [f"{url}/large.root", f"{url}/types.root"]
        with pytest.raises(InputError, match=r"no file matches .*/z\*\.root"):
            find_files(sample(f"{url}/z*.root"))
        with pytest.raises(InputError, match="twice: its events would count twice"):
            find_files(sample(f"{url}/l*.root", f"{url}/large.root"))

    remote._server_of.cache_clear()
    with xrootd() as (url, served_folder):
        for path in folder.glob("*.root"):
            shutil.copy(path, served_folder)
        check(url)
    with s3() as (url, environment, put):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for path in folder.glob("*.root"):
            put(path)
        check(url)
    remote._server_of.cache_clear()
