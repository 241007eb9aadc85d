"""Files on servers give the bytes of the file, however the server behaves, or one clear line."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from input_servers import Served, http, s3, xrootd
from interpreters import passes

from utils.schema import InputError, Url
from utils.system import remote
from utils.system.opening import find_urls, open_bytes
from utils.system.ranges import ByteFile, Range

SIZE = 3_000_017


@pytest.fixture(scope="module")
def content() -> bytes:
    return np.random.default_rng(3).bytes(SIZE)


@pytest.fixture
def served(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv(remote.PATIENCE, "1")
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.02)
    (tmp_path / "some file.bin").write_bytes(content)
    (tmp_path / "empty.bin").touch()
    with http(tmp_path) as server:
        yield server


RANGES = [Range(0, 20), Range(2_000_000, 700_000), Range(5, 1), Range(SIZE - 3, 3), Range(9, 0)]


def check(file: ByteFile, content: bytes) -> None:
    """Compare what is read, what is prepared and taken, and what lies beyond the end."""
    assert file.size == len(content)
    for part, read in zip(RANGES, file.read(RANGES), strict=True):
        assert bytes(read) == content[part.start : part.stop]
    file.prepare(RANGES)
    for part in RANGES:
        assert bytes(file.taken(part)) == content[part.start : part.stop]
        assert bytes(file.taken(part)) == content[part.start : part.stop]  # not prepared
    assert bytes(file.read([Range(SIZE - 3, 10)])[0]) == content[-3:]
    assert bytes(file.read([Range(SIZE + 5, 10)])[0]) == b""


def url_of(served: Served, name: str = "some%20file.bin") -> Url:
    return Url.of(f"{served.url}/{name}")


def test_a_file_of_this_machine(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    with open_bytes(path) as file:
        check(file, content)
    with pytest.raises(InputError, match="cannot be read"):
        open_bytes(tmp_path / "other.bin")


def test_http(served: Served, content: bytes) -> None:
    with open_bytes(url_of(served)) as file:
        check(file, content)
    with open_bytes(url_of(served, "empty.bin")) as file:
        assert file.size == 0
        assert file.read([Range(0, 20)]) == [b""]


def test_http_without_ranges_is_fetched_once(
    served: Served, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    served.ranges = False
    for _ in range(2):
        with open_bytes(url_of(served)) as file:
            check(file, content)
    assert sum("all of it is fetched" in m for m in caplog.messages) == 1
    # The first request asks for a part; when everything begins to come, it is broken off.
    assert [asked for _, asked in served.requests].count(None) == 1


def test_only_what_is_asked_for_travels(served: Served, content: bytes) -> None:
    ranges = [Range(start, 2_000) for start in range(100_000, 2_900_000, 200_000)]
    with open_bytes(url_of(served)) as file:
        file.read([Range(0, 20)])
        before, asked = served.n_bytes, len(served.requests)
        assert before <= 2 * remote.BLOCK + remote.TAIL + remote.BLOCK
        file.prepare(ranges)
        assert [bytes(file.taken(r)) for r in ranges] == [content[r.start : r.stop] for r in ranges]
    assert served.n_bytes - before == sum(r.size for r in ranges)
    assert len(served.requests) - asked == len(ranges)


def test_neighbours_travel_together(served: Served, content: bytes) -> None:
    ranges = [Range(start, 2_000) for start in range(100_000, 200_000, 9_000)]
    with open_bytes(url_of(served)) as file:
        asked = len(served.requests)
        file.prepare([*reversed(ranges), ranges[0]])
        assert len(served.requests) == asked + 1
        assert [bytes(file.taken(r)) for r in ranges] == [content[r.start : r.stop] for r in ranges]
        assert len(served.requests) == asked + 1


def test_ranges_are_asked_for_side_by_side(served: Served, content: bytes) -> None:
    """None is answered before four are there."""
    ranges = [Range(start, 2_000) for start in range(100_000, 900_000, 200_000)]
    arrived, together, alone = threading.Condition(), [], []

    def wait(_: int) -> bool:
        with arrived:
            together.append(1)
            arrived.notify_all()
            if not alone and not arrived.wait_for(lambda: len(together) >= len(ranges), 20):
                alone.append(1)
        return False

    with open_bytes(url_of(served)) as file:
        file.read([Range(0, 20)])
        served.fails = wait
        file.prepare(ranges)
        assert [bytes(file.taken(r)) for r in ranges] == [content[r.start : r.stop] for r in ranges]
    assert alone == []


def test_no_more_requests_are_under_way_than_may_be(
    served: Served, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = [Range(start, 2_000) for start in range(100_000, 2_900_000, 200_000)]
    get = remote._Http._get
    under_way: list[Range | None] = []
    most = 0

    @asynccontextmanager
    async def counted(part: Range | None, answer: Any) -> AsyncIterator[Any]:
        nonlocal most
        under_way.append(part)
        most = max(most, len(under_way))
        try:
            async with answer as given:
                yield given
        finally:
            under_way.remove(part)

    async def counting(server: remote._Http, url: Url, part: Range | None) -> Any:
        return counted(part, await get(server, url, part))

    monkeypatch.setattr(remote, "IN_FLIGHT", 3)
    monkeypatch.setattr(remote._Http, "_get", counting)
    with open_bytes(url_of(served)) as file:
        file.prepare(ranges)
        assert [bytes(file.taken(r)) for r in ranges] == [content[r.start : r.stop] for r in ranges]
    assert most == 3


@pytest.fixture
def waits(served: Served, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited for a server that fails, by a clock that only waiting moves on."""
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append)
    monkeypatch.setattr(remote, "time", clock)
    monkeypatch.setattr(remote, "random", SimpleNamespace(uniform=lambda *_: 1.0))
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.1)
    return waits


