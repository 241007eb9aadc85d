"""From what Hydra composed to a typed object, or one line that says what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from utils.schema.basics import ConfigError, nearest

C = TypeVar("C", bound=BaseModel)


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
    path = [str(p) for p in first["loc"] if not _is_union_tag(p)]
    where = ".".join(filter(None, [prefix, *path]))
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        return f"unknown key '{where}'; {nearest(path[-1], known)}"
    if first["type"] == "missing":
        return f"{where} is not set and has no default: add {where}=..."
    given = json.dumps(first["input"], default=str)
    given = given if len(given) < 80 else given[:77] + "..."
    return f"{where}: {first['msg']}, got {given}"


def _is_union_tag(part: int | str) -> bool:
    return isinstance(part, str) and bool(re.fullmatch(_TAG, part))


# pydantic names the member of a union between the keys: of a user's own names none looks like it.
_TAG = (
    r"float|int|str|list|dict|bool|(literal|list|dict|tuple|function-\w+|constrained-\w+)\[.*\]"
    r"|MissingConfig"
)


def _keys_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys declared where `path` leads from `model`."""
    for part in path:
        names = {f.alias or n: f for n, f in model.model_fields.items()}
        if part in names:
            inner = list(_models_in(names[part].annotation))
            if not inner:
                return []
            model = inner[0]
    return [f.alias or n for n, f in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
