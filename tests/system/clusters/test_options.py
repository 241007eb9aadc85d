"""Options of clusters: what is misspelt is named, what is right arrives in the job script."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from utils.schema import PROJECT, ConfigError, EngineConfig
from utils.system import engine
from utils.system.clusters import job_script
from utils.system.clusters.options import security


def shipped(name: str, **more: Any) -> EngineConfig:
    """Return an engine as its file in `configs/engine/` and a command's keys make it."""
    raw = OmegaConf.merge(OmegaConf.load(PROJECT / "configs" / "engine" / f"{name}.yaml"), more)
    plain = OmegaConf.to_container(raw)
    assert isinstance(plain, dict)
    return EngineConfig(**{str(k): v for k, v in plain.items()})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"cluster_options": {"memry_limit": "1 GB"}},
            "no key 'memry_limit'; nearest: 'memory_limit'",
        ),
        (
            {"cluster_options": {"memory_limit": "much"}},
            "engine.cluster_options for a local cluster",
        ),
        (
            {"security": {"tls_ca_fil": "x"}},
            "engine.security has no key 'tls_ca_fil'; nearest: 'tls_ca_file'",
        ),
        ({"security": {"tls_ca_file": "/no/ca.pem"}}, "tls_ca_file: there is no file /no/ca.pem"),
    ],
)
def test_a_wrong_option_is_one_line(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said), engine.start(EngineConfig(kind="dask", **config)):
        pass


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("slurm", {"wall_time": "1:00"}, "no key 'wall_time'; nearest: 'walltime'"),
        ("htcondor", {"dsk": "1 GB"}, "no key 'dsk'; nearest: 'disk'"),
        ("slurm", {"memory": "lots"}, "engine.cluster_options for slurm: .*lots"),
        ("slurm", {"cores": None}, r"cluster_options.cores is not set"),
    ],
)
def test_a_wrong_option_of_a_job_is_one_line(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        job_script(shipped(name, cluster_options=options))


def test_a_slurm_job_is_as_asked_for() -> None:
    options = {"cores": 2, "memory": "6 GB", "queue": "long", "job_extra_directives": ["--nice"]}
    script = job_script(shipped("slurm", cluster_options=options))
    lines = script.splitlines()
    assert "#SBATCH -p long" in lines
    assert "#SBATCH --nice" in lines
    assert "#SBATCH --cpus-per-task=2" in lines
    assert "#SBATCH --mem=6G" in lines
    [log] = [line for line in lines if line.startswith("#SBATCH -o ")]
    assert f'"{PROJECT}/outputs/jobs/' in log
    worker = shlex.split(lines[-1])
    assert worker[0] == sys.executable
    assert worker[worker.index("--nworkers") + 1] == "2"  # a thread for each unit of work
    assert worker[worker.index("--nthreads") + 1] == "1"
    assert "--no-dashboard" in worker
    assert worker[worker.index("--protocol") + 1] == "tls://"
    key = Path(worker[worker.index("--tls-key") + 1])
    assert key.parent == Path(log.split('"')[1]).parent
    assert not key.parent.exists()  # nothing is left of a dry run


def test_a_condor_job_is_as_asked_for() -> None:
    script = job_script(shipped("htcondor", cluster_options={"disk": "3 GB"}))
    assert "MY.DaskWorkerDisk = 3000000000" in script
    assert f"LogDirectory = {PROJECT}/outputs/jobs/" in script
    assert "--tls-key" in script


def test_a_dry_run_is_for_batch_systems() -> None:
    for config in (
        EngineConfig(),
        EngineConfig(kind="dask"),
        shipped("slurm", address="tcp://h:1"),
    ):
        with pytest.raises(ConfigError, match=r"add engine=slurm or engine=htcondor"):
            job_script(config)


def test_certificates_reach_dask(tmp_path: Path) -> None:
    assert security(EngineConfig(kind="dask")) is None
    assert security(EngineConfig(kind="dask", security=True)) is True
    ca, cert = tmp_path / "ca.pem", tmp_path / "cert.pem"
    for path in (ca, cert):
        path.touch()
    given = {"tls_ca_file": str(ca), "tls_client_cert": str(cert)}
    made = security(EngineConfig(kind="dask", security=given))
    config = made.get_tls_config_for_role("client")
    assert (config["ca_file"], config["cert"]) == (str(ca), str(cert))
    assert made.require_encryption
