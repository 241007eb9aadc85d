"""How scripts end: in one line, with nothing half-written, also when somebody else ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from patience import HANGS

from utils.schema import (
    PROJECT,
    ConfigError,
    InputError,
    PreprocessConfig,
)
from utils.system import files, program

KILLED = """
import os, signal, sys, time
from pathlib import Path
from utils.system import program
from utils.system.files import complete
from utils.schema import TrainConfig
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
def main():
    with program._one_line_errors(), complete(Path(sys.argv[0])) as partial:
        partial.write_text("half")
        os.kill(os.getpid(), getattr(signal, os.environ["ENDED_BY"]))
        time.sleep(5)
sys.argv = [os.environ["TARGET"]]
sys.exit(program.run(main, TrainConfig, "train", "train"))
"""


@pytest.mark.parametrize(("ended_by", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_an_ended_script_leaves_nothing(tmp_path: Path, ended_by: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        cwd=PROJECT,
        env={"TARGET": str(tmp_path / "out.h5"), "ENDED_BY": ended_by},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr == "error: interrupted; no incomplete output was left\n"
    assert list(tmp_path.iterdir()) == []


TURNED = """
import os, signal, sys
from utils.system import program
from utils.schema import TrainConfig
def main():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        file = open(os.devnull)
    finally:
        file.close()
sys.argv = ["train.py"]
sys.exit(program.run(main, TrainConfig, "train", "train"))
"""
"""As Hydra does while it reads a configuration file, where the file was not opened yet."""


def test_an_interrupt_that_became_another_error_is_told_as_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TURNED], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 143, done.stderr
    assert done.stderr == "error: interrupted; no incomplete output was left\n"


CRASHES = """
import os, signal, sys
from utils.system import program
from utils.schema import TrainConfig
def deep_in_a_library():
    os.kill(os.getpid(), signal.SIGSEGV)
sys.argv = ["train.py"]
sys.exit(program.run(deep_in_a_library, TrainConfig, "train", "train"))
"""


def test_a_crash_of_a_library_tells_where_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHES], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr
    assert "in deep_in_a_library" in done.stderr


AT_WORK = """
import os, signal, sys, threading, time
from pathlib import Path
from utils.system import program
from utils.system.files import complete
from utils.schema import TrainConfig
def work():
    with complete(Path(os.environ["TARGET"])) as partial, partial.open("w") as file:
        while True:
            file.write("more")
            time.sleep(0.01)
