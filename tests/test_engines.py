"""Threads, a real Dask cluster and a real Slurm give the same skims, models, scores and metrics."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uproot
from dask_servers import Running, certificates
from one_process import run_commands, run_id, succeed
from workspaces import Workspace, toys

TWO = "[TTToHadronic,VBFHToTauTau_M125]"
"""Samples that are predicted."""


def chain(w: Workspace, name: str, engine: list[str], environment: dict[str, str]) -> str:
    """Run all stages in folders of that name; return the id of the run."""
    where = ["year=2018", *engine, f"skim_path=data/{name}"]
    # evaluate.py computes in its own process, and refuses engines that compute elsewhere.
    here = engine if engine[0] not in ("engine=dask", "engine=slurm") else []
    prediction = ["--config-path", "configs/preprocess/prediction_data"]
    results = run_commands(
        w.folder,
        [
            ["preprocess.py", *where],
            ["preprocess.py", *prediction, f"input_samples={TWO}", *where],
            ["train.py", "model_param.num_iterations=5", *where],
            [
                *("predict.py", "--config-name", "for_datacards", "run_id=RUN", *engine),
                *(f"sample_names={TWO}", f"output_path=data/friends_{name}"),
            ],
            ["predict.py", "--config-name", "for_evaluation", "run_id=RUN", *engine],
            [
                *("evaluate.py", "run_id=RUN", "n_bootstrap=5", *here),
                "sections=[confusion,roc,densities]",
            ],
        ],
        environment,
    )
    succeed(results)
    return run_id(results[2][1])


@pytest.fixture(scope="module")
def local(shared_workspace: Workspace) -> tuple[Workspace, str]:
    """The chain on this machine's threads: the project and its run."""
    toys(shared_workspace, 12_000)
    return shared_workspace, chain(shared_workspace, "local", ["engine.n_workers=2"], {})


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask scheduler with two workers, started as an administrator would."""
    with ExitStack() as stack:
        running = Running(tmp_path_factory.mktemp("dask"), stack)
        running.worker()
        running.worker()
        yield running.address


def same_skims(w: Workspace, name: str, *skims: str) -> None:
    """Hold that skims have the contents of the local ones."""
    data = w.folder / "data"
    for skim in skims:
        for group in ("cont_features", "cat_features", "misc_features", "targets", "weights"):
            pd.testing.assert_frame_equal(
                pd.read_hdf(data / name / skim, group), pd.read_hdf(data / "local" / skim, group)
            )


def same_results(w: Workspace, name: str, run: str, local_run: str) -> None:
    """Hold that all that the stages made has the contents of what they made locally."""
    data = w.folder / "data"
    same_skims(w, name, "training/train.h5", "training/test.h5", "prediction/VBFHToTauTau_M125.h5")
    [made] = w.folder.glob(f"mlruns/*/{run}/artifacts")
    [expected] = w.folder.glob(f"mlruns/*/{local_run}/artifacts")
    for i in range(2):
        model = f"recipe/model_{i}.txt"
        assert (made / model).read_text() == (expected / model).read_text()
    tables = sorted(table.name for table in (expected / "pred").glob("*.parquet"))
    assert tables == ["test.parquet", "train.parquet"]
    for table in tables:
        pd.testing.assert_frame_equal(
            *(pd.read_parquet(of / "pred" / table) for of in (made, expected)), check_exact=True
        )
    [metrics, expected_metrics] = (
        json.loads((of / "plots" / "test" / "manifest.json").read_text())["metrics"]
        for of in (made, expected)
    )
    assert expected_metrics
    np.testing.assert_equal(metrics, expected_metrics)
    for sample in ("TTToHadronic", "VBFHToTauTau_M125"):
        trees = []
        for folder in (f"friends_{name}", "friends_local"):
            with uproot.open(data / folder / f"{sample}_pred.root") as file:
                trees.append(file["pred"].arrays(library="np"))
        for column in trees[0]:
            np.testing.assert_array_equal(trees[0][column], trees[1][column], strict=True)


def test_one_after_the_other_gives_the_same(local: tuple[Workspace, str]) -> None:
    w, run = local
    same_results(w, "serial", chain(w, "serial", ["engine=serial"], {}), run)


def test_a_dask_cluster_gives_the_same(local: tuple[Workspace, str], scheduler: str) -> None:
    w, run = local
    engine = ["engine=dask", f"engine.address={scheduler}"]
    same_results(w, "dask", chain(w, "dask", engine, {}), run)


TOGETHER = """
logs=$(dirname "$(readlink /proc/$$/fd/1)")
until [ "$(ls "$logs" | grep -c '^slurm-')" -ge 2 ]; do sleep 0.1; done
"""
"""Holds a job's worker back until a second job of the same command has begun."""


