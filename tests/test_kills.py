"""What a killed command leaves, and what the next one makes of it.

A publication is complete or the earlier one stands. The same command afterwards gives what it gives
undisturbed, does again only what was not done, and leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from input_servers import http
from killing import killed
from patience import HANGS
from workspaces import Workspace, last_run, toys

from utils.schema import PROJECT
from utils.system.files import unfinished_in

KILLED_EVERYWHERE = r"""
import os, signal, sys
from pathlib import Path
from utils.formats import runs
from utils.system import interrupts

runs.Run.log_metrics = lambda *_: None  # metrics and the store have a test of their own
runs.Run._logged_metrics = lambda *_: {}
folder, unlinked = Path(sys.argv[1]), sys.argv[2] == "unlinked"
signal_sent = signal.Signals[sys.argv[3]]
ENDS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM}[signal_sent]
EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"}
MADE = os.O_WRONLY | os.O_RDWR | os.O_CREAT


at, manifest_name, first, only = sys.argv[4:]  # of the publication


def version(number):
    source = folder / "sources" / str(number)
    source.mkdir(parents=True, exist_ok=True)
    names = [first, only.format(number)]
    for name in names:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(f"{name} {number}" * 10)
    return {f"{at}/{name}": source / name for name in names}


def publish(run, number):
    run.publish(version(number), {"number": number, "metrics": {}})


def child(work, kill_at):
    pid = os.fork()
    if pid == 0:
        seen = 0
        def count(event, arguments):
            nonlocal seen
            changes = event in EVENTS and (event != "open" or (arguments[2] or 0) & MADE)
            if changes and kill_at is not None:
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal_sent)
        sys.stderr = open(os.devnull, "w")
        interrupts.listen()
        sys.addaudithook(count)
        if unlinked:
            def no_links(*_):
                raise OSError(1, "Operation not permitted")
            Path.hardlink_to = no_links
        try:
            work()
        except KeyboardInterrupt:
            interrupts.end(signal_sent)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read(run):
    "Return what a reader finds, checked against the manifest."
    manifest = run.manifest(f"{at}/{manifest_name}")
    if manifest is None:
        return None
    number = manifest.about["number"]
    expected = {path: source.read_text() for path, source in version(number).items()}
    assert set(manifest.files) == set(expected)
    for path, text in expected.items():
        assert run.artifact(path, "figure").read_text() == text, path
    return number


def listing(root):
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def killed_at(kill_at, earlier):
    "Kill a publication at a call; return the exit status and what a reader found."
    root = folder / f"{kill_at}-{earlier}" / "artifacts"
    root.mkdir(parents=True)
    run = runs.Run("r", "0", str(root))
    own = set()
    if earlier:
        assert child(lambda: publish(run, 1), None) == 0
        own = {f"{at}/mine.txt"}
        (root / at / "mine.txt").write_text("somebody's own")
    status = child(lambda: publish(run, 2), kill_at)
    found = read(run)
    assert found in (earlier, 2), found
    if (kill_at + bool(earlier)) % 2:  # else what publishes next does without
        assert child(run.mend, None) == 0
        assert read(run) == found
        assert listing(root) == ({*version(found), f"{at}/{manifest_name}", *own} if found else own)
        for path, source in version(found).items() if found else ():
            assert (root / path).read_text() == source.read_text()  # under their own names now
    assert child(lambda: publish(run, 2), None) == 0
    assert read(run) == 2
    assert listing(root) == {*version(2), f"{at}/{manifest_name}", *own}
    return status, found


version(1), version(2)
outcomes = []
for earlier in (1,) if unlinked else (None, 1):
    kill_at, status = 0, None
    while status != 0:
        kill_at += 1
        status, found = killed_at(kill_at, earlier)
        outcomes.append(found)
        assert status in (0, ENDS), status