@pytest.mark.parametrize(
    ("patience", "expected"),
    [("2", [0.1, 0.2, 0.4, 0.8]), ("1.5", [0.1, 0.2, 0.4, 0.8]), ("0.01", [0.1]), ("0", [])],
)
def test_the_wait_for_the_next_attempt_doubles_until_patience_ends(
    served: Served,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    patience: str,
    expected: list[float],
) -> None:
    """Any patience at all is good for a second attempt."""
    monkeypatch.setenv(remote.PATIENCE, patience)
    served.status = 503
    with pytest.raises(InputError, match="could not open it"):
        open_bytes(url_of(served))
    assert waits == pytest.approx(expected)
    assert len(served.requests) == len(expected) + 1


def test_waits_differ_by_chance_and_keep_within_patience(
    served: Served, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remote.PATIENCE, "2")
    served.status = 503
    for draw, at_least, at_most in ((min, 0.05, 0.1), (max, 0.1, 0.15)):
        monkeypatch.setattr(remote, "random", SimpleNamespace(uniform=draw))
        waits.clear()
        with pytest.raises(InputError, match="could not open it"):
            open_bytes(url_of(served))
        assert at_least < waits[0] < at_most
        assert sum(waits) <= 2
        assert [b / a for a, b in pairwise(waits)] == pytest.approx([2.0] * (len(waits) - 1))


