"""Write the page of keys, and the JSON Schemas by which editors check analysis files.

    python -m utils.keys

Both follow from `utils/schema/`: types and defaults from the declarations, meanings from the text
below each. A file names its schema in a line `# yaml-language-server: $schema=...`.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from utils.schema import (
    PROJECT,
    AnalysisConfig,
    EvaluateConfig,
    PipelineError,
    PredictConfig,
    PreprocessConfig,
    TrainConfig,
)
from utils.schema.basics import ConfigError
from utils.schema.parts import Closed, EngineConfig, ProcessConfig, SampleEntry
from utils.system.files import complete

COMMAND = "python -m utils.keys"

SCRIPTS: dict[str, type[Closed]] = {
    "preprocess": PreprocessConfig,
    "train": TrainConfig,
    "predict": PredictConfig,
    "evaluate": EvaluateConfig,
}
"""The keys of each script."""

SAMPLE_LISTS = ("training_samples", "prediction_samples", "input_samples")
"""Keys that list samples: by name, by name with processes, or in long form."""

PAGE = PROJECT / "docs" / "keys.md"
SCHEMAS = PROJECT / "docs" / "schema"


# --- what is declared ----------------------------------------------------------------------------


def meanings() -> dict[tuple[str, str], str]:
    """Return the line below each key's declaration in `utils/schema/`, by class and key."""
    found = {}
    for path in sorted((PROJECT / "utils" / "schema").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                for item, below in zip(node.body, node.body[1:], strict=False):
                    if (
                        isinstance(item, ast.AnnAssign)
                        and isinstance(item.target, ast.Name)
                        and isinstance(below, ast.Expr)
                        and isinstance(below.value, ast.Constant)
                    ):
                        text = " ".join(str(below.value.value).split())
                        found[node.name, item.target.id] = text
    return found


def meaning(model: type[Closed], key: str, known: Mapping[tuple[str, str], str]) -> str:
    """Return what a key means. Raises ConfigError where its declaration does not say."""
    for base in model.__mro__:
        if (base.__name__, key) in known:
            return known[base.__name__, key]
    raise ConfigError(
        f"utils/schema: {model.__name__}.{key} does not say what it means: write one line as a "
        f'string below its declaration ("""..."""), then: {COMMAND}'
    )


def parts(model: type[Closed]) -> Iterator[type[Closed]]:
    """Yield the classes that stand inside the keys of `model`, each once, in order."""
    seen: dict[type[Closed], None] = {}

    def walk(annotation: Any) -> None:
        if annotation in seen:
            return
        if isinstance(annotation, type) and issubclass(annotation, Closed):
            seen[annotation] = None
            for info in annotation.model_fields.values():
                walk(info.annotation)
        for inner in get_args(annotation):
            walk(inner)

    for info in model.model_fields.values():
        walk(info.annotation)
    yield from seen


# --- the page ------------------------------------------------------------------------------------

_HEAD = f"""\
# Keys

Every key that a configuration file, or a command line as `key=value`, may hold. An unknown one is
refused with the nearest name. This page and the JSON Schemas in `docs/schema/` are written by
`{COMMAND}` from `utils/schema/`.

An editor with a YAML language server (VS Code with the YAML extension, Neovim, Emacs, JetBrains)
completes and checks a file that begins with

    # yaml-language-server: $schema=PROJECT/docs/schema/analysis.json

as the shipped files and those of `python -m utils.new_analysis` do. Helper keys of your own, which
the scripts take where an interpolation refers to them, it takes where their names begin with `_`.
"""

_NAMES: dict[Any, str] = {
    **{str: "text", float: "number", int: "integer", bool: "true, false"},
    **{Any: "anything", NoneType: "null"},
}


def type_text(annotation: Any) -> str:
    """Return a type as users read it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0])
    if origin is Literal:
        return ", ".join(f"`{json.dumps(v) if isinstance(v, bool) else v}`" for v in inner)
    if origin in (UnionType, Union):
        return " or ".join(dict.fromkeys(type_text(t) for t in inner))
    if origin is list:
        return f"list of {type_text(inner[0])}"
    if origin is dict:
        return f"mapping of {type_text(inner[0])} to {type_text(inner[1])}"
    if origin is tuple:
        return f"[{', '.join(map(type_text, inner))}]"
    if isinstance(annotation, type) and issubclass(annotation, Closed):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return _NAMES.get(annotation) or str(getattr(annotation, "__name__", annotation))


def default_text(info: Any) -> str:
    """Return a default as YAML writes it; of what must be given, `???`."""
    if info.is_required():
        return "`???`"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, Closed):
        value = value.model_dump(exclude_defaults=True)
    return f"`{json.dumps(value, ensure_ascii=False)}`" if value != "" else ""


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """Return docs/keys.md. Raises ConfigError for a key that does not say what it means."""
    known = meanings()
    lines = [_HEAD]
    told: set[tuple[str, ...]] = set()
    groups: list[tuple[str, type[Closed]]] = [
        ("In an analysis file", AnalysisConfig),
        *((f"Of {name}.py", model) for name, model in SCRIPTS.items()),
    ]
    for title, model in groups:
        rows = []
        for key, info in model.model_fields.items():
            shared = model is not AnalysisConfig and issubclass(model, AnalysisConfig)
            if shared and key in AnalysisConfig.model_fields:
                continue
            scripts = ", ".join(n for n, m in SCRIPTS.items() if _same(m, model, key, known))
            cells = [f"`{info.alias or key}`", type_text(info.annotation), default_text(info)]
            row = [*cells, scripts, meaning(model, key, known)]
            if tuple(row) not in told:
                rows.append(_row(row))
                told.add(tuple(row))
        head = [_row(["key", "type", "default", "scripts", "meaning"]), _row(["---"] * 5)]
        lines += [f"## {title}", "", *head, *rows, ""]
    listed = f"Samples in long form are {type_text(SampleEntry)}, their processes "
    lines += ["## Inside keys", "", f"{listed}{type_text(ProcessConfig)}.", ""]
    for part in _all_parts():
        rows = [
            _row(
                [
                    f"`{info.alias or key}`",
                    type_text(info.annotation),
                    default_text(info),
                    meaning(part, key, known),
                ]
            )
            for key, info in part.model_fields.items()
        ]
        head = [_row(["key", "type", "default", "meaning"]), _row(["---"] * 4)]
        first = str(part.__doc__).strip().splitlines()[0]
        lines += [f"### {part.__name__}", "", first, "", *head, *rows, ""]
    return "\n".join(lines)


def _same(
    model: type[Closed], other: type[Closed], key: str, known: Mapping[tuple[str, str], str]
) -> bool:
    """Tell whether a key of two classes is one key: of one type and meaning."""
    mine, its = model.model_fields.get(key), other.model_fields[key]
    return (
        mine is not None
        and type_text(mine.annotation) == type_text(its.annotation)
        and meaning(model, key, known) == meaning(other, key, known)
    )


def _all_parts() -> list[type[Closed]]:
    found = dict.fromkeys(p for model in SCRIPTS.values() for p in parts(model))
    return [*found, SampleEntry, ProcessConfig]


# --- JSON Schemas --------------------------------------------------------------------------------

_INTERPOLATION = {"type": "string", "pattern": r"\$\{.+\}|^\?\?\?$"}
"""What may stand wherever a value may: a text with an interpolation, or what must be given."""


def schemas() -> dict[str, dict[str, Any]]:
    """Return a JSON Schema for each kind of file: analyses, a script's files, engines, models."""
    models: dict[str, type[Closed]] = {"analysis": AnalysisConfig, **SCRIPTS}
    found = {name: _schema(model, name) for name, model in models.items()}
    found["engine"] = _schema(EngineConfig, "engine")
    return found


def _schema(model: type[Closed], name: str) -> dict[str, Any]:
    known = meanings()
    raw = model.model_json_schema(by_alias=True)
    extra = {
        part.__name__: part.model_json_schema(by_alias=True)
        for part in (SampleEntry, ProcessConfig)
    }
    definitions = {**raw.pop("$defs", {})}
    for schema in extra.values():
        definitions |= schema.pop("$defs", {})
    definitions |= extra
    by_name = {part.__name__: part for part in (*_all_parts(), model)}
    for title, definition in {**definitions, model.__name__: raw}.items():
        _describe(definition, by_name[title], known)
    raw.pop("required", None)  # commands may give what a file does not
    raw["properties"] |= {
        "defaults": {"type": "array", "description": "Hydra's list of files that this one joins."},
        "hydra": {"type": "object", "description": "Hydra's own settings."},
    }
    raw["patternProperties"] = {"^_": {"description": "A helper key, for interpolations."}}
    made = {"$schema": "http://json-schema.org/draft-07/schema#", **_loose(raw, top=True)}
    made["title"] = f"htt-ml: {name}"
    in_order = sorted(definitions.items())
    made["$defs"] = {title: _loose(definition, top=True) for title, definition in in_order}
    return made


def _describe(
    schema: dict[str, Any], model: type[Closed], known: Mapping[tuple[str, str], str]
) -> None:
    """Add meanings, and what validators take beside the declared types."""
    schema["description"] = str(model.__doc__).strip().splitlines()[0]
    for key, info in model.model_fields.items():
        name = info.alias or key
        spec = schema["properties"][name]
        spec["description"] = meaning(model, key, known)
        spec.pop("title", None)
        if name in SAMPLE_LISTS:
            spec["items"] = _SAMPLE
        if name == "processes":
            spec["additionalProperties"] = {"$ref": "#/$defs/ProcessConfig"}
        if info.annotation is EngineConfig:
            schema["properties"][name] = {
                "description": spec["description"],
                "anyOf": [{"$ref": "#/$defs/EngineConfig"}, {"type": "string"}],
            }
        if (model.__name__, key) == ("MissingConfig", "values"):
            schema["properties"][name] = {
                "description": spec["description"],
                "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "number"}],
            }


_PROCESSES = {"type": "object", "additionalProperties": {"$ref": "#/$defs/ProcessConfig"}}
_SAMPLE = {
    "anyOf": [
        {"type": ["string", "number"]},
        {"$ref": "#/$defs/SampleEntry"},
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "not": {"required": ["sample"]},
            "additionalProperties": _PROCESSES,
        },
    ]
}


