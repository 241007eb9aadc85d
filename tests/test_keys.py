"""The page of keys and the JSON Schemas: current, and true to the files and to the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from omegaconf import OmegaConf

from utils import keys
from utils.schema import PROJECT, ConfigError

SHIPPED = sorted(p for p in (PROJECT / "configs").rglob("*.yaml") if "hydra" not in p.parts)
MODELINE = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)


def test_page_and_schemas_are_current() -> None:
    for path, text in keys.written().items():
        assert path.is_file(), f"{path.name} is not there: {keys.COMMAND}"
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is outdated: {keys.COMMAND}"
    assert {p.stem for p in keys.SCHEMAS.iterdir()} == {p.stem for p in keys.written()} - {"keys"}


def test_a_key_without_meaning_is_named() -> None:
    known = {k: v for k, v in keys.meanings().items() if k != ("AnalysisConfig", "clip")}
    with pytest.raises(ConfigError, match=rf"AnalysisConfig\.clip .*{keys.COMMAND}"):
        keys.meaning(keys.AnalysisConfig, "clip", known)


def content(path: Path) -> Any:
    """A file as editors see it: JSON's types, nothing filled in."""
    return json.loads(json.dumps(OmegaConf.to_container(OmegaConf.load(path), resolve=False)))


def schema_of(path: Path) -> dict[str, Any]:
    [place] = MODELINE.findall(path.read_text(encoding="utf-8"))
    schema: dict[str, Any] = json.loads((path.parent / place).read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    return schema


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(PROJECT / "configs")))
def test_shipped_files_name_their_schema_and_fit_it(path: Path) -> None:
    schema, given = schema_of(path), content(path)
    errors = [f"{list(e.path)}: {e.message}" for e in Draft7Validator(schema).iter_errors(given)]
    assert errors == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("comon_cut",), "pt > 1"),
        (("n_splits",), "many"),
        (("fold_rule",), "module"),
        (("class_to_info", "0", "colour"), "red"),
        (("training_samples", 0), {"TT": {"top": {"class": 0, "kut": "x > 1"}}}),
        (("training_samples", 0), {"sample": "TT", "proceses": {}}),
        (("feature_info",), {"x": {"lable": "x"}}),
        (("engine",), {"kind": "cluster"}),
        (("clip",), {"x": [1, 2, 3]}),
    ],
    ids=str,
)
def test_mistakes_are_seen(place: tuple[Any, ...], value: Any) -> None:
    path = PROJECT / "configs" / "analysis" / "bbH_tt.yaml"
    validator, given = Draft7Validator(schema_of(path)), content(path)
    here = given
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = value
    assert list(validator.iter_errors(given))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_splits", "${folds}"),
        ("year", 2018),
        ("missing", -999),
        ("missing", {"values": -999, "to": 0}),
        ("engine", "serial"),
        ("scaler", None),
        ("training_samples", ["TT", {"sample": "H", "processes": {"p": {"class": 0}}}]),
        ("clip", {"x": [None, 3]}),
    ],
    ids=str,
)
def test_what_scripts_take_is_no_mistake(key: str, value: Any) -> None:
    path = PROJECT / "configs" / "analysis" / "bbH_tt.yaml"
    given = {**content(path), key: value}
    assert list(Draft7Validator(schema_of(path)).iter_errors(given)) == []


def test_every_key_is_on_the_page() -> None:
    page = keys.page()
    for name, model in keys.SCRIPTS.items():
        for key, info in model.model_fields.items():
            assert re.search(rf"^\| `{info.alias or key}` \|", page, re.MULTILINE), (name, key)
