"""Mend what an earlier version or a moved folder left in the MLflow store.

`python -m utils.tracking adopt RUN_ID`: check the models of a run without a manifest, and write it.
`python -m utils.tracking rebase OLD_FOLDER`: let `mlflow ui` find a moved project's files.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from utils.columns.pipeline import FeaturePipeline
from utils.formats import runs, tables
from utils.formats.runs import Run
from utils.models import scoring
from utils.schema import PROJECT, InputError, PipelineError, Recipe, RunError
from utils.system.program import fail

log = logging.getLogger(__name__)


def adopt(run: Run) -> list[str]:
    """Write the manifests of a run that an earlier version trained; return what they list.

    The models must be those that the recipe names, and fit its folds, features and pipeline. Tables
    (Parquet) of these models are taken too; friend trees need no manifest, and figures are made
    anew. Raises RunError where something does not fit.
    """
    if run.lists(runs.RECIPE):
        raise RunError(f"run {run.run_id} has a manifest already")
    recipe = run.unchecked_recipe()
    _check_models(run, recipe)
    training = [p for p in run.artifacts("recipe") if not p.endswith("manifest.json")]
    run.seal(training, {"adopted": True})
    adopted = list(training)
    for path in run.artifacts("pred"):
        if path.endswith(".parquet") and not run.lists(path) and _is_of(run, recipe, path):
            run.seal([path], {"adopted": True})
            adopted.append(path)
    return adopted


def _check_models(run: Run, recipe: Recipe) -> None:
    """Raise RunError where the files of the training are not those that the recipe tells of."""
    where = f"run {run.run_id}"
    texts = [run.model_text(i, checked=False) for i in range(len(recipe.models))]
    try:
        models = scoring.open_models(recipe.model_kind, texts, recipe.fold, recipe.features, where)
        FeaturePipeline.from_json(recipe.pipeline, f"the feature pipeline of {where}")
    except InputError as error:
        raise RunError(str(error)) from None
    for index, (stated, found) in enumerate(zip(recipe.models, models.fingerprints, strict=True)):
        if stated["fingerprint"] != found:
            raise RunError(f"model {index} of {where} is not the one its recipe names: train again")
        run.trained_identities(index, checked=False)


def _is_of(run: Run, recipe: Recipe, path: str) -> bool:
    """Tell whether a logged table says that it was made by these models of this run."""
    try:
        _, said = tables.read(run.unchecked(path, "table"))
    except RunError as error:
        log.warning("left out: %s", error)
        return False
    stated = [m["fingerprint"] for m in recipe.models]
    if said.get("run_id") == run.run_id and said.get("models") == stated:
        return True
    log.warning("left out: %s is of other models: predict again", PurePosixPath(path).name)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.tracking", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    command = commands.add_parser("adopt", help="a run of a version that wrote no manifests")
    command.add_argument("run_id", help="the run")
    command = commands.add_parser("rebase", help="after the project folder was moved")
    command.add_argument("old", help="the folder the project was in before")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if given.command == "adopt":
            adopted = adopt(runs.open_run(given.run_id))
            log.info("Run %s has its manifest: %d files fit its recipe", given.run_id, len(adopted))
        else:
            changed = runs.rebase(given.old)
            log.info("%d locations now start with %s", changed, PROJECT)
    except PipelineError as error:
        return fail(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