def test_slurm_gives_the_same(local: tuple[Workspace, str], slurm: dict[str, str]) -> None:
    w, run = local
    (w.folder / "together.sh").write_text(TOGETHER)
    engine = [
        *("engine=slurm", "engine.n_workers=2", "engine.cluster_options.interface=lo"),
        "engine.cluster_options.memory=1 GB",
        "engine.cluster_options.job_script_prologue=['. ./together.sh']",
    ]
    same_results(w, "slurm", chain(w, "slurm", engine, slurm), run)
    commands = sorted(w.folder.glob("outputs/jobs/*"))
    assert len(commands) == 5  # all but evaluate.py
    for logs in commands:
        # Both ran at the same time, or neither would have come to its worker.
        assert [log.suffix for log in sorted(logs.iterdir())] == [".log"] * 2
    assert list(w.folder.glob("slurm-*")) == []
    assert list(w.folder.rglob("*.pem")) == []


def test_a_dask_worker_names_what_is_wrong(local: tuple[Workspace, str], scheduler: str) -> None:
    workspace, _ = local
    line = workspace.fails(
        *("python", "preprocess.py", "year=2018", "engine=dask", f"engine.address={scheduler}"),
        "common_cut='pt_1 > 1e9'",
    )
    assert "has no events" in line
    ntuple = workspace.folder / "data/bbH/tt/2018/ntuples/VBFHToTauTau_M125.root"
    whole = ntuple.read_bytes()
    damaged = bytearray(whole)
    middle = len(whole) // 2
    damaged[middle : middle + 20_000] = bytes(20_000)
    ntuple.write_bytes(damaged)
    try:
        line = workspace.fails(
            *("python", "preprocess.py", "year=2018", "engine=dask", f"engine.address={scheduler}")
        )
    finally:
        ntuple.write_bytes(whole)
    assert "VBFHToTauTau_M125.root" in line


def test_no_scheduler_is_one_line(local: tuple[Workspace, str]) -> None:
    workspace, _ = local
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        line = workspace.fails(
            *("python", "preprocess.py", "year=2018", "engine=dask"),
            f"engine.address=tcp://127.0.0.1:{silent.getsockname()[1]}",
            environment={"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"},
        )
    assert "no Dask scheduler answers" in line


@dataclass(frozen=True)
class Secured:
    """The address of a scheduler that asks for certificates, and files: its own, and others."""

    address: str
    own: dict[str, Path]
    foreign: dict[str, Path]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A scheduler and a worker that know each other, and who may use them, by certificates."""
    own, foreign = (certificates(tmp_path_factory.mktemp(name)) for name in ("own", "foreign"))
    tls = ["--tls-ca-file", "--tls-cert", "--tls-key"]
    options = [word for pair in zip(tls, map(str, own.values()), strict=True) for word in pair]
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("secured")
        running = Running(folder, stack, secured=["--protocol", "tls://", *options])
        running.worker()
        yield Secured(running.address, own, foreign)


def security(files: dict[str, Path]) -> str:
    """Return the key by which a command has certificates."""
    keys = {"tls_ca_file": "ca_file", "tls_client_cert": "cert", "tls_client_key": "key"}
    given = ", ".join(f"{key}: '{files[name]}'" for key, name in keys.items())
    return f"engine.security={{{given}}}"


def test_a_scheduler_with_certificates_computes_for_who_has_them(
    local: tuple[Workspace, str], secured: Secured
) -> None:
    w, _ = local
    assert secured.address.startswith("tls://")
    done = w.run(
        *("python", "preprocess.py", "year=2018", "engine=dask", "skim_path=data/secured"),
        *(f"engine.address={secured.address}", security(secured.own)),
    )
    assert f"Dask cluster at {secured.address}: 1 worker now" in done.stderr
    same_skims(w, "secured", "training/train.h5", "training/test.h5")


@pytest.mark.parametrize(
    ("protocol", "given", "said"),
    [
        ("tls", [], "TLS"),
        ("tls", ["foreign", "foreign", "foreign"], "TLS"),
        ("tls", ["own", "foreign", "foreign"], "TLS"),  # refused by the scheduler itself
        ("tcp", [], ""),
    ],
)
def test_a_scheduler_with_certificates_hears_nobody_else(
    local: tuple[Workspace, str], secured: Secured, protocol: str, given: list[str], said: str
) -> None:
    w, _ = local
    address = secured.address.replace("tls://", f"{protocol}://")
    whose = {"own": secured.own, "foreign": secured.foreign}
    files = {name: whose[of][name] for name, of in zip(secured.own, given, strict=False)}
    line = w.fails(
        *("python", "preprocess.py", "year=2018", "engine=dask", "skim_path=data/unheard"),
        *(f"engine.address={address}", *([security(files)] if files else [])),
    )
    assert line.startswith(f"no Dask scheduler answers at engine.address={address}: ")
    assert said in line
    assert not (w.folder / "data" / "unheard").exists()
