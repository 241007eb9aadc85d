"""Runs: everything that reads or writes an MLflow store. The only module that imports mlflow.

A run is found by its id alone, wherever the project folder is now. Logging to an existing run goes
through the client, which leaves the run's status and earlier content as they are; each artifact is
complete or absent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import numpy as np
from numpy.typing import NDArray

from utils.schema import PROJECT, ConfigError, Recipe, RunError, nearest
from utils.system.files import complete

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

RECIPE = "recipe/recipe.json"
LAST_RUN = PROJECT / "outputs" / "last_run.json"
"""What train.py writes last: the ids of the newest run, for scripts that follow it."""

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def store_uri() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, else sqlite in the project folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{PROJECT / 'mlflow.db'}"


def uri_prefix() -> str:
    """Return what a command needs in front to reach this store: nothing for the default one."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    default = f"sqlite:///{PROJECT / 'mlflow.db'}"
    return f"MLFLOW_TRACKING_URI={uri} " if uri and uri != default else ""


def client() -> MlflowClient:
    """Return a client of the store, which is made first where there is none.

    Raises RunError where the store can't be opened or does not answer.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    import mlflow

    uri = store_uri()
    mlflow.set_tracking_uri(uri)
    # A new sqlite store puts its artifacts below the working directory: make that the project's.
    folder = PROJECT if "MLFLOW_TRACKING_URI" not in os.environ else Path.cwd()
    try:
        with contextlib.chdir(folder), _one_at_a_time(uri):
            opened = mlflow.MlflowClient(uri)
            opened.search_experiments(max_results=1)
    except Exception as error:  # MLflow wraps any failure of any store in its own ways
        raise RunError(f"the MLflow store {uri} can't be opened: {_first_line(error)}") from None
    return opened


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Let one process of this project at a time open a sqlite store: two would both create it."""
    if not uri.startswith("sqlite:"):
        yield
        return
    import fcntl

    path = PROJECT / "outputs" / ".store.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- training: a new run -------------------------------------------------------------------------


@dataclass(frozen=True)
class NewRun:
    """The run of a training in progress."""

    run_id: str
    experiment_id: str
    client: MlflowClient = field(repr=False)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log parameters in one call; a value too long for MLflow is cut, the recipe has it whole.

        A parameter that `mlflow run` has logged already keeps its value.
        """
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        texts = {key: str(value)[:5900] for key, value in parameters.items() if key not in known}
        self.client.log_batch(self.run_id, params=[Param(k, v) for k, v in texts.items()])

    def log_curves(self, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Log metrics with their steps, `name -> [(step, value), ...]`, in batches."""
        _log_metrics(self.client, self.run_id, curves)

    def log_models(
        self,
        flavor: str,
        models: Sequence[str],
        features: Sequence[str],
        example: NDArray[np.float32],
    ) -> None:
        """Log model texts as MLflow's models `model_0`, ... with signature and input example.

        Only what MLflow stores as text is logged so, a pickle never: the flavor is lightgbm.
        """
        if flavor != "lightgbm":
            raise ValueError(f"models of the flavor {flavor} are not logged")
        import mlflow
        import pandas

        from utils.system.libraries.boosters import lightgbm

        frame = pandas.DataFrame(example, columns=list(features))
        requirements = [f"lightgbm=={lightgbm.__version__}"]
        for index, text in enumerate(models):
            booster = lightgbm.Booster(model_str=text)
            signature = mlflow.models.infer_signature(frame, booster.predict(example))
            with warnings.catch_warnings(), _quiet():
                warnings.simplefilter("ignore")  # advice for model servers, which this is not
                mlflow.lightgbm.log_model(
                    booster,
                    name=f"model_{index}",
                    signature=signature,
                    input_example=frame,
                    pip_requirements=requirements,
                )

    def log_files(self, folder: Path) -> None:
        """Log everything below `folder` as artifacts."""
        self.client.log_artifacts(self.run_id, str(folder))


@contextlib.contextmanager
def training_run(
    experiment_name: str | None, run_name: str | None, tags: Mapping[str, str]
) -> Iterator[NewRun]:
    """Provide a new run, or the one that `mlflow run` opened; an exception marks it failed."""
    opened = client()
    import mlflow

    if "MLFLOW_RUN_ID" not in os.environ and experiment_name is not None:
        experiment = opened.get_experiment_by_name(experiment_name)
        experiment_id = (
            experiment.experiment_id if experiment else opened.create_experiment(experiment_name)
        )
    else:
        experiment_id = None
    with mlflow.start_run(
        experiment_id=experiment_id, run_name=run_name, tags=dict(tags)
    ) as active:
        yield NewRun(active.info.run_id, active.info.experiment_id, opened)


