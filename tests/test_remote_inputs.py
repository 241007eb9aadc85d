"""All stages with ntuples on servers: what local files give, and no secrets.

How single files are read from servers is tested in tests/formats/ntuples/test_servers.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import uproot
from input_servers import Served, http, s3, xrootd
from one_process import refusal, run_commands, succeed
from workspaces import Workspace, last_run, toys

NTUPLES = "data/bbH/tt/2018/ntuples"
SAMPLE = "VBFHToTauTau_M125"
PREDICTION = ("--config-path", "configs/preprocess/prediction_data", f"input_samples=[{SAMPLE}]")
FRIENDS = ("predict.py", "--config-name", "for_datacards", "run_id=RUN", f"sample_names=[{SAMPLE}]")
OWN = f"data/own_whole/{SAMPLE}_pred.root"
SECRET = "hunter2"


def skims(kind: str, *more: str) -> list[list[str]]:
    """Return the commands that make all skims in a folder `kind`."""
    keys = ["year=2018", f"skim_path=data/{kind}", *more]
    return [["preprocess.py", *keys], ["preprocess.py", *PREDICTION, *keys]]


def friends(kind: str, *more: str) -> list[list[str]]:
    """Return the commands that predict from the skims, and from ntuples; and prove the former."""
    return [
        [*FRIENDS, f"input_path=data/{kind}/prediction", f"output_path=data/friends_{kind}"],
        [*FRIENDS, "source=ntuples", f"output_path=data/fused_{kind}", *more],
    ]


def proof(kind: str, url: str) -> list[str]:
    tree = f"data/friends_{kind}/{SAMPLE}_pred.root"
    return ["utils.proof", f"{url}/{SAMPLE}.root", tree, "--scores", "RUN"]


@pytest.fixture(scope="module")
def served(shared_workspace: Workspace) -> Iterator[Served]:
    toys(shared_workspace, 12_000)
    with http(shared_workspace.folder / NTUPLES) as server:
        yield server


@pytest.fixture(scope="module")
def made(shared_workspace: Workspace, served: Served) -> Workspace:
    """Skims and friend trees of local files, and of a server that drops connections.

    The run was trained on the latter; what its training and the preprocessing named, that server,
    is then known without being named again.
    """
    served.fails = lambda number: number % 40 == 3
    results = run_commands(
        shared_workspace.folder,
        [
            *skims("local"),
            *skims("http", f"input_path={served.url}"),
            ["train.py", "year=2018", "skim_path=data/http", "model_param.num_iterations=3"],
            *friends("local", f"input_path={NTUPLES}"),
            *friends("http"),
            proof("http", served.url),
        ],
    )
    succeed(results)
    assert "again in" in "".join(said for _, said in results)
    served.fails = lambda _: False
    return shared_workspace


def check_equal(workspace: Workspace, kind: str, url: str) -> None:
    """Compare what a server's files gave with what local files gave."""
    data = workspace.folder / "data"
    assert url in (data / kind / "prediction" / "config_prediction.json").read_text()
    for skim in ("training/train.h5", "training/test.h5", f"prediction/{SAMPLE}.h5"):
        for group in ("cont_features", "cat_features", "misc_features", "targets", "weights"):
            pd.testing.assert_frame_equal(
                pd.read_hdf(data / kind / skim, group), pd.read_hdf(data / "local" / skim, group)
            )
    for folder in ("friends", "fused"):
        expected = friend(data / f"{folder}_local" / f"{SAMPLE}_pred.root")
        found = friend(data / f"{folder}_{kind}" / f"{SAMPLE}_pred.root")
        assert found[0] == expected[0]  # with the fingerprint of the input
        assert found[1].keys() == expected[1].keys()
        for name, column in expected[1].items():
            np.testing.assert_array_equal(found[1][name], column, strict=True)


