"""Which files a sample consists of."""

from __future__ import annotations

import difflib
from pathlib import Path

from utils.schema import InputError, Sample, project_path


def find_files(sample: Sample) -> tuple[Path, ...]:
    """Return the sample's files, sorted.

    An entry of `sample.files` is a path, a pattern (`*`, `?`, `[...]`) or a text file (`.txt`,
    `.list`) with one of these per line, `#` starting a comment. Raises InputError for an entry
    that leads to no file and for a file named twice.
    """
    found: list[Path] = []
    if not sample.files:
        raise InputError(f"files of sample '{sample.name}' is an empty list: name at least one")
    for entry in sample.files:
        path = project_path(entry)
        if path.suffix in (".txt", ".list"):
            lines = _read_lines(path, sample.name)
            for line in lines:
                found += _match(line, f"{path}, sample '{sample.name}'")
            if not lines:
                raise InputError(f"{path} (sample '{sample.name}') names no file")
        else:
            found += _match(entry, f"sample '{sample.name}'")
    doubled = sorted({str(p) for p in found if found.count(p) > 1})
    if doubled:
        raise InputError(
            f"sample '{sample.name}' names {doubled[0]} twice: its events would count twice"
        )
    return tuple(sorted(found))


def _read_lines(path: Path, sample: str) -> list[str]:
    if not path.is_file():
        raise InputError(f"{no_such_file(path)} (list of files of sample '{sample}')")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable text file: {error}") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _match(entry: str, where: str) -> list[Path]:
    path = project_path(entry)
    if path.is_dir():
        raise InputError(f"{path} is a folder ({where}): write {path}/*.root for its files")
    if path.is_file():
        return [path]
    if not set(str(path)) & set("*?["):
        raise InputError(f"{no_such_file(path)} ({where})")
    matches = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not matches:
        raise InputError(f"no file matches {path} ({where})")
    return [match for match in matches if match.is_file()]


def no_such_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no file {path}, nor a folder {path.parent}"
    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"there is no file {path}" + (f"; nearest: '{close[0]}'" if close else "")
