"""`make bench`: this framework, a textbook pipeline and bare libraries, side by side in one run.

Prints the table of ratios and saves it as benchmarks/latest.md and benchmarks/latest.json, a list
of {row, value, target, met}. `--scale 10` measures, instead of all that, how far the stages stay
flat at ten times the events, and saves scale_10.md and scale_10.json. `--scale 0.1`, or for either
`--events 175000`, takes a tenth of the events, and prints the table only. README.md says what each
row measures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks import servers
from benchmarks.measure import CommandError, Run, interleaved, megabytes, run, seconds

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent

N_EVENTS = 1_750_000
N_BRANCHES = 110
N_TABLE = 1_000_000
SHARES = {
    "SUSYGluGluToBBHToTauTau_powheg_M125": 0.09,
    "GluGluHToTauTau_M125": 0.10,
    "VBFHToTauTau_M125": 0.06,
    "Tau_Run2018": 0.55,
    "EmbeddedTauTau_Run2018": 0.20,
}
N_SHORT = 273_000
"""Events of which 27,000 are trained on: those of the start of a training, at every scale."""

N_LEAST = 5000
"""Events of the smallest size at any scale: of fewer nothing can be learnt."""

SIZES = {"tiny": 0.01, "small": 0.2, "base": 1.0, "double": 2.0}
REPEATS = 3

STAGES = {
    "preprocess, training path": "preprocess_training",
    "preprocess, prediction path": "preprocess_prediction",
    "train": "train",
    "predict, for_datacards": "predict_datacards",
    "predict, for_evaluation": "predict_evaluation",
}

AHEAD = {
    "preprocess, training path": 2.5,
    "preprocess, prediction path": 3.5,
    "train": 3.2,
    "predict, for_datacards": 6,
    "predict, for_evaluation": 3,
}
"""How many times the time of ours the textbook is to take for a stage."""

MODEL = {
    "metric": ["multi_logloss", "multi_error"],
    "first_metric_only": True,
    "num_iterations": 200,
    "early_stopping_round": 0,  # every side trains all iterations
    "learning_rate": 0.03,
    "max_depth": 3,
    "bagging_fraction": 0.8,
    "bagging_freq": 5,
    "bagging_seed": 1357,
    "feature_fraction": 0.8,
    "feature_fraction_bynode": 1.0,
    "lambda_l1": 0.0,
    "seed": 1357,
}


@dataclass(frozen=True)
class Row:
    """A line of the table. `target` is a comparison such as '>= 3'; without one all is met."""

    row: str
    value: float | None
    target: str
    met: bool


def row(name: str, value: float | None, target: str = "") -> Row:
    """Return the row with its value rounded to what a benchmark can tell, judged by its target."""
    if value is None:
        return Row(name, None, target, False)
    rounded = float(f"{value:.3g}")
    met = True
    if target:
        sign, bound = target.split(" ")[:2]
        met = rounded >= float(bound) if sign == ">=" else rounded <= float(bound)
    return Row(name, rounded, target, met)


@dataclass
class Bench:
    """What the sections share: where they work, and what they found so far."""

    work: Path
    n_events: Mapping[str, int]  # by the name of the size
    environment: dict[str, str]
    runs: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    textbook_runs: dict[str, list[Run]] = field(default_factory=dict)
    run_ids: dict[str, str] = field(default_factory=dict)

    def analysis(self, size: str) -> Path:
        return self.work / size / "analysis.yaml"

    def startup(self, stage: str) -> float:
        return seconds(self.runs["tiny", stage])

    def beyond_startup(self, size: str, stage: str) -> float:
        return max(seconds(self.runs[size, stage]) - self.startup(stage), 1e-3)


# --- the two sides --------------------------------------------------------------------------------


def ours(bench: Bench, size: str, stage: str, *extra: str, varied: Path | None = None) -> Run:
    """Run a stage of this framework on the data of one size.

    A run with `extra` arguments, or of a `varied` analysis, does not count for the stage.
    """
    analysis = f"analysis={varied or bench.analysis(size)}"
    prediction = ("--config-path", "configs/preprocess/prediction_data", "--config-name", "bbH_tt")
    run_id = f"run_id={bench.run_ids.get(size, '')}"
    commands: dict[str, tuple[str, ...]] = {
        "preprocess_training": ("preprocess.py", analysis),
        "preprocess_prediction": ("preprocess.py", *prediction, analysis),
        "train": ("train.py", analysis),
        "predict_datacards": ("predict.py", "--config-name", "for_datacards.yaml", run_id),
        "predict_evaluation": ("predict.py", "--config-name", "for_evaluation.yaml", run_id),
    }
    script, *arguments = commands[stage]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{bench.work / 'ours.db'}"}
    done = run(
        # Done again each time: a repeated command would skip what has not changed.
        [sys.executable, PROJECT / script, *arguments, "force=true", *extra],
        bench.work / "ours",
        bench.environment | store,
    )
    if extra or varied:
        return done
    if stage == "train":
        found = re.search(r"MLflow run ([0-9a-f]{32})", done.output)
        if not found:
            raise CommandError("train.py did not say the id of its run")
        bench.run_ids[size] = found[1]
    bench.runs.setdefault((size, stage), []).append(done)
    return done


def textbook(bench: Bench, stage: str, *extra: str, size: str = "base") -> Run:
    """Run a stage of the textbook pipeline."""
    output = bench.work / ("textbook" if size == "base" else f"textbook_{size}")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{bench.work / 'textbook.db'}"}
    command: list[str | Path] = [sys.executable, PROJECT / "benchmarks" / "textbook.py", stage]
    command += ["--analysis", bench.analysis(size), "--output", output, *extra]
    return run(command, bench.work / "textbook", bench.environment | store)


def part(bench: Bench, module: str, *arguments: str | Path) -> Run:
    """Run one of the measured parts of `benchmarks.bare` or `benchmarks.ours`."""
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{bench.work / 'ours.db'}"}
    return run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        PROJECT,
        bench.environment | store,
    )


def told(done: Run) -> dict[str, Any]:
    """Return the JSON that a measured part printed last."""
    result: dict[str, Any] = json.loads(done.output.strip().split("\n")[-1])
    return result


# --- data -----------------------------------------------------------------------------------------


def write_data(bench: Bench) -> None:
    """Write the ntuples and the analysis file of every size."""
    from utils.toys import write_ntuples

    for size, n_events in bench.n_events.items():
        folder = bench.work / size
        write_ntuples(
            folder / "ntuples",
            SHARES,
            n_events,
            n_branches=N_BRANCHES,
            n_workers=min(4, os.cpu_count() or 1),
        )
        text = yaml.safe_dump(describe(folder), sort_keys=False)
        bench.analysis(size).write_text("# @package _global_\n" + text)


def describe(folder: Path) -> dict[str, Any]:
    """Return the analysis bbH_tt with the five samples of the benchmark, one file each."""
    analysis = yaml.safe_load((PROJECT / "configs" / "analysis" / "bbH_tt.yaml").read_text())
    signal, gluon, vbf, data, embedded = SHARES
    with_b = {"cut": "(os > 0.5) & (gen_nbjets_cut > 0)", "class": 0}
    without_b = {"cut": "(os > 0.5) & (gen_nbjets_cut == 0)", "class": 1}
    training = [
        {signal: {"H_sig": {"cut": "os > 0.5", "class": 0}}},
        {gluon: {"H_sig": with_b, "H_bkgr": without_b}},
        {vbf: {"H_bkgr": {"cut": "os > 0.5", "class": 1}}},
        {data: {"Fakes": {"cut": "os < 0.5", "class": 2}}},
        {embedded: {"Taus": {"cut": "os > 0.5", "class": 3}}},
    ]
    changes = {
        "year": "2018",
        "data_root": str(folder),
        "input_path": str(folder / "ntuples"),
        "skim_path": str(folder / "skims"),
        "training_samples": training,
        "prediction_samples": list(SHARES),
        "seed": 1357,
        "n_splits": 2,
        "model_param": MODEL,
    }
    return {**analysis, **changes}


# --- sections -------------------------------------------------------------------------------------


def warm_up(bench: Bench) -> None:
    """Fill the caches of byte code and machine code."""
    imports = "pandas, tables, sklearn.model_selection, sklearn.pipeline, sklearn.metrics, lightgbm"
    imports += ", mlflow.lightgbm, mlflow.pyfunc, plotly.figure_factory, uproot, ROOT"
    run([sys.executable, "-c", f"import {imports}"], bench.work, bench.environment)
    for stage in STAGES.values():
        ours(bench, "tiny", stage)
    bench.runs.clear()


def chain(bench: Bench) -> Iterator[Row]:
    """Run all stages at every size, and the textbook's at the base size, in turn.

    The smallest size, which says what a stage starts with, takes part in every turn: it is
    subtracted from the others.
    """
    for stage in STAGES.values():
        sides: dict[str, Callable[[], Run]] = {
            "textbook": partial(textbook, bench, stage),
            "start": partial(ours, bench, "tiny", stage),
            "ours": partial(ours, bench, "base", stage),
            "twice": partial(ours, bench, "double", stage),
        }
        bench.textbook_runs[stage] = interleaved(sides, REPEATS)["textbook"]
    for stage in STAGES.values():
        ours(bench, "small", stage)
    for name, stage in STAGES.items():
        ratio = seconds(bench.textbook_runs[stage]) / seconds(bench.runs["base", stage])
        yield row(f"{name}: time of the textbook / ours", ratio, f">= {AHEAD[name]}")
        yield row(f"{name}: time of ours, s", seconds(bench.runs["base", stage]))
        yield row(f"{name}: of this start-up, s", bench.startup(stage))
    for name, stage in list(STAGES.items())[:2]:
        start = seconds([textbook(bench, stage, size="tiny") for _ in range(REPEATS)])
        theirs = seconds(bench.textbook_runs[stage]) - start
        ratio = theirs / bench.beyond_startup("base", stage)
        yield row(f"{name}: the same, each beyond its own start-up", ratio)


def memory(bench: Bench) -> Iterator[Row]:
    """Compare peak memories."""
    stage = "preprocess_training"
    share = megabytes(bench.runs["base", stage]) / megabytes(bench.textbook_runs[stage])
    yield row("preprocess, training path: memory of ours / the textbook", share, "<= 0.5")
    stage = "preprocess_prediction"
    peaks = {size: megabytes(bench.runs[size, stage]) for size in ("small", "double")}
    yield row("preprocess, prediction path: peak memory at 2x, MB", peaks["double"], "<= 700")
    flat = peaks["double"] / peaks["small"]
    yield row("preprocess, prediction path: memory at 2x / at 0.2x the events", flat, "<= 1.1")
    stage = "predict_datacards"
    peaks = {size: megabytes(bench.runs[size, stage]) for size in ("small", "double")}
    flat = peaks["double"] / peaks["small"]
    yield row("predict, for_datacards: memory at 2x / at 0.2x the events", flat, "<= 1.1")


def variations(bench: Bench) -> Iterator[Row]:
    """Compare a sample's prediction under ten variations of six features with the nominal one."""
    sample = "GluGluHToTauTau_M125"
    sizes = ("tiny", "small", "base", "double")
    shifted = {size: bench.work / size / "shifted" for size in sizes}
    for size, folder in shifted.items():
        given = ("--analysis", bench.analysis(size), "--sample", sample, "--output", folder)
        part(bench, "variations", *given)

    def predict(size: str, *extra: str) -> Run:
        places = (f"input_path={shifted[size]}", f"output_path={bench.work / 'friends'}")
        read = ("source=ntuples", f"sample_names=[{sample}]", *places)
        return ours(bench, size, "predict_datacards", *read, *extra)

    def under_shifts(size: str) -> Run:
        return predict(size, f"analysis={shifted[size] / 'analysis.yaml'}")

    sides = {
        "start": partial(predict, "tiny"),
        "nominal": partial(predict, "double"),
        "shifted": partial(under_shifts, "double"),
    }
    runs = interleaved(sides, REPEATS)
    times = {name: seconds(found) for name, found in runs.items()}
    beyond = (times["shifted"] - times["start"]) / max(times["nominal"] - times["start"], 1e-3)
    name = "predict from ntuples, ten variations of 6 of 26 features"
    whole = times["shifted"] / times["nominal"]
    yield row(f"{name}: time / nominal, proofs included", whole, "<= 7")
    yield row(f"{name}: the same, each beyond start-up", beyond)
    yield row(f"{name}: time, s", times["shifted"])
    yield row(f"{name}: start-up, s", times["start"])
    flat = megabytes(runs["shifted"]) / megabytes([under_shifts("small")])
    yield row(f"{name}: memory at 2x / at 0.2x the events", flat, "<= 1.1")
    pipe = f"input_pipe_file={bench.work / 'base' / 'skims' / 'training' / 'pipe.json'}"
    analysis = shifted["base"] / "analysis.yaml"
    ours(bench, "base", "preprocess_prediction", pipe, varied=analysis)
    skims = (folder / "skims" / "prediction" for folder in (shifted["base"], bench.work / "base"))
    varied, nominal = ((folder / f"{sample}.h5").stat().st_size for folder in skims)
    bound = 1.1 * (1 + 20 * 6 / 26)
    yield row(f"prediction skim, {name[22:]}: size / nominal", varied / nominal, f"<= {bound:.2f}")


