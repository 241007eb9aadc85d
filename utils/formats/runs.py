"""Runs: everything that reads or writes an MLflow store. The only module that imports mlflow.

A run is found by its id alone, wherever the project folder is now. Logging to an existing run goes
through the client, which leaves the run's status and earlier content as they are. What is published
has a manifest (`formats/manifests.py`): only what one lists is read, and only as it lists it.

A run is data from anyone: nothing is read or written through a symbolic link in it or by a path
that leaves it, and what its recipe names outside of it counts only where the user named it too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse, urlsplit

import numpy as np
from numpy.typing import NDArray

from utils.formats.manifests import Manifest, is_inside, is_manifest, manifest_of, settled, summed
from utils.schema import (
    PROJECT,
    ConfigError,
    Location,
    PipelineError,
    Recipe,
    RunError,
    Url,
    is_within,
    location,
    nearest,
    normal,
)
from utils.system import servers
from utils.system.files import (
    check_addressable,
    complete,
    discard_abandoned,
    disk_of,
    is_abandoned,
    kept_alive,
    locked,
    outlive,
    scratch,
    system_message,
    unfinished,
    unfinished_below,
    writing,
)
from utils.system.interrupts import ended_by, last_words
from utils.system.places import check_writable
from utils.system.processes import Process

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

RECIPE = "recipe/recipe.json"
LAST_RUN = PROJECT / "outputs" / "last_run.json"
"""What train.py writes last: the ids of the newest run, for scripts that follow it."""

LAST = "last"
"""What stands for the id of the newest run that was trained in this project folder."""

PLACES = PROJECT / "outputs" / "places"
"""A file a run that was trained here: the places that the user's own training named."""

RUNNING = PROJECT / "outputs" / "running"
"""A file for each training under way: its run, and by its name its process."""

_NOTE = "mlflow.note.content"
"""MLflow's tag that holds the description of a run."""

_LONGEST_NOTE = 7900
"""Characters: MLflow's stores take 8000."""

ADOPT = "python -m utils.tracking adopt"
"""The command that checks the models of a run of an earlier version and writes its manifest."""

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
# A server that is gone for good is told after a minute, not after five; one that takes questions
# and answers none after four, not after thirteen, with a line each half minute.
os.environ.setdefault(_RETRIES, "5")
os.environ.setdefault(_TIMEOUT, "30")


def store_uri() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, else sqlite in the project folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{PROJECT / 'mlflow.db'}"


def uri_prefix() -> str:
    """Return what a command needs in front to reach this store: nothing for the default one."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri or _is_own_store() or _shown(uri) != uri:  # with a password: it stays unwritten
        return ""
    return f"MLFLOW_TRACKING_URI={uri} "


def _is_own_store() -> bool:
    """Tell whether the store is that of the project folder, however its path is spelt."""
    path = _sqlite_file()
    return path is not None and path.resolve() == (PROJECT / "mlflow.db").resolve()


def _shown(uri: str) -> str:
    """Return a store's address without the password that it may hold."""
    try:
        password = urlsplit(uri).password
    except ValueError:
        return uri
    return uri.replace(f":{password}@", ":***@") if password else uri


