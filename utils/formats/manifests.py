"""Manifests: what one publication of a run consists of, with checksums, written last.

A run holds four kinds of publications: its training, tables, friend trees and evaluations. Each has
one manifest, whose place follows from that of any of its files (`manifest_of`). What no manifest
lists is not read, and what differs from it is refused by name. That finds edits and damage, not
forgers: who changes a file and its manifest alike is believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Self

FORMAT = "manifest-1"
NAME = "manifest"


@dataclass(frozen=True)
class Listed:
    """A file of a publication: its size, its SHA-256, and where it is kept in the run."""

    size: int
    sha256: str
    kept: str

    @classmethod
    def of(cls, source: Path, kept: str) -> Self:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(file.tell(), digest, kept)

    def differs(self, copy: Path) -> bool:
        """Tell whether a copy is another file than the listed one."""
        if copy.stat().st_size != self.size:
            return True
        return type(self).of(copy, self.kept).sha256 != self.sha256


@dataclass(frozen=True)
class Manifest:
    """The files of a publication by their artifact paths, and what the publication says of itself.

    `former`: it is an evaluation's of the time before checksums, which names files only.
    `obsolete`: files of the publication before, which go when these files get their own names.
    """

    files: dict[str, Listed]
    about: dict[str, Any] = field(default_factory=dict)
    former: bool = False
    obsolete: tuple[str, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Tell whether each file is kept under its own name."""
        return all(listed.kept == path for path, listed in self.files.items())

    def to_json(self) -> str:
        rows = {
            path: {"bytes": f.size, "sha256": f.sha256}
            | ({"kept": f.kept} if f.kept != path else {})
            for path, f in sorted(self.files.items())
        }
        obsolete = {"obsolete": list(self.obsolete)} if self.obsolete else {}
        return json.dumps({**self.about, "format": FORMAT, "files": rows, **obsolete}, indent=1)

    @classmethod
    def from_json(cls, text: str, place: str) -> Self:
        """Return what `to_json` wrote to the artifact `place`.

        Raises ValueError, KeyError or TypeError where it is something else, or lists a file that
        is not one of this publication.
        """
        raw = json.loads(text)
        files, stated = raw.pop("files"), raw.pop("format", None)
        obsolete = tuple(str(path) for path in raw.pop("obsolete", ()))
        former = stated is None and isinstance(files, list)
        if not former and stated != FORMAT:
            raise ValueError(f"it is of format {stated}, this version reads {FORMAT}")
        if former:
            listed = {str(path): Listed(-1, "", str(path)) for path in files}
        else:
            listed = {
                path: Listed(int(row["bytes"]), str(row["sha256"]), str(row.get("kept", path)))
                for path, row in files.items()
            }
        for name in (*listed, *(row.kept for row in listed.values()), *obsolete):
            if not is_inside(name) or not PurePosixPath(name).is_relative_to(
                PurePosixPath(place).parent
            ):
                raise ValueError(f"it lists {name}")
        return cls(listed, raw, former, obsolete)


def manifest_of(path: str) -> str:
    """Return where the manifest of the publication is that the artifact `path` belongs to.

    The training's for `recipe/`, one a dataset for `plots/<dataset>/`, one a table (its CSV and
    Parquet file) or friend tree for others.
    """
    place = PurePosixPath(path)
    if place.parts[0] == "recipe":
        return f"recipe/{NAME}.json"
    if place.parts[0] == "plots" and len(place.parts) > 2:
        return f"plots/{place.parts[1]}/{NAME}.json"
    kind = "friend" if place.suffix == ".root" else "table"
    return str(place.with_name(f"{NAME}_{kind}_{place.stem}.json"))


def is_manifest(path: str) -> bool:
    """Tell whether an artifact has the name of a manifest."""
    name = PurePosixPath(path).name
    return name == f"{NAME}.json" or name.startswith((f"{NAME}_table_", f"{NAME}_friend_"))


def is_inside(path: str) -> bool:
    """Tell whether an artifact path leads to a place inside the run."""
    place = PurePosixPath(path)
    return bool(place.parts) and not place.is_absolute() and ".." not in place.parts


def settled(manifest: Manifest) -> Manifest:
    """Return the manifest of the same files under their own names."""
    files = {path: replace(listed, kept=path) for path, listed in manifest.files.items()}
    return replace(manifest, files=files, obsolete=())


def summed(files: Mapping[str, Path], kept: Mapping[str, str]) -> dict[str, Listed]:
    """Return how a manifest lists `files`, artifact path -> source, and where each is `kept`."""
    return {path: Listed.of(source, kept[path]) for path, source in files.items()}