def reading(bench: Bench) -> Iterator[Row]:
    """Compare the training path with libraries that only read, or select."""
    sides: dict[str, Callable[[], Run]] = {
        "read": partial(bare_read, bench, "base", "training"),
        "root": lambda: part(bench, "bare", "rdataframe", "--analysis", bench.analysis("base")),
    }
    runs = interleaved(sides, REPEATS)
    ours_alone = bench.beyond_startup("base", "preprocess_training")
    bare = statistics.median(told(r)["seconds"] for r in runs["read"])
    yield row("preprocess, training path: ours / bare uproot read", ours_alone / bare, "<= 1.3")
    root = statistics.median(told(r)["seconds"] for r in runs["root"])
    yield row("preprocess, training path: RDataFrame, all threads / ours", root / ours_alone)


def bare_read(bench: Bench, size: str, path: str) -> Run:
    """Read the branches of the training or the prediction path with uproot, and drop them."""
    return part(bench, "bare", "read", "--analysis", bench.analysis(size), "--path", path)


LOOPS: dict[str, dict[str, Any]] = {
    "14 features, 2 folds, depth 3": {
        "targets": {"validation": "<= 0.7", "both": "<= 0.5", "nothing": "<= 1.4"},
    },
    "26 features, 5 folds, depth 3": {
        "training_features": [],
        "n_splits": 5,
        "rounds": 50,
        "targets": {"validation": "<= 0.95"},
    },
    "14 features, 2 folds, 31 leaves": {
        "leaves": 31,
        "rounds": 50,
        "targets": {"validation": "<= 0.85"},
    },
}
"""What is varied for the boosting loops, as changes to the analysis and the model, and what bare
LightGBM evaluates in each round, with the target of the ratio."""

