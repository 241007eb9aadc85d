"""Papers of figures: vector graphics, or one line that says why there are none."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import psutil
import pytest
from patience import HANGS
from pypdf import PdfReader

from utils.results.report import PdfWriter, pdf
from utils.results.report.skeleton import sheet
from utils.schema import PROJECT, PipelineError


def test_pdfs_are_vector_graphics(drawn: dict[str, go.Figure], tmp_path: Path) -> None:
    chosen = {k: drawn[k] for k in ("performance/roc_balanced", "failures/by_true_balanced")}
    paths = {tmp_path / f"{key}.pdf": figure for key, figure in chosen.items()}
    with PdfWriter() as writer:
        for path, figure in paths.items():
            writer.write(figure, path)
    for path in paths:
        data = path.read_bytes()
        assert data.startswith(b"%PDF")
        assert b"/Subtype /Image" not in data
        if shutil.which("pdftotext"):
            text = subprocess.run(
                ["pdftotext", str(path), "-"], capture_output=True, text=True, check=True
            ).stdout
            assert "$x_{1}$" in text


def test_sizes_that_overhung_a_sheet_are_one_page(
    drawn: dict[str, go.Figure], tmp_path: Path
) -> None:
    figure = go.Figure(drawn["certainty/roc_areas"])
    sizes = [(809, 508), (810, 508), (576, 403), (903, 331), (901, 407)]
    with PdfWriter() as writer:
        for width, height in sizes:
            at = tmp_path / f"{width}_{height}.pdf"
            writer.write(go.Figure(figure).update_layout(width=width, height=height), at)
    for width, height in sizes:
        [page] = PdfReader(tmp_path / f"{width}_{height}.pdf").pages
        assert 0 <= float(page.mediabox.width) - 0.75 * width < 3.2
        assert 0 <= float(page.mediabox.height) - 0.75 * height < 3.2


def test_every_size_is_one_page(tmp_path: Path, drawn: dict[str, go.Figure]) -> None:
    figure = go.Figure(drawn["certainty/roc_areas"])
    # A few of them overhang their sheet as they are, the first one does.
    sizes = [(692, 1432), *((w, h) for w in range(420, 1400, 98) for h in range(300, 1500, 171))]
    with PdfWriter() as writer:
        for width, height in sizes:
            at = tmp_path / f"{width}_{height}.pdf"
            writer.write(go.Figure(figure).update_layout(width=width, height=height), at)
    for width, height in sizes:
        [page] = PdfReader(tmp_path / f"{width}_{height}.pdf").pages
        assert float(page.mediabox.width) > 0.75 * width - 1


@pytest.mark.parametrize("child", ["import time; time.sleep(10**6)", "pass", "input()"])
@pytest.mark.parametrize("n_points", [3, 50_000])  # more than a pipe takes when nobody reads
def test_silent_kaleido_is_given_up_with_one_line(
    n_points: int, child: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "CHILD", child)
    figure = go.Figure(go.Scatter(y=[i / 7 for i in range(n_points)]))
    target = tmp_path / "x.pdf"
    with (
        pytest.raises(PipelineError, match=r"x\.pdf: kaleido gave no PDF in 4 attempts"),
        PdfWriter(1, patience=0.02) as writer,
    ):
        writer.write(figure, target)
    assert not target.exists()


def test_what_draws_a_figure_writes_no_file(drawn: dict[str, go.Figure], tmp_path: Path) -> None:
    """It would do so for a moment after its command was killed, too."""
    request = f"{sheet(drawn['performance/roc_balanced']).data}\n"
    with subprocess.Popen(
        [sys.executable, "-c", pdf.CHILD],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(request)
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
    assert base64.b64decode(answer["pdf"]).startswith(b"%PDF")
    assert list(tmp_path.iterdir()) == []
    assert child.returncode == -signal.SIGKILL  # by itself, as nobody had more to ask


HANGS_IN_ITS_ENGINE = """
import subprocess, sys
from utils.results.report import pdf

def hangs(*_, **__):
    engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10**6)"])
    with open({told!r}, "w") as file:
        file.write(str(engine.pid) + chr(10))
    engine.wait()

pdf.plotly.io.to_image = hangs
pdf.serve()
"""

DRAWS = """
import sys
import plotly.graph_objects as go
from utils.results.report import pdf

pdf.CHILD = sys.argv[1]
with pdf.PdfWriter(1, patience=10**6) as writer:
    writer.write(go.Figure(), "x.pdf")
"""


def test_what_draws_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    """An engine whose command was killed kept two cores busy and took all memory, for ever."""
    told = tmp_path / "told"
    with subprocess.Popen(
        [sys.executable, "-c", DRAWS, HANGS_IN_ITS_ENGINE.format(told=str(told))], cwd=PROJECT
    ) as command:
        wait_until(lambda: told.exists() and told.read_text().endswith("\n"), HANGS)
        started = psutil.Process(command.pid).children(recursive=True)
        command.kill()
    assert int(told.read_text()) in [process.pid for process in started]
    wait_until(lambda: not any(map(lives, started)), 60)  # a moment, where nothing hangs


def lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_until(there: Callable[[], bool], seconds: float) -> None:
    begin = time.monotonic()
    while not there():
        assert time.monotonic() - begin < seconds
        time.sleep(0.05)


ENDS_ONCE = """
import pathlib
from utils.results.report import pdf
begun = pathlib.Path({folder!r}) / "begun"
if not begun.exists():
    begun.touch()
    input()
else:
    pdf.serve()
"""


def test_a_figure_whose_engine_ended_is_drawn_by_another(
    drawn: dict[str, go.Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "CHILD", ENDS_ONCE.format(folder=str(tmp_path)))
    with PdfWriter(1) as writer:
        writer.write(drawn["performance/roc_balanced"], tmp_path / "x.pdf")
    assert (tmp_path / "begun").exists()
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


def test_an_interrupted_evaluation_waits_for_no_pdf(
    drawn: dict[str, go.Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "CHILD", "import time; time.sleep(600)")

    def interrupted(writer: PdfWriter) -> None:
        for name in "xyz":
            writer.write(drawn["performance/roc_balanced"], tmp_path / f"{name}.pdf")
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), PdfWriter(2, patience=300) as writer:
        interrupted(writer)
    assert time.monotonic() - begin < 150  # nobody waited for an answer
    assert list(tmp_path.iterdir()) == []


def test_what_draws_has_its_temporary_files_where_the_command_has_them(
    drawn: dict[str, go.Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "import json, os; input(); print(json.dumps({'error': os.environ['TMPDIR']}))"
    monkeypatch.setattr(pdf, "CHILD", told)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(PipelineError, match=re.escape(str(tmp_path))),
        PdfWriter(1) as writer,
    ):
        writer.write(drawn["performance/roc_balanced"], tmp_path / "y.pdf")


def test_broken_kaleido_is_named(
    drawn: dict[str, go.Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "CHILD", 'input(); print(\'{"error": "no library"}\')')
    with (
        pytest.raises(PipelineError, match=r"y\.pdf: .*no library.*pinned kaleido"),
        PdfWriter(1) as writer,
    ):
        writer.write(drawn["performance/roc_balanced"], tmp_path / "y.pdf")
