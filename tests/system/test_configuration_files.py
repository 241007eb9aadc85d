"""Configuration files are bounded, and an analysis file from anywhere only describes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from utils.schema import PROJECT, ConfigError, PreprocessConfig
from utils.system.configuration_files import read_analysis
from utils.system.program import typed


def refused(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "their.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    begin = time.process_time()
    with pytest.raises(ConfigError) as error:
        read_analysis(path, ["bbH_tt"])
    assert time.process_time() - begin < 10
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "hydra: {callbacks: {x: {_target_: pandas.read_pickle, filepath_or_buffer: x}}}\n",
        "hydra: {}\nseed: ${hydra.x}\n",
        "hydra.callbacks: {}\n",
        "misspelt: 1\n",
        "'${oc.env:HOME}': 1\n",
    ],
)
def test_other_keys_are_refused(tmp_path: Path, content: str) -> None:
    assert "unknown key" in refused(tmp_path, content)


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "${ oc.env:HOME}",
        "${oc.${x}:HOME}",
        "${${x}:HOME}",
        "${oc.select:a,${oc.env:HOME}}",
        "${hydra:job.name}",
        "${now:%Y}",
        "${oc.decode:x}",
        "${x${",
        "\\${oc.env:HOME}",
    ],
)
@pytest.mark.parametrize("place", ["input_path: '{}'", "cuts: {{a: '{}'}}", "cuts: {{'{}': a}}"])
def test_other_interpolations_are_refused(tmp_path: Path, value: str, place: str) -> None:
    said = refused(tmp_path, place.format(value) + "\n")
    assert " calls " in said or "can't be read" in said


@pytest.mark.parametrize(
    "engine",
    [
        "dask",
        "{kind: dask}",
        "{address: 'tcp://elsewhere:8786'}",
        "{cluster: slurm}",
        "{cluster_options: {job_script_prologue: [x]}}",
        "${x}",
        "{kind: '${x}'}",
    ],
)
def test_work_is_sent_nowhere(tmp_path: Path, engine: str) -> None:
    said = refused(tmp_path, "x: dask\ninput_path: $" + "{x}\n" + f"engine: {engine}\n")
    assert "engine sends work to other machines" in said


@pytest.mark.parametrize("entry", ["/engine/dask", "{override /hydra/launcher: basic}", "../x"])
def test_defaults_name_analyses_only(tmp_path: Path, entry: str) -> None:
    assert "defaults may name analyses" in refused(tmp_path, f"defaults: [{entry}]\n")


def test_what_describes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "defaults: [bbH_tt, _self_]\nyear: 2018\nroot: /data\ninput_path: ${root}/${year}\n"
        "table: {'2018': 59.8}\nluminosity: ${oc.select:table.${year}}\nengine: serial\n"
        "cuts: &c {a: pt > 1}\nderived_features: *c\n"
    )
    assert read_analysis(path, ["bbH_tt"])["year"] == 2018
    for own in (PROJECT / "configs" / "analysis").glob("*.yaml"):
        assert read_analysis(own, ["bbH_tt", "cms_htt"])


# --- bombs ---------------------------------------------------------------------------------------

ALIASES = "cuts:\n  a0: &a0 [x, x]\n" + "".join(
    f"  a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ALIASES, "once its aliases are filled in"),
        ("cuts: &a [*a]\n", "an alias that contains itself"),
        ("cuts: " + "[" * 5000 + "]" * 5000, "nested deeper than"),
        ("cuts: " + "{a: " * 500 + "}" * 500, "nested deeper than"),
        ("seed: " + "9" * 10_000, "can't be read"),
        ("#" * 2_000_000, "has more than"),
        ("experiment_text: Universität".encode("latin-1"), "is not UTF-8"),
        ("[1]", "holds no keys"),
        ("seed: 1\nseed: 2", "duplicate key"),
        ("seed: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: \0", "is not YAML"),
    ],
)
def test_what_is_too_large_or_no_yaml_is_told(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    assert said in refused(tmp_path, content)


def chain(text: str) -> dict[str, Any]:
    return {f"a{i}": text.replace("_", str(i + 1)) for i in range(60)} | {"a60": "x"}


@pytest.mark.parametrize(
    "bomb",
    [
        {**chain("${a_}${a_}"), "input_path": "${a0}"},
        {"t": chain("${t.a_}${t.a_}"), "input_path": "${t.a0}"},
        {"t": chain("${.a_}${.a_}"), "input_path": "${t.a0}"},
        {"t": chain("${oc.select:t.a_}${oc.select:t.a_}"), "input_path": "${t.a0}"},
        {
            "t": chain("${t.${n._}}${t.${n._}}"),
            "n": {str(i): f"a{i}" for i in range(61)},
            "input_path": "${t.a0}",
        },
        {
            "t": {f"a{i}": {"p": f"${{t.a{i + 1}}}", "q": f"${{t.a{i + 1}}}"} for i in range(60)},
            "cuts": "${t.a0}",
        },
        {**{f"a{i}": f"${{a{i + 1}}}" for i in range(3000)}, "input_path": "${a0}"},
        {"input_path": "${skim_path}", "skim_path": "${input_path}"},
    ],
)
def test_interpolations_fill_no_memory(bomb: dict[str, Any], capsys: Any) -> None:
    from utils.system.program import _one_line_errors

    begin = time.process_time()
    with pytest.raises(SystemExit), _one_line_errors():
        typed(OmegaConf.create(bomb), PreprocessConfig)
    assert time.process_time() - begin < 20
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "template", ["{sample_name:>1000000000}", "{sample_name!r}", "{sample_name.x}", "{0}", "{"]
)
def test_a_template_is_a_name_and_nothing_more(template: str) -> None:
    with pytest.raises(ConfigError, match="one placeholder of a file template"):
        typed(
            OmegaConf.create({"input_filename_template": template + "{sample_name}"}),
            PreprocessConfig,
        )