def friend(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a friend tree says of itself, but for where its input is, and its columns."""
    with uproot.open(path) as file:
        metadata = json.loads(str(file["pred_metadata"]))
        metadata["input"].pop("path", None)
        return metadata, file["pred"].arrays(library="np")


def models(workspace: Workspace, run_id: str) -> list[bytes]:
    """Return the models of a run, as they are stored."""
    [folder] = workspace.folder.glob(f"mlruns/*/{run_id}/artifacts/recipe")
    found = [path.read_bytes() for path in sorted(folder.glob("model_*"))]
    assert found
    return found


def check_server(
    workspace: Workspace, kind: str, url: str, environment: Mapping[str, str] | None = None
) -> None:
    given = f"input_path={url}"
    commands = [*skims(kind, given), *friends(kind, given), proof(kind, url)]
    results = run_commands(workspace.folder, commands, environment)
    succeed(results)
    assert f"is a friend of {SAMPLE}.root" in results[-1][1]
    check_equal(workspace, kind, url)


def test_http_that_drops_connections(made: Workspace, served: Served) -> None:
    check_equal(made, "http", served.url)


def test_http_without_ranges(made: Workspace, served: Served) -> None:
    """The whole chain, with a run of its own, which knows the server from its training."""
    first, last = last_run(made)["run_id"], made.folder / "outputs" / "last_run.json"
    kept = last.read_bytes()
    served.ranges = False
    try:
        check_server(made, "whole", served.url)
        asked = len(served.requests)
        results = run_commands(
            made.folder,
            [
                ["train.py", "year=2018", "skim_path=data/whole", "model_param.num_iterations=3"],
                [*FRIENDS, "source=ntuples", "output_path=data/own_whole"],
                ["utils.proof", f"{served.url}/{SAMPLE}.root", OWN, "--scores", "RUN"],
            ],
        )
        own = last_run(made)["run_id"]
    finally:
        served.ranges = True
        last.write_bytes(kept)  # other tests go on with the first run
    succeed(results)
    assert own != first
    assert models(made, own) == models(made, first)
    assert f"{served.url}/{SAMPLE}.root: the server sends no parts of files" in results[1][1]
    assert {name for name, _ in served.requests[asked:]} == {f"{SAMPLE}.root"}
    found = friend(made.folder / OWN)
    expected = friend(made.folder / f"data/fused_local/{SAMPLE}_pred.root")
    assert found[0]["run_id"] == own
    for name, column in expected[1].items():
        np.testing.assert_array_equal(found[1][name], column, strict=True)


def test_the_friend_tree_itself_may_be_on_a_server(made: Workspace, served: Served) -> None:
    ntuple, url = f"{NTUPLES}/{SAMPLE}.root", f"{served.url}/{SAMPLE}.root"
    with http(made.folder / "data/friends_http") as server:
        tree = f"{server.url}/{SAMPLE}_pred.root"
        asked = len(served.requests)
        here, there, other, absent, secret = run_commands(
            made.folder,
            [
                ["utils.proof", ntuple, tree, "--scores", "RUN"],
                ["utils.proof", url, tree, "--scores", "RUN"],
                ["utils.proof", f"{NTUPLES}/ZZTo4L.root", tree],
                ["utils.proof", ntuple, f"{server.url}/none_pred.root"],
                ["utils.proof", ntuple, tree.replace("//", f"//me:{SECRET}@")],
            ],
        )
        assert f"{SAMPLE}_pred.root" in {name for name, _ in server.requests}
    assert f"{SAMPLE}.root" in {name for name, _ in served.requests[asked:]}
    for proved in (here, there):
        succeed([proved])
        assert f"{SAMPLE}_pred.root is a friend of {SAMPLE}.root" in proved[1]
    assert f"{SAMPLE}_pred.root is not a friend of ZZTo4L.root" in refusal(other)
    assert refusal(absent) == f"there is no file {server.url}/none_pred.root"
    assert "holds credentials" in refusal(secret)
    assert SECRET not in secret[1]


def test_xrootd(made: Workspace) -> None:
    with xrootd() as (url, folder):
        for path in (made.folder / NTUPLES).glob("*.root"):
            shutil.copy(path, folder)
        check_server(made, "root", url)


def test_s3(made: Workspace) -> None:
    with s3() as (url, environment, put):
        for path in (made.folder / NTUPLES).glob("*.root"):
            put(path)
        check_server(made, "s3", url, environment)


def test_no_server_is_asked_that_the_user_did_not_name_and_no_secret_is_kept(
    made: Workspace, served: Served
) -> None:
    """A skim and a run from elsewhere name servers; a user's URL holds a password."""
    own = made.folder / "mine"
    own.mkdir()
    password = f"http://me:{SECRET}@{served.url.removeprefix('http://')}"
    (own / "my_file.yaml").write_text(
        f"input_path: {password}\ninput_tree_name: TauCheck\nfor_training: true\n"
        "input_samples: [{S: {p: {class: 0}}}]\n"
    )
    places = made.folder / "outputs" / "places"
    shutil.rmtree(places / "servers")  # as if skims and run came from elsewhere
    (places / f"{last_run(made)['run_id']}.json").unlink()
    by_skim, by_run = friends("http")
    asked = len(served.requests)
    results = run_commands(
        made.folder,
        [
            by_skim,
            by_run,
            ["preprocess.py", "year=2018", f"input_path={password}"],
            ["preprocess.py", "year=2018", f"input_path={served.url}?token={SECRET}"],
            ["preprocess.py", "--config-path", str(own), "--config-name", "my_file.yaml"],
            [*by_run, f"input_path={password}"],
            ["utils.proof", f"{password}/a.root", f"data/friends_http/{SAMPLE}_pred.root"],
        ],
    )
    assert len(served.requests) == asked
    said = [refusal(result) for result in results]
    assert f"names {served.url}/{SAMPLE}.root as the input of sample {SAMPLE}, on a" in said[0]
    assert "give its folder as orig_path=..." in said[0]
    assert f"names {served.url}/ as the folder of ntuples, outside this project" in said[1]
    for line in said[2:]:
        assert "holds credentials" in line
    assert SECRET not in "".join(output for _, output in results)
    kept = [p for p in (made.folder / "outputs").rglob("*") if p.is_file()]
    assert kept
    assert [p for p in kept if SECRET in p.read_text(errors="replace")] == []


def test_named_servers_are_asked_and_failures_are_one_line(made: Workspace, served: Served) -> None:
    by_skim, by_run = friends("http")
    asked = len(served.requests)
    named, drafted, *failed = run_commands(
        made.folder,
        [
            [*by_skim, f"orig_path={served.url}"],
            ["utils.new_analysis", f"{served.url}/{SAMPLE}.root", "-o", "data/drafted.yaml"],
            [
                "preprocess.py",
                "year=2018",
                f"input_path={served.url}",
                "input_filename_template='*'",
            ],
            ["preprocess.py", "year=2018", f"input_path={served.url}/nowhere"],
            [*by_run, "input_path=http://127.0.0.1:1"],
            ["preprocess.py", "year=2018", "output_path=s3://bucket/skims"],
        ],
        {"REMOTE_PATIENCE": "0"},
    )
    succeed([named, drafted])
    assert f"input_path: '{served.url}/'" in (made.folder / "data" / "drafted.yaml").read_text()
    assert len(served.requests) > asked
    said = [refusal(result) for result in failed]
    assert "a pattern can't be matched over http" in said[0]
    assert f"there is no file {served.url}/nowhere/" in said[1]
    assert said[2].startswith(f"http://127.0.0.1:1/{SAMPLE}.root: could not open it")
    assert "name a file or folder of this machine" in said[3]
