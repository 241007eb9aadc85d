"""Figures and numbers to files: interactive pages, vector PDFs and one report per dataset.

Every page works offline and inside a sandboxed frame (as `mlflow ui` shows artifacts): plotly.js is
part of the file, compressed, and nothing is fetched or stored. The same input gives the same bytes.
A file appears under its name only when it is complete.
"""

from __future__ import annotations

from utils.results.report.page import write_report
from utils.results.report.pdf import PdfWriter
from utils.results.report.skeleton import Sheet, sheet, write_html

__all__ = [
    "PdfWriter",
    "Sheet",
    "sheet",
    "write_html",
    "write_report",
]
