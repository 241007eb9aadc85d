"""From what Hydra composed to a typed object, or one line that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from utils.schema.basics import ConfigError, nearest
from utils.schema.parts import types_in

C = TypeVar("C", bound=BaseModel)


def load_part(model: type[C], raw: Mapping[str, Any], place: str) -> C:
    """Return what stands at the key `place` of a configuration as a typed `model`.

    Raises ConfigError, in one line that names the whole key.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(one_line(error, model, prefix=place)) from None


def load(model: type[C], raw: Mapping[str, Any], referred: Iterable[str] = ()) -> C:
    """Return the composed configuration `raw` as a typed `model`.

    `raw` is plain and resolved. `referred` names top-level keys that interpolations refer to:
    such helper keys are left out when the model does not declare them; any other undeclared key
    is refused. Raises ConfigError, in one line that names the key.
    """
    helpers = undeclared_keys(model, raw, referred)
    given = {str(k): v for k, v in raw.items() if k not in helpers}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ConfigError(one_line(error, model)) from None


def undeclared_keys(
    model: type[BaseModel], raw: Mapping[str, Any], referred: Iterable[str]
) -> set[str]:
    """Return the helper keys of `raw`: undeclared, but referred to by interpolations.

    Raises ConfigError for an undeclared key that nothing refers to.
    """
    known = {field.alias or name for name, field in model.model_fields.items()}
    undeclared = {str(key) for key in raw} - known
    for key in sorted(undeclared - set(referred)):
        raise ConfigError(f"unknown key '{key}'; {nearest(key, known)}")
    return undeclared


def one_line(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    details = error.errors(include_url=False)
    # An undeclared key explains other complaints (a misspelt mandatory key), so it goes first.
    first = min(details, key=lambda d: d["type"] != "extra_forbidden")
    path, known = _place(first["loc"], model)
    where = ".".join(filter(None, [prefix, *path]))
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'; {nearest(path[-1], known)}"
    if first["type"] == "missing":
        return f"{where} is not set and has no default: add {where}=..."
    given = json.dumps(first["input"], default=str)
    given = given if len(given) < 80 else given[:77] + "..."
    return f"{where}: {first['msg']}, got {given}"


def _place(location: Iterable[int | str], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Return the keys that lead to an error, and the keys that are known where the last one stands.

    A location names, after a key whose value may be of several types, the one that was tried: no
    key of the user's.
    """
    path: list[str] = []
    known: list[str] = []
    here: Any = model
    parts = iter(location)
    for part in parts:
        path.append(str(part))
        known = [*_fields(here)]
        types = types_in(_inside(here, part))
        tried = next(parts, None) if len(types) > 1 else None
        here = next((t for t in types if len(types) == 1 or t.__name__ == tried), Any)
    return path, known


def _inside(annotation: Any, key: int | str) -> Any:
    """Return the type of what `key` leads to in a value of the given type, Any if unknown."""
    inner = get_args(annotation)
    if get_origin(annotation) is tuple and isinstance(key, int):
        return inner[key]
    return _fields(annotation).get(str(key), inner[-1] if inner else Any)


def _fields(annotation: Any) -> dict[str, Any]:
    """Return the types of a model's keys by name; none of anything else."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return {}
    return {f.alias or n: f.annotation for n, f in annotation.model_fields.items()}