_STORES_OWN = (
    *("mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "sqlite3"),
    *("botocore", "boto3", "s3transfer", "google", "azure"),
)
"""Libraries whose errors tell of the store, which MLflow wraps in ways of its own."""


@contextlib.contextmanager
def _answering(doing: str, also: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turn a failure of the store inside into a RunError that says what could not be done.

    Errors of the types `also` count as the store's.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        library = type(error).__module__.split(".")[0]
        # An ImportError: the package that the protocol of the run's artifacts needs is not there.
        if not (isinstance(error, (*also, ImportError)) or library in _STORES_OWN):
            raise
        raise RunError(
            f"the MLflow store {_shown(store_uri())} can't {doing}: {_first_line(error)}"
        ) from error


def client() -> MlflowClient:
    """Return a client of the store, which is made first where there is none.

    Raises RunError where the store can't be opened or does not answer.
    """
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Errors are raised as well: its own log would add their tracebacks to our one line. That a
    # server does not answer is told by urllib3.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    uri = store_uri()
    mlflow.set_tracking_uri(uri)
    # A new sqlite store puts its artifacts below the working directory: make that its own folder.
    own = artifact_folder()
    if own is not None:
        check_addressable(own.parent, "the folder of the MLflow store")
    folder = Path.cwd() if own is None else own.parent
    try:
        with contextlib.chdir(folder), _one_at_a_time(uri):
            opened = mlflow.MlflowClient(uri)
            opened.search_experiments(max_results=1)
    except Exception as error:  # MLflow wraps any failure of any store in its own ways
        raise RunError(
            f"the MLflow store {_shown(uri)} can't be opened: {_first_line(error)}"
        ) from None
    return opened


def check_store() -> None:
    """Raise RunError where the store does not answer or can't be written. No store is made."""
    path = _sqlite_file()
    if path is None:  # a server, which answers soon or not at all
        with _asking(**{_RETRIES: "0", _TIMEOUT: "5"}), _answering("be read"):
            client().search_experiments(max_results=1)
        return
    check_writable(path, "the MLflow store")
    if path.is_file():
        import sqlite3

        address = f"{path.as_uri()}?mode=ro"
        with _answering("be read"), contextlib.closing(sqlite3.connect(address, uri=True)) as store:
            store.execute("SELECT COUNT(*) FROM runs").fetchone()


@contextlib.contextmanager
def _asking(**how: str) -> Iterator[None]:
    """Let MLflow ask a server in a way that these variables of the environment set."""
    before = {name: os.environ.get(name) for name in how}
    os.environ |= how
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _patient() -> contextlib.AbstractContextManager[None]:
    """Let MLflow's server take two minutes, for what it passes on before it answers: files.

    And for what must not be asked for twice.
    """
    given = os.environ.get(_TIMEOUT, "")
    return _asking(**{_TIMEOUT: str(max(120, int(given) if given.isdigit() else 0))})


def artifact_folder() -> Path | None:
    """Return the folder that artifacts of a sqlite store go to, beside it; None for a server."""
    path = _sqlite_file()
    return None if path is None else path.parent / "mlruns"


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Let one process of this project at a time open a sqlite store: two would both create it."""
    if not uri.startswith("sqlite:"):
        yield
        return
    with locked(PROJECT / "outputs" / ".store.lock"):
        yield


# --- training: a new run -------------------------------------------------------------------------


@dataclass(frozen=True)
class SkimEntry:
    """A skim as the store lists it; `context`: what it is to the run, e.g. 'training'."""

    name: str
    context: str
    digest: str
    place: str
    n_rows: int
    n_columns: int


@dataclass(frozen=True)
class NewRun:
    """The run of a training in progress."""

    run_id: str
    experiment_id: str
    artifact_uri: str
    client: MlflowClient = field(repr=False)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log parameters in one call; a value too long for MLflow is cut, the recipe has it whole.

        A parameter that `mlflow run` has logged already keeps its value.
        """
        from mlflow.entities import Param

        with _answering("take the parameters"):
            known = self.client.get_run(self.run_id).data.params
            texts = {key: str(v)[:5900] for key, v in parameters.items() if key not in known}
            self.client.log_batch(self.run_id, params=[Param(k, v) for k, v in texts.items()])

    def log_skims(self, skims: Sequence[SkimEntry]) -> None:
        """Log skims as MLflow's data sets: which they were, how many events, and their digests."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=skim.name,
                    digest=skim.digest,
                    source_type="local",
                    source=json.dumps({"uri": skim.place}),
                    profile=json.dumps({"num_rows": skim.n_rows, "num_columns": skim.n_columns}),
                ),
                tags=[InputTag("mlflow.data.context", skim.context)],
            )
            for skim in skims
        ]
        with _answering("take the data sets"):
            self.client.log_inputs(self.run_id, inputs)

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

        The signature names the features and takes numbers of any type, as LightGBM does: what
        pandas reads from a CSV file is float64 and int64.

        Only what MLflow stores as text is logged so, a pickle never: the flavor is lightgbm.
        """
        if flavor != "lightgbm":
            raise ValueError(f"models of the flavor {flavor} are not logged")
        import mlflow
        import pandas
        from mlflow.types.schema import AnyType, ColSpec, Schema

        from utils.system.libraries.boosters import lightgbm, threads_beside

        frame = pandas.DataFrame(example, columns=list(features))
        requirements = [f"lightgbm=={lightgbm.__version__}"]
        for index, text in enumerate(models):
            booster = lightgbm.Booster(model_str=text)
            with threads_beside(1) as n_threads:
                shown = booster.predict(example, num_threads=n_threads)
            signature = mlflow.models.ModelSignature(
                inputs=Schema([ColSpec(AnyType(), name) for name in features]),
                outputs=mlflow.models.infer_signature(frame, shown).outputs,
            )
            with (
                warnings.catch_warnings(),
                _without_a_map_of_packages(),
                _patient(),
                _answering("take the models"),
            ):
                warnings.simplefilter("ignore")  # advice for model servers, which this is not
                try:
                    mlflow.lightgbm.log_model(
                        booster,
                        name=f"model_{index}",
                        signature=signature,
                        input_example=frame,
                        pip_requirements=requirements,
                    )
                except lightgbm.basic.LightGBMError as error:  # it does not say why it can't write
                    disk = disk_of(Path(tempfile.gettempdir()))
                    raise RunError(f"{_first_line(error)}: is {disk} full?") from error

    def publish(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Publish everything below `folder`, with the manifest that says that all is there."""
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        opened_run(self).publish(dict(sorted(files.items())), about)


@contextlib.contextmanager
def training_run(
    experiment_name: str | None,
    run_name: str | None,
    tags: Mapping[str, str],
    resumed: str | None = None,
) -> Iterator[NewRun]:
    """Provide a new run, or the one that `mlflow run` opened, or the run `resumed`.

    An exception marks it FAILED, an interrupt KILLED, and so does the next command where this one
    dies. `trained_by` among its tags is what that goes by.
    """
    opened = client()
    end_dead_runs()
    import mlflow

    with _marked() as mark:
        with _answering("hold the new run"):
            _keep_new_runs_here(resumed or os.environ.get("MLFLOW_RUN_ID"))
            if resumed is not None:
                opened.set_tag(resumed, "trained_by", mark.stem)
                _drop_models(opened, resumed)
            experiment_id = _experiment(opened, experiment_name) if resumed is None else None
            with _ended_in_the_making(mark), _patient():
                active = mlflow.start_run(
                    run_id=resumed,
                    experiment_id=experiment_id,
                    run_name=run_name,
                    tags={**tags, "trained_by": mark.stem},
                )
        info = active.info
        killed = partial(_end, mark, "KILLED", partial(opened.set_terminated, info.run_id))
        with last_words(killed):
            status = "FAILED"
            try:
                yield NewRun(info.run_id, info.experiment_id, info.artifact_uri, opened)
                status = "FINISHED"
            except BaseException as error:
                if ended_by(error) is not None:
                    status = "KILLED"
                raise
            finally:
                # What ended the work is told, not that the store is lost too.
                with contextlib.suppress(*(() if status == "FINISHED" else (RunError,))):
                    _end(mark, status, mlflow.end_run)


@contextlib.contextmanager
def _ended_in_the_making(mark: Path) -> Iterator[None]:
    """End, by the tag of its mark, a run that the store may have when this is interrupted.

    Where it has none yet, the mark stays for the next command to look again.
    """

    def end() -> None:
        with contextlib.suppress(RunError):
            if _end_dead_run(mark.stem, "KILLED"):
                mark.unlink(missing_ok=True)

    with last_words(end):
        try:
            yield
        except BaseException as error:
            if ended_by(error) is not None:
                end()
            raise


def _drop_models(opened: MlflowClient, run_id: str) -> None:
    """Remove MLflow's models of a run that is trained on: they are logged again, all together."""
    experiment_id = opened.get_run(run_id).info.experiment_id
    for model in opened.search_logged_models([experiment_id]):
        if model.source_run_id == run_id:
            opened.delete_logged_model(model.model_id)
            place = urlparse(model.artifact_location)
            if (
                place.scheme in ("", "file")
                and Path(place.path).parent.parent.name == model.model_id
            ):
                shutil.rmtree(Path(unquote(place.path)).parent, ignore_errors=True)


def _experiment(opened: MlflowClient, name: str | None) -> str | None:
    """Return the id of a training's experiment, which is made first where there is none."""
    if "MLFLOW_RUN_ID" in os.environ or name is None:
        return None
    experiment = opened.get_experiment_by_name(name)
    if experiment is None:
        return str(opened.create_experiment(name))
    if experiment.lifecycle_stage == "deleted":
        raise RunError(
            f"experiment '{name}' was deleted: choose another experiment_name, "
            f"or 'mlflow experiments restore -x {experiment.experiment_id}'"
        )
    return str(experiment.experiment_id)


@contextlib.contextmanager
def _marked() -> Iterator[Path]:
    """Keep a file as long as this process trains: where it dies, the next command finds it."""
    mark = RUNNING / f"{Process.current()}-{uuid.uuid4().hex[:8]}.json"
    _write_mark(mark, "KILLED")
    with kept_alive(mark):
        yield mark


def _write_mark(mark: Path, status: str) -> None:
    """Write what is to be told to the store if this process does not do it."""
    with complete(mark) as file:
        file.write_text(json.dumps({"store": _store_name(), "status": status}), encoding="utf-8")


def _end(mark: Path, status: str, tell: Callable[[str], object]) -> None:
    """Tell the store how a run ended. Its mark stays, with the status, where that fails."""
    _write_mark(mark, status)
    with _answering("end the run"):
        tell(status)
    mark.unlink(missing_ok=True)


def end_dead_runs() -> None:
    """Tell the store of runs that are RUNNING there, though the processes that trained them died.

    Those that it does not take now are left to the next command. What dead processes were noting
    for later commands goes.
    """
    discard_abandoned(RUNNING, PLACES, servers.SERVERS, LAST_RUN.parent)
    for mark in sorted(RUNNING.glob("*.json")):
        process = Process.named_in(mark.name)
        try:
            if process is None or not process.is_dead(mark.stat().st_mtime):
                continue
            said = json.loads(mark.read_text(encoding="utf-8"))
            if said["store"] == _store_name():
                _end_dead_run(mark.stem, said["status"])
                mark.unlink()
        except (OSError, ValueError, KeyError, TypeError, RunError) as error:
            log.info("%s is left to the next command: %s", mark, _first_line(error))


def _end_dead_run(trained_by: str, status: str) -> int:
    """Tell the store how the training ended that left this tag; return of how many runs."""
    opened = client()
    with _answering("end the run of a command that died"):
        experiments = [e.experiment_id for e in opened.search_experiments()]
        query = f"tags.trained_by = '{trained_by}' AND attributes.status = 'RUNNING'"
        found = opened.search_runs(experiments, query)
        for run in found:
            opened.set_terminated(run.info.run_id, status)
            log.info("Run %s, whose training died, is %s now", run.info.run_id, status)
    return len(found)


def _keep_new_runs_here(trained: str | None) -> None:
    """Let what a copied project trains go to the copy: its store names the original's folder.

    `trained` is a run that is there already, which `mlflow run` opened or a training goes on with.
    """
    path = _sqlite_file()
    if path is not None and _is_own_store():
        of_run = {"runs": "run_uuid", "logged_models": "source_run_id"}
        for folder in _other_projects(path, trained):
            _rebased(path, {"experiments": "artifact_location"}, folder, PROJECT)
            for table, key in of_run.items() if trained else ():
                _rebased(path, {table: _LOCATIONS[table]}, folder, PROJECT, {key: trained})


def _other_projects(store: Path, run_id: str | None) -> set[str]:
    """Return the folders, other than this project's, whose `mlruns` a store's experiments name.

    Those that the run names, too.
    """
    import sqlite3

    query = "SELECT artifact_location FROM experiments"
    query += " UNION SELECT artifact_uri FROM runs WHERE run_uuid = ?"
    with contextlib.closing(sqlite3.connect(store)) as connection:
        rows = connection.execute(query, (run_id,)).fetchall()
    named = {str(location).partition("/mlruns")[0] for (location,) in rows if location}
    return {folder for folder in named if folder.startswith("/")} - {str(PROJECT)}


def remember(
    run_id: str, experiment_id: str, places: Sequence[str], analysis_name: str = ""
) -> None:
    """Write the ids of the newest run, and of which analysis it is, where later scripts find them.

    `places` are the folders and files that the training's own configuration names: later scripts
    may use those that are outside the project, which a run's recipe alone can't make them do.
    """
    named = sorted({str(normal(location(place))) for place in places if place})
    with complete(PLACES / f"{run_id}.json") as path:
        path.write_text(json.dumps({"project": str(PROJECT), "places": named}), encoding="utf-8")
    ids = {"run_id": run_id, "experiment_id": experiment_id, "store": _store_name()}
    ids |= {"analysis_name": analysis_name}
    with complete(LAST_RUN) as path:
        path.write_text(json.dumps(ids), encoding="utf-8")


def _store_name() -> str:
    """Return what tells stores apart in this project folder: nothing for its own one."""
    return "" if _is_own_store() else _shown(store_uri())


@dataclass(frozen=True)
class LoggedRun:
    """What the store holds of a run: the latest value of each metric."""

    run_id: str
    name: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def logged(run_ids: Sequence[str]) -> list[LoggedRun]:
    """Return what the store holds of some runs. Raises RunError where it has not all of them."""
    opened = client()
    with _answering("give the runs"):
        found = [opened.get_run(run_id) for run_id in run_ids]
    return [
        LoggedRun(r.info.run_id, r.info.run_name, r.data.params, r.data.metrics, r.data.tags)
        for r in found
    ]


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
        """The recipe of a training none of whose files was changed.

        Raises RunError where the run has none, one of another format or no manifest, and where any
        file that the manifest of the training lists is not as it was: whatever a script needs.
        """
        path = self.artifact(RECIPE, what="recipe: it was not made by train.py or did not finish")
        manifest = self.manifest(manifest_of(RECIPE))
        for other in manifest.files if manifest else ():
            if other != RECIPE:
                self.artifact(other, what="file of its training")
        return self._read_recipe(path)

    def unchecked_recipe(self) -> Recipe:
        """Return the recipe of a run that may have no manifest yet."""
        return self._read_recipe(self.unchecked(RECIPE, "recipe: it was not made by train.py"))

    def _read_recipe(self, path: Path) -> Recipe:
        try:
            recipe = Recipe.from_json(path.read_text(encoding="utf-8"))
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

    def model_text(self, index: int, checked: bool = True) -> str:
        """Return the text of model `index`, as training wrote it; its ending is the kind's own."""
        manifest = self.manifest(manifest_of(RECIPE)) if checked else None
        listed = self.artifacts("recipe") if manifest is None else manifest.files
        paths = [p for p in listed if Path(p).stem == f"model_{index}"]
        if len(paths) > 1:
            raise RunError(f"run {self.run_id} has more than one model {index}: {paths}")
        read = self.artifact if checked else self.unchecked
        path = read((paths or [f"recipe/model_{index}"])[0], f"model {index}")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise RunError(f"{path} of run {self.run_id} is damaged: it is no text") from None

    def trained_identities(self, index: int, checked: bool = True) -> NDArray[np.uint64]:
        """Return the sorted identities that model `index` was trained on."""
        read = self.artifact if checked else self.unchecked
        path = read(f"recipe/trained_{index}.npy", f"identities of model {index}")
        try:
            stored = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise RunError(f"{path} of run {self.run_id} is damaged: {error}") from None
        trained: NDArray[np.uint64] = stored
        if stored.dtype != np.uint64 or stored.ndim != 1 or not len(stored):
            raise RunError(f"{path} of run {self.run_id} is damaged: it holds no identities")
        return trained

    def artifacts(self, folder: str) -> list[str]:
        """Return the paths of all artifacts in `folder`, relative to the run's artifacts."""
        there = self._place(folder)
        if there is not None:
            return sorted(f"{folder}/{p.name}" for p in there.iterdir()) if there.is_dir() else []
        with _answering("list artifacts"):
            return sorted(a.path for a in self.client.list_artifacts(self.run_id, folder))

    def lists(self, path: str) -> bool:
        """Tell whether a manifest lists the artifact `path`."""
        manifest = self.manifest(manifest_of(path))
        return manifest is not None and path in manifest.files

    def manifest(self, path: str) -> Manifest | None:
        """Return the manifest at `path`, None where there is none. Raises RunError if damaged."""
        if path not in self.artifacts(str(Path(path).parent)):
            return None
        try:
            return Manifest.from_json(
                self.unchecked(path, "manifest").read_text(encoding="utf-8"), path
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(
                f"{path} of run {self.run_id} can't be read ({error}): remove it"
            ) from None

    def artifact(self, path: str, what: str) -> Path:
        """Return a local copy of a published artifact.

        Raises RunError naming `what` where there is none, where no manifest lists it, and where it
        is not what the manifest lists.
        """
        if is_manifest(path):
            return self.unchecked(path, what)
        place = manifest_of(path)
        manifest = self.manifest(place)
        while True:
            try:
                return self._listed(path, what, place, manifest)
            except RunError:
                # Another command may just have published anew: then that is what is read.
                before, manifest = manifest, self.manifest(place)
                if manifest == before:
                    raise

    def _listed(self, path: str, what: str, place: str, manifest: Manifest | None) -> Path:
        """Return a local copy of an artifact as `manifest`, the one at `place`, lists it."""
        if manifest is None or manifest.former:
            self.unchecked(path, what)
            if place == manifest_of(RECIPE):
                raise RunError(
                    f"run {self.run_id} has no {place}, which runs of an earlier version lack: "
                    f"'{uri_prefix()}{ADOPT} {self.run_id}' checks its models and writes it"
                )
            raise RunError(
                f"{path} of run {self.run_id} has no {place}, so it is not known to be complete: "
                "make it anew"
            )
        listed = manifest.files.get(path)
        if listed is None:
            raise RunError(f"run {self.run_id} has no {what} ({path} is not in {place})")
        copy = self.unchecked(listed.kept, what)
        if listed.differs(copy):
            raise RunError(
                f"{path} of run {self.run_id} is not what {place} lists: it was changed or damaged "
                "since it was made"
            )
        return copy

    def address(self, path: str) -> str:
        """Return where a published artifact is: a path, or MLflow's `runs:/` in a remote store."""
        manifest = self.manifest(manifest_of(path))
        listed = manifest.files.get(path) if manifest is not None else None
        kept = path if listed is None else listed.kept
        place = self._place(kept)
        return f"runs:/{self.run_id}/{kept}" if place is None else str(place)

    def unchecked(self, path: str, what: str) -> Path:
        """Return a local copy of an artifact as it is. Raises RunError where there is none."""
        found = self._place(path)
        if found is None and path in self.artifacts(str(Path(path).parent)):
            with _patient(), _answering("give an artifact"):
                found = Path(self.client.download_artifacts(self.run_id, path))
        if found is None or not found.is_file():
            raise RunError(f"run {self.run_id} has no {what} ({path})")
        return found

    def publish(self, files: Mapping[str, Path], about: Mapping[str, Any] | None = None) -> None:
        """Publish files under their artifact paths: together, with their manifest, or not at all.

        All belong to one publication, and `about` is what its manifest says of it. Files go to the
        run under new names, which the manifest gives: by this one file the publication takes the
        place of the earlier one, whenever the process may be killed. In a local store the files
        then get their own names. The metrics in `about` are logged after that, and as NaN those of
        the earlier publication that are no more. What is cut off there, `mend` does.
        """
        [place] = {manifest_of(path) for path in files}
        with self._alone():
            root = self._local()
            if root is not None:
                self._mend_below(root, self._target(place).parent)
                self._settle(place)
            former = self.manifest(place)
            said = dict(about or {})
            gone = _gone(former, said)
            if gone:
                said["gone"] = gone
            if root is None:
                self._publish_remotely(place, files, said)
            else:
                self._publish_locally(place, files, said, former)
        if "metrics" in said:
            self.log_metrics(*_metrics_of(said))

    def _publish_remotely(
        self, place: str, files: Mapping[str, Path], about: Mapping[str, Any]
    ) -> None:
        folder = Path(place).parent.as_posix()
        under = folder if folder == "recipe" else f"{folder}/{uuid.uuid4().hex[:12]}"
        kept = {p: f"{under}/{Path(p).relative_to(folder).as_posix()}" for p in files}
        with scratch() as temporary, _answering("take the files"):
            text = Manifest(summed(files, kept), dict(about)).to_json()
            (temporary / Path(place).name).write_text(text, encoding="utf-8")
            for path, source in files.items():
                self._send(source, kept[path], temporary)
            self._send(temporary / Path(place).name, place, temporary)

    def _publish_locally(
        self,
        place: str,
        files: Mapping[str, Path],
        about: Mapping[str, Any],
        former: Manifest | None,
    ) -> None:
        for path in [*files, place]:
            target = self._target(path)
            if target.is_dir():
                raise IsADirectoryError(
                    errno.EISDIR, "a folder is in the place of a file", str(target)
                )
            target.parent.mkdir(parents=True, exist_ok=True)
        target, folder = self._target(place), Path(place).parent
        with unfinished(target.with_suffix("")) as staged:
            staged.mkdir()
            kept = {}
            for path, source in files.items():
                copy = staged / Path(path).relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                with writing(self._target(path)):
                    shutil.copyfile(source, copy)
                kept[path] = (folder / copy.relative_to(target.parent)).as_posix()
            obsolete = sorted(set(former.files) - set(files)) if former is not None else []
            manifest = Manifest(summed(files, kept), dict(about), obsolete=tuple(obsolete))
            with complete(target) as file:
                file.write_text(manifest.to_json(), encoding="utf-8")
                # The manifest names its files as soon as it has its name, and then it is too late;
                # where it gets none, `mend` removes what was staged.
                outlive(staged)
            self._settle(place)

    def _settle(self, place: str) -> None:
        """Give the files of a local publication their own names: again and again does no harm.

        The manifest at `place` holds at every moment: it names the new files where they came, as
        long as their own names are not theirs.
        """
        manifest = self.manifest(place)
        if manifest is None or manifest.former or manifest.is_settled:
            return
        if not all(self._target(listed.kept).is_file() for listed in manifest.files.values()):
            return  # damage, which whoever reads the publication is told
        for path, listed in manifest.files.items():
            with complete(self._target(path)) as name:
                _linked(self._target(listed.kept), name)
        for path in manifest.obsolete:
            target = self._target(path)
            if target.is_file():
                target.unlink()
        with complete(self._target(place)) as file:
            file.write_text(settled(manifest).to_json(), encoding="utf-8")

    def _target(self, path: str) -> Path:
        place = self._place(path)
        if place is None:
            raise RuntimeError(f"{path} is not in a local store")
        return place

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time change what is published in a local store."""
        root = self._local()
        if root is None:
            yield
            return
        self._place("recipe")  # links are refused
        with locked(root.parent / ".publishing.lock"):
            yield

    def mend(self) -> None:
        """Finish what a command did not that ended while it published; remove what it left.

        That is: own names for files, where the manifest was exchanged; metrics of an evaluation,
        where the store has others than its manifest. Changes nothing where all is as it should be.
        """
        end_dead_runs()
        root = self._local()
        if root is not None and root.is_dir():
            with self._alone():
                self._mend_below(root, root)
        logged: dict[str, float] | None = None
        for evaluation in self.artifacts("plots"):
            manifest = self.manifest(f"{evaluation}/manifest.json")
            if manifest is None or "metrics" not in manifest.about:
                continue
            metrics, gone = _metrics_of(manifest.about)
            logged = self._logged_metrics() if logged is None else logged
            if any(not _same(value, logged.get(name)) for name, value in metrics.items()):
                log.info("Logging the metrics of %s, which an earlier command did not", evaluation)
                self.log_metrics(metrics, gone)

    def _mend_below(self, root: Path, top: Path) -> None:
        """Finish the publications below a folder of a local store whose processes are dead."""
        for here in unfinished_below(top):
            self._mend(here, here.relative_to(root).as_posix())

    def _mend(self, here: Path, folder: str) -> None:
        for path in filter(is_manifest, self.artifacts(folder)):
            with contextlib.suppress(RunError):  # who reads a damaged manifest is told
                manifest = self.manifest(path)
                files = manifest.files.items() if manifest is not None else ()
                places = [Path(f.kept).relative_to(folder) for own, f in files if f.kept != own]
                # Where there are no locks, a living process may be at it.
                if places and all(is_abandoned(here / place.parts[0]) for place in places):
                    self._settle(path)
        discard_abandoned(here)

    def seal(self, paths: Sequence[str], about: Mapping[str, Any]) -> None:
        """Write the manifest of artifacts that are there without one."""
        self.publish({path: self.unchecked(path, "artifact") for path in paths}, about)

    def _send(self, source: Path, path: str, temporary: Path) -> None:
        """Log a file to a server under the name that its artifact path has."""
        if source.name != Path(path).name:
            source = Path(shutil.copyfile(source, temporary / Path(path).name))
        with _patient():
            self.client.log_artifact(self.run_id, str(source), Path(path).parent.as_posix())

    def _logged_metrics(self) -> dict[str, float]:
        """Return the newest values of the run's metrics in the store."""
        query = "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?"
        rows = _in_sqlite(query, (self.run_id,))
        if rows is not None:
            return {str(k): float("nan") if nan else float(v) for k, v, nan in rows}
        with _answering("give the metrics"):
            return dict(self.client.get_run(self.run_id).data.metrics)

    def note(self) -> str:
        """Return the run's description, which the UI shows first; '' where there is none."""
        query = "SELECT value FROM tags WHERE run_uuid = ? AND key = ?"
        found = _in_sqlite(query, (self.run_id, _NOTE))
        if found is not None:
            return str(found[0][0]) if found else ""
        with _answering("give the run's description"):
            return str(self.client.get_run(self.run_id).data.tags.get(_NOTE, ""))

    def write_note(self, text: str) -> None:
        """Write the run's description (Markdown); one too long for MLflow is cut."""
        write = "INSERT OR REPLACE INTO tags (run_uuid, key, value) VALUES (?, ?, ?)"
        if _in_sqlite(write, (self.run_id, _NOTE, text[:_LONGEST_NOTE])) is not None:
            return
        with _answering("take the run's description"):
            self.client.set_tag(self.run_id, _NOTE, text[:_LONGEST_NOTE])

    def log_metrics(self, metrics: Mapping[str, float], gone: Collection[str] = ()) -> None:
        """Log metrics in one batch; values that are not finite are left out, those `gone` NaN."""
        kept = {k: [(0, v)] for k, v in metrics.items() if np.isfinite(v) or k in gone}
        _log_metrics(self.client, self.run_id, kept)

    def place(self, path: Location, what: str, key: str) -> Location:
        """Return a place outside the run that its recipe names, where that is the user's own.

        That is: in the project folder, or named by the configuration of a training that was started
        in it; or on a server that a preprocessing in it was told to read from. Raises RunError,
        naming the key that gives it, where it is somewhere else.
        """
        full = normal(path)
        known = isinstance(full, Url) and servers.is_known(full)
        if not known and not any(is_within(full, own) for own in (PROJECT, *self._own_places)):
            raise RunError(
                f"run {self.run_id} names {full} as {what}, outside this project, and was not "
                f"trained here: if you mean that, add {key} to the command"
            )
        return path

    @cached_property
    def _own_places(self) -> tuple[Location, ...]:
        try:
            said = json.loads((PLACES / f"{self.run_id}.json").read_text(encoding="utf-8"))
            project, places = said["project"], [location(place) for place in said["places"]]
        except (OSError, ValueError, KeyError, TypeError, ConfigError):
            return ()
        # In a copy of the project what was inside the original is the original's.
        moved = project != str(PROJECT)
        return tuple(p for p in places if not (moved and is_within(p, Path(project))))

    def _place(self, path: str) -> Path | None:
        """Return where an artifact of a local store is or will be; None in a remote store.

        Raises RunError where that is not inside the run's own folder.
        """
        root = self._local()
        if root is None:
            return None
        if not is_inside(path):
            raise RunError(f"run {self.run_id} names {path}, which is outside of it")
        place = root.joinpath(*Path(path).parts)
        for part in (root.parent, root, *reversed(place.relative_to(root).parents[:-1]), place):
            full = root / part
            if full.is_symlink():
                raise RunError(
                    f"{full} is a symbolic link, which could lead anywhere: put the file or folder "
                    f"itself into run {self.run_id}"
                )
        return place

    def _local(self) -> Path | None:
        """Return the artifact folder, also after the project was moved; None if it is remote."""
        parsed = urlparse(self.artifact_uri)
        if parsed.scheme not in ("", "file"):
            return None
        path = Path(unquote(parsed.path))
        parts = path.parts
        own = PROJECT.joinpath(*parts[parts.index("mlruns") :]) if "mlruns" in parts else path
        # A copied project has copied runs: the store still names those of the original.
        return own if own.is_dir() and (_is_own_store() or not path.is_dir()) else path


def opened_run(run: NewRun) -> Run:
    """Return the run of a training in progress as others open it."""
    return Run(run.run_id, run.experiment_id, run.artifact_uri)


def _metrics_of(about: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Return the metrics that a publication says to log, and those of them that are no more."""
    gone = list(about.get("gone", []))
    return {**about["metrics"], **dict.fromkeys(gone, np.nan)}, gone


def _same(value: float, logged: float | None) -> bool:
    """Tell whether the store has a value; those that are not finite are not logged."""
    if logged is None or not np.isfinite(value):
        return not np.isfinite(value) and (logged is None or not np.isfinite(logged))
    return value == logged


def _linked(source: Path, target: Path) -> None:
    """Let `target` be another name of a file, or a copy where file systems have one name only."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _gone(former: Manifest | None, about: Mapping[str, Any]) -> list[str]:
    """Return the metrics that earlier publications logged and this one does not."""
    if former is None or "metrics" not in about:
        return []
    earlier = {*former.about.get("metrics", {}), *former.about.get("gone", [])}
    return sorted(earlier - set(about["metrics"]))


def open_run(run_id: str, experiment_id: str | None = None) -> Run:
    """Return the run with this id; `last` is the newest that was trained in this project folder.

    Raises RunError where there is none, or it belongs to another experiment than `experiment_id`.
    """
    run_id = _last_run() if run_id == LAST else run_id
    run = _run_in_sqlite(run_id) or _run_of_client(run_id)
    if experiment_id is not None and experiment_id != run.experiment_id:
        raise RunError(
            f"run {run_id} is in experiment {run.experiment_id}, not {experiment_id}: "
            f"give experiment_id={run.experiment_id} or leave it out"
        )
    return run


def _last_run() -> str:
    try:
        said = json.loads(LAST_RUN.read_text(encoding="utf-8"))
        run_id, store = str(said["run_id"]), said.get("store")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError(
            "no training has finished in this project folder yet: give the run's id instead of last"
        ) from None
    if store not in (None, _store_name()):  # None: written by an earlier version
        raise RunError(
            f"the last training here, run {run_id}, is in {store or 'the store of the project'}, "
            f"not in {_shown(store_uri())}: name that store, or give a run's id"
        )
    return run_id


def newest_of(analysis_name: str) -> str | None:
    """Return the id of the newest run trained in this project folder, if it is of an analysis."""
    try:
        run_id = _last_run()
        said = json.loads(LAST_RUN.read_text(encoding="utf-8"))
    except RunError:
        return None
    return run_id if said.get("analysis_name") == analysis_name else None


def _run_in_sqlite(run_id: str) -> Run | None:
    """Return a run of a sqlite store, read without MLflow, whose import takes seconds.

    None where the store is no such file or has no such run: MLflow itself then has the word.
    """
    query = (
        "SELECT run_uuid, experiment_id, artifact_uri FROM runs JOIN experiments "
        "USING (experiment_id) WHERE run_uuid = ? AND artifact_uri IS NOT NULL "
        "AND runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'"
    )
    found = _in_sqlite(query, (run_id,))
    return Run(*map(str, found[0])) if found else None


def _run_of_client(run_id: str) -> Run:
    opened = client()
    from mlflow.exceptions import MlflowException

    with _answering("find the run"):
        try:
            info = opened.get_run(run_id).info
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise RunError(
                f"there is no run '{run_id}' in {_shown(store_uri())}; "
                f"{_nearest_run(opened, run_id)}"
            ) from None
        if info.lifecycle_stage == "deleted":
            raise RunError(
                f"run {run_id} was deleted: '{uri_prefix()}mlflow runs restore --run-id {run_id}' "
                "brings it back"
            )
        if opened.get_experiment(info.experiment_id).lifecycle_stage == "deleted":
            raise RunError(
                f"experiment {info.experiment_id} of run {run_id} was deleted: "
                f"'{uri_prefix()}mlflow experiments restore -x {info.experiment_id}' brings it back"
            )
    return Run(info.run_id, info.experiment_id, info.artifact_uri)


def _in_sqlite(statement: str, values: Sequence[str]) -> list[tuple[Any, ...]] | None:
    """Return the rows of a statement on a sqlite store, without MLflow, whose import takes seconds.

    None where the store is another, or has not the tables that are expected.
    """
    import sqlite3

    path = _sqlite_file()
    if path is None or not path.is_file():
        return None
    try:
        address = f"{path.as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=60)) as store, store:
            return store.execute(statement, tuple(values)).fetchall()
    except sqlite3.Error:
        return None


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
    with _answering("take the metrics"):
        for start in range(0, len(metrics), 1000):  # the most that one call may hold
            opened.log_batch(run_id, metrics=metrics[start : start + 1000])


@contextlib.contextmanager
def _without_a_map_of_packages() -> Iterator[None]:
    """Let MLflow look requirements up by the names they have.

    It would first map all installed packages to their modules, which takes a second, for those that
    are known by another name only.
    """
    from mlflow.utils import requirements_utils

    state: Any = requirements_utils
    kept = getattr(state, "_MODULES_TO_PACKAGES", None)
    state._MODULES_TO_PACKAGES = kept or {}
    try:
        yield
    finally:
        state._MODULES_TO_PACKAGES = kept


def _first_line(error: BaseException) -> str:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        _, target, why = error.args[0][0]  # of a folder's copy, file by file
        return f"{target}: {why} (on {disk_of(Path(target))})"
    said = system_message(error) if isinstance(error, OSError) else str(error)
    lines = said.strip().splitlines() or [type(error).__name__]
    # SQLAlchemy begins with advice for programmers.
    return next((line for line in lines if not line.startswith("(raised as a result")), lines[0])


# --- a moved project -----------------------------------------------------------------------------


def rebase(old: str, new: Path = PROJECT) -> int:
    """Replace the folder `old` by `new` in every artifact location of the sqlite store.

    For the UI after the project was moved; the scripts find their runs without it. Returns the
    number of changed locations. Raises RunError where the store is no sqlite file.
    """
    path = _sqlite_file()
    if path is None:
        raise RunError(f"only a sqlite store can be re-based, not {_shown(store_uri())}")
    if not path.is_file():
        raise RunError(f"there is no store {path}")
    with _answering("be re-based"):
        return _rebased(path, _LOCATIONS, old, new)


_LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
}
"""The columns of an MLflow store that name folders, by table."""


def _rebased(
    store: Path,
    columns: Mapping[str, str],
    old: str,
    new: Path,
    only: Mapping[str, str | None] | None = None,
) -> int:
    """Replace `old` by `new` in columns, by table; `only` in rows of these values of columns."""
    import sqlite3

    changed, only = 0, only or {}
    where = "".join(f" AND {column} = ?" for column in only)
    with contextlib.closing(sqlite3.connect(store)) as connection, connection:
        for table, column in columns.items():
            prefix = old.rstrip("/")
            cursor = connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?) "
                f"WHERE instr({column}, ?){where}",
                (
                    *(f"{prefix}/mlruns", f"{str(new).rstrip('/')}/mlruns", f"{prefix}/mlruns"),
                    *only.values(),
                ),
            )
            changed += cursor.rowcount
    return changed
