"""Files on servers, through fsspec: root:// (XRootD), http(s):// and s3://.

What is asked for travels, and little more: neighbouring ranges are joined, many are under way at
once. What fails is asked for again, later and later, until patience ends in one line. Credentials
are the protocols' own affair (docs/remote.md): they stand in no URL, and no message repeats what a
server was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import random
import re
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import IO, Any, TypeVar

from utils.schema import InputError, Location, Url, without_secrets
from utils.system.ranges import ByteFile, LocalFile, Range

log = logging.getLogger(__name__)

T = TypeVar("T")

GAP = 8_192
"""Bytes between two ranges that are fetched along rather than by a further request."""

LARGEST = 4_194_304
"""Bytes that one request asks for at most, so that large ranges travel side by side."""

IN_FLIGHT = 32
"""Requests to one file that are under way at once."""

AHEAD = 16_777_216
"""Bytes of a file that are fetched in one go where it is read from end to end."""

BLOCK, TAIL, KEPT = 32_768, 65_536, 67_108_864
"""What is not prepared is read by blocks, of which so many bytes are kept; the first and last bytes
of a file, where its directory is, are read at once."""

PATIENCE = "REMOTE_PATIENCE"
"""Environment variable: seconds to wait, in all, for a server that fails."""

FIRST_WAIT = 0.5
"""Seconds before the second attempt; each further wait is twice as long."""

SILENCE = 30
"""Seconds without a sign of life after which a request has failed."""

INSTALL = "pip install -r requirements-remote.txt"


def open_remote(url: Url) -> ByteFile:
    """Open a file on a server.

    One whose server sends no parts of files is fetched as a whole, into a temporary file.
    Raises InputError where it is not there, the protocol's package is not installed or the server
    can't be reached.
    """
    server = _server(url)
    try:
        size, start = _patiently(url, "open it", lambda: server.open(url))
    except _NoRangesError:
        return _fetched(url, server)
    return RemoteFile(url, server, size, start)


def find(pattern: Url) -> list[Url]:
    """Return the files that a pattern matches. Raises InputError where a server has no answer."""
    return _patiently(pattern, "list its files", lambda: _server(pattern).find(pattern))


class RemoteFile(ByteFile):
    """A file on a server, `start` being its first bytes where they came along."""

    ahead = AHEAD

    def __init__(self, url: Url, server: _Server, size: int, start: bytes = b"") -> None:
        self.location: Location = url
        self.size = size
        self._url, self._server = url, server
        self._ready: dict[Range, memoryview] = {}
        self._kept: OrderedDict[int, memoryview] = OrderedDict()
        self._lock = threading.Lock()
        self._keep(Range(0, len(start)), start)
        self._is_new = True

    def read(self, ranges: Sequence[Range]) -> list[bytes | memoryview]:
        wanted = [Range(r.start, max(0, min(r.size, self.size - r.start))) for r in ranges]
        with self._lock:
            held = self._blocks(wanted)
        return [self._cut(held, part) for part in wanted]

    def _blocks(self, ranges: Sequence[Range]) -> dict[int, memoryview]:
        """Return the blocks that cover ranges, by number."""
        numbers = set(chain.from_iterable(map(_block_numbers, ranges)))
        lacking = numbers - self._kept.keys()
        if lacking and self._is_new:
            tail = max(0, self.size - TAIL)
            ends = (Range(0, min(BLOCK, self.size)), Range(tail, self.size - tail))
            lacking |= set(chain.from_iterable(map(_block_numbers, ends))) - self._kept.keys()
            self._is_new = False
        held = {n: self._kept[n] for n in numbers & self._kept.keys()}
        pieces = _joined([self._block(n) for n in sorted(lacking)], 0)
        for piece, content in zip(pieces, self._fetched(pieces), strict=True):
            held |= self._keep(piece, content)
        return held

    def _block(self, number: int) -> Range:
        return Range(number * BLOCK, min(BLOCK, self.size - number * BLOCK))

    def _keep(self, piece: Range, content: bytes) -> dict[int, memoryview]:
        """Keep what was read, as far as it is whole blocks, and return it by number."""
        view, blocks = memoryview(content), {}
        for number in _block_numbers(piece):
            block = self._block(number)
            if block.stop <= piece.stop:
                blocks[number] = view[block.start - piece.start :][: block.size]
        self._kept.update(blocks)
        while len(self._kept) * BLOCK > KEPT:
            self._kept.popitem(last=False)
        return blocks

    @staticmethod
    def _cut(held: dict[int, memoryview], part: Range) -> bytes | memoryview:
        numbers = _block_numbers(part)
        if not numbers:
            return b""
        first = part.start - numbers[0] * BLOCK
        if len(numbers) == 1:
            return held[numbers[0]][first : first + part.size]
        return memoryview(b"".join(held[n] for n in numbers))[first : first + part.size]

    def prepare(self, ranges: Sequence[Range]) -> None:
        with self._lock:
            wanted = sorted(set(ranges) - self._ready.keys())
            wanted = [r for r in wanted if r.size > 0 and r.stop <= self.size]
            pieces = _joined(wanted, GAP)
            contents = self._fetched(pieces)
            place = 0
            for part in wanted:
                while part.stop > pieces[place].stop:
                    place += 1
                content = memoryview(contents[place])
                self._ready[part] = content[part.start - pieces[place].start :][: part.size]

    def taken(self, wanted: Range) -> bytes | memoryview:
        with self._lock:
            ready = self._ready.pop(wanted, None)
        return self.read([wanted])[0] if ready is None else ready

    def _fetched(self, pieces: Sequence[Range]) -> list[bytes]:
        """Return the bytes of pieces; large ones travel in parts."""
        parts = [_split(piece) for piece in pieces]
        found = iter(_fetch_all(self._url, self._server, [p for ps in parts for p in ps]))
        whole = [[next(found) for _ in ps] for ps in parts]
        return [bs[0] if len(bs) == 1 else b"".join(bs) for bs in whole]

    def close(self) -> None:
        self._ready.clear()
        self._kept.clear()


def _block_numbers(part: Range) -> range:
    return range(part.start // BLOCK, -(-part.stop // BLOCK) if part.size else part.start // BLOCK)


def _joined(ranges: Sequence[Range], gap: int) -> list[Range]:
    """Return ascending ranges with neighbours made one; they may overlap."""
    pieces: list[Range] = []
    for part in ranges:
        if pieces and part.start <= pieces[-1].stop + gap:
            last = pieces.pop()
            part = Range(last.start, max(last.stop, part.stop) - last.start)
        pieces.append(part)
    return pieces


def _split(piece: Range) -> list[Range]:
    starts = range(piece.start, piece.stop, LARGEST)
    return [Range(s, min(LARGEST, piece.stop - s)) for s in starts]


# --- patience ------------------------------------------------------------------------------------


class _NoRangesError(Exception):
    """The server sends whole files only."""


class _AnswerError(Exception):
    """The server's answer is not what was asked for."""


