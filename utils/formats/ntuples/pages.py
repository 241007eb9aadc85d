"""The checksums of an RNTuple: uproot, which reads its columns, looks at those of the header only.

ROOT writes an xxh3 checksum behind each page and each list of pages; uproot writes none behind
pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xxhash import xxh3_64_intdigest

from utils.system.ranges import ByteFile, Range

_SIZE = 8


class PageCheck:
    """Compares the pages of an open RNTuple with their checksums, each page once.

    `ntuple` is uproot's RNTuple and `file` its file.
    """

    def __init__(self, ntuple: Any, file: ByteFile) -> None:
        self.ntuple, self.file = ntuple, file
        self._seen: set[tuple[int, int]] = set()
        for group in ntuple.footer.cluster_group_records:
            link = group.page_list_link
            listed, _ = ntuple.read_locator(link.locator, link.env_uncomp_size)
            _compare(bytes(listed.raw_data[: link.env_uncomp_size]), "a list of pages")

    def check(self, field: str, start: int, stop: int) -> None:
        """Raise ValueError where a page of `field` between two entries is not as it was written."""
        columns = self._columns_of(self.ntuple[field].field_id)
        for index, cluster in enumerate(self.ntuple.cluster_summaries):
            first = cluster.num_first_entry
            if first >= stop or first + cluster.num_entries <= start:
                continue
            pages = self.ntuple.page_link_list[index]
            new = [c for c in columns if c < len(pages) and (index, c) not in self._seen]
            locators = [p.locator for c in new for p in pages[c].pages if p.has_checksum]
            ranges = [Range(int(p.offset), int(p.num_bytes) + _SIZE) for p in locators]
            for content, part in zip(self.file.read(ranges), ranges, strict=True):
                _compare(bytes(content), f"a page of cluster {index}", part.size - _SIZE)
            self._seen |= {(index, column) for column in new}

    def _columns_of(self, field_id: int) -> list[int]:
        fields = set(self._below(field_id))
        return [c.idx for c in self.ntuple.column_records if c.field_id in fields]

    def _below(self, field_id: int) -> Iterator[int]:
        """Yield a field, the one it is a projection of, and those inside it."""
        yield field_id
        source = self.ntuple.field_records[field_id].source_field_id
        if source is not None:
            yield from self._below(source)
        for inner, record in enumerate(self.ntuple.field_records):
            if record.parent_field_id == field_id != inner:
                yield from self._below(inner)


def _compare(content: bytes, what: str, size: int | None = None) -> None:
    """Raise ValueError unless `content` of `size` bytes ends with its checksum."""
    size = len(content) - _SIZE if size is None else size
    stated = int.from_bytes(content[size:], "little")
    if len(content) != size + _SIZE or xxh3_64_intdigest(content[:size]) != stated:
        raise ValueError(f"{what} has another checksum than when it was written")