EVALUATED = {
    "validation": "bare LightGBM evaluating the validation set",
    "both": "bare LightGBM evaluating both sets",
    "nothing": "LightGBM without evaluation",
}


def loops(bench: Bench) -> Iterator[Row]:
    """Compare the boosting loops with the textbook's (wall time) and LightGBM's (processor time).

    Ours evaluate both sets in each round.
    """
    text = (bench.work / "textbook" / "run.json").read_text()
    reported = [
        re.search(r"Trained \d+ models in ([\d.]+) s", r.output)
        for r in bench.runs["base", "train"]
    ]
    mine = statistics.median(float(found[1]) for found in reported if found)
    yield row(
        "train: boosting loops of the textbook / ours", json.loads(text)["loops"] / mine, ">= 1.5"
    )
    same = True
    for name, changes in LOOPS.items():
        analysis = yaml.safe_load(bench.analysis("base").read_text())
        analysis |= {k: v for k, v in changes.items() if k in analysis}
        model = {"num_iterations": changes.get("rounds", MODEL["num_iterations"])}
        if "leaves" in changes:
            model |= {"num_leaves": changes["leaves"], "max_depth": -1}
        analysis["model_param"] = MODEL | model
        varied = bench.work / "base" / "varied.yaml"
        varied.write_text("# @package _global_\n" + yaml.safe_dump(analysis, sort_keys=False))
        against = changes["targets"]
        found = told(part(bench, "ours", "loops", "--analysis", varied, "--against", *against))
        same &= found["same trees"]
        for other, target in against.items():
            ratio = found["times"]["ours"] / found["times"][other]
            yield row(f"train, {name}: loops of ours / {EVALUATED[other]}", ratio, target)
    yield row("train: trees are those of bare LightGBM (1 = all)", float(same), ">= 1")
    yield row("train: loading the kernels beside the binning, processor s", found["kernels"])


