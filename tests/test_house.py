"""The house: environment files agree, documents name what exists, nothing is left over."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from utils.schema import PROJECT

LOCKS = {f"requirements{part}.in": f"requirements{part}.txt" for part in ("", "-remote", "-test")}


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git clone: there is no list of the project's files")
    return [PROJECT / name for name in listed.stdout.split("\0") if name]


def texts() -> dict[Path, str]:
    """Return the project's text files; binary ones (a picture) are left out."""
    found = {}
    for path in tracked_files():
        if path.is_file():
            raw = path.read_bytes()
            if b"\0" not in raw:
                found[path] = raw.decode()
    return found


def wanted(name: str) -> list[tuple[Requirement, str]]:
    """Return the requirements of a `.in` file, each with the comment beside it."""
    lines = [line for line in (PROJECT / name).read_text().splitlines() if line.strip()]
    return [
        (Requirement(line.split("#")[0].strip()), line.partition("#")[2].strip())
        for line in lines
        if not line.startswith(("#", "-"))
    ]


def locked(name: str) -> list[Requirement]:
    lines = [line for line in (PROJECT / name).read_text().splitlines() if line.strip()]
    return [Requirement(line) for line in lines if not line.lstrip().startswith("#")]


def pins(requirements: list[Requirement]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for requirement in requirements:
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


# --- environment --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKS.values())
def test_lock_has_exact_versions_and_names_no_index(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert not re.search(r"://|^\s*--", text, re.MULTILINE), "a lock file names an index"
    for requirement in locked(name):
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), str(requirement)


@pytest.mark.parametrize(("source", "lock"), LOCKS.items())
def test_lock_fulfils_what_is_wanted(source: str, lock: str) -> None:
    versions = pins(locked(lock))
    for requirement, _ in wanted(source):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is in {source}, not in {lock}: run make lock"
        for pin in versions[name]:
            version = pin.removeprefix("==")
            assert requirement.specifier.contains(version, prereleases=True), (
                f"{lock} has {name} {version}, {source} wants {requirement.specifier}: make lock"
            )


def test_tests_run_on_the_versions_of_the_scripts() -> None:
    tested = pins(locked("requirements-test.txt"))
    for lock in ("requirements.txt", "requirements-remote.txt"):
        for name, versions in pins(locked(lock)).items():
            assert tested.get(name) == versions, f"{name} differs in the lock files: run make lock"


def test_packages_for_servers_change_none_of_the_scripts() -> None:
    """They are installed into the scripts' environment, by whoever reads from such servers."""
    scripts = pins(locked("requirements.txt"))
    for name, versions in pins(locked("requirements-remote.txt")).items():
        assert scripts.get(name, versions) == versions, f"{name}: run make lock"


def test_installed_versions_are_the_locked_ones() -> None:
    direct = {canonicalize_name(r.name) for r, _ in [*wanted("requirements.in")]}
    for requirement in locked("requirements-test.txt"):
        applies = requirement.marker is None or requirement.marker.evaluate()
        if applies and canonicalize_name(requirement.name) in direct:
            installed = importlib.metadata.version(requirement.name)
            assert requirement.specifier.contains(installed, prereleases=True), (
                f"{requirement.name} {installed} is installed, not {requirement}: make clean test"
            )


@pytest.mark.parametrize("name", LOCKS)
def test_every_bound_has_its_reason(name: str) -> None:
    for requirement, reason in wanted(name):
        assert len(reason) > 10, f"{name}: why {requirement}?"


def test_conda_environment_is_the_locked_one() -> None:
    conda = OmegaConf.to_container(OmegaConf.load(PROJECT / "conda.yaml"))
    assert isinstance(conda, dict)
    assert conda["name"] == "htt-ml"
    *packages, pip = conda["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]}  # the lock file, and nothing beside it
    python, pip_itself = packages
    assert pip_itself == "pip"
    assert SpecifierSet(python.removeprefix("python")) == supported()


def supported() -> SpecifierSet:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return SpecifierSet(project["requires-python"])


def test_makefile_and_pyproject_support_the_same_pythons() -> None:
    [[low, high]] = re.findall(
        r"\((\d, \d+)\) <= sys\.version_info\[:2\] <= \((\d, \d+)\)",
        (PROJECT / "Makefile").read_text(),
    )
    first, last = (text.replace(", ", ".") for text in (low, high))
    below, above = (f"3.{int(v.split('.')[1]) + step}" for v, step in ((first, -1), (last, 1)))
    assert [v in supported() for v in (below, first, last, above)] == [False, True, True, False]


def test_make_refuses_an_old_python_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.1" && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "--no-print-directory", "env", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=PROJECT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0
    assert len(said) == 1
    assert "3.9.1" in said[0]
    assert not (tmp_path / "venv").exists()


def test_warnings_are_errors() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    filters = project["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert filters[0] == "error"
    # A bare `ignore` would silence everything; each exception names a message and a category.
    assert all(re.fullmatch(r"ignore:.{8,}:[\w.]+(:\S+)?", f) for f in filters[1:])
    assert project["tool"]["mypy"]["strict"] is True


def test_continuous_integration_calls_make_test() -> None:
    script = PROJECT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("make test")
    for shell, path in (("bash", script), ("sh", PROJECT / "tests" / "demo.sh")):
        assert subprocess.run([shell, "-n", path], check=False).returncode == 0


# --- documents ----------------------------------------------------------------------------------


def documents() -> dict[Path, str]:
    return {path: text for path, text in texts().items() if path.suffix == ".md"}


def code_in(text: str) -> str:
    """Return the code of a Markdown text: fenced and indented blocks and inline code."""
    fenced = re.findall(r"```[^\n]*\n(.*?)```", text, re.DOTALL)
    indented = re.findall(r"^(?: {4}|\t)(.+)$", text, re.MULTILINE)
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*fenced, *indented, *inline])


def test_documents_name_commands_that_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    configurations = {path.stem for path in (PROJECT / "configs").rglob("*.yaml")}
    for path, text in documents().items():
        code = code_in(text)
        for target in re.findall(r"(?:^|[;&] ?)make ([a-z][\w-]*)", code, re.MULTILINE):
            assert target in targets, f"{path.name}: make {target}"
        for script in re.findall(r"python3? (?:\S*/)?([a-z_]+\.py)\b", code):
            assert (PROJECT / script).is_file(), f"{path.name}: python {script}"
        for module in re.findall(r"python3? -m ((?:utils|benchmarks)[\w.]*)", code):
            place = PROJECT / module.replace(".", "/")
            runs = place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
            assert runs, f"{path.name}: python -m {module}"
        for name in re.findall(r"--config-name[ =](\w+)(?:\.yaml)?", code):
            known = name in configurations or name.startswith("my_")
            assert known, f"{path.name}: --config-name {name}"


def test_documents_link_to_files_that_exist() -> None:
    for path, text in documents().items():
        for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


# --- leftovers ----------------------------------------------------------------------------------


def test_nothing_of_this_machine_or_of_drafting_is_left() -> None:
    here = [re.escape(f"{folder}/") for folder in (PROJECT, Path.home(), sys.prefix)]
    words = ["TO" + "DO", "FIX" + "ME", "X" * 3 + r"\b", "Not" + "ImplementedError"]
    merge = ["^<{7} ", "^>{7} "]
    index = [r"index-u" + "rl *[=:]? *http", r"extra-ind" + r"ex-url[= ]\S"]
    pattern = re.compile("|".join([*here, *words, *merge, *index]), re.MULTILINE)
    for path, text in texts().items():
        found = pattern.search(text)
        assert not found, f"{path.relative_to(PROJECT)}: '{found and found.group()}'"


def values_in(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from values_in(item)
    elif isinstance(node, str):
        yield node


def test_configurations_name_no_absolute_path_or_host() -> None:
    for path in (PROJECT / "configs").rglob("*.yaml"):
        for value in values_in(OmegaConf.to_container(OmegaConf.load(path))):
            assert not re.match(r"[/~]|(?!ext:|pkg:)\w+://", value), f"{path.name}: {value}"


def test_files_are_small() -> None:
    for path in tracked_files():
        if path.is_file():
            assert path.stat().st_size < 500_000, f"{path.name} has over 500 kB"


def test_make_keeps_a_polluted_environment_from_python() -> None:
    """What `cmsenv` leaves behind must not reach this project's Python."""
    polluted = {"PYTHONPATH": "/elsewhere", "PYTHONHOME": "/elsewhere", "VIRTUAL_ENV": "/elsewhere"}
    shown = "shown: ; @echo [$$PYTHONPATH$$PYTHONHOME$$VIRTUAL_ENV] $$PYTHONNOUSERSITE"
    done = subprocess.run(
        ["make", "--no-print-directory", f"--eval={shown}", "shown"],
        cwd=PROJECT,
        env={**os.environ, **polluted},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[] 1"


def test_the_benchmark_of_many_files_runs(tmp_path: Path) -> None:
    """It runs by hand only, and a change that breaks it would be found out late."""
    few = ("--n-files", "20", "--n-entries", "50")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.many_files", *few],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if "|" in line]
    assert {"plan: open and check each file", "dask: read all files"} <= set(rows)
