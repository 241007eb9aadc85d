"""The columns of an open file, basket by basket.

A basket is fetched, unpacked and checked against what the tree says it must hold, so that a damaged
or shortened file is an error and never a shorter or wrong column. A changed byte inside the data is
found where the format has a checksum: in data packed by ZLIB, LZMA or LZ4 and in the pages of an
RNTuple that ROOT wrote, not in data packed by ZSTD or not at all. What a basket cannot hold in
plain form (Double32, RNTuple) is left to uproot.
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from isal import isal_zlib
from xxhash import xxh64_intdigest

from utils.columns.arrays import Array, Integers
from utils.formats.ntuples.pages import PageCheck
from utils.formats.ntuples.trees import Baskets, Source, TreeInfo, cause, open_input
from utils.schema import InputError
from utils.system.libraries.rootfiles import open_root, uproot
from utils.system.ranges import Range

_KEY = struct.Struct(">ihiIhh")  # bytes, version, bytes unpacked, date, length of the key, cycle
_BASKET = struct.Struct(">Hiiii")  # version, buffer size, offset size, entries, end of the data
_LZ4 = uproot.LZ4(1)
_UNPACK = {
    b"ZL": lambda content, unpacked: isal_zlib.decompress(content, bufsize=unpacked),
    b"XZ": uproot.LZMA(1).decompress,
    b"L4": lambda content, unpacked: _unpack_lz4(content, unpacked),
    b"ZS": uproot.ZSTD(1).decompress,
}


class Reader:
    """An open file from which columns are read; each column by one thread at a time."""

    def __init__(self, info: TreeInfo) -> None:
        self.info = info
        self.last: dict[str, tuple[int, Array]] = {}  # a basket may reach into the next chunk
        self.prepared: dict[str, int] = {}  # the basket behind the last that was prepared
        self.lock = threading.Lock()
        self.slow: Any = None
        self.pages: PageCheck | None = None

    def __enter__(self) -> Reader:
        self.file = open_input(self.info.path)
        if self.file.size != self.info.size:
            self.file.close()
            raise InputError(f"{self.info.path} changed while it was being read")
        return self

    def __exit__(self, *_: object) -> None:
        if self.slow is not None:
            self.slow.close()
        self.file.close()

    def read(self, name: str, rows: Integers | range) -> Array:
        """Return the column at the ascending entries `rows`, shape (n,) or (n, size)."""
        source = self.info.sources[name]
        try:
            if source.baskets is None:
                return self._read_slowly(name, source, rows)
            return self._read_baskets(name, source, source.baskets, rows)
        except InputError:
            raise
        except Exception as error:
            raise self._damaged(name, rows, cause(error)) from error

    def prepare(self, names: Sequence[str], rows: Integers | range, span: range, stop: int) -> None:
        """Have the baskets on their way in which columns have the ascending entries `rows`.

        From a disk there is nothing to prepare. From a server they come many at once; and where
        entries of all baskets in `span` are wanted, so, most likely, are those of the baskets that
        follow, up to entry `stop`: these come along, as many as are worth a further request.
        """
        if not self.file.ahead or not len(rows):
            return
        wanted: list[Range] = []
        all_used, baskets_of = True, {}
        for name in names:
            baskets = self.info.sources[name].baskets
            if baskets is None:
                continue
            baskets_of[name] = baskets
            numbers = _overlapping(baskets, span)
            used: Iterable[int] = numbers
            if not isinstance(rows, range):
                edges = np.searchsorted(rows, baskets.first[numbers.start : numbers.stop + 1])
                used = (numbers.start + np.flatnonzero(np.diff(edges))).tolist()
                all_used &= len(used) == len(numbers)
            wanted += self._lacking(name, baskets, used)
        if wanted and all_used:
            n_bytes = sum(r.size for r in wanted)
            for start in range(span.stop, stop, len(span)):
                following = range(start, min(start + len(span), stop))
                more = {n: _overlapping(b, following) for n, b in baskets_of.items()}
                n_bytes += sum(
                    int(b.size[more[n].start :][: len(more[n])].sum())
                    for n, b in baskets_of.items()
                )
                if n_bytes > self.file.ahead:
                    break
                for name, baskets in baskets_of.items():
                    wanted += self._lacking(name, baskets, more[name])
        self.file.prepare(wanted)

    def _lacking(self, name: str, baskets: Baskets, used: Iterable[int]) -> list[Range]:
        """Return where those of the ascending baskets `used` are that were not prepared yet."""
        known = self.prepared.get(name, 0)
        new = [k for k in used if known <= k < len(baskets.seek)]
        if new:
            self.prepared[name] = new[-1] + 1
        return [Range(int(baskets.seek[k]), int(baskets.size[k])) for k in new]

    def _damaged(self, name: str, rows: Integers | range, cause: str) -> InputError:
        at = f", entries {rows[0]} to {rows[-1]}" if len(rows) else ""
        return InputError(f"branch '{name}' of {self.info.where} cannot be read{at}: {cause}")

    def _read_baskets(
        self, name: str, source: Source, baskets: Baskets, rows: Integers | range
    ) -> Array:
        kind = self.info.branches[name]
        column = np.empty((len(rows), *kind.shape), dtype=kind.base)
        if not len(rows):
            return column
        first = baskets.first
        k = bisect_right(first, rows[0]) - 1
        filled = 0
        while filled < len(rows):
            low, high = int(first[k]), int(first[k + 1])
            if isinstance(rows, range):
                until = min(len(rows), high - rows.start)
                inside: Any = slice(rows[filled] - low, rows[until - 1] + 1 - low)
            else:
                until = bisect_left(rows, high, filled)
                inside = rows[filled:until] - low
            if until > filled:
                data = self._basket(name, source, baskets, k)
                column[filled:until] = (
                    data[inside] if source.leaf is None else data[source.leaf][inside]
                )
                filled = until
            k += 1
        return column

    def _basket(self, name: str, source: Source, baskets: Baskets, k: int) -> Array:
        """Return the entries of basket `k`, in the type they are stored in."""
        number, data = self.last.get(name, (-1, None))
        if number == k and data is not None:
            return data
        rows = range(int(baskets.first[k]), int(baskets.first[k + 1]))
        wanted = len(rows) * source.stored.itemsize
        content: Any
        if k < len(baskets.seek):
            seek, size = int(baskets.seek[k]), int(baskets.size[k])
            try:
                content = self._content(name, rows, wanted, seek, size)
            except InputError:
                raise
            except Exception as error:  # each way of compression has its own
                raise self._damaged(name, rows, cause(error)) from error
        else:
            content = baskets.inside[k - len(baskets.seek)]
        if len(content) < wanted:
            raise self._damaged(name, rows, f"a basket of {wanted} bytes holds {len(content)}")
        stored = source.stored
        if stored.base == np.bool_:  # whatever is not zero is true
            stored = np.dtype(("u1", stored.shape))
        data = np.frombuffer(content, dtype=stored, count=len(rows))
        self.last[name] = (k, data)
        return data

    def _content(
        self, name: str, rows: range, wanted: int, seek: int, size: int
    ) -> bytes | bytearray | memoryview:
        """Return the unpacked data of a basket after checking what it says of itself."""
        raw = self.file.taken(Range(seek, size))
        n_bytes, _, n_unpacked, _, key_length, _ = _KEY.unpack_from(raw)
        *_, n_held, end = _BASKET.unpack_from(raw, key_length - _BASKET.size - 1)
        if (len(raw), n_bytes, n_held, end - key_length) != (size, size, len(rows), wanted):
            raise self._damaged(
                name,
                rows,
                f"expected {len(rows)} entries in {size} bytes, found {n_held} in {n_bytes}",
            )
        # Behind the data a basket may carry the offset of each entry, never more.
        if not wanted <= n_unpacked <= wanted + 4 * len(rows) + 64:
            raise self._damaged(name, rows, f"a basket of {wanted} bytes says it has {n_unpacked}")
        content = memoryview(raw)[key_length:]
        return content if len(content) == n_unpacked else _unpack(content, n_unpacked)

    def _read_slowly(self, name: str, source: Source, rows: Integers | range) -> Array:
        kind = self.info.branches[name]
        if not len(rows):
            return np.empty((0, *kind.shape), dtype=kind.base)
        first, last = int(rows[0]), int(rows[-1])
        with self.lock:  # one uproot file, used by one thread at a time
            if self.slow is None:
                self.slow = open_root(self.file)
                self.tree = self.slow[self.info.tree]
                if self.info.is_rntuple:
                    self.pages = PageCheck(self.tree, self.file)
            if self.pages is not None:
                self.pages.check(source.branch, first, last + 1)
            column = self.tree[source.branch].array(
                entry_start=first, entry_stop=last + 1, library="np"
            )
        if source.leaf is not None:
            column = column[source.leaf]
        if len(column) != last + 1 - first:
            raise self._damaged(name, rows, f"it gives {len(column)} entries")
        column = np.asarray(column)
        if column.dtype == object or column.shape[1:] != kind.shape:
            raise self._damaged(name, rows, f"it gives {column.dtype}, shape {column.shape[1:]}")
        column = column.astype(kind.base, copy=False)
        return column if isinstance(rows, range) else column[np.asarray(rows) - first]


def _overlapping(baskets: Baskets, span: range) -> range:
    """Return the numbers of the baskets that hold any entry of `span`."""
    first = baskets.first
    return range(bisect_right(first, span.start) - 1, bisect_left(first, span.stop))


def _unpack(content: memoryview, n_unpacked: int) -> bytes | bytearray:
    """Return the data of compressed blocks, each behind a header of 9 bytes."""
    blocks = []
    while content:
        method = bytes(content[:2])
        packed = int.from_bytes(content[3:6], "little")
        unpacked = int.from_bytes(content[6:9], "little")
        if method not in _UNPACK or packed > len(content) - 9:
            raise ValueError(f"compressed block {method!r} of {packed} bytes is not understood")
        block = _UNPACK[method](content[9 : 9 + packed], unpacked)
        if len(block) != unpacked:
            raise ValueError(f"a block of {unpacked} bytes unpacks to {len(block)}")
        blocks.append(block)
        content = content[9 + packed :]
    if sum(map(len, blocks)) != n_unpacked:
        raise ValueError(f"a basket of {n_unpacked} bytes unpacks to {sum(map(len, blocks))}")
    return bytes(blocks[0]) if len(blocks) == 1 else b"".join(map(bytes, blocks))


def _unpack_lz4(content: memoryview, n_unpacked: int) -> Any:
    """Return an unpacked LZ4 block; its checksum stands in front, since LZ4 has none of its own."""
    if xxh64_intdigest(content[8:]) != int.from_bytes(content[:8], "big"):
        raise ValueError("a compressed block has another checksum than when it was written")
    return _LZ4.decompress(content[8:], n_unpacked)
