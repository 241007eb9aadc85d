"""The file of a feature pipeline: JSON, which executes nothing when it is read."""

from __future__ import annotations

import json
from pathlib import Path

from utils.columns.pipeline import REMAKE, FeaturePipeline
from utils.schema import InputError, nearest, pipeline_path
from utils.system.files import complete


def save_pipeline(pipeline: FeaturePipeline, path: str | Path) -> Path:
    """Write the pipeline as JSON, complete or not at all; return the path, ending in .json."""
    path = pipeline_path(path)
    text = json.dumps(pipeline.to_json(), indent=1, allow_nan=False) + "\n"
    try:
        with complete(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def load_pipeline(path: str | Path) -> FeaturePipeline:
    """Return the pipeline saved at `path`, with or without its .json (or .pkl).

    Raises InputError where there is none, and for a pickle, which would execute what it contains.
    """
    named = Path(path)
    path = pipeline_path(named)
    pickled = next((p for p in (path, named) if p.is_file() and _is_pickle(p)), None)
    if path.is_file() and pickled != path:
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}): make it anew: {REMAKE}") from None
        return FeaturePipeline.from_json(raw, str(path))
    pickled = pickled or next((p for p in [path.with_suffix(".pkl")] if p.is_file()), None)
    if pickled:
        raise InputError(
            f"{pickled} is a pickle, which can execute anything when loaded and is not read: "
            f"make the pipeline anew: {REMAKE}"
        )
    saved = [p.name for p in path.parent.glob("*.json")] if path.parent.is_dir() else []
    raise InputError(
        f"feature pipeline {path} does not exist; {nearest(path.name, saved)}; make it: {REMAKE}"
    )


def _is_pickle(path: Path) -> bool:
    """Tell whether a file starts as Python's or joblib's pickles do."""
    with path.open("rb") as file:
        start = file.read(2)
    return start[:1] == b"\x80" or start in (b"\x1f\x8b", b"x\x9c", b"ZF", b"BZ", b"(l", b"ci")
