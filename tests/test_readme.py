"""The README's commands exist and compose, its snippets parse, metric names are documented."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from pydantic import BaseModel

from utils.results.metrics import naming
from utils.schema import PROJECT, EvaluateConfig, PredictConfig, PreprocessConfig, TrainConfig
from utils.system import program

README = (PROJECT / "README.md").read_text()
CONFIGS = PROJECT / "configs"

# As in the scripts: the model, the folder of the primaries, and the primary that is the default.
SCRIPTS: dict[str, tuple[type[BaseModel], str, str | None]] = {
    "preprocess.py": (PreprocessConfig, "preprocess/training_data", "bbH_tt"),
    "train.py": (TrainConfig, "train", "train"),
    "predict.py": (PredictConfig, "predict", None),
    "evaluate.py": (EvaluateConfig, "", "evaluate"),
}


def commands(program_name: str) -> list[str]:
    """Return the README's command lines of a program, from its blocks and its inline code."""
    blocks = re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    typed = re.findall(r"^\$ ((?:.*\\\n)*.*)$", "\n".join(blocks), re.MULTILINE)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.M))
    lines = [" ".join(c.replace("\\\n", " ").split()) for c in [*typed, *inline]]
    own = ("...", "my_file.yaml")  # trimmed, or a file of the user's own
    return sorted({c for c in lines if c.startswith(program_name) and not any(o in c for o in own)})


def filled(command: str, analysis: Path) -> list[str]:
    """Return a command's arguments with the README's placeholders filled in."""
    text = command.replace("/path/to/my_channel.yaml", str(analysis))
    text = re.sub(r" > \w+\.txt$", "", text)
    if " -m " in text:  # a multirun: its first run
        text = re.sub(r"=([\w.]+)(,[\w.]+)+", r"=\1", text.replace(" -m ", " "))
    for placeholder, value in (("RUN_ID", "0a1b"), ("SKIM", "skim"), ("FOLDER", "folder")):
        text = text.replace(placeholder, value)
    return shlex.split(text)


@pytest.mark.parametrize(
    "command", [c for name in SCRIPTS for c in commands(f"python {name} ")], ids=str
)
def test_commands_compose(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = Path(shutil.copy(CONFIGS / "analysis" / "bbH_tt.yaml", tmp_path / "my_channel.yaml"))
    _, script, *arguments = filled(command, analysis)
    model, primaries, default = SCRIPTS[script]
    if "my_channel.yaml" in command:
        arguments.append("year=2018")
    monkeypatch.setattr("sys.argv", [script, *arguments])
    Plugins.instance().register(program.ProjectConfigs)
    rewritten = program.command_line(arguments, CONFIGS / primaries, default)
    name, folder, overrides = default, CONFIGS / primaries, []
    words = iter(a for a in rewritten if not a.startswith("hydra"))
    for word in words:
        if word == "--config-name":
            name = next(words)
        elif word == "--config-path":
            folder = PROJECT / next(words)
        else:
            overrides.append(word)
    assert name is not None
    with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
        composed = compose(name.removesuffix(".yaml"), overrides)
    assert isinstance(program.typed(program.resumed(composed), model), model)


def test_all_scripts_are_shown() -> None:
    for name in SCRIPTS:
        assert commands(f"python {name} "), name


def test_mlflow_parameters_are_declared() -> None:
    project = OmegaConf.load(PROJECT / "MLproject")
    declared = set(project.entry_points.main.parameters)
    found = commands("mlflow run ")
    assert found
    for command in found:
        assert set(re.findall(r"-P (\w+)=", command)) <= declared, command


def test_python_snippets_parse() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert snippets
    for snippet in snippets:
        ast.parse(snippet)


def test_no_place_was_left_to_fill_in() -> None:
    assert "@@" not in README
    assert not re.search(r"/(tmp|work|home|root)/(?!me/)", README)


def test_picture_is_small() -> None:
    (link,) = re.findall(r"^!\[.*\]\((docs/picture\.\w+)\)$", README, re.MULTILINE)
    assert 5_000 < (PROJECT / link).stat().st_size < 200_000


def test_metric_names_are_documented() -> None:
    """The docstring beside the code and the page for users list the same names."""
    page = (PROJECT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"\{d\}/([a-z_]+)", page))
    assert naming.flat_metrics.__doc__ is not None
    assert documented == set(re.findall(r"\{d\}/([a-z_]+)", naming.flat_metrics.__doc__))
