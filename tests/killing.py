"""Commands that are killed at calls of the file system, and what the same command makes of it.

All in one process that forks: each command would spend seconds on imports alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patience import HANGS

DRIVER = r"""
import csv, hashlib, importlib, io, json, logging, os, pathlib, random, runpy, shutil, signal, sys
import time
sys.path.insert(0, os.getcwd())
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
order = json.load(sys.stdin)
for name in order["imports"]:
    importlib.import_module(name)
import h5py, numpy as np, psutil
from utils.system import units
from utils.system.files import unfinished_below

CALLS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.scandir",
         "os.listdir", "os.utime", "sqlite3.connect", "shutil.copyfile", "tempfile.mkdtemp")
STATE = ("data", "outputs", "mlruns", "mlflow.db")
here, kept = pathlib.Path.cwd(), pathlib.Path(order["kept"])


def command(words, report, kill_at=0, ended_by=signal.SIGKILL):
    "Run a command in a child, ended at a call; returns status, calls, units done, and the log."
    report.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        seen, recorded, said = 0, [], io.StringIO()
        def tell():
            report.write_text(json.dumps([seen, recorded, said.getvalue()]))
        watching = True
        def count(event, _):
            nonlocal seen, watching
            if watching and event in CALLS:
                seen += 1
                if seen == kill_at:
                    watching = False
                    told.write_text(str(time.time()))
                    watching = True
                    os.kill(os.getpid(), ended_by)
        record = units.record
        def recording(unit, result):
            record(unit, result)
            recorded.append([unit._record.stem, seen])
        units.record = recording
        sys.stdout = sys.stderr = said
        sys.addaudithook(count)
        sys.argv = list(words)
        try:
            runpy.run_path(os.path.abspath(words[0]), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            import traceback
            said.write(traceback.format_exc())
            status = 99
        watching = False
        logging.shutdown()
        tell()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, *(json.loads(report.read_text()) if report.is_file() else (0, [], ""))


def seconds_since():
    "Return how long ago a command was told to end."
    return time.time() - float(told.read_text())


def alive():
    "Return the commands of processes that those commands started, whose temporary files are here."
    found = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        place = (process.info["environ"] or {}).get("TMPDIR", "")
        if place.startswith(os.environ["TMPDIR"] + os.sep):
            found.append(process.info["cmdline"])
    return found


def outlived():
    "Return what `alive` does, after a while: what ends with its command takes a moment."
    until = time.monotonic() + 60
    while (found := alive()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def restore():
    for name in STATE:
        path = here / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        saved = kept / name
        if saved.is_dir():
            shutil.copytree(saved, path)
        elif saved.is_file():
            shutil.copy2(saved, path)


def contents():
    "Return what is in all files that a user may see: names, and digests of what they mean."
    found = {}
    for path in sorted(here.joinpath("data").rglob("*")):
        if path.is_file():
            name = path.relative_to(here).as_posix()
            if path.suffix == ".root" and "friends" in path.parts:
                continue  # compared as published in the run
            found[name] = of_skim(path) if path.suffix == ".h5" else digest(path.read_bytes())
    return {**found, **of_run()} if words[0] != "preprocess.py" else found


def of_run():
    "Return what the newest run holds: statuses, the training, tables, friend trees, metrics."
    import pyarrow.parquet as pq, sqlite3, uproot
    if not (here / "mlflow.db").is_file():
        return {}
    with sqlite3.connect(here / "mlflow.db") as store:
        run, status = store.execute(
            "SELECT run_uuid, status FROM runs ORDER BY start_time DESC").fetchone()
        values = store.execute(
            "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?", (run,)).fetchall()
        models = store.execute(
            "SELECT name FROM logged_models WHERE lifecycle_stage = 'active' AND source_run_id = ?"
            " ORDER BY name", (run,)).fetchall()
    found = {"status": status, "metrics": sorted(map(list, values)), "models": models}
    root = here / "mlruns" / "0" / run / "artifacts"
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix == ".parquet":
            found[name] = digest(repr(pq.read_table(path).to_pydict()).encode())
        elif path.suffix == ".root":
            with uproot.open(path) as file:
                columns = file["pred"].arrays(library="np")
            found[name] = digest(repr([(n, c.tobytes()) for n, c in columns.items()]).encode())
        elif "manifest" in path.name or path.suffix in (".html", ".pdf"):
            found[name] = "there"
        elif path.is_file() and path.name != "recipe.json":
            found[name] = digest(path.read_bytes())
    return found


def status_of_run():
    "Return the status of the newest run in the store; None where there is none."
    import sqlite3
    if not (here / "mlflow.db").is_file():
        return None
    with sqlite3.connect(here / "mlflow.db") as store:
        try:
            found = store.execute("SELECT status FROM runs ORDER BY start_time DESC").fetchone()
        except sqlite3.OperationalError:  # a store that was being made
            return None
    return found[0] if found else None


def resumed():
    "Return the command that goes on with a killed training: the same one, or resume=RUN_ID."
    for path in (here / "outputs" / "trainings").glob("*/run.json"):
        if words[0] == "train.py":
            return ["train.py", "resume=" + json.loads(path.read_text())["run_id"]]
    return words


def digest(data):
    return hashlib.sha256(data).hexdigest()


def of_skim(path):
    parts = []
    with h5py.File(path, "r") as file:
        def visit(name, node):
            if isinstance(node, h5py.Dataset):
                values = node[()]
                data = np.ascontiguousarray(values).tobytes()
                parts.append((name, str(values.dtype), digest(data)))
        file.visititems(visit)
    return digest(json.dumps(sorted(parts)).encode())


def done_now():
    "Return the keys of units that a command would find done."
    records = here / "outputs" / "done"
    found = []
    for path in records.glob("*.json") if records.is_dir() else ():
        record = json.loads(path.read_text())
        files = record["files"]
        if files == {f: units.stamp(here / f) for f in files if (here / f).is_file()}:
            found.append(path.stem)
    return sorted(found)


report, told = kept / "report.json", kept / "told"
shutil.rmtree(kept, ignore_errors=True)
kept.mkdir()
for name in STATE:
    path = here / name
    if path.is_dir():
        shutil.copytree(path, kept / name)
    elif path.is_file():
        shutil.copy2(path, kept / name)
words, engines = order["command"], order["engines"]
undisturbed = []
for engine in engines:
    restore()
    status, n_calls, recorded, said = command([*words, *engine], report)
    assert status == 0, said
    undisturbed.append(contents())
all_done, n_done = done_now(), len(recorded)
outcomes = []
# Two thirds of the moments after the first unit was done.
chosen, times = random.Random(order["seed"]), order["times"]
first = recorded[0][1] if recorded else 0
moments = [chosen.randint(1, n_calls) for _ in range(times // 3)]
moments += [chosen.randint(first + 1, n_calls) for _ in range(times - times // 3)]
for number, moment in enumerate(moments):
    ended_by, status = (signal.SIGKILL, signal.SIGTERM)[number % 2], 0
    one = number // 2 % len(engines)
    engine, expected_contents = engines[one], undisturbed[one]
    while status == 0:  # it ended before: how often threads call differs from time to time
        restore()
        status, calls, _, ending = command([*words, *engine], report, moment, ended_by)
        moment = min(moment, calls) * 9 // 10 if status == 0 else moment
    seconds, run_status = seconds_since(), status_of_run()
    running = here / "outputs" / "running"
    marks = os.listdir(running) if running.is_dir() else []
    expected = 143 if ended_by == signal.SIGTERM else -signal.SIGKILL
    left = [str(p) for p in unfinished_below(here / "data")]
    kept_already = set(done_now())
    again, _, redone, log = command([*resumed(), *engine], report)
    redone, found = {key for key, _ in redone}, contents()
    outcomes.append({
        "moment": moment, "status": status, "expected": expected, "left": left, "again": again,
        "ending": ending, "seconds": seconds, "run_status": run_status,
        "marks": marks, "temporary": os.listdir(os.environ["TMPDIR"]),
        "processes": outlived(),
        "log": log, "redone": sorted(redone), "kept": sorted(kept_already),
        "twice": sorted(redone & kept_already),
        "changed": [name for name in {*expected_contents, *found}
                    if expected_contents.get(name) != found.get(name)],
        "litter": [str(p) for f in ("data", "outputs") for p in unfinished_below(here / f)],
        "units": n_done, "kept_trainings": os.listdir(here / "outputs" / "trainings")
            if (here / "outputs" / "trainings").is_dir() else [],
        "all_done": done_now() == all_done,
    })
print(json.dumps(outcomes))
"""


def killed(
    folder: Path,
    command: Sequence[str],
    times: int,
    seed: int = 1,
    imports: Sequence[str] = (),
    engines: Sequence[Sequence[str]] = ((),),
) -> list[dict[str, Any]]:
    """Run a command in a copy of the project, undisturbed, and then ended at random calls.

    Each time the state before is restored, the command ended, by SIGKILL and SIGTERM in turn, and
    run again; with the keys of each of `engines` in turn. Returns what came of each time.
    """
    order = {
        "kept": str(folder.parent / "kept"),
        "command": list(command),
        "times": times,
        "seed": seed,
        "imports": list(imports),
        "engines": [list(engine) for engine in engines],
    }
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTEST"))}
    # Commands of other tests would tidy what these leave among temporary files, and say so.
    env["TMPDIR"] = str(folder.parent / "tmp")
    Path(env["TMPDIR"]).mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(order),
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS * times,
    )
    if done.returncode != 0:
        raise AssertionError(done.stderr[-5000:])
    outcomes: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return outcomes
