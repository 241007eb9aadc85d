"""Options of clusters that are started here: what users may give, what is added, job scripts."""

from __future__ import annotations

import asyncio
import inspect
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from utils.schema import PROJECT, ConfigError, EngineConfig, nearest

SUBMITS = {"slurm": "sbatch", "htcondor": "condor_submit"}
"""The command that submits a job, by the name of the batch system."""


def log_folder() -> Path:
    """Return the folder of the job logs of this command."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    return PROJECT / "outputs" / "jobs" / f"{stamp}_{os.getpid()}"


def security(config: EngineConfig) -> Any:
    """Return what Dask takes for TLS: None, True for certificates of this command, or a Security.

    Raises ConfigError for a key that `distributed.Security` does not have, or a file that is not
    there.
    """
    from distributed import Security

    given = config.security
    if isinstance(given, bool):
        return given or None
    known = [name for name in Security.__slots__ if name.startswith("tls_")]
    _refuse_unknown(given, [*known, "require_encryption"], "engine.security")
    for name, value in given.items():
        if (
            name.endswith(("_file", "_cert", "_key"))
            and not Path(str(value)).expanduser().is_file()
        ):
            raise ConfigError(f"engine.security.{name}: there is no file {value}")
    files = {
        k: str(Path(v).expanduser()) if k in known and isinstance(v, str) else v
        for k, v in given.items()
    }
    return Security(**{"require_encryption": True, **files})


def local_cluster(config: EngineConfig, n_workers: int) -> Any:
    """Return worker processes on this machine, started. Raises ConfigError for wrong options."""
    from distributed import LocalCluster, Nanny, Worker

    known = _parameters(LocalCluster, Nanny, Worker)
    _refuse_unknown(config.cluster_options, known, "engine.cluster_options")
    options = {
        "n_workers": n_workers,
        "processes": True,
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": "CRITICAL",
        "security": security(config),
        **config.cluster_options,
    }
    # Python's keeper of semaphores removes those of a command that is cut off, and tells as much.
    given = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = f"{given or ''},ignore:resource_tracker".strip(",")
    try:
        return LocalCluster(**options)
    except (TypeError, ValueError, RuntimeError, ImportError, OSError) as error:
        raise ConfigError(f"engine.cluster_options for a local cluster: {error}") from None
    finally:
        if given is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = given


def batch_cluster(config: EngineConfig, logs: Path, asynchronous: bool = False) -> Any:
    """Return a cluster that will submit its workers as jobs; none is submitted yet.

    Raises ConfigError for options that the batch system's cluster does not have or can't use.
    """
    import dask
    import dask_jobqueue
    from dask_jobqueue.core import JobQueueCluster
    from distributed.utils import get_ip

    kind = {"htcondor": "HTCondorCluster", "slurm": "SLURMCluster"}[config.cluster]
    made = getattr(dask_jobqueue, kind)
    known = _parameters(JobQueueCluster, made.job_cls, made.job_cls.__mro__[1])
    given = {k: v for k, v in config.cluster_options.items() if v is not None}
    _refuse_unknown(given, known, "engine.cluster_options")

    def site(name: str) -> Any:
        """Return an option, given here or in the site's own jobqueue.yaml."""
        underscored = name.replace("-", "_")
        return given.get(underscored, dask.config.get(f"jobqueue.{config.cluster}.{name}", None))

    for name in ("cores", "memory"):
        if site(name) is None:
            raise ConfigError(f"engine.cluster_options.{name} is not set: say what one job has")
    scheduler = dict(site("scheduler-options") or {})
    if not (site("interface") or {"host", "interface"} & scheduler.keys()):
        scheduler["host"] = get_ip()  # one address, where Dask would listen on all
    if not asynchronous:
        logs.mkdir(parents=True)
    secured = security(config)
    if secured is True:
        secured = _own_certificates(logs, write=not asynchronous)
    options: dict[str, Any] = {
        "job_name": "htt-ml",
        "python": shlex.quote(sys.executable),
        "processes": site("processes") or site("cores"),  # a unit of work uses one thread
        "security": secured,
        **given,
        "worker_extra_args": ["--no-dashboard", *(site("worker-extra-args") or [])],
        "scheduler_options": {"dashboard_address": "127.0.0.1:0", **scheduler},
        "silence_logs": "CRITICAL",
        "asynchronous": asynchronous,
    }
    if site("log-directory") is None:
        _log_into(logs, config.cluster, options, site("job-extra-directives"))
    try:
        return made(**options)
    except (TypeError, ValueError, RuntimeError, ImportError, OSError) as error:
        raise ConfigError(f"engine.cluster_options for {config.cluster}: {error}") from None


CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")
"""Files beside the logs, for the time of the command, by which it and its workers know another."""


def _own_certificates(logs: Path, write: bool) -> Any:
    """Return TLS with certificates of this command alone, which are written for its workers."""
    from distributed import Security

    paths = [logs / name for name in CERTIFICATES]
    if write:
        made = Security.temporary().get_tls_config_for_role("worker")
        for path, part in zip(paths, ("ca_file", "cert", "key"), strict=True):
            path.touch(mode=0o600)
            path.write_text(made[part], encoding="utf-8")
    ca, cert, key = map(str, paths)
    roles = ("client", "scheduler", "worker")
    pairs = {
        f"tls_{role}_{part}": path
        for role in roles
        for part, path in (("cert", cert), ("key", key))
    }
    return Security(require_encryption=True, tls_ca_file=ca, **pairs)


def remove_certificates(logs: Path) -> None:
    """Remove what the workers of a command needed to be known by."""
    for name in CERTIFICATES:
        (logs / name).unlink(missing_ok=True)


def _log_into(logs: Path, kind: str, options: dict[str, Any], more: Any) -> None:
    if kind != "slurm":
        options["log_directory"] = str(logs)
        return
    # dask-jobqueue would not quote a path with blanks, nor what Slurm takes for a pattern.
    folder = str(logs).replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')
    options["job_extra_directives"] = [f'-o "{folder}/slurm-%j.log"', *(more or [])]


def log_of_job(config: EngineConfig, logs: Path, job_name: str, job: str) -> Path:
    """Return the file that a Slurm job writes to."""
    import dask

    key = f"jobqueue.{config.cluster}.log-directory"
    own = config.cluster_options.get("log_directory") or dask.config.get(key, None)
    return Path(own) / f"{job_name}-{job}.err" if own else logs / f"slurm-{job}.log"


def check_submits(config: EngineConfig) -> None:
    """Raise ConfigError where the batch system's command is not on this machine."""
    command = SUBMITS[config.cluster]
    if shutil.which(command) is None:
        raise ConfigError(
            f"engine.cluster={config.cluster} submits jobs with {command}, which is not on "
            "this machine: run on a submit node, or give the address of a running scheduler"
        )


def job_script(config: EngineConfig) -> str:
    """Return the script that one job of workers would be, without submitting it.

    Raises ConfigError where the engine submits no jobs.
    """
    if config.kind != "dask" or config.cluster not in SUBMITS or config.address:
        raise ConfigError(
            "engine.dry_run shows the job script of a batch system: add engine=slurm or "
            "engine=htcondor"
        )
    logs = log_folder()

    async def script() -> str:
        # Within a running loop nothing is started before it is awaited.
        return str(batch_cluster(config, logs, asynchronous=True).job_script())

    try:
        return asyncio.run(script())
    finally:
        shutil.rmtree(logs, ignore_errors=True)


def _parameters(*classes: Any) -> set[str]:
    """Return the names of what constructors take."""
    return {
        name
        for made in classes
        for name, parameter in inspect.signature(made.__init__).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    } - {"self", "scheduler", "job_cls", "asynchronous", "loop", "n_workers"}


def _refuse_unknown(given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = sorted(known)
    for name in given:
        if name not in known:
            raise ConfigError(f"{where} has no key '{name}'; {nearest(name, known)}")