def _patience() -> float:
    """Return for how many seconds a server that fails is asked again."""
    text = os.environ.get(PATIENCE, "30")
    try:
        return max(0.0, float(text))
    except ValueError:
        raise InputError(f"{PATIENCE} is {text}: give it in seconds") from None


def _patiently(url: Url, what: str, action: Callable[[], T]) -> T:
    """Return what `action` does, tried again as long as patience lasts.

    Raises InputError, naming URL and cause, where it fails for good.
    """

    def attempt(_: Sequence[None]) -> list[T | Exception]:
        try:
            return [action()]
        except (InputError, _NoRangesError):
            raise
        except Exception as error:  # each protocol has its own
            return [error]

    return _insist(url, lambda _: what, attempt, [None])[0]


def _fetch_all(url: Url, server: _Server, ranges: Sequence[Range]) -> list[bytes]:
    """Return the bytes at ranges; what fails is asked for again."""

    def attempt(pending: Sequence[Range]) -> list[bytes | Exception]:
        try:
            answers = server.fetch(url, pending)
        except Exception as error:  # each protocol has its own
            return [error] * len(pending)
        return [
            answer
            if isinstance(answer, Exception) or len(answer) == part.size
            else _AnswerError(f"{len(answer)} of {part.size} bytes came")
            for part, answer in zip(pending, answers, strict=True)
        ]

    def what(pending: Sequence[Range]) -> str:
        return f"read {sum(r.size for r in pending)} bytes at {pending[0].start}"

    return _insist(url, what, attempt, ranges) if ranges else []


