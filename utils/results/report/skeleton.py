"""The HTML around figures: one skeleton for single figures and for the report."""

from __future__ import annotations

import base64
import gzip
import html
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from utils.schema import slug
from utils.system.files import complete

STYLE = """
:root { --ink: #1a1a1a; --soft: #5c6570; --line: #dfe3e8; --accent: #0f4c8a; --wash: #f6f8fa; }
* { box-sizing: border-box; print-color-adjust: exact; }
body { margin: 0; background: white; color: var(--ink);
  font: 15px/1.5 Arial, Helvetica, "Liberation Sans", sans-serif; }
main { padding: 28px 20px 80px; max-width: 1460px; }
.with-contents { display: grid; grid-template-columns: 208px minmax(0, 1fr); }
nav { position: sticky; top: 0; align-self: start; height: 100vh; overflow-y: auto;
  padding: 24px 10px; border-right: 1px solid var(--line); background: var(--wash);
  font-size: 14px; }
nav a { color: var(--ink); text-decoration: none; display: block; padding: 2px 6px;
  border-radius: 4px; }
nav a:hover, nav a:focus { background: #e6ecf2; }
nav > a { font-weight: bold; margin-top: 10px; }
nav ul { list-style: none; margin: 2px 0; padding-left: 8px; }
nav li a { color: var(--soft); font-size: 13px; line-height: 1.35; }
nav summary { cursor: pointer; color: var(--soft); font-size: 12px; padding: 0 6px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 21px; margin: 44px 0 12px; padding-top: 14px; border-top: 2px solid var(--ink); }
h3 { font-size: 16px; margin: 26px 0 8px; }
p { margin: 6px 0; max-width: 78ch; }
.soft { color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px; min-width: 150px;
  background: var(--wash); }
.card b { display: block; font-size: 21px; }
.card small { color: var(--soft); }
.verdict { border-left: 4px solid var(--accent); background: #eef4fa; padding: 10px 14px;
  margin: 12px 0; max-width: 86ch; }
.gap { border-left: 4px solid #f89c20; background: #fff8ec; padding: 8px 14px; margin: 8px 0;
  max-width: 86ch; }
.figures, .pair { display: flex; flex-wrap: wrap; gap: 18px 12px; align-items: flex-start; }
figure { margin: 0; max-width: 100%; }
figure .plot { overflow-x: auto; }
figcaption { color: var(--soft); font-size: 13px; line-height: 1.4; padding: 2px 8px 6px; }
figcaption b { color: var(--ink); }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: 14px; margin: 8px 0; }
caption { text-align: left; font-weight: bold; padding: 4px 0; }
th, td { padding: 4px 12px 4px 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
th { border-bottom: 1.5px solid var(--ink); font-size: 13px; }
th:first-child, td:first-child, .words td, .words th { text-align: left; }
.words td { white-space: normal; overflow-wrap: anywhere; }
.words td:first-child { white-space: nowrap; color: var(--soft); }
td small { color: var(--soft); display: block; font-size: 12px; }
.swatch { display: inline-block; width: 11px; height: 11px; margin-right: 7px;
  border-radius: 2px; }
details.data > summary { cursor: pointer; font-weight: bold; padding: 4px 0; }
@media (max-width: 900px) {
  .with-contents { display: block; }
  nav { position: static; height: auto; border-right: 0; border-bottom: 1px solid var(--line); }
  main { padding: 20px 14px 60px; }
}
@media print {
  @page { size: A4; margin: 14mm 12mm; }
  body { font-size: 11px; }
  .with-contents { display: block; }
  nav { position: static; height: auto; background: none; border: 0; padding: 0; }
  nav details { display: none; }
  main { padding: 0; max-width: none; }
  h2, h3 { break-after: avoid; }
  figure, tr, .card, .verdict, .gap { break-inside: avoid; }
  figure { zoom: 0.58; max-width: none; }
  figure .plot { overflow: visible; }
  figcaption { font-size: 17px; }
  .figures, .pair { gap: 8px 6px; }
  .modebar { display: none !important; }
  .wide { overflow: visible; }
  table, th, caption { font-size: 9.5px; }
  th, td { padding: 2px 7px 2px 0; }
  td small { font-size: 8px; }
}
"""

SCRIPT = """
(async () => {
  const byId = (id) => document.getElementById(id);
  const pause = () => new Promise((done) => setTimeout(done, 0));
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Response(stream).text();
  };
  for (const link of document.querySelectorAll('nav a')) {
    link.addEventListener('click', (event) => {
      event.preventDefault();
      byId(link.getAttribute('href').slice(1)).scrollIntoView();
    });
  }
  const plots = [...document.querySelectorAll('.plot')];
  const fail = (plot, error) => {
    plot.textContent = 'This figure could not be drawn: ' + error.message;
    console.error(plot.id, error);
  };
  try {
    const library = document.createElement('script');
    library.textContent = await unpack(byId('plotly').textContent);
    document.head.append(library);
  } catch (error) {
    plots.forEach((plot) => fail(plot, new Error('a browser of 2023 or later is needed')));
    return;
  }
  const config = {
    displaylogo: false, typesetMath: false,
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'],
  };
  for (const plot of plots) {
    const spec = JSON.parse(byId(plot.id + '-data').textContent);
    const options = { ...config, toImageButtonOptions: { format: 'svg', filename: plot.id } };
    try {
      await Plotly.newPlot(plot, spec.data, spec.layout, options);
    } catch (error) {
      fail(plot, error);
    }
    await pause();
  }
  document.body.dataset.drawn = String(plots.length);
})();
"""


@cache
def library() -> str:
    """Return plotly.js for embedding: 1.9 MB where the source has 4.8."""
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=6, mtime=0)
    return base64.b64encode(packed).decode()


def skeleton(title: str, body: str) -> str:
    """Return a whole page: `body` (HTML) with plotly.js and what draws the figures in it."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="text/plain" id="plotly">{library()}</script>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def identifier(name: str) -> str:
    """Return the id in the page of the figure called `name`."""
    return "fig-" + re.sub(r"[^A-Za-z0-9_-]", "-", slug(name.replace("/", "-")))


@dataclass(frozen=True)
class Sheet:
    """A figure as text: made once, then part of its page, of the report and of the PDF's order.

    title, caption: plain text, '' where the figure has none. size: of the figure in pixels. data:
    JSON, without any `<`, so that it can't end a JSON block of a page early.
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
        figure.to_json(engine="json").replace("<", "\\u003c"),
    )


def figure_block(name: str, figure: go.Figure | Sheet) -> str:
    """Return the HTML of one figure with its caption; its data stand in a JSON block."""
    text = sheet(figure)
    mark = identifier(name)
    width, height = text.size
    return (
        f'<figure id="{mark}-figure" style="width:{width}px">'
        f'<div class="plot" id="{mark}" style="width:{width}px;height:{height}px"></div>'
        f"<figcaption><b>{html.escape(text.title or name)}.</b> "
        f"{html.escape(text.caption)}</figcaption>"
        f'<script type="application/json" id="{mark}-data">{text.data}</script></figure>'
    )


def write_html(figure: go.Figure | Sheet, path: str | Path, name: str | None = None) -> Path:
    """Write `figure` as an interactive page that works offline; `name` is its key (the stem)."""
    path, text = Path(path), sheet(figure)
    body = f"<main>{figure_block(name or path.stem, text)}</main>"
    return write_text(path, skeleton(text.title or path.stem, body))


def write_text(path: Path, text: str) -> Path:
    """Write a page so that `path` is complete or not there; folders are made."""
    with complete(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
    return path
