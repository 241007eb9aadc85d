"""Code in an interpreter of its own: what it imports is told from what pytest has."""

from __future__ import annotations

import subprocess
import sys

from utils.schema import PROJECT


def passes(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