def main():
    with program._one_line_errors():
        threading.Thread(target=work).start()
        while not list(Path(os.environ["TARGET"]).parent.glob(".*.tmp*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
sys.argv = ["train.py"]
sys.exit(program.run(main, TrainConfig, "train", "train"))
"""


def test_what_other_threads_were_writing_goes_with_an_interrupted_script(tmp_path: Path) -> None:
    """They can't be told to stop: the process ends under them, at once."""
    done = subprocess.run(
        [sys.executable, "-c", AT_WORK],
        cwd=PROJECT,
        env={"TARGET": str(tmp_path / "out.h5")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 143, done.stderr
    assert done.stderr == "error: interrupted; no incomplete output was left\n"
    assert list(tmp_path.iterdir()) == []


def test_an_override_without_inner_quotes_is_answered_with_the_mended_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with pytest.raises(SystemExit, match="1"), program._one_line_errors():
        OverridesParser.create().parse_overrides(["++common_cut=pt_1>40"])
    said = capsys.readouterr().err
    assert said.startswith("error: 'common_cut=pt_1>40' can't be read:")
    assert "\"common_cut='pt_1 > 40'\"" in said


CONFIGS = PROJECT / "configs"


def test_helper_keys_are_fine_where_something_refers_to_them() -> None:
    cfg = OmegaConf.create(
        {
            "for_training": False,
            "where": "/data",
            "input_path": "${where}/x",
            "input_tree_name": "T",
            "input_samples": ["S"],
        }
    )
    assert program.typed(cfg, PreprocessConfig).input_path == "/data/x"
    cfg["were"] = "/nowhere"
    with pytest.raises(ConfigError, match="unknown key 'were'"):
        program.typed(cfg, PreprocessConfig)


def test_a_helper_key_may_be_a_table() -> None:
    base = {"input_tree_name": "T", "input_samples": ["S"], "year": 2018, "which": "${paths[0]}"}
    cfg = OmegaConf.create(
        {
            **base,
            "paths": ["/a"],
            "roots": {"2018": "/b"},
            "input_path": "${oc.select:roots.${year}}",
        }
    )
    with pytest.raises(ConfigError, match="unknown key 'which'"):
        program.typed(cfg, PreprocessConfig)
    del cfg["which"]
    with pytest.raises(ConfigError, match="unknown key 'paths'"):
        program.typed(cfg, PreprocessConfig)
    cfg["skim_path"] = "${paths[0]}"
    found = program.typed(cfg, PreprocessConfig)
    assert (found.input_path, found.skim_path) == ("/b", "/a")


def test_what_is_typed_becomes_what_hydra_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    primaries = CONFIGS / "preprocess/training_data"
    flat = tmp_path / "flat.yaml"
    flat.write_text("year: ???\n")
    typed_in = [
        "--config-path",
        str(tmp_path),
        "--config-name",
        "flat.yaml",
        "year=1",
        "engine=dask",
    ]
    line = program.command_line(typed_in, primaries, "bbH_tt")
    assert "++year=1" in line
    assert "+engine='dask'" in line
    line = program.command_line(
        ["analysis=bbH_em", "~pca", "hydra.verbose=true"], primaries, "bbH_tt"
    )
    assert line[:3] == ["analysis='bbH_em'", "~pca", "hydra.verbose=true"]
    line = program.command_line(["year=1", "-m", "seed=1,2", "--cfg", "job"], primaries, "bbH_tt")
    assert line[:5] == ["-m", "--cfg", "job", "++year=1", "++seed=1,2"]
    for wrong, said in (
        (["--multi-run"], "nearest: '--multirun'"),
        (["--config-name"], "the option --config-name has no value"),
    ):
        with pytest.raises(ConfigError, match=said):
            program.command_line(wrong, primaries, "bbH_tt")
    of_mlproject = ["year=1", "model_param.max_depth=", "run_name="]
    with pytest.raises(ConfigError, match=r"'model_param.max_depth=' has no value.*depth=null"):
        program.command_line(of_mlproject, primaries, "bbH_tt")
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    line = program.command_line(of_mlproject, primaries, "bbH_tt")
    assert not any("max_depth" in part or "run_name" in part for part in line)
    line = program.command_line(["run_id=12e34"], primaries, "bbH_tt")
    assert "++run_id='12e34'" in line  # not the number 1.2e35
    with pytest.raises(ConfigError, match="no analysis file"):
        program.command_line([f"analysis={tmp_path}/none.yaml"], primaries, "bbH_tt")
    with pytest.raises(
        ConfigError, match=r"--config-name for_datacards.yaml or for_evaluation.yaml"
    ):
        program.command_line(["run_id=1"], CONFIGS / "predict", None)


COMMAND = ("preprocess.py", "year=2018", "input_path=/nowhere")


def says(*more: str, **environment: str) -> str:
    """Run a command that fails with one line, and return that."""
    done = subprocess.run(
        [sys.executable, *COMMAND, *more],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("~cont_features.0", "no configuration can be composed of"),
        ("=3", "no configuration can be composed of"),
        ("analysis=2018", "there is no 'analysis/2018'"),
        ("analysis=null", "there is no 'analysis/null'"),
        ("--multi-run", "there is no option --multi-run"),
    ],
)
def test_an_override_that_hydra_stumbles_over_is_one_line(override: str, said: str) -> None:
    assert said in says(override)


def test_an_empty_mapping_empties_and_others_merge() -> None:
    assert "class 'H_sig' is not a class; there are none" in says("class_to_info={}")
    assert "known: Fakes, H_bkgr, Taus, other" in says("class_to_info.0.name=other")
    assert "known: Fakes, H_bkgr, Taus, other" in says("class_to_info={0: {name: other}}")


@pytest.mark.parametrize("name", ["2018", "1e5", "null", "channel(v2)", "canal_é", "a,b", "a=b"])
def test_an_analysis_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text("# @package _global_\nseed: many\n", encoding="utf-8")
    assert "seed: Input should be a valid integer" in says(f"analysis={path}")


def test_any_locale_will_do(tmp_path: Path) -> None:
    path = tmp_path / "canal.yaml"
    text = "experiment_text: Université τ\ninput_filename_template: 'τ_{sample_name}.root'\n"
    path.write_text(f"defaults: [bbH_tt, _self_]\n{text}", encoding="utf-8")
    said = says(f"analysis={path}", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "there is no file" in said


def test_a_command_that_fails_leaves_nothing_of_its_other_threads(tmp_path: Path) -> None:
    """A thread may be in the midst of another file, and ends with the process."""
    begun, ended = threading.Event(), threading.Event()

    def write() -> None:
        with contextlib.suppress(FileNotFoundError), files.complete(tmp_path / "out") as partial:
            partial.touch()
            begun.set()
            ended.wait(HANGS)

    def fail() -> None:
        raise InputError("another file can't be written")

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait(HANGS)
    with pytest.raises(SystemExit), program._one_line_errors():
        fail()
    left = list(tmp_path.iterdir())
    ended.set()
    thread.join()
    assert left == []
    assert list(tmp_path.iterdir()) == []
