"""All stages with ntuples on servers: the skims and friend trees of the local files, and no secrets.

How single files are read from servers is tested in tests/formats/ntuples/test_servers.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uproot
from input_servers import Served, http, s3, xrootd
from one_process import refusal, run_commands, succeed
from workspaces import Workspace, last_run, toys

NTUPLES = "data/bbH/tt/2018/ntuples"
SAMPLES = ("TTToHadronic", "VBFHToTauTau_M125")
PREDICTION = ("--config-path", "configs/preprocess/prediction_data")
FRIENDS = ("predict.py", "--config-name", "for_datacards", "run_id=RUN")
TWO = f"[{','.join(SAMPLES)}]"
SECRET = "hunter2"


@pytest.fixture(scope="module")
def local(shared_workspace: Workspace) -> Workspace:
    """Everything made from local files, and a run."""
    toys(shared_workspace, 12_000)
    skims = ["year=2018", "skim_path=data/local"]
    succeed(
        run_commands(
            shared_workspace.folder,
            [
                ["preprocess.py", *skims],
                ["preprocess.py", *PREDICTION, f"input_samples={TWO}", *skims],
                ["train.py", "model_param.num_iterations=3", *skims],
                [*FRIENDS, f"sample_names={TWO}", "output_path=data/friends_local"],
            ],
        )
    )
    return shared_workspace


@pytest.fixture(scope="module")
def served(local: Workspace) -> Iterator[Served]:
    with http(local.folder / NTUPLES) as server:
        yield server


def check_stages(
    workspace: Workspace, kind: str, url: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run the stages on a server's files and compare with what local files gave."""
    skims = ["year=2018", f"skim_path=data/{kind}", f"input_path={url}"]
    results = run_commands(
        workspace.folder,
        [
            ["preprocess.py", *skims],
            ["preprocess.py", *PREDICTION, f"input_samples={TWO}", *skims],
            [
                *(*FRIENDS, f"sample_names={TWO}", f"input_path=data/{kind}/prediction"),
                f"output_path=data/friends_{kind}",
            ],
            [
                *(*FRIENDS, f"sample_names={TWO}", "source=ntuples", f"input_path={url}"),
                f"output_path=data/fused_{kind}",
            ],
            [
                *("utils.proof", f"{url}/{SAMPLES[1]}.root", "--scores", "RUN"),
                f"data/friends_{kind}/{SAMPLES[1]}_pred.root",
            ],
        ],
        environment,
    )
    succeed(results)
    assert f"is a friend of {SAMPLES[1]}.root" in results[-1][1]
    assert url in (workspace.folder / f"data/{kind}/prediction/config_prediction.json").read_text()
    data = workspace.folder / "data"
    for skim in ("training/train.h5", "training/test.h5", *(f"prediction/{s}.h5" for s in SAMPLES)):
        for group in ("cont_features", "cat_features", "misc_features", "targets", "weights"):
            pd.testing.assert_frame_equal(
                pd.read_hdf(data / kind / skim, group), pd.read_hdf(data / "local" / skim, group)
            )
    for sample in SAMPLES:
        expected = friend(data / "friends_local" / f"{sample}_pred.root")
        for folder in (f"friends_{kind}", f"fused_{kind}"):
            found = friend(data / folder / f"{sample}_pred.root")
            assert found[0] == expected[0]  # the fingerprint of the input is among it
            assert found[1].keys() == expected[1].keys()
            for name, column in expected[1].items():
                np.testing.assert_array_equal(found[1][name], column, strict=True)