def test_waits_are_short_again_when_something_came(
    served: Served, content: bytes, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One range comes at each of the first two attempts; all take longer than patience lasts."""
    ranges = [Range(start, 2_000) for start in range(100_000, 900_000, 200_000)]
    with open_bytes(url_of(served)) as file:
        file.read([Range(0, 20)])
        before = len(served.requests)
        monkeypatch.setenv(remote.PATIENCE, "0.35")
        served.fails = lambda number: number - before in (2, 3, 4, 6, 7, 8, 9)
        file.prepare(ranges)
        assert [bytes(file.taken(r)) for r in ranges] == [content[r.start : r.stop] for r in ranges]
    assert waits == pytest.approx([0.1, 0.1, 0.2])
    assert len(served.requests) == before + 4 + 3 + 2 + 2


@pytest.mark.parametrize("ranges", [True, False])
def test_dropped_connections_are_asked_for_again(
    served: Served, content: bytes, ranges: bool, caplog: pytest.LogCaptureFixture
) -> None:
    served.ranges, served.fails = ranges, lambda number: number % 3 == 2
    with open_bytes(url_of(served)) as file:
        check(file, content)
    assert any("again in" in message for message in caplog.messages)


def test_the_end_is_one_line(served: Served) -> None:
    file = open_bytes(url_of(served))
    file.read([Range(0, 20)])
    served.fails = lambda _: True
    url = str(url_of(served))
    with file, pytest.raises(InputError, match="could not read 7 bytes at 1000000") as failed:
        file.prepare([Range(1_000_000, 7)])
    assert str(failed.value).startswith(f"{url}: ")
    assert "attempts" in str(failed.value)
    served.fails, served.status = lambda _: False, 503
    with pytest.raises(InputError, match=r"could not open it in .* the server answered 503"):
        open_bytes(url_of(served))


def test_what_is_final_is_asked_for_once(served: Served, content: bytes) -> None:
    for status, said in ((404, "there is no file http"), (403, "could not open it: .* 403")):
        served.status = status
        served.requests.clear()
        with pytest.raises(InputError, match=said):
            open_bytes(url_of(served))
        assert len(served.requests) == 1
    served.status = None
    with open_bytes(url_of(served)) as file:
        path = served.folder / "some file.bin"
        path.write_bytes(content + b"more")
        with pytest.raises(InputError, match="changed while it was being read"):
            file.prepare([Range(1_000_000, 7)])


def test_nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(remote.PATIENCE, "0")
    with http(tmp_path) as server:
        gone = Url.of(f"{server.url}/a.root")
    with pytest.raises(InputError, match="could not open it: Client"):
        open_bytes(gone)
    monkeypatch.setenv(remote.PATIENCE, "soon")
    with pytest.raises(InputError, match="REMOTE_PATIENCE is soon: give it in seconds"):
        open_bytes(gone)


@pytest.mark.parametrize(("scheme", "package"), [("root", "fsspec_xrootd"), ("s3", "s3fs")])
def test_a_missing_package_is_named_with_its_remedy(
    scheme: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    remote._server_of.cache_clear()
    with pytest.raises(InputError, match=r"pip install -r requirements-remote\.txt"):
        open_bytes(Url.of(f"{scheme}://nobody/a.root"))


def test_secrets_of_redirects_are_not_repeated(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise OSError("cannot connect to 'https://me:hunter2@h/a?sig=hunter2' authz=hunter2")

    monkeypatch.setenv(remote.PATIENCE, "0")
    monkeypatch.setattr(remote._Http, "_open", refused)
    with pytest.raises(InputError, match="cannot connect") as failed:
        open_bytes(url_of(served))
    assert "hunter2" not in str(failed.value)


def test_xrootd(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.PATIENCE, "0")
    with xrootd() as (url, folder):
        for name in ("a.root", "b.root", "c.txt"):
            (folder / name).write_bytes(content)
        with open_bytes(Url.of(f"{url}/a.root")) as file:
            check(file, content)
        assert [u.name for u in sorted(find_urls(Url.of(f"{url}/*.root")))] == ["a.root", "b.root"]
        assert find_urls(Url.of(f"{url}/*.nothing")) == []
        with pytest.raises(InputError, match=f"there is no file {url}/d.root"):
            open_bytes(Url.of(f"{url}/d.root"))
        with pytest.raises(InputError, match=r"is a folder: write .*/\*\.root"):
            open_bytes(Url.of(url))
        file = open_bytes(Url.of(f"{url}/a.root"))
    with file, pytest.raises(InputError, match=f"{url}/a.root: could not read"):
        file.prepare([Range(1_000_000, 7)])


def test_s3(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    monkeypatch.setenv(remote.PATIENCE, "0")
    remote._server_of.cache_clear()
    with s3() as (url, environment, put):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in ("a.root", "b.root", "c.txt"):
            (tmp_path / name).write_bytes(content)
            put(tmp_path / name)
        with open_bytes(Url.of(f"{url}/a.root")) as file:
            check(file, content)
        assert [u.name for u in sorted(find_urls(Url.of(f"{url}/*.root")))] == ["a.root", "b.root"]
        with pytest.raises(InputError, match=f"there is no file {url}/d.root"):
            open_bytes(Url.of(f"{url}/d.root"))
        file = open_bytes(Url.of(f"{url}/a.root"))
    with file, pytest.raises(InputError, match=f"{url}/a.root: could not read") as failed:
        file.prepare([Range(1_000_000, 7)])
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(failed.value)
    remote._server_of.cache_clear()


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 50)), max_size=20), st.integers(0, 30)
)
def test_joined_ranges_cover_and_bridge_no_more_than_the_gap(
    drawn: list[tuple[int, int]], gap: int
) -> None:
    ranges = sorted(Range(*pair) for pair in drawn)
    pieces = remote._joined(ranges, gap)
    covered = {i for piece in pieces for i in range(piece.start, piece.stop)}
    wanted = {i for part in ranges for i in range(part.start, part.stop)}
    assert wanted <= covered
    assert all(a.stop + gap < b.start for a, b in pairwise(pieces))
    for extra in covered - wanted:
        after = min((w for w in wanted if w > extra), default=extra)
        before = max((w for w in wanted if w < extra), default=extra)
        assert after - before - 1 <= gap


def test_locations_of_this_machine_import_nothing_for_servers() -> None:
    passes(
        "import sys, utils.formats.ntuples; from utils.schema import location; location('a.root');"
        "sys.exit(not {'utils.system.remote', 'aiohttp', 's3fs'}.isdisjoint(sys.modules))"
    )