def _loose(schema: Any, top: bool = False) -> Any:
    """Return a schema that takes an interpolation for any value, and a number for a text."""
    if not isinstance(schema, dict):
        return schema
    result = {key: value for key, value in schema.items() if key != "title"}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _loose(result[key])
    if "properties" in result:
        result["properties"] = {name: _loose(s) for name, s in result["properties"].items()}
    for key in ("anyOf", "prefixItems"):
        if key in result:
            result[key] = [_loose(s, top=True) for s in result[key]]
    if result.get("type") == "string":
        result["type"] = ["string", "number", "integer"]
    if top or (result.get("type") == ["string", "number", "integer"] and "enum" not in result):
        return result
    about = {k: result.pop(k) for k in ("description", "default") if k in result}
    return {**about, "anyOf": [*result.pop("anyOf", [result] if result else [{}]), _INTERPOLATION]}


# --- the command ---------------------------------------------------------------------------------


def written() -> dict[Path, str]:
    """Return the text of each file that the command writes."""
    found = {PAGE: page()}
    for name, schema in schemas().items():
        text = json.dumps(schema, indent=1, ensure_ascii=False)
        found[SCHEMAS / f"{name}.json"] = text + "\n"
    return found


def main() -> int:
    """Write the page and the schemas, and return the exit status."""
    from utils.system.program import fail

    argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split("\n")[0]).parse_args()
    try:
        files = written()
    except PipelineError as error:
        return fail(str(error))
    for path, text in files.items():
        with complete(path) as partial:
            partial.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(PROJECT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
