"""Figures to vector PDFs, in a process of its own.

kaleido drives a browser engine, which on a busy machine may never answer. So the drawing
happens in a child process that can be ended and started anew, and that serves many figures with one
start of the engine. `serve` runs there: one JSON object per line on stdin,
`{"path": ..., "figure": ...}`, one on stdout when it is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import plotly.graph_objects as go
import plotly.io

from utils.report.files import write_html, write_whole
from utils.schema import PROJECT, PipelineError

PATIENCE = 20.0
"""Seconds without an answer after which the child is started anew, with twice the patience.

A figure takes 0.1 to 2 s, the start 1 to 5."""

ATTEMPTS = 4

CHILD = "from utils.report.pdf import serve; serve()"
"""What the child process runs."""


def write_pdf(figure: go.Figure, path: str | Path) -> Path:
    """Write `figure` as a vector PDF of the figure's size; `write_pdfs` is faster for many.

    Raises PipelineError where kaleido can't do it.
    """
    return write_pdfs({Path(path): figure})[0]


def write_pdfs(
    figures: Mapping[Path, go.Figure], n_workers: int = 2, patience: float = PATIENCE
) -> list[Path]:
    """Write each figure to its path, on `n_workers` children side by side; return the paths.

    Raises PipelineError where kaleido can't do it; PDFs that exist by then are complete.
    """
    specs = {path: figure.to_json(engine="json") for path, figure in figures.items()}
    n = max(1, min(n_workers, len(specs) // 4))
    shares = [dict(list(specs.items())[i::n]) for i in range(n)]
    with ThreadPoolExecutor(n) as pool:
        list(pool.map(lambda share: _draw(share, patience), shares))
    return list(figures)


def write_figures(figures: Mapping[str, go.Figure], folder: str | Path) -> list[Path]:
    """Write every figure to `folder/<key>.html` and `folder/pdf/<key>.pdf`; return the paths."""
    folder = Path(folder)
    pages = [write_html(figure, folder / f"{key}.html", key) for key, figure in figures.items()]
    return pages + write_pdfs({folder / "pdf" / f"{k}.pdf": f for k, f in figures.items()})


def _draw(specs: Mapping[Path, str], patience: float) -> None:
    """Draw all `specs` (figures as JSON by path), with a new child after each silence."""
    left = dict(specs)
    silences = 0
    while left:
        before = len(left)
        _serve(left, patience * 2**silences)
        silences = 0 if len(left) < before else silences + 1
        if silences == ATTEMPTS:
            raise PipelineError(
                f"{next(iter(left)).name}: kaleido gave no PDF in {ATTEMPTS} attempts, the last of "
                f"{patience * 2 ** (ATTEMPTS - 1):g} s; check that it can start on this machine"
            )


def _serve(left: dict[Path, str], patience: float) -> None:
    """Let one child draw what is `left`, taking out what is done; return when it falls silent."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the engine's chatter; errors are answers
        start_new_session=True,  # so that the engine's own processes end with it
    )
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("a child process has no pipes")
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    reader = threading.Thread(target=_collect, args=(child.stdout, answers), daemon=True)
    reader.start()
    try:
        for path, figure in list(left.items()):
            place = json.dumps(str(path.resolve()))
            child.stdin.write(f'{{"path": {place}, "figure": {figure}}}\n'.encode())
            child.stdin.flush()
            answer = json.loads(answers.get(timeout=patience) or b'{"error": "it ended early"}')
            if "error" in answer:
                raise PipelineError(
                    f"{path.name}: kaleido could not make the PDF: {answer['error']}; check that "
                    "the pinned kaleido is installed and can start on this machine"
                )
            del left[path]
    except (queue.Empty, BrokenPipeError):
        return
    finally:
        _end(child)
        reader.join()


def _collect(stream: IO[bytes], answers: queue.SimpleQueue[bytes]) -> None:
    """Pass on each line, and an empty one at the end."""
    with contextlib.suppress(ValueError):  # the stream was closed while waiting
        for line in stream:
            answers.put(line)
    answers.put(b"")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child with everything it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def serve() -> None:
    """Answer requests until stdin ends."""
    # kaleido 0.2 is chosen because it needs no browser on the machine; plotly 6 says at every use
    # that a later plotly will not support it.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    plotly.io.defaults.mathjax = None  # would be fetched from the network, and is not used
    scope = getattr(plotly.io.kaleido, "scope", None)  # of kaleido 0.2 only
    if scope is not None:
        # With processes of its own for drawing, the engine loses one of them at every third start
        # on a busy machine (measured: 9 of 24, against none), and then waits for it for ever.
        scope.chromium_args = (*scope.chromium_args, "--single-process")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            data = plotly.io.to_image(request["figure"], format="pdf", validate=False)
            write_whole(Path(request["path"]), data)
            answer = {}
        except (ValueError, RuntimeError, OSError) as error:
            answer = {"error": (str(error).strip() or type(error).__name__).splitlines()[0]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
