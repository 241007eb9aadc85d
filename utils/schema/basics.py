"""What every module may know: the project's folder, reserved names, errors, and names made safe."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The project folder: relative paths are relative to it, wherever a script is started."""

TARGET = "target"
"""Column of the true class id in a skim's `targets` group, -1 where it is unknown."""

LABELLED = "labelled"
"""Name of the skim and dataset of samples that are labelled and never trained on (`role: test`)."""

COMPUTED_COLUMNS = (TARGET, "w_class_imbalance", "w_cp")
"""Columns that preprocessing computes; they may be named among `misc_features`."""

PHYSICS_WEIGHT = "weight"
"""Column of the physics weight in a skim's `weights` group."""

FILLER_CLASS = -1
"""`pred_class` of an entry that a cut removed, and the target of an event of unknown class."""


NOT_IN_BRANCHES = "[](){}:/ ,"
"""What ROOT would read as something else in the name of a friend tree's branch."""

DEFAULT_KIND = "lightgbm"
"""The kind of model where a training or its recipe names none."""


class PipelineError(Exception):
    """A mistake the user can mend; its text is one line: what is wrong, where, what to do."""


class ConfigError(PipelineError):
    """The configuration says something impossible."""


class InputError(PipelineError):
    """An input file, tree, branch or value is missing or unusable."""


class RunError(PipelineError):
    """An MLflow run, or something it should hold, is missing or unusable."""


class ProofError(PipelineError):
    """A friend tree does not belong to its input, or its scores not to its run."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error text: the known name most like `name`, else the known names."""
    names = sorted(set(map(str, known)))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"nearest: '{close[0]}'"
    if not names:
        return "there are none"
    return "known: " + ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")


def refuse_repeated(names: Iterable[str], where: str, each: str = "each") -> None:
    """Raise ConfigError where a list that a user wrote names something more than once."""
    doubled = sorted(name for name, n in Counter(names).items() if n > 1)
    if doubled:
        raise ConfigError(f"{where} names {', '.join(doubled)} twice: name {each} once")


def project_path(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one starts at the project folder.

    Raises ConfigError for a URL: only inputs are read from servers (`locations.location`).
    """
    if "://" in str(path):
        shown = str(path).rpartition("@")[2].partition("?")[0]
        raise ConfigError(
            f"{shown} is on a server, and only ntuples and friend trees are read from there: name "
            "a file or folder of this machine"
        )
    return PROJECT / Path(path).expanduser()


def skim_name(template: str, sample_name: str) -> str:
    """Return the file name of a skim; `.h5` is added where the template leaves the suffix out."""
    name = template.format(sample_name=sample_name)
    return name if name.endswith((".h5", ".hdf5")) else f"{name}.h5"


def portable(path: Path) -> str:
    """Return `path` relative to the project folder where it is inside, so that both can move."""
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


def pipeline_path(path: str | Path) -> Path:
    """Return the file of the feature pipeline `path`: it ends in .json, whether or not that, or the
    .pkl of old, is given. Any other dot belongs to the name: pipe.v1 and pipe.v2 are two files.
    """
    text = str(path)
    return Path(text.removesuffix(".pkl").removesuffix(".json") + ".json")


def short_name(name: str, longest: int = 80) -> str:
    """Return `name` for a file; one that is long or unsafe ends in a digest of the whole."""
    safe = slug(name)
    if safe == name and len(name) <= longest:
        return name
    return f"{safe[: longest - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def slug(name: str) -> str:
    """Return `name` with every character that MLflow or a file system may refuse made `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or "class"


def unique_slugs(names: Iterable[str]) -> list[str]:
    """Return a slug for each name; where two collide the later ones get `_2`, `_3`, ..."""
    slugs: list[str] = []
    for base in map(slug, names):
        candidates = chain([base], (f"{base}_{i}" for i in count(2)))
        slugs.append(next(name for name in candidates if name not in slugs))
    return slugs
