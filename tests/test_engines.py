"""Local, serial and a real Dask cluster on loopback give the same skims, models and scores."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import uproot
from one_process import run_commands, run_id, succeed
from servers import says, started
from workspaces import Workspace, toys


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Dask scheduler and two worker processes on loopback, started as an administrator would."""
    folder = tmp_path_factory.mktemp("dask")
    dask = [sys.executable, "-m", "dask"]
    here = ["--host", "127.0.0.1", "--no-dashboard"]
    log, place = folder / "scheduler.log", folder / "scheduler.json"
    command = [*dask, "scheduler", *here, "--port", "0", "--scheduler-file", str(place)]
    with started(command, log) as scheduler:
        says(scheduler, log, "Scheduler at:")
        address: str = json.loads(place.read_text())["address"]
        log = folder / "workers.log"
        command = [*dask, "worker", address, *here, "--nworkers", "2", "--nthreads", "1"]
        with started(command, log) as workers:
            says(workers, log, "Registered to:", times=2)
            yield address


@pytest.fixture(scope="module")
def runs(shared_workspace: Workspace, scheduler: str) -> tuple[Workspace, dict[str, str]]:
    """The chain with each engine, each in its own folders; returns the run ids."""
    w = shared_workspace
    toys(w, 12_000)
    ids = {}
    for kind, more in (
        ("local", ["engine.n_workers=2"]),
        ("serial", []),
        ("dask", [f"engine.address={scheduler}"]),
    ):
        where = ["year=2018", f"engine={kind}", *more, f"skim_path=data/{kind}"]
        prediction = ["--config-path", "configs/preprocess/prediction_data"]
        two = "[TTToHadronic,VBFHToTauTau_M125]"
        results = run_commands(
            w.folder,
            [
                ["preprocess.py", *where],
                ["preprocess.py", *prediction, f"input_samples={two}", *where],
                ["train.py", "model_param.num_iterations=5", *where],
                [
                    *("predict.py", "--config-name", "for_datacards", "run_id=RUN"),
                    *(f"engine={kind}", *more, f"sample_names={two}"),
                    f"output_path=data/friends_{kind}",
                ],
            ],
        )
        succeed(results)
        ids[kind] = run_id(results[2][1])
    return w, ids


@pytest.mark.parametrize("kind", ["serial", "dask"])
def test_engines_give_the_same_results(runs: tuple[Workspace, dict[str, str]], kind: str) -> None:
    workspace, ids = runs
    data = workspace.folder / "data"
    for skim in ("training/train.h5", "training/test.h5", "prediction/VBFHToTauTau_M125.h5"):
        for group in ("cont_features", "cat_features", "misc_features", "targets", "weights"):
            pd.testing.assert_frame_equal(
                pd.read_hdf(data / kind / skim, group), pd.read_hdf(data / "local" / skim, group)
            )
    for i in range(2):
        texts = {
            run: next(
                workspace.folder.glob(f"mlruns/*/{run}/artifacts/recipe/model_{i}.txt")
            ).read_text()
            for run in (ids[kind], ids["local"])
        }
        assert texts[ids[kind]] == texts[ids["local"]]
    for name in ("TTToHadronic", "VBFHToTauTau_M125"):
        trees = []
        for folder in (f"friends_{kind}", "friends_local"):
            with uproot.open(data / folder / f"{name}_pred.root") as file:
                trees.append(file["pred"].arrays(library="np"))
        for column in trees[0]:
            np.testing.assert_array_equal(trees[0][column], trees[1][column], strict=True)


def test_a_dask_worker_names_what_is_wrong(
    runs: tuple[Workspace, dict[str, str]], scheduler: str
) -> None:
    workspace, _ = runs
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


def test_no_scheduler_is_one_line(runs: tuple[Workspace, dict[str, str]]) -> None:
    workspace, _ = runs
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        line = workspace.fails(
            *("python", "preprocess.py", "year=2018", "engine=dask"),
            f"engine.address=tcp://127.0.0.1:{silent.getsockname()[1]}",
            environment={"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"},
        )
    assert "no Dask scheduler answers" in line