print("killed", kill_at - 1, "outcomes", outcomes.count(None), outcomes.count(1), outcomes.count(2))
"""


PUBLICATIONS = {
    "evaluation": ("plots/test", "manifest.json", "pdf/a.pdf", "only_{}.html"),
    "table": ("pred", "manifest_table_DY.v2.json", "DY.v2.csv", "DY.v2.of{}"),
    "long": ("pred", f"manifest_table_{'D' * 120}.json", f"{'D' * 120}.csv", "D" * 120 + ".of{}"),
}
"""Where they are, with their manifests, a file of each version, and one of a single version."""


@pytest.mark.parametrize("ended_by", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize(
    ("file_system", "kind"),
    [("linked", "evaluation"), ("unlinked", "evaluation"), ("linked", "table"), ("linked", "long")],
)
def test_a_kill_at_any_call_leaves_one_publication_or_the_other(
    tmp_path: Path, file_system: str, kind: str, ended_by: str
) -> None:
    where = [str(tmp_path), file_system, ended_by, *PUBLICATIONS[kind]]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_EVERYWHERE, *where],
        cwd=PROJECT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"killed (\d+) outcomes (\d+) (\d+) (\d+)\n", done.stdout)
    assert found is not None, done.stdout
    killed, *outcomes = map(int, found.groups())
    assert killed > 20
    nothing, earlier, new = outcomes
    assert bool(nothing) == (file_system == "linked")
    assert earlier
    assert new


TINY = ("analysis=bbH_tt_tauES", "year=2018")
"""An analysis with a variation."""

ENGINES = (("engine=serial",), ("engine=local", "engine.n_workers=2"))
"""One thing after the other, and two at a time."""

PREDICTION = ("--config-path", "configs/preprocess/prediction_data", "--config-name", "bbH_tt")


@pytest.fixture(scope="module")
def project(shared_workspace: Workspace) -> Workspace:
    toys(shared_workspace, 6_000, "--shifts", "tauES")
    return shared_workspace


def check(outcomes: list[dict[str, Any]]) -> None:
    """Check what came of a command that was ended: nothing lost, done twice or left behind."""
    for outcome in outcomes:
        # Before it listens, SIGTERM ends a process as it ends any.
        assert outcome["status"] in (outcome["expected"], -signal.SIGTERM), outcome
        assert outcome["again"] == 0, outcome["log"]
        assert outcome["changed"] == [], outcome
        assert outcome["twice"] == [], outcome
        assert outcome["all_done"], outcome
        assert outcome["litter"] == [], outcome
        assert outcome["temporary"] == [], outcome
        assert outcome["processes"] == [], outcome
        if outcome["expected"] == 128 + signal.SIGTERM:
            assert outcome["left"] == [], outcome
        if outcome["status"] == 128 + signal.SIGTERM:
            # Where a busy machine had no time to tell the store, the next command did.
            assert outcome["run_status"] != "RUNNING" or outcome["marks"], outcome
            assert outcome["seconds"] < 24, outcome  # five, on a machine that has nothing else
    # Mostly, something had been done that was not done again.
    assert any(len(outcome["redone"]) < outcome["units"] for outcome in outcomes)


@pytest.mark.parametrize("path", ["training", "prediction"])
def test_a_killed_preprocessing_is_taken_up(project: Workspace, path: str, kills: int) -> None:
    command = ["preprocess.py", *TINY]
    if path == "prediction":
        project.run("python", "preprocess.py", *TINY)
        names = "input_samples=[ZZTo4L,VBFHToTauTau_M125,TTToHadronic]"
        command = ["preprocess.py", *PREDICTION, *TINY, names]
    imports = ["utils.stages.preprocessing", "utils.formats.runs", "hydra"]
    check(killed(project.folder, command, kills, imports=imports, engines=ENGINES))


def test_a_killed_training_is_resumed(project: Workspace, kills: int) -> None:
    project.run("python", "preprocess.py", *TINY)
    command = ["train.py", *TINY, "n_splits=3", "model_param.num_iterations=20"]
    imports = ["utils.stages.training", "utils.formats.runs", "hydra", "mlflow", "pandas"]
    outcomes = killed(project.folder, command, kills, imports=imports, engines=ENGINES)
    check(outcomes)
    for outcome in outcomes:
        # A training that was killed before its run was there begins anew.
        assert outcome["kept_trainings"] == []


@pytest.mark.parametrize("kind", ["for_evaluation", "for_datacards"])
def test_a_killed_prediction_is_taken_up(project: Workspace, kind: str, kills: int) -> None:
    project.run("python", "preprocess.py", *TINY)
    project.run("python", "train.py", *TINY, "n_splits=2")
    samples = ["source=ntuples", "sample_names=[ZZTo4L,VBFHToTauTau_M125,TTToHadronic]"]
    more = samples if kind == "for_datacards" else []
    run = f"run_id={last_run(project)['run_id']}"
    command = ["predict.py", "--config-name", kind, run, *more]
    imports = ["utils.stages.prediction", "utils.formats.runs", "hydra", "uproot", "pyarrow"]
    check(killed(project.folder, command, kills, imports=imports, engines=ENGINES))


def test_a_killed_evaluation_is_taken_up(project: Workspace, kills: int) -> None:
    project.run("python", "preprocess.py", *TINY)
    project.run("python", "train.py", *TINY, "n_splits=2")
    run = f"run_id={last_run(project)['run_id']}"
    project.run("python", "predict.py", "--config-name", "for_evaluation", run)
    made = "sections=[confusion,densities,correlations,importances,variations]"
    command = ["evaluate.py", run, "n_bootstrap=5", made]
    # An earlier one, which stands until then.
    project.run("python", *command[:2], "sections=[features]")
    imports = ["utils.stages.evaluation", "utils.formats.runs", "hydra", "mlflow"]
    check(killed(project.folder, command, kills, imports=imports, engines=ENGINES))


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
def test_workers_of_a_command_that_is_ended_leave_nothing(
    project: Workspace, ended_by: signal.Signals, tmp_path: Path
) -> None:
    """They are in the midst of a skim: the server of its input does not answer until then."""
    project.run("python", "preprocess.py", *TINY)
    skims = project.folder / "data/bbH/tt/2018/skims/prediction"
    shutil.rmtree(skims, ignore_errors=True)
    begun, ended = threading.Event(), threading.Event()

    def wait(_: int) -> bool:
        if unfinished_in(skims):
            begun.set()
            ended.wait(HANGS)
        return False

    log = tmp_path / "log"
    with http(project.folder / "data/bbH/tt/2018/ntuples") as server, log.open("wb") as file:
        given = (f"input_path={server.url}", "input_samples=[ZZTo4L]")
        command = ("preprocess.py", *PREDICTION, *TINY, *given)
        server.fails = wait
        running = subprocess.Popen(
            [sys.executable, *command, "engine=dask", "engine.n_workers=1"],
            cwd=project.folder,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stderr=file,
        )
        while not begun.wait(0.1):
            assert running.poll() is None, log.read_text()
        workers = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(ended_by)
        status = running.wait(HANGS)
        ended.set()
        psutil.wait_procs(workers, HANGS)
        said = log.read_text()
        if ended_by == signal.SIGTERM:
            assert status == 143, said
            assert said.endswith("error: interrupted; no incomplete output was left\n")
            assert unfinished_in(skims) == []
            assert list(tmp_path.iterdir()) == [log]
        done = project.run("python", *command, environment={"TMPDIR": str(tmp_path)})
    assert "sample ZZTo4L: unchanged" not in done.stderr
    assert (skims / "ZZTo4L.h5").is_file()
    assert unfinished_in(skims) == []
    assert list(tmp_path.iterdir()) == [log]
