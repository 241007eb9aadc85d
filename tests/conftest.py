"""What several test files share: copies of the project to run in, and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import batch
import pytest
from hypothesis import HealthCheck, settings
from patience import HANGS
from workspaces import Workspace, copy_project

# Examples are told by what they show, not by how long a busy machine takes to draw or run them.
settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any_machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden", action="store_true", help="write the golden numbers anew"
    )
    parser.addoption(
        "--soak", action="store_true", help="kill commands ten times as often (make soak)"
    )


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    """How often a test of kills kills a command: five times, or fifty in `make soak`."""
    return 50 if request.config.getoption("--soak") else 5


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fresh copy of the project, for tests that write."""
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the project for the tests of one file that build on each other's outputs."""
    return copy_project(tmp_path_factory.mktemp("shared") / "project")


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """A real Slurm on loopback: the environment of its commands; skips where it is not there."""
    with batch.slurm() as environment:
        yield environment


CHROMIUM_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real, headless browser; tests that need it skip where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not there")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on the PATH: pages can't be opened in a real browser")
    patience = 1000 * HANGS
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=CHROMIUM_FLAGS, timeout=patience
        )
        windows = started.new_context(viewport={"width": 1500, "height": 1000})
        windows.set_default_timeout(patience)
        yield windows
        started.close()