def _insist(
    url: Url,
    what: Callable[[Sequence[Any]], str],
    attempt: Callable[[Sequence[Any]], list[T | Exception]],
    tasks: Sequence[Any],
) -> list[T]:
    """Return what `attempt` makes of each task; those that failed are attempted again.

    The time between attempts doubles. Patience begins anew whenever something came, and lasts for
    two attempts at least. Raises InputError where it ends.
    """
    results: dict[int, T] = {}
    patience, begin, attempts = _patience(), time.monotonic(), 0
    while True:
        pending = [i for i in range(len(tasks)) if i not in results]
        answers = dict(zip(pending, attempt([tasks[i] for i in pending]), strict=True))
        errors = {i: a for i, a in answers.items() if isinstance(a, Exception)}
        results |= {i: a for i, a in answers.items() if not isinstance(a, Exception)}
        if not errors:
            return [results[i] for i in range(len(tasks))]
        if len(errors) < len(pending):
            begin, attempts = time.monotonic(), 0
        attempts += 1
        error = next((e for e in errors.values() if _is_final(e)), next(iter(errors.values())))
        # Not all at the same moments: a server that many wait for would fail again.
        wait = FIRST_WAIT * 2 ** (attempts - 1) * random.uniform(0.8, 1.2)
        passed, failed = time.monotonic() - begin, what([tasks[i] for i in errors])
        is_over = passed + wait > patience and (attempts > 1 or not patience)
        if is_over or _is_final(error):
            raise _ended(url, failed, error, attempts, passed) from error
        log.warning("%s: could not %s (%s); again in %.1f s", url, failed, _cause(error), wait)
        time.sleep(wait)


