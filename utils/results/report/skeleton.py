"""The HTML around figures: one skeleton for single figures and for the report.

Its style is `page.css`, what draws the figures in a browser `page.js`, and what unpacks the library
that they are drawn with `inflate.js`.
"""

from __future__ import annotations

import base64
import gzip
import html
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import plotly.graph_objects as go

from utils.schema import slug
from utils.system.files import complete


@cache
def _beside(name: str) -> str:
    """Return the text of a file beside this one, on lines of its own."""
    return "\n" + Path(__file__).with_name(name).read_text(encoding="utf-8")


LIBRARY = Path(__file__).with_name("plotly-basic.min.js.gz")
"""The basic bundle of plotly.js (MIT licence, which it begins with), as its makers publish it.

It draws lines, points and bars, which is all that figures here are made of, in a quarter of the
room of the whole library: 0.5 MB in each page. Its version is that of the plotly in use.
"""

TRACES = frozenset({"scatter", "bar", "pie"})
"""What the bundle draws."""


@cache
def library() -> str:
    """Return plotly.js for embedding: packed, as text."""
    return base64.b64encode(LIBRARY.read_bytes()).decode()


def packed(data: bytes) -> str:
    """Return `data` as text that `page.js` unpacks; the same data give the same text."""
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def skeleton(title: str, body: str) -> str:
    """Return a whole page: `body` (HTML) with plotly.js and what draws the figures in it."""
    style, inflate, script = (_beside(name) for name in ("page.css", "inflate.js", "page.js"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="text/plain" id="plotly">{library()}</script>\n'
        f"<script>{{\nconst module = {{}};{inflate}{script}}}</script>\n</body>\n</html>\n"
    )


def identifier(name: str) -> str:
    """Return the id in the page of the figure called `name`."""
    return "fig-" + re.sub(r"[^A-Za-z0-9_-]", "-", slug(name.replace("/", "-")))


@dataclass(frozen=True)
class Sheet:
    """A figure as text: made once, then part of its page, of the report and of the PDF's order.

    title, caption: plain text, '' where the figure has none. size: of the figure in pixels. data:
    JSON.
    """

    title: str
    caption: str
    size: tuple[int, int]
    data: str


def sheet(figure: go.Figure | Sheet) -> Sheet:
    """Return the text of a figure; one that is text already is returned as it is."""
    if isinstance(figure, Sheet):
        return figure
    layout = figure.layout
    about = layout.meta or {}
    return Sheet(
        about.get("title", ""),
        about.get("caption", ""),
        (layout.width, layout.height),
        figure.to_json(engine="json"),
    )


def figure_block(name: str, figure: go.Figure | Sheet) -> str:
    """Return the HTML of one figure with its caption and its data, packed."""
    text = sheet(figure)
    mark = identifier(name)
    width, height = text.size
    return (
        f'<figure id="{mark}-figure" style="width:{width}px">'
        f'<div class="plot" id="{mark}" data-width="{width}" data-height="{height}" '
        f'style="width:{width}px;height:{height}px"></div>'
        f"<figcaption><b>{html.escape(text.title or name)}.</b> "
        f"{html.escape(text.caption)}</figcaption>"
        f'<script type="text/plain" id="{mark}-data">{packed(text.data.encode())}</script></figure>'
    )


def write_html(figure: go.Figure | Sheet, path: str | Path, name: str | None = None) -> Path:
    """Write `figure` as an interactive page that works offline; `name` is its key (the stem)."""
    path, text = Path(path), sheet(figure)
    body = f"<main>{figure_block(name or path.stem, text)}</main>"
    return write_page(path, skeleton(text.title or path.stem, body))


def write_page(path: Path, text: str) -> Path:
    """Write a page so that `path` is complete or not there; folders are made."""
    with complete(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
    return path