def remember(run_id: str, experiment_id: str) -> None:
    """Write the ids of the newest run where scripts that follow find them."""
    with complete(LAST_RUN) as path:
        path.write_text(json.dumps({"run_id": run_id, "experiment_id": experiment_id}))


# --- prediction and evaluation: an existing run --------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A finished training run, opened by its id."""

    run_id: str
    experiment_id: str
    artifact_uri: str

    @cached_property
    def client(self) -> MlflowClient:
        """The client of the store, opened where something needs it: importing MLflow takes long."""
        return client()

    def connect(self) -> None:
        """Open the store now. Raises RunError where that is not possible."""
        _ = self.client

    @cached_property
    def recipe(self) -> Recipe:
        """Raises RunError where the run has none, or one of another format."""
        path = self.artifact(RECIPE, what="recipe: it was not made by train.py or did not finish")
        try:
            recipe = Recipe.from_json(path.read_text())
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunError(f"the recipe of run {self.run_id} can't be read: {error}") from None
        if recipe.format != Recipe.format:
            raise RunError(
                f"run {self.run_id} has a recipe of format {recipe.format}, this version reads "
                f"{Recipe.format}: train again"
            )
        return recipe

    def check_year(self, year: str, otherwise: str = "") -> None:
        """Raise ConfigError where `year` is given and not the run's; `otherwise`: another way."""
        trained = str(self.recipe.analysis.get("year") or "")
        if year and trained and year != trained:
            raise ConfigError(
                f"run {self.run_id} was trained for year {trained}, not {year}: leave year out"
                + (f", or {otherwise}" if otherwise else "")
            )

    def model_text(self, index: int) -> str:
        """Return the text of model `index`, as training wrote it; its ending is the kind's own."""
        paths = [p for p in self.artifacts("recipe") if Path(p).stem == f"model_{index}"]
        if len(paths) > 1:
            raise RunError(f"run {self.run_id} has more than one model {index}: {paths}")
        path = self.artifact((paths or [f"recipe/model_{index}"])[0], what=f"model {index}")
        try:
            return path.read_text()
        except UnicodeDecodeError:
            raise RunError(f"{path} of run {self.run_id} is damaged: it is no text") from None

    def trained_identities(self, index: int) -> NDArray[np.uint64]:
        """Return the sorted identities that model `index` was trained on."""
        path = self.artifact(f"recipe/trained_{index}.npy", what=f"identities of model {index}")
        try:
            stored = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise RunError(f"{path} of run {self.run_id} is damaged: {error}") from None
        trained: NDArray[np.uint64] = stored
        if stored.dtype != np.uint64 or stored.ndim != 1 or not len(stored):
            raise RunError(f"{path} of run {self.run_id} is damaged: it holds no identities")
        return trained

    def artifacts(self, folder: str) -> list[str]:
        """Return the paths of the artifacts in `folder`, relative to the run's artifacts."""
        local = self._local()
        if local is not None:
            there = local / folder
            return sorted(f"{folder}/{p.name}" for p in there.iterdir()) if there.is_dir() else []
        return sorted(a.path for a in self.client.list_artifacts(self.run_id, folder))

    def artifact(self, path: str, what: str) -> Path:
        """Return a local copy of an artifact. Raises RunError naming `what` where there is none."""
        local = self._local()
        if local is not None:
            found = local / path
        elif path not in self.artifacts(str(Path(path).parent)):
            found = None
        else:
            found = Path(self.client.download_artifacts(self.run_id, path))
        if found is None or not found.is_file():
            raise RunError(f"run {self.run_id} has no {what} ({path})")
        return found

    def publish(self, files: Mapping[str, Path], stale: Collection[str] = ()) -> None:
        """Log files under their artifact paths, in the given order, each complete or absent.

        The last one should be the manifest that says the others are there. Before it, the artifacts
        `stale` are removed, those of an earlier manifest; in a remote store they stay.
        """
        local = self._local()
        if local is not None:
            # An old manifest must not speak for new files if this ends midway.
            (local / list(files)[-1]).unlink(missing_ok=True)
        for artifact_path, source in files.items():
            if local is not None and artifact_path == list(files)[-1]:
                for old in stale:
                    (local / old).unlink(missing_ok=True)
            if local is None:
                folder = str(Path(artifact_path).parent)
                if source.name != Path(artifact_path).name:
                    raise ValueError(f"{source} can't be logged as {artifact_path}")
                self.client.log_artifact(self.run_id, str(source), folder)
                continue
            target = local / artifact_path
            with complete(target) as partial:
                shutil.copyfile(source, partial)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log metrics in one batch; values that are not finite are left out."""
        finite = {k: [(0, v)] for k, v in metrics.items() if np.isfinite(v)}
        _log_metrics(self.client, self.run_id, finite)

    def _local(self) -> Path | None:
        """Return the artifact folder, also after the project was moved; None if it is remote."""
        parsed = urlparse(self.artifact_uri)
        if parsed.scheme not in ("", "file"):
            return None
        path = Path(unquote(parsed.path))
        if path.is_dir():
            return path
        parts = path.parts
        if "mlruns" in parts:
            moved = PROJECT.joinpath(*parts[parts.index("mlruns") :])
            if moved.is_dir():
                return moved
        return path


def open_run(run_id: str, experiment_id: str | None = None) -> Run:
    """Return the run with this id.

    Raises RunError where there is none, or it belongs to another experiment than `experiment_id`.
    """
    run = _run_in_sqlite(run_id) or _run_of_client(run_id)
    if experiment_id is not None and experiment_id != run.experiment_id:
        raise RunError(
            f"run {run_id} is in experiment {run.experiment_id}, not {experiment_id}: "
            f"give experiment_id={run.experiment_id} or leave it out"
        )
    return run


def _run_in_sqlite(run_id: str) -> Run | None:
    """Return a run of a sqlite store, read without MLflow, whose import takes seconds.

    None where the store is no such file or has no such run: MLflow itself then has the word.
    """
    import sqlite3

    path = _sqlite_file()
    if path is None or not path.is_file():
        return None
    query = (
        "SELECT run_uuid, experiment_id, artifact_uri FROM runs "
        "WHERE run_uuid = ? AND artifact_uri IS NOT NULL"
    )
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
            found = store.execute(query, (run_id,)).fetchone()
    except sqlite3.Error:
        return None
    return Run(*map(str, found)) if found else None


def _run_of_client(run_id: str) -> Run:
    opened = client()
    from mlflow.exceptions import MlflowException

    try:
        info = opened.get_run(run_id).info
    except MlflowException:
        raise RunError(
            f"there is no run '{run_id}' in {store_uri()}; {_nearest_run(opened, run_id)}"
        ) from None
    return Run(info.run_id, info.experiment_id, info.artifact_uri)


def _sqlite_file() -> Path | None:
    """Return the file of a sqlite store given by a plain path, else None."""
    uri = store_uri()
    if not uri.startswith("sqlite:///") or "?" in uri:
        return None
    return Path(uri.removeprefix("sqlite:///")).absolute()


def _nearest_run(opened: MlflowClient, run_id: str) -> str:
    experiments = [e.experiment_id for e in opened.search_experiments()]
    runs = opened.search_runs(experiments, max_results=200) if experiments else []
    close = nearest(run_id, [r.info.run_id for r in runs])
    if runs and not close.startswith("nearest"):
        return f"the newest is {runs[0].info.run_id}"
    return close


def _log_metrics(
    opened: MlflowClient, run_id: str, curves: Mapping[str, Sequence[tuple[int, float]]]
) -> None:
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(key, float(value), now, int(step))
        for key, points in curves.items()
        for step, value in points
    ]
    for start in range(0, len(metrics), 1000):  # the most that one call may hold
        opened.log_batch(run_id, metrics=metrics[start : start + 1000])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# --- a moved project -----------------------------------------------------------------------------


def rebase(old: str, new: Path = PROJECT) -> int:
    """Replace the folder `old` by `new` in every artifact location of the sqlite store.

    For the UI after the project was moved; the scripts find their runs without it. Returns the
    number of changed locations. Raises RunError where the store is no sqlite file.
    """
    import sqlite3

    path = _sqlite_file()
    if path is None:
        raise RunError(f"only a sqlite store can be re-based, not {store_uri()}")
    if not path.is_file():
        raise RunError(f"there is no store {path}")
    columns = {
        "experiments": "artifact_location",
        "runs": "artifact_uri",
        "logged_models": "artifact_location",
    }
    changed = 0
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for table, column in columns.items():
            prefix = old.rstrip("/")
            cursor = connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE instr({column}, ?)",
                (f"{prefix}/mlruns", f"{str(new).rstrip('/')}/mlruns", f"{prefix}/mlruns"),
            )
            changed += cursor.rowcount
    return changed