def _ended(url: Url, failed: str, error: Exception, attempts: int, seconds: float) -> InputError:
    if isinstance(error, FileNotFoundError) or _XROOTD_ABSENT.search(str(error)):
        return InputError(f"there is no file {url}")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{url} is a folder: write {str(url).rstrip('/')}/*.root for its files")
    often = f" in {attempts} attempts and {seconds:.0f} s" if attempts > 1 else ""
    return InputError(f"{url}: could not {failed}{often}: {_cause(error)}")


_XROOTD_ABSENT = re.compile(r"\[3011\]")
_XROOTD_FINAL = re.compile(r"\[30(00|06|10|11|13|16|30)\]|\[FATAL\] (Auth|Invalid)")
_FINAL = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "InvalidURL"}


def _is_final(error: Exception) -> bool:
    """Tell whether asking again would be in vain: not there, not allowed, not understood."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in (408, 425, 429)
    return (
        isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
        or type(error).__name__ in _FINAL
        or bool(_XROOTD_FINAL.search(str(error)))
    )


def _cause(error: Exception) -> str:
    """Return what a library says of an error, without what it may have been sent."""
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    if isinstance(status, int):
        return without_secrets(f"the server answered {status} {message or ''}".strip())
    text = re.sub(r"Failed to submit <.*> request: ", "", str(error))  # objects of the client's
    text = " ".join(without_secrets(text).split())[:300]
    name = type(error).__name__.lstrip("_")
    return text if name in ("AnswerError", "OSError") and text else f"{name}: {text}".rstrip(": ")


# --- protocols -----------------------------------------------------------------------------------


class _Server(ABC):
    """What a protocol can do, each by one call that may fail; `host` is '' where any will do."""

    def __init__(self, scheme: str, host: str) -> None:
        self.scheme, self.host = scheme, host

    @abstractmethod
    def open(self, url: Url) -> tuple[int, bytes]:
        """Return a file's size, and its first bytes if they came along."""

    @abstractmethod
    def fetch(self, url: Url, ranges: Sequence[Range]) -> Sequence[bytes | Exception]:
        """Return the bytes at each range, or why they did not come."""

    def find(self, pattern: Url) -> list[Url]:
        """Return the files that match a pattern."""
        raise InputError(f"{pattern}: {pattern.scheme} has no list of a server's files")


def _server(url: Url) -> _Server:
    return _server_of(url.scheme, url.host if url.scheme == "root" else "")


@cache
def _server_of(scheme: str, host: str) -> _Server:
    kind, package = {
        "root": (_XRootD, "fsspec_xrootd"),
        "s3": (_S3, "s3fs"),
        "http": (_Http, "aiohttp"),
        "https": (_Http, "aiohttp"),
    }[scheme]
    # The client's own patience is minutes long; whoever sets it otherwise means it.
    for name, value in _XROOTD_CLIENT.items() if scheme == "root" else ():
        os.environ.setdefault(name, value)
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{scheme}:// needs a package that is not installed ({error}): {INSTALL}"
        ) from None
    return kind(scheme, host)


_XROOTD_CLIENT = {
    "XRD_CONNECTIONWINDOW": "3",
    "XRD_CONNECTIONRETRY": "1",
    "XRD_TIMEOUTRESOLUTION": "1",
    "XRD_STREAMERRORWINDOW": "0",
    "XRD_REQUESTTIMEOUT": str(SILENCE),
}


class _Listed(_Server):
    """A protocol that fsspec has all calls for."""

    def __init__(self, scheme: str, host: str) -> None:
        super().__init__(scheme, host)
        self._fs = self._filesystem()

    @abstractmethod
    def _filesystem(self) -> Any: ...

    @abstractmethod
    def _name(self, url: Url) -> str:
        """Return what fsspec calls a file."""

    def open(self, url: Url) -> tuple[int, bytes]:
        info = self._fs.info(self._name(url))
        if info["type"] == "directory":
            raise IsADirectoryError
        return int(info["size"]), b""

    def fetch(self, url: Url, ranges: Sequence[Range]) -> Sequence[bytes | Exception]:
        starts, stops = [r.start for r in ranges], [r.stop for r in ranges]
        names = [self._name(url)] * len(ranges)
        answers: list[bytes | Exception] = self._fs.cat_ranges(
            names, starts, stops, batch_size=IN_FLIGHT, on_error="return"
        )
        return answers

    def find(self, pattern: Url) -> list[Url]:
        self._fs.invalidate_cache()
        found = self._fs.glob(self._name(pattern), detail=True)
        return [self._url(pattern, n) for n, info in found.items() if info["type"] == "file"]

    @abstractmethod
    def _url(self, pattern: Url, name: str) -> Url:
        """Return the URL of what fsspec calls a file."""


class _XRootD(_Listed):
    def _filesystem(self) -> Any:
        import fsspec

        return fsspec.filesystem(
            "root", hostid=self.host, timeout=SILENCE, use_listings_cache=False
        )

    def _name(self, url: Url) -> str:
        return url.path

    def _url(self, pattern: Url, name: str) -> Url:
        return Url(pattern.scheme, pattern.host, "/" + name.lstrip("/"))

    def fetch(self, url: Url, ranges: Sequence[Range]) -> Sequence[bytes | Exception]:
        try:
            return super().fetch(url, ranges)  # one vector read
        except Exception:
            # A file that was open when its server went is open no more: forget it.
            with contextlib.suppress(Exception):
                self._fs.invalidate_cache(url.path)
            raise


class _S3(_Listed):
    def _filesystem(self) -> Any:
        import fsspec

        set_by_user = dict(fsspec.config.conf.get("s3", {}).get("config_kwargs", {}))
        silence = {"connect_timeout": SILENCE, "read_timeout": SILENCE}
        once = {"retries": {"max_attempts": 1}}  # trying again is done here
        fs = fsspec.filesystem(
            "s3",
            config_kwargs={**silence, **once, **set_by_user},
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        fs.retries = 1
        return fs

    def _name(self, url: Url) -> str:
        return f"{url.host}{url.path}"

    def _url(self, pattern: Url, name: str) -> Url:
        bucket, _, key = name.partition("/")
        return Url(pattern.scheme, bucket, f"/{key}")


class _Http(_Server):
    """fsspec's session, whose own calls do not look whether a server honours ranges."""

    def __init__(self, scheme: str, host: str) -> None:
        import fsspec

        super().__init__(scheme, host)
        self._fs = fsspec.filesystem(scheme, skip_instance_cache=True)
        self._versions: dict[Url, tuple[int, str | None]] = {}

    def open(self, url: Url) -> tuple[int, bytes]:
        answer: tuple[int, bytes] = self._run(self._open(url))
        return answer

    def fetch(self, url: Url, ranges: Sequence[Range]) -> Sequence[bytes | Exception]:
        answers: Sequence[bytes | Exception] = self._run(self._fetch(url, ranges))
        return answers

    def whole(self, url: Url, file: IO[bytes]) -> None:
        """Write all of a file into `file`."""
        self._run(self._whole(url, file))

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._fs.loop).result()

    async def _get(self, url: Url, part: Range | None) -> Any:
        import aiohttp

        given = dict(self._fs.kwargs)
        headers = {**given.pop("headers", {}), "Accept-Encoding": "identity"}
        if part is not None:
            headers["Range"] = f"bytes={part.start}-{part.stop - 1}"
        limits = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
        session = await self._fs.set_session()
        return session.get(
            self._fs.encode_url(str(url)), **{"timeout": limits, **given, "headers": headers}
        )

    async def _open(self, url: Url) -> tuple[int, bytes]:
        async with await self._get(url, Range(0, BLOCK)) as answer:
            if answer.status == 416:  # a file of no bytes has no first ones
                return 0, b""
            _check(answer)
            if answer.status != 206:
                raise _NoRangesError
            size = _total(answer)
            self._versions[url] = size, answer.headers.get("ETag")
            return size, await answer.read()

    async def _fetch(self, url: Url, ranges: Sequence[Range]) -> Sequence[bytes | Exception]:
        turn = asyncio.Semaphore(IN_FLIGHT)

        async def one(part: Range) -> bytes:
            async with turn, await self._get(url, part) as answer:
                _check(answer)
                if answer.status != 206:
                    raise _AnswerError("the server no longer sends parts of the file")
                version = _total(answer), answer.headers.get("ETag")
                if version != self._versions.get(url, version):
                    raise InputError(f"{url} changed while it was being read")
                content: bytes = await answer.read()
                return content

        answers = await asyncio.gather(*map(one, ranges), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, InputError) or not isinstance(answer, bytes | Exception):
                raise answer
        return [answer for answer in answers if isinstance(answer, bytes | Exception)]

    async def _whole(self, url: Url, file: IO[bytes]) -> None:
        async with await self._get(url, None) as answer:
            _check(answer)
            file.seek(0)
            file.truncate()
            async for content in answer.content.iter_chunked(LARGEST):
                file.write(content)
            file.flush()
            expected, got = answer.content_length, file.tell()
            if expected is not None and got != expected:
                raise _AnswerError(f"{got} of {expected} bytes came")


def _check(answer: Any) -> None:
    if answer.status == 404:
        raise FileNotFoundError
    answer.raise_for_status()


def _total(answer: Any) -> int:
    """Return the size of the file of which an answer has a part."""
    total = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if total is None:
        raise _AnswerError("the server does not say how long the file is")
    return int(total[1])


# --- whole files ---------------------------------------------------------------------------------

_WHOLE: OrderedDict[Url, IO[bytes]] = OrderedDict()
_WHOLE_LOCK = threading.Lock()
_N_WHOLE = 8
"""So many files that could not be had in parts are kept, in temporary files without a name."""


def _fetched(url: Url, server: Any) -> LocalFile:
    """Return a file that was fetched as a whole, once for as long as it is among the last ones."""
    with _WHOLE_LOCK:
        if url not in _WHOLE:
            log.warning("%s: the server sends no parts of files, so all of it is fetched", url)
            copy = tempfile.TemporaryFile(prefix="htt-ml-")  # noqa: SIM115  # it outlives this call
            try:
                _patiently(url, "fetch it", lambda: server.whole(url, copy))
            except BaseException:
                copy.close()
                raise
            _WHOLE[url] = copy
            while len(_WHOLE) > _N_WHOLE:
                _WHOLE.popitem(last=False)[1].close()
        _WHOLE.move_to_end(url)
        return LocalFile(url, os.dup(_WHOLE[url].fileno()))
