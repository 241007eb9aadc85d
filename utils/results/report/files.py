"""Files that are complete or not there, and one figure to one interactive page."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import plotly.graph_objects as go

from utils.results.report.page import Sheet, figure_block, sheet, skeleton


def write_html(figure: go.Figure | Sheet, path: str | Path, name: str | None = None) -> Path:
    """Write `figure` as an interactive page that works offline; `name` is its key (the stem)."""
    path = Path(path)
    text = sheet(figure)
    body = f"<main>{figure_block(name or path.stem, text)}</main>"
    return write_whole(path, skeleton(text.title or path.stem, body).encode())


def write_whole(path: Path, data: bytes) -> Path:
    """Write `data` so that `path` is complete or not there; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
