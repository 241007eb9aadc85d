"""Which files a sample consists of."""

from __future__ import annotations

import difflib
from pathlib import Path

from utils.schema import InputError, Location, Sample, Url, is_url, is_within, joined, location
from utils.system.opening import find_urls, open_bytes
from utils.system.ranges import Range

LONGEST_LIST = 10_000_000
"""Bytes of a list of files; a ROOT file by that name would be read as one."""


def find_files(sample: Sample) -> tuple[Location, ...]:
    """Return the sample's files, sorted.

    An entry of `sample.files` is a path or URL, a pattern (`*`, `?`, `[...]`) of either or a text
    file (`.txt`, `.list`) with one of these per line, `#` starting a comment. Raises InputError for
    an entry that leads to no file and for a file named twice.
    """
    found: list[Location] = []
    if not sample.files:
        raise InputError(f"files of sample '{sample.name}' is an empty list: name at least one")
    for entry in sample.files:
        place = location(entry)
        if place.suffix in (".txt", ".list"):
            lines = _read_lines(place, sample.name)
            for line in lines:
                found += _match(_listed(line, place), f"{place}, sample '{sample.name}'")
            if not lines:
                raise InputError(f"{place} (sample '{sample.name}') names no file")
        else:
            found += _match(place, f"sample '{sample.name}'")
    doubled = sorted({str(p) for p in found if found.count(p) > 1})
    if doubled:
        raise InputError(
            f"sample '{sample.name}' names {doubled[0]} twice: its events would count twice"
        )
    return tuple(sorted(found, key=lambda place: place.parts))


def _read_lines(place: Location, sample: str) -> list[str]:
    if isinstance(place, Path) and not place.is_file():
        raise InputError(f"{no_such_file(place)} (list of files of sample '{sample}')")
    with open_bytes(place) as file:
        if file.size > LONGEST_LIST:
            raise InputError(f"{place} has {file.size} bytes: it is no list of files")
        [content] = file.read([Range(0, file.size)])
    try:
        text = bytes(content).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{place} is not a readable text file: {error}") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _listed(line: str, listing: Location) -> Location:
    """Return what a line of a list names.

    The user who named a list on a server named that server, and no other place: its lines are
    relative to the list, or URLs of the same server.
    """
    if isinstance(listing, Path):
        return location(line)
    server = Url(listing.scheme, listing.host, "/")
    place = location(line) if is_url(line) else joined(listing.parent, line)
    if not is_within(place, server):
        raise InputError(
            f"{listing} names {place}, which is not on its own server: list that file in a list of "
            "your own"
        )
    return place


def _match(place: Location, where: str) -> list[Location]:
    if isinstance(place, Url):
        if not place.is_pattern:
            return [place]
        urls = find_urls(place)
        if not urls:
            raise InputError(f"no file matches {place} ({where})")
        return list(urls)
    if place.is_dir():
        raise InputError(f"{place} is a folder ({where}): write {place}/*.root for its files")
    if place.is_file():
        return [place]
    if not set(str(place)) & set("*?["):
        raise InputError(f"{no_such_file(place)} ({where})")
    matches = list(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
    if not matches:
        raise InputError(f"no file matches {place} ({where})")
    return [match for match in matches if match.is_file()]


def no_such_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no file {path}, nor a folder {path.parent}"
    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"there is no file {path}" + (f"; nearest: '{close[0]}'" if close else "")
