"""One figure to one file: an interactive page or a vector PDF."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go
import plotly.io

from utils.report.page import figure_block, skeleton
from utils.schema import PipelineError


def write_html(figure: go.Figure, path: str | Path, name: str | None = None) -> Path:
    """Write `figure` as an interactive page that works offline; `name` is its key (the stem)."""
    path = Path(path)
    about = figure.layout.meta or {}
    body = f"<main>{figure_block(name or path.stem, figure)}</main>"
    return write_whole(path, skeleton(about.get("title", path.stem), body).encode())


def write_pdf(figure: go.Figure, path: str | Path) -> Path:
    """Write `figure` as a vector PDF of the figure's size.

    The first call in a process starts kaleido (seconds), the next ones reuse it.
    Raises PipelineError where kaleido can't do it.
    """
    path = Path(path)
    with warnings.catch_warnings():
        # kaleido 0.2 is chosen because it needs no browser on the machine; plotly 6 says at every
        # use that a later plotly will not support it.
        warnings.filterwarnings("ignore", message=r"\s*(Support for Kaleido|Use of plotly\.io)")
        if plotly.io.defaults.mathjax is not None:
            plotly.io.defaults.mathjax = None  # would be fetched from the network, and is not used
        try:
            data = figure.to_image(format="pdf", validate=False)
        except (ValueError, RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise PipelineError(
                f"{path.name}: kaleido could not make the PDF ({reason[0]}); "
                "check that the pinned kaleido is installed and can start on this machine"
            ) from error
    return write_whole(path, data)


def write_figures(figures: Mapping[str, go.Figure], folder: str | Path) -> list[Path]:
    """Write every figure to `folder/<key>.html` and `folder/pdf/<key>.pdf`; return the paths."""
    folder = Path(folder)
    paths = []
    for key, figure in figures.items():
        paths.append(write_html(figure, folder / f"{key}.html", key))
        paths.append(write_pdf(figure, folder / "pdf" / f"{key}.pdf"))
    return paths


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
