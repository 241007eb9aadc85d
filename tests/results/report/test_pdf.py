"""Papers of figures: vector graphics, or one line that says why there are none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import plotly.graph_objects as go
import pytest

from utils.results.report import pdf, write_figures, write_pdf, write_pdfs
from utils.schema import PipelineError


def test_pdfs_are_vector_graphics(drawn: dict[str, go.Figure], tmp_path: Path) -> None:
    chosen = {k: drawn[k] for k in ("performance/roc_balanced", "failures/by_true_balanced")}
    paths = write_figures(chosen, tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in paths) == [
        "failures/by_true_balanced.html",
        "pdf/failures/by_true_balanced.pdf",
        "pdf/performance/roc_balanced.pdf",
        "performance/roc_balanced.html",
    ]
    for path in (p for p in paths if p.suffix == ".pdf"):
        data = path.read_bytes()
        assert data.startswith(b"%PDF")
        assert b"/Subtype /Image" not in data
        if shutil.which("pdftotext"):
            text = subprocess.run(
                ["pdftotext", str(path), "-"], capture_output=True, text=True, check=True
            ).stdout
            assert "$x_{1}$" in text


def test_silent_kaleido_is_given_up_with_one_line(
    drawn: dict[str, go.Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "CHILD", "import time; time.sleep(60)")
    target = tmp_path / "x.pdf"
    with pytest.raises(PipelineError, match=r"x\.pdf: kaleido gave no PDF in 4 attempts"):
        write_pdfs({target: drawn["performance/roc_balanced"]}, patience=0.02)
    assert not target.exists()


def test_broken_kaleido_is_named(
    drawn: dict[str, go.Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "CHILD", 'input(); print(\'{"error": "no library"}\')')
    with pytest.raises(PipelineError, match=r"y\.pdf: .*no library.*pinned kaleido"):
        write_pdf(drawn["performance/roc_balanced"], tmp_path / "y.pdf")