def forest(bench: Bench) -> Iterator[Row]:
    """Compare the compiled forest with Booster.predict."""
    found = told(part(bench, "ours", "forest", "--analysis", bench.analysis("base")))
    for name, numbers in found.items():
        ratio = numbers["lightgbm"] / numbers["one thread"]
        yield row(f"forest, {name}: Booster.predict / ours, one thread", ratio, ">= 10")
    equal = float(all(numbers["equal"] for numbers in found.values()))
    yield row("forest: raw scores equal bit for bit (1 = all)", equal, ">= 1")
    for name, numbers in found.items():
        gain = numbers["one thread"] / numbers["two threads"]
        yield row(f"forest, {name}: one thread / two threads", gain, ">= 1.5")
    model = bench.analysis("base").parent / "model_depth_3.txt"
    firsts = [part(bench, "ours", "first", "--model", model) for _ in range(REPEATS)]
    yield row("forest: new process to first result, cached, s", seconds(firsts), "<= 1")


def evaluation(bench: Bench) -> Iterator[Row]:
    """Compare the figures both sides make of one table of a million events, and then all stages."""
    table = million(bench)
    output = bench.work / "figures"
    arguments = ("--run", bench.run_ids["base"], "--table", "million.csv", "--output", output)
    sides = {
        "textbook": lambda: textbook(bench, "evaluate", "--table", str(table)),
        "ours": lambda: part(bench, "ours", "figures", *arguments),
    }
    runs = interleaved(sides, REPEATS)
    ratio = seconds(runs["textbook"]) / seconds(runs["ours"])
    yield row("evaluate, 1 million rows: time of the textbook / ours", ratio, ">= 4")
    yield row("evaluate, 1 million rows: time of ours, s", seconds(runs["ours"]))
    size = told(runs["ours"][0])["megabytes"]
    yield row("evaluate: data in the pages beyond plotly.js, MB", size, "<= 5")
    theirs = [*bench.textbook_runs.values(), runs["textbook"]]
    mine = [*(bench.runs["base", stage] for stage in STAGES.values()), runs["ours"]]
    ratio = sum(map(seconds, theirs)) / sum(map(seconds, mine))
    yield row("the whole chain: time of the textbook / ours", ratio, ">= 4.3")
    yield row("the whole chain: time of ours, s", sum(map(seconds, mine)))


