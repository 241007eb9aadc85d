"""Figures to vector PDFs, in a process of its own.

kaleido drives a browser engine, which on a busy machine may never answer. So the drawing
happens in child processes that can be ended and started anew; each serves many figures with one
start of the engine. `serve` runs there: one figure (JSON) per line on stdin, one JSON object on
stdout when it is drawn, `{"pdf": ...}` (base64) or `{"error": ...}`. It ends with everything that
it started as soon as stdin ends, which it does where this process is killed, and writes no file
in the moment until then.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import IO, Any

import plotly.graph_objects as go
import plotly.io

from utils.results.report.skeleton import Sheet, sheet
from utils.schema import PROJECT, PipelineError
from utils.system.files import complete

PATIENCE = 60.0
"""Seconds without an answer after which the child is started anew, with twice the patience.

A figure takes 0.1 to 2 s, the start 1 to 5; on a busy machine ten times as long, and a child that
is only slow would lose what it has done."""

ATTEMPTS = 4

STEP = 4
"""Sizes of PDFs are whole multiples of so many pixels.

The engine's sheets come in steps of 4/3 pixels or so, and what overhangs one begins a second page.
A few sizes overhang for all that: those are drawn again, a step larger, up to so many times:"""

LARGER = 8

CHILD = "from utils.results.report.pdf import serve; serve()"
"""What the child process runs."""


class PdfWriter:
    """Writes figures as vector PDFs of the figures' size while other work goes on.

    The engines start with the object and end with its context, or with `finish`. Both raise
    PipelineError where kaleido can't do it; PDFs that exist by then are complete.
    """

    def __init__(self, n_workers: int = 2, patience: float = PATIENCE) -> None:
        self._orders: queue.SimpleQueue[tuple[Path, str] | None] = queue.SimpleQueue()
        self._errors: list[Exception] = []
        self._given_up = threading.Event()
        self._workers = [_Worker(patience) for _ in range(n_workers)]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def write(self, figure: go.Figure | Sheet, path: Path) -> None:
        """Order a PDF of `figure`."""
        self._orders.put((path, sheet(figure).data))

    def finish(self) -> None:
        """Wait until all PDFs are there."""
        for _thread in self._threads:
            self._orders.put(None)
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def __enter__(self) -> PdfWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
            return
        self._given_up.set()
        for worker in self._workers:  # whatever they are drawing
            worker.give_up()
        with contextlib.suppress(Exception):  # what ended the work is told, not this
            self.finish()

    def _serve(self, worker: _Worker) -> None:
        try:
            while (order := self._orders.get()) is not None and not self._given_up.is_set():
                worker.draw(*order)
        except Exception as error:
            self._errors.append(error)
            self._given_up.set()
        finally:
            worker.end()


class _Worker:
    """One child process, with a new one after each silence."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._given_up = False
        self._start()

    def draw(self, path: Path, figure: str) -> None:
        """Draw a figure (JSON) to `path`."""
        for attempt in range(ATTEMPTS):
            answer = self._ask(figure, self._patience * 2**attempt)
            if self._given_up:
                return
            if answer is None:
                self.end()
                self._start()
            elif "error" in answer:
                raise PipelineError(
                    f"{path.name}: kaleido could not make the PDF: {answer['error']}; check that "
                    "the pinned kaleido is installed and can start on this machine"
                )
            else:
                with complete(path) as partial:
                    partial.write_bytes(base64.b64decode(answer["pdf"]))
                return
        raise PipelineError(
            f"{path.name}: kaleido gave no PDF in {ATTEMPTS} attempts, the last of up to "
            f"{self._patience * 2 ** (ATTEMPTS - 1):g} s; check that it can start on this machine"
        )

    def _ask(self, figure: str, patience: float) -> dict[str, str] | None:
        """Return the child's answer, None where it falls silent or ends."""
        if self._child.stdin is None:
            raise RuntimeError("a child process has no pipes")
        request = f"{figure}\n".encode()
        # By a thread: an engine that hangs lets nobody read, and without that a pipe takes 64 kB.
        threading.Thread(target=_tell, args=(self._child.stdin, request), daemon=True).start()
        with contextlib.suppress(queue.Empty):
            if line := self._answers.get(timeout=patience):
                answer: dict[str, str] = json.loads(line)
                return answer
        return None

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            cwd=PROJECT,
            # What the engine leaves when it is ended goes with what is temporary here.
            env={**os.environ, "TMPDIR": tempfile.gettempdir()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the engine's chatter; errors are answers
            start_new_session=True,  # so that the engine's own processes end with it
        )
        if self._child.stdout is None:
            raise RuntimeError("a child process has no pipes")
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(
            target=_collect, args=(self._child.stdout, self._answers), daemon=True
        )
        self._reader.start()

    def give_up(self) -> None:
        """Let `draw` return, from another thread, without its figure."""
        self._given_up = True
        self._kill()

    def _kill(self) -> None:
        if self._child.returncode is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def end(self) -> None:
        """End the child with everything it started."""
        self._kill()
        self._child.wait()
        # What was being told fails now, as nobody is left to read: closing waits for that.
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._reader.join()


