"""Which copy of the project a process computes with: a Dask worker keeps what it once imported."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from utils.schema import PROJECT


def fingerprint(folder: Path) -> str:
    """Return a hash of the names and contents of all Python sources below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def own_code() -> str:
    """Return the fingerprint of the code of this process, as it was when it was first asked for.

    A process that goes on for days is asked at its first unit of work: what is edited later is
    not what it has imported.
    """
    return fingerprint(PROJECT / "utils")


def why_not(project: str, code: str) -> str | None:
    """Return why this process must not work for the project in a folder with that code."""
    if Path(project).resolve() != PROJECT:
        return f"has loaded the copy of the project in {PROJECT}, not that in {project}"
    if own_code() != code:
        return f"has loaded other code of {project} than this command (it was edited since)"
    return None
