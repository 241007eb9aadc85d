"""Units of work that are done stay done: a repeated command does what is missing or has changed.

A unit (the skim of a sample, a fold, the friend trees of a sample, an evaluation) has a
fingerprint of what its result follows from: its inputs, its part of the configuration, and the code
of its step. When it is done, a record says so, with size and time of its files. Equal fingerprint,
intact files: skipped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from utils.schema import PROJECT, Location, portable
from utils.system.files import complete, discard_abandoned
from utils.system.libraries import versions

log = logging.getLogger(__name__)

RECORDS = PROJECT / "outputs" / "done"
"""A file for each unit that is done."""

_PARTS = {"inputs": "its input", "configuration": "its configuration", "code": "the code"}


@dataclass(frozen=True)
class UnitOfWork:
    """What is done as a whole or not at all.

    `name` is for the log, `key` what tells it from all other units (the place of its result),
    `step` the module that does it. `inputs` and `configuration` are what its result follows from:
    plain values, dataclasses, arrays of none. `files` are those it makes.
    """

    name: str
    key: str
    step: str
    inputs: Any
    configuration: Any
    files: Sequence[Path] = ()

    def __post_init__(self) -> None:
        code_of(self.step)  # now: sources that change during the work are not what it was done by

    @property
    def made_from(self) -> dict[str, str]:
        """The fingerprint, by what it covers."""
        return {
            "inputs": _digest(self.inputs),
            "configuration": _digest(self.configuration),
            "code": code_of(self.step),
        }

    @property
    def fingerprint(self) -> str:
        return _digest(self.made_from)

    @property
    def _record(self) -> Path:
        return _record_of(self.key)


def _record_of(key: str) -> Path:
    return RECORDS / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def recall(unit: UnitOfWork, force: bool = False) -> Any | None:
    """Return what was recorded of a unit that is done, None where it is to be done (again).

    Says which, and why.
    """
    try:
        record = json.loads(unit._record.read_text(encoding="utf-8"))
        before, found, result = record["made_from"], record["files"], record["result"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        log.info("%s: done again, its record is damaged", unit.name)
        return None
    why = changed(unit, before, force)
    if not why and found != _stamps(unit.files):
        why = "what it made is not there any more, or was changed"
    tell(unit, why)
    return None if why else result


def changed(unit: UnitOfWork, before: Mapping[str, str], force: bool) -> str:
    """Return why a unit is to be done again that was made from `before`; '' where it is not."""
    parts = [said for part, said in _PARTS.items() if before.get(part) != unit.made_from[part]]
    return "as asked for" if force else f"{' and '.join(parts)} changed" if parts else ""


def tell(unit: UnitOfWork, why: str) -> None:
    """Say that a unit is skipped, or `why` it is done again."""
    if why:
        log.info("%s: done again, %s", unit.name, why)
    else:
        log.info("%s: unchanged, skipped", unit.name)


def result_of(unit: UnitOfWork) -> Any:
    """Return what was recorded of a unit that is done."""
    return json.loads(unit._record.read_text(encoding="utf-8"))["result"]


def record(unit: UnitOfWork, result: Any) -> None:
    """Remember that a unit is done, with a plain value that `recall` gives back."""
    content = {
        "unit": unit.name,
        "made_from": unit.made_from,
        "files": _stamps(unit.files),
        "result": result,
    }
    discard_abandoned(RECORDS)
    with complete(unit._record) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


def forget(key: str) -> None:
    """Let the unit of this key not be done."""
    _record_of(key).unlink(missing_ok=True)


def stamp(place: Location) -> list[int] | None:
    """Return size and time of a file, by which a change of it is seen.

    None where there is none, and of one on a server, which its size and UUID tell from others.
    """
    if not isinstance(place, Path) or not place.is_file():
        return None
    status = place.stat()
    return [status.st_size, status.st_mtime_ns]


def _stamps(files: Sequence[Path]) -> dict[str, list[int] | None]:
    return {portable(f): stamp(f) for f in files}


def _digest(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """Return a value in plain ones, that what is equal has one text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return portable(value)
    raise TypeError(f"a {type(value).__name__} is no part of a fingerprint")


# --- the code of a step --------------------------------------------------------------------------


@cache
def code_of(module: str) -> str:
    """Return a digest of a module, of all of `utils` that it imports, and of libraries' versions.

    Imports are followed wherever they stand, in functions too.
    """
    digest = hashlib.sha256()
    for path in sorted(sources_of(module)):
        source = _source(path)
        digest.update(f"{path.relative_to(PROJECT).as_posix()} {len(source)}\n".encode() + source)
    digest.update(json.dumps(versions.counted()).encode())
    return digest.hexdigest()[:32]


@cache
def sources_of(module: str) -> frozenset[Path]:
    """Return the files of `utils` that a module consists of, and those that these import."""
    found: set[str] = set()
    left = [module]
    while left:
        name = left.pop()
        if name in _modules() and name not in found:
            found.add(name)
            left += imported(_source(_modules()[name]))
    return frozenset(_modules()[name] for name in found)


@cache
def _modules() -> dict[str, Path]:
    """Return the files of `utils` by the names of their modules."""
    found = {}
    for path in PROJECT.joinpath("utils").rglob("*.py"):
        name = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@cache
def _source(path: Path) -> bytes:
    return path.read_bytes()


_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(utils[\w.]*)[ \t]+import[ \t]*(\([^)]*\)|[^\n]*)|import[ \t]+([^\n]*))",
    re.MULTILINE,
)
"""An import of modules of `utils`. Parsing a hundred files takes 0.3 s, finding their imports so a
hundredth of it; what only looks like an import, in a text, is one more file that counts."""


def imported(source: bytes) -> set[str]:
    """Return the names that a source imports which may be modules of `utils`, and their packages.

    Tests compare with what Python's parser finds.
    """
    named: set[str] = set()
    for package, names, modules in _IMPORT.findall(source):
        listed = [words.split()[0].decode() for words in _listed(names or modules)]
        named |= {f"{package.decode()}.{name}" for name in listed} if package else {*listed}
    own = [name.split(".") for name in named if name.split(".")[0] == "utils"]
    return {".".join(parts[:n]) for parts in own for n in range(1, len(parts) + 1)}


def _listed(names: bytes) -> list[bytes]:
    """Return what stands between the commas of an import, without comments."""
    without = re.sub(rb"#[^\n]*", b"", names).strip(b"() \t")
    return [words for words in without.split(b",") if words.strip()]