def _tell(stream: IO[bytes], request: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, which the reader tells
        stream.write(request)
        stream.flush()


def _collect(stream: IO[bytes], answers: queue.SimpleQueue[bytes]) -> None:
    """Pass on each line, and an empty one at the end."""
    with contextlib.suppress(ValueError):  # the stream was closed while waiting
        for line in stream:
            answers.put(line)
    answers.put(b"")


def serve() -> None:
    """Answer requests. At the end of stdin the whole group of processes, led by this one, ends."""
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()
    # kaleido 0.2 is chosen because it needs no browser on the machine; plotly 6 says at every use
    # that a later plotly will not support it.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    plotly.io.defaults.mathjax = None  # would be fetched from the network, and is not used
    scope = getattr(plotly.io.kaleido, "scope", None)  # of kaleido 0.2 only
    if scope is not None:
        # With processes of its own for drawing, the engine loses one of them at every third start
        # on a busy machine (measured: 9 of 24, against none), and then waits for it for ever.
        scope.chromium_args = (*scope.chromium_args, "--single-process")
    with contextlib.suppress(ValueError, RuntimeError, OSError):  # the first figure will tell
        plotly.io.to_image({"data": []}, format="pdf", validate=False)  # starts the engine
    while True:
        request = requests.get()
        try:
            answer = {"pdf": base64.b64encode(_one_page(json.loads(request))).decode()}
        except (ValueError, RuntimeError, OSError) as error:
            answer = {"error": (str(error).strip() or type(error).__name__).splitlines()[0]}
        with contextlib.suppress(BrokenPipeError):  # nobody reads: `_listen` ends all
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def _listen(stream: IO[str], requests: queue.SimpleQueue[str]) -> None:
    """Pass on each line; at the end, end this process and what it started."""
    for line in stream:
        requests.put(line)
    # Nobody waits for an answer any more. An engine whose temporary files went with the command's
    # answers none: it would tell its errors for ever, and kaleido keeps them in memory.
    os.killpg(os.getpid(), signal.SIGKILL)


def _one_page(figure: dict[str, Any]) -> bytes:
    """Return the PDF of a figure, of a size at which it has one page."""
    width, height = (STEP * -(-figure["layout"][side] // STEP) for side in ("width", "height"))
    for larger in range(0, LARGER * STEP, STEP):
        size = {"width": width + larger, "height": height + larger}
        data: bytes = plotly.io.to_image(figure, format="pdf", validate=False, **size)
        if n_pages(data) == 1:
            return data
    raise RuntimeError(f"{width} x {height} pixels and more begin a second page")


def n_pages(pdf: bytes) -> int:
    """Return how many pages a PDF of the engine's has."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))