def friend(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    with uproot.open(path) as file:
        return str(file["pred_metadata"]), file["pred"].arrays(library="np")


def test_http_that_drops_connections(local: Workspace, served: Served) -> None:
    served.fails = lambda number: number % 7 == 3
    check_stages(local, "http", served.url)
    served.fails = lambda _: False


def test_xrootd(local: Workspace) -> None:
    with xrootd() as (url, folder):
        for path in (local.folder / NTUPLES).glob("*.root"):
            shutil.copy(path, folder)
        check_stages(local, "root", url)


def test_s3(local: Workspace) -> None:
    with s3() as (url, environment, put):
        for path in (local.folder / NTUPLES).glob("*.root"):
            put(path)
        check_stages(local, "s3", url, environment)


def test_a_skim_makes_nobody_ask_a_server_that_its_user_did_not_name(
    local: Workspace, served: Served
) -> None:
    skims = [*PREDICTION, f"input_samples=[{SAMPLES[1]}]", "year=2018", "skim_path=data/theirs"]
    predict = [
        *(*FRIENDS, f"sample_names=[{SAMPLES[1]}]", "input_path=data/theirs/prediction"),
        "output_path=data/friends_theirs",
    ]
    pipe = "input_pipe_file=data/local/training/pipe.json"
    succeed(
        run_commands(
            local.folder, [["preprocess.py", *skims, pipe, f"input_path={served.url}"], predict]
        )
    )
    shutil.rmtree(local.folder / "outputs" / "places" / "servers")  # as if it came from elsewhere
    asked = len(served.requests)
    [refused] = run_commands(local.folder, [predict])
    said = refusal(refused)
    assert f"names {served.url}/{SAMPLES[1]}.root as the input of sample {SAMPLES[1]}" in said
    assert "give its folder as orig_path=..." in said
    assert len(served.requests) == asked
    succeed(run_commands(local.folder, [[*predict, f"orig_path={served.url}"]]))
    assert len(served.requests) > asked


def test_credentials_are_refused_and_written_nowhere(local: Workspace, served: Served) -> None:
    own = local.folder / "mine"
    own.mkdir()
    address = served.url.removeprefix("http://")
    with_password = f"http://me:{SECRET}@{address}"
    (own / "my_file.yaml").write_text(
        f"input_path: {with_password}\ninput_tree_name: TauCheck\nfor_training: true\n"
        "input_samples: [{S: {p: {class: 0}}}]\n"
    )
    results = run_commands(
        local.folder,
        [
            ["preprocess.py", "year=2018", f"input_path={with_password}"],
            ["preprocess.py", "year=2018", f"input_path={served.url}?token={SECRET}"],
            ["preprocess.py", "--config-path", str(own), "--config-name", "my_file.yaml"],
            [*FRIENDS, "source=ntuples", f"input_path={with_password}"],
            ["utils.proof", f"{with_password}/a.root", "b.root"],
        ],
    )
    for result in results:
        assert "holds credentials" in refusal(result)
        assert SECRET not in result[1]
    kept = [p for p in (local.folder / "outputs").rglob("*") if p.is_file()]
    assert kept
    assert [p for p in kept if SECRET in p.read_text(errors="replace")] == []


def test_one_line_where_a_server_can_not_be_read(local: Workspace, served: Served) -> None:
    pattern = "input_filename_template='{sample_name}*.root'"
    gone = "http://127.0.0.1:1"
    results = run_commands(
        local.folder,
        [
            ["preprocess.py", "year=2018", f"input_path={served.url}", pattern],
            ["preprocess.py", "year=2018", f"input_path={served.url}/nowhere"],
            ["preprocess.py", "year=2018", f"input_path={gone}"],
            ["preprocess.py", "year=2018", "output_path=s3://bucket/skims"],
        ],
        {"REMOTE_PATIENCE": "0"},
    )
    said = [refusal(result) for result in results]
    assert "a pattern can't be matched over http" in said[0]
    assert f"there is no file {served.url}/nowhere/" in said[1]
    assert said[2].startswith(f"{gone}/")
    assert "could not open it" in said[2]
    assert "name a file or folder of this machine" in said[3]


def test_what_the_training_named_may_be_read_again(local: Workspace, served: Served) -> None:
    """A run trained here on an analysis that reads from a server predicts from it by itself."""
    train = ["train.py", "model_param.num_iterations=2", "year=2018", "skim_path=data/local"]
    predict = [
        *(*FRIENDS, "source=ntuples", f"sample_names=[{SAMPLES[1]}]"),
        "output_path=data/friends_again",
    ]
    succeed(run_commands(local.folder, [[*train, f"input_path={served.url}"], predict]))
    run_id = last_run(local)["run_id"]
    place = local.folder / "outputs" / "places" / f"{run_id}.json"
    assert served.url in json.loads(place.read_text())["places"][-1]
    place.unlink()  # as if the run came from elsewhere
    asked = len(served.requests)
    [refused] = run_commands(local.folder, [predict])
    assert f"names {served.url}/ as the folder of ntuples, outside this project" in refusal(refused)
    assert len(served.requests) == asked
