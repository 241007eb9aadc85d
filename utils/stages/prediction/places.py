"""Places outside a run that its recipe names: only the user's own are read or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from utils.formats.runs import Run
from utils.schema import PredictConfig, RunError, is_within, joined, location, normal, project_path


def check_places(run: Run, config: PredictConfig) -> None:
    """Raise RunError for a place that the recipe names, the command does not, and is nobody's own.

    A place is the user's own in the project folder, and where a training started here named it
    (`Run.place`). What the command gives (`output_path`, `input_path`) takes the recipe's place.
    """
    analysis = run.recipe.analysis
    stated = str(analysis.get("skim_path") or "")
    skims = project_path(stated)
    if config.kind == "for_datacards" and stated and not config.output_path:
        run.place(skims.parent / "friends", "the place of friend trees", "output_path=FOLDER")
    if config.source == "ntuples":
        _check_ntuples(run, config, analysis)
    elif not config.input_path:
        named = {str(k): str(v) for k, v in run.recipe.skims.items()}
        for name in config.sample_names or run.recipe.datasets:
            if config.kind == "for_evaluation" and name in named:
                run.place(project_path(named[name]), f"its {name} skim", "input_path=FOLDER")
        others = config.kind == "for_datacards" or not set(config.sample_names) <= set(named)
        if stated and others:
            run.place(skims / "prediction", "the folder of skims", "input_path=FOLDER")


def _check_ntuples(run: Run, config: PredictConfig, analysis: Mapping[str, Any]) -> None:
    given = config.input_path or config.orig_path
    folder = location(given or str(analysis.get("input_path") or ""))
    if not given:
        run.place(folder, "the folder of ntuples", "input_path=FOLDER")
    for name in _named_files(analysis, config.sample_names):
        path = normal(joined(folder, name))
        if not given:
            run.place(path, "an ntuple", "input_path=FOLDER")
        elif not is_within(path, normal(folder)):
            raise RunError(
                f"run {run.run_id} names the ntuple {name}, which is not in {folder}: name the "
                "samples to predict by sample_names=[...] without it"
            )


def _named_files(analysis: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """Return the files that the wanted samples of an analysis name; none wanted means all."""
    listed = [e for e in analysis.get("prediction_samples") or [] if isinstance(e, Mapping)]
    entries = [(str(e.get("sample")), e) for e in listed]
    entries += [(str(name), e) for name, e in (analysis.get("samples") or {}).items()]
    found: list[str] = []
    for name, entry in entries:
        if not wanted or name in wanted:
            files = entry.get("files") or []
            found += [files] if isinstance(files, str) else map(str, files)
    return found