def million(bench: Bench) -> Path:
    """Log a table of a million scored events to our run, and return it as CSV."""
    import numpy as np
    import pandas as pd

    events = pd.read_csv(bench.work / "textbook" / "train.csv")
    rng = np.random.default_rng(1)
    events = events.iloc[rng.integers(0, len(events), N_TABLE)].reset_index(drop=True)
    names = [c for c in map(str, events) if c.startswith("pred_class_") and c[11].isdigit()]
    proba = events[names].to_numpy() * rng.lognormal(0, 0.05, (N_TABLE, len(names)))
    proba /= proba.sum(axis=1, keepdims=True)
    events[names] = proba
    events["pred_class"], events["pred_class_proba"] = proba.argmax(axis=1), proba.max(axis=1)
    table = bench.work / "million.csv"
    events.to_csv(table, index=False)
    part(bench, "ours", "log_table", "--run", bench.run_ids["base"], "--file", table)
    return table


def fused(bench: Bench) -> Iterator[Row]:
    """Compare friend trees straight from the ntuples with the way over prediction skims."""
    output = f"output_path={bench.work / 'fused'}"
    runs = [
        ours(bench, "base", "predict_datacards", "source=ntuples", output) for _ in range(REPEATS)
    ]
    two = sum(
        seconds(bench.runs["base", stage])
        for stage in ("preprocess_prediction", "predict_datacards")
    )
    yield row("predict, source=ntuples: two steps / fused", two / seconds(runs), ">= 1.6")


