"""What is in a figure: its texts and its traces."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go


def texts(figure: go.Figure) -> str:
    """Return everything a reader of the figure may see, as JSON text."""
    return json.dumps(json.loads(figure.to_json()), ensure_ascii=False)


def trace(figure: go.Figure, name: str) -> Any:
    return next(t for t in figure.data if t.name and t.name.startswith(name))
