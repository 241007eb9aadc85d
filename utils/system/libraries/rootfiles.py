"""uproot, imported without awkward arrays: `from utils.system.libraries.rootfiles import uproot`.

Importing awkward is half of the processor time of `import uproot`. It is used where jagged branches
are read and where trees are written, and imported then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from utils.system.libraries.imports import later

later("awkward")

import uproot  # noqa: E402

from utils.system.ranges import ByteFile, Range  # noqa: E402

if TYPE_CHECKING:
    import queue

__all__ = ["open_root", "uproot"]


def open_root(file: ByteFile) -> Any:
    """Open a ROOT file with uproot, which reads the bytes of `file` and leaves it open."""

    class OfFile(_Bytes):
        held = file

    return uproot.open(
        {str(file.location): None}, handler=OfFile, object_cache=None, array_cache=None
    )


class _Bytes(uproot.source.chunk.Source):  # type: ignore[misc]
    """What uproot reads from: the file that a subclass holds."""

    held: ByteFile

    def __init__(self, file_path: str, **_: Any) -> None:
        super().__init__()
        self._file_path, self._num_bytes, self._closed = file_path, self.held.size, False

    def __enter__(self) -> _Bytes:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True

    @property
    def closed(self) -> bool:
        return self._closed

    def chunk(self, start: int, stop: int) -> Any:
        return self._chunks([(int(start), int(stop))])[0]

    def chunks(self, ranges: list[tuple[int, int]], notifications: queue.Queue[Any]) -> list[Any]:
        found = self._chunks([(int(start), int(stop)) for start, stop in ranges])
        for chunk in found:
            notifications.put(chunk)
        return found

    def _chunks(self, ranges: list[tuple[int, int]]) -> list[Any]:
        contents = self.held.read([Range(start, stop - start) for start, stop in ranges])
        future = uproot.source.futures.TrivialFuture
        return [
            uproot.source.chunk.Chunk(self, start, stop, future(content))
            for (start, stop), content in zip(ranges, contents, strict=True)
        ]