def remote(bench: Bench) -> Iterator[Row]:
    """Compare ntuples on servers over loopback with those on the disk, start-up aside."""
    bench.work.chmod(0o755)  # XRootD is started as another user
    stage, sizes = "preprocess_training", ("base", "tiny")
    with ExitStack() as stack:
        urls = {"disk": str(bench.work), "http://": stack.enter_context(servers.http(bench.work))}
        if shutil.which("xrootd"):
            urls["root://"] = stack.enter_context(servers.xrootd(bench.work))
        else:
            print("no xrootd here: no row of root://", flush=True)

        def side(url: str, size: str) -> Run:
            where = f"input_path={url}/{size}/ntuples"
            return ours(bench, size, stage, where, f"skim_path={bench.work / 'remote'}")

        sides = {f"{n} {size}": partial(side, u, size) for n, u in urls.items() for size in sizes}
        runs = interleaved(sides, REPEATS)
    took = {n: seconds(runs[f"{n} base"]) - seconds(runs[f"{n} tiny"]) for n in urls}
    for name in list(urls)[1:]:
        ratio = took[name] / max(took["disk"], 1e-3)
        yield row(f"{name} over loopback / local, each beyond its start-up", ratio, "<= 1.5")
        start = seconds(runs[f"{name} tiny"]) - seconds(runs["disk tiny"])
        yield row(f"{name} beyond local: start-up, s", start)


def startup(bench: Bench) -> Iterator[Row]:
    """Time `--help` and a misspelt key of every stage, and a training that hardly trains."""
    helps, errors = {}, {}
    for script in ("preprocess.py", "train.py", "predict.py", "evaluate.py"):
        name = {"predict.py": ("--config-name", "for_datacards.yaml")}.get(script, ())
        command = [sys.executable, PROJECT / script, *name]
        helps[script] = seconds([_any(bench, [*command, "--help"]) for _ in range(REPEATS)])
        errors[script] = seconds([_any(bench, [*command, "yaer=2018"]) for _ in range(REPEATS)])
    yield row("start-up: --help, slowest stage, s", max(helps.values()), "<= 1")
    yield row("start-up: configuration error, slowest stage, s", max(errors.values()), "<= 1")
    ours(bench, "short", "preprocess_training")
    few = "model_param.num_iterations=10"
    runs = [ours(bench, "short", "train", few) for _ in range(REPEATS)]
    yield row("start-up: training of 10 rounds on 27,000 events, s", seconds(runs), "<= 3")
    shares = [
        told(part(bench, "ours", "training", "--analysis", bench.analysis("short"), "--add", few))
        for _ in range(REPEATS)
    ]
    share = statistics.median(found["mlflow"] for found in shares)
    yield row("start-up: of this waiting for MLflow, s", share, "<= 1.3")


def _any(bench: Bench, command: list[str | Path]) -> Run:
    """Run a command that may rightly end with status 1."""
    begin = time.perf_counter()
    environment = {**os.environ, **bench.environment}
    subprocess.run(
        [str(c) for c in command], cwd=bench.work, env=environment, capture_output=True, check=False
    )
    return Run(time.perf_counter() - begin, 0.0, "")


def demo(bench: Bench) -> Iterator[Row]:
    """Time the chain of `make demo` in a copy of the project."""
    copy = bench.work / "demo"
    left_out = (
        ".venv",
        ".git",
        "data",
        "mlruns",
        "outputs",
        "mlflow.db*",
        ".*_cache",
        ".hypothesis",
    )
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*left_out))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run(["sh", "tests/demo.sh"], copy, bench.environment | {"PATH": path})
    yield row("start-up: the chain of `make demo`, s", done.seconds, "<= 50")


def growth(bench: Bench) -> Iterator[Row]:
    """Compare twice the events with the base size, start-up aside."""
    for name, stage in STAGES.items():
        ratio = bench.beyond_startup("double", stage) / bench.beyond_startup("base", stage)
        yield row(f"growth, {name}: time at 2x / at 1x the events", ratio, "<= 2.1")


def large(bench: Bench) -> Iterator[Row]:
    """Compare many times the events with what only reads them, and with the base size."""
    stages = [stage for stage in STAGES.values() if stage != "predict_evaluation"]
    for stage in stages:
        for size in ("tiny", "tiny", "tiny", "base", "large"):
            ours(bench, size, stage)
    factor = f"{bench.n_events['large'] / bench.n_events['base']:g}x"
    for path, stage in (
        ("training", "preprocess_training"),
        ("prediction", "preprocess_prediction"),
    ):
        bare = [told(bare_read(bench, "large", path))["seconds"] for _ in range(2)]
        alone = bench.beyond_startup("large", stage)
        name = f"{factor} the events: preprocess, {path} path"
        ratio = alone / statistics.median(bare)
        yield row(f"{name}: ours / bare uproot read, start-up aside", ratio, "<= 1.2")
        yield row(f"{name}: time of ours, s", seconds(bench.runs["large", stage]))
    yield row(f"{factor} the events: train: time of ours, s", seconds(bench.runs["large", "train"]))
    stage, name = "predict_datacards", f"{factor} the events: predict, for_datacards"
    rate = bench.n_events["large"] / bench.beyond_startup("large", stage) / (os.cpu_count() or 1)
    yield row(f"{name}: thousand events/s and core beyond start-up", rate / 1000)
    peaks = {size: megabytes(bench.runs[size, stage]) for size in ("base", "large")}
    yield row(f"{name}: memory / that at 1x", peaks["large"] / peaks["base"], "<= 1.1")
    yield row(f"{name}: memory, MB", peaks["large"])


SECTIONS = (
    chain,
    memory,
    variations,
    reading,
    loops,
    forest,
    evaluation,
    fused,
    remote,
    growth,
    startup,
    demo,
)


# --- the table ------------------------------------------------------------------------------------


def markdown(rows: list[Row], facts: Mapping[str, Any]) -> str:
    """Return the table as Markdown."""
    lines = ["# Latest benchmark", ""]
    lines += [", ".join(f"{name} {value}" for name, value in facts.items()) + ".", ""]
    lines += ["| row | value | target | met |", "|---|---|---|---|"]
    for r in rows:
        value = "failed" if r.value is None else f"{r.value:g}"
        met = ("yes" if r.met else "**no**") if r.target else ""
        lines.append(f"| {r.row} | {value} | {r.target} | {met} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all sections, print and save the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="above 1: only rows of that many times as much",
    )
    parser.add_argument(
        "--events", type=int, default=N_EVENTS, help=f"at the scale 1 (default: {N_EVENTS:,})"
    )
    options = parser.parse_args()
    is_large = options.scale > 1
    scales = {"tiny": 0.01, "base": 1.0, "large": options.scale} if is_large else SIZES
    factor = options.events * min(options.scale, 1.0)
    n_events = {size: max(N_LEAST, round(factor * share)) for size, share in scales.items()}
    if not is_large:
        n_events["short"] = N_SHORT
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        work = Path(temporary)
        bench = Bench(
            work,
            n_events,
            {
                "OMP_WAIT_POLICY": "PASSIVE",
                "PYTHONPATH": str(PROJECT),
                # Byte code is there in any installed environment; where writing it is switched off
                # both sides would be timed compiling it.
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
            },
        )
        minutes = {"data": _minutes(partial(write_data, bench))}
        minutes["caches"] = _minutes(partial(warm_up, bench))
        rows: list[Row] = []
        for section in (large,) if is_large else SECTIONS:
            minutes[section.__name__] = _minutes(partial(_fill, rows, bench, section))
    facts = {
        "events": n_events["large" if is_large else "base"],
        "cores": os.cpu_count(),
        "minutes": f"{(time.perf_counter() - begin) / 60:.1f}",
        "of which": ", ".join(f"{name} {taken:.1f}" for name, taken in minutes.items()),
    }
    table = markdown(rows, facts)
    if options.events == N_EVENTS and options.scale >= 1:
        name = f"scale_{options.scale:g}" if is_large else "latest"
        text = json.dumps([asdict(r) for r in rows], indent=1) + "\n"
        (RESULTS / f"{name}.md").write_text(table)
        (RESULTS / f"{name}.json").write_text(text)
    print("\n" + table)
    return 0


def _minutes(step: Callable[[], None]) -> float:
    begin = time.perf_counter()
    step()
    return (time.perf_counter() - begin) / 60


def _fill(rows: list[Row], bench: Bench, section: Callable[[Bench], Iterator[Row]]) -> None:
    """Add the rows of a section, and one that says so where it failed."""
    try:
        for found in section(bench):
            rows.append(found)
            print(f"{found.row}: {found.value:g} {found.target}", flush=True)
    except (CommandError, KeyError, OSError) as error:
        print(f"{section.__name__} failed: {error}", file=sys.stderr, flush=True)
        rows.append(row(f"{section.__name__}: failed", None, "to run"))


if __name__ == "__main__":
    sys.exit(main())
