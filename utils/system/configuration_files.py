"""Configuration files as they are read: bounded, and where they come from elsewhere, checked.

A file that `analysis=FILE` names describes a channel and does nothing: it holds declared keys,
helper keys that an interpolation uses, and interpolations of keys and `oc.select`. Files in
`configs/` and primaries that `--config-path` names are the user's own, with all that Hydra can do.
No file, whoever wrote it, may take gigabytes to read: nesting, aliases and interpolations are
counted first.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from utils.schema import (
    PROJECT,
    AnalysisConfig,
    ConfigError,
    PreprocessConfig,
    TrainConfig,
    nearest,
    project_path,
)

MAX_BYTES = 1_000_000
MAX_DEPTH = 60
MAX_NODES = 100_000
MAX_TEXT = 10_000_000
"""What no configuration of an analysis comes near: it would be a mistake, or meant to harm."""


def read_yaml(path: Path) -> DictConfig:
    """Return the content of a configuration file, its interpolations unresolved.

    Raises ConfigError, naming the file, where it is no YAML mapping in UTF-8 or grows too large.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 (byte {error.start}): save it with that encoding"
        ) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path} has more than {MAX_BYTES} bytes: it is no configuration")
    try:
        _check_nesting(text, path)
        found = OmegaConf.load(io.StringIO(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    if not isinstance(found, DictConfig):
        raise ConfigError(f"{path} holds no keys: write 'key: value' lines")
    return found


def read_analysis(path: Path, own: Iterable[str]) -> DictConfig:
    """Return the content of an analysis file from anywhere, which does nothing but describe.

    `own` are the names of the project's analyses, which its defaults list may name. Raises
    ConfigError for anything else than declared keys, helper keys that an interpolation uses, and
    interpolations of keys and `oc.select`.
    """
    found = read_yaml(path)
    plain = OmegaConf.to_container(found, resolve=False)
    assert isinstance(plain, dict)
    declared = {
        info.alias or name
        for model in (AnalysisConfig, PreprocessConfig, TrainConfig)
        for name, info in model.model_fields.items()
    }
    helpers = set(interpolated(plain)) - {"hydra", "defaults"}
    for key in plain:
        if key == "defaults":
            _check_defaults(plain[key], path, own)
        elif key not in declared | helpers:
            raise ConfigError(f"{path}: unknown key '{key!s}'; {nearest(str(key), declared)}")
    for text in _texts(plain):
        for resolver in _resolvers(text):
            if resolver != "oc.select":
                raise ConfigError(
                    f"{path}: '{text[:80]}' calls {resolver or 'a function'}: an analysis file may "
                    "refer to keys, as in ${year}, and to ${oc.select:...}, nothing else"
                )
    if _sends_away(plain.get("engine")):
        raise ConfigError(
            f"{path}: engine sends work to other machines, which the command says: engine=dask ..."
        )
    return found


def own_analyses() -> dict[str, Path]:
    """Return the project's own analysis files by their names."""
    return {path.stem: path for path in (PROJECT / "configs" / "analysis").glob("*.yaml")}


def analysis_keys(named: str, wanted: Iterable[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `wanted` keys that an analysis has, resolved: a file, or one of the project's.

    `given` are values of its other keys, which interpolations find. Raises ConfigError as
    `read_analysis`, and where an interpolation leads nowhere.
    """
    own = own_analyses()
    path = own.get(named) or project_path(named)
    if not path.is_file():
        raise ConfigError(f"there is no analysis file {path}; {nearest(named, own)}")
    content = read_analysis(path, own)
    defaults = content.pop("defaults", None) or []
    parts = [own[entry] for entry in defaults if entry != "_self_"]
    whole = OmegaConf.merge(*(read_yaml(part) for part in parts), content, dict(given))
    plain = OmegaConf.to_container(whole, resolve=False)
    assert isinstance(plain, dict)
    try:
        check_growth({str(key): value for key, value in plain.items()})
        found = {key: OmegaConf.select(whole, key) for key in wanted if key in plain}
        return {
            key: OmegaConf.to_container(value, resolve=True)
            if OmegaConf.is_config(value)
            else value
            for key, value in found.items()
        }
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None


def _sends_away(engine: Any) -> bool:
    """Tell whether an `engine` is, or could become, another than this machine's."""
    if isinstance(engine, dict):
        return bool({*map(str, engine)} - {"kind", "n_workers"}) or _sends_away(engine.get("kind"))
    return engine not in (None, "local", "serial")


def _check_defaults(entries: Any, path: Path, own: Iterable[str]) -> None:
    """Raise ConfigError unless a defaults list names analyses of the project only."""
    for entry in entries if isinstance(entries, list) else [entries]:
        if entry != "_self_" and entry not in own:
            raise ConfigError(
                f"{path}: defaults may name analyses of this project and _self_, not '{entry}'; "
                f"{nearest(str(entry), own)}"
            )


def _check_nesting(text: str, path: Path) -> None:
    """Raise ConfigError for nesting and aliases that no configuration needs."""
    depth, aliases = 0, False
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        aliases = aliases or isinstance(event, yaml.AliasEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ConfigError(f"{path} is nested deeper than {MAX_DEPTH} levels")
    if aliases:
        sizes: dict[int, int] = {}
        if _n_nodes(yaml.compose(text, Loader=yaml.SafeLoader), sizes, path) > MAX_NODES:
            raise ConfigError(
                f"{path} has more than {MAX_NODES} values once its aliases are filled in"
            )


def _n_nodes(node: Any, sizes: dict[int, int], path: Path) -> int:
    """Return the number of values of a node with its aliases filled in."""
    if id(node) not in sizes:
        sizes[id(node)] = -1
        children: list[Any] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        sizes[id(node)] = 1 + sum(_n_nodes(child, sizes, path) for child in children)
    if sizes[id(node)] < 0:
        raise ConfigError(f"{path} has an alias that contains itself")
    return sizes[id(node)]


# --- interpolations ------------------------------------------------------------------------------


def interpolated(value: Any) -> Iterator[str]:
    """Yield the top-level names that `${...}` refers to anywhere inside `value`."""
    for text in _texts(value):
        yield from re.findall(r"\$\{\s*(?:oc\.select:\s*)?([A-Za-z_]\w*)", text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _resolvers(text: str) -> Iterator[str]:
    """Yield the names of the functions that the interpolations of a text call.

    A name that an interpolation makes, and one that does not end, is given as an empty text.
    """
    for found in re.finditer(r"\$\{", text):
        depth, made = 0, False
        for position in range(found.end(), len(text)):
            character = text[position]
            if depth == 0 and character in ":}":
                if character == ":":
                    yield "" if made else text[found.end() : position].strip()
                break
            depth += (character == "{") - (character == "}")
            made = made or depth > 0
        else:
            yield ""


def check_growth(plain: Mapping[str, Any]) -> None:
    """Raise ConfigError where interpolations would make texts or tables that fill the memory.

    `plain` is unresolved. The size of what is referred to is counted, each reference once more.
    """
    if _Sizes(plain).of(plain, ()) > MAX_TEXT:
        raise ConfigError(
            f"interpolations make more than {MAX_TEXT} characters of this configuration: "
            "a key refers to keys that refer to others, many times over"
        )


class _Sizes:
    """Sizes of values with interpolations filled in, as an upper bound.

    A plain circle counts as nothing: resolving refuses it. Where another interpolation makes the
    name, what it leads to is not known: any part of the table, so it may not be a part of that.
    """

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self._plain = plain
        self._known: dict[tuple[Any, ...], int | None] = {}

    def of(self, value: Any, path: tuple[Any, ...], made: bool = False) -> int:
        if path not in self._known:
            self._known[path] = None
            self._known[path] = self._sum(value, path)
        known = self._known[path]
        if known is None and made:
            raise ConfigError(
                f"an interpolation in {'.'.join(map(str, path)) or 'the configuration'} makes the "
                "name of a key there: it may only look up a key of another table"
            )
        return known or 0

    def _sum(self, value: Any, path: tuple[Any, ...]) -> int:
        if isinstance(value, dict):
            parts = [len(str(k)) + self.of(item, (*path, k)) for k, item in value.items()]
            return 1 + sum(parts)
        if isinstance(value, list):
            return 1 + sum(self.of(item, (*path, i)) for i, item in enumerate(value))
        if not isinstance(value, str):
            return 1
        size = len(value)
        if "${" in value:
            for keys, made in _references(value, path):
                size += self.of(*self._at(keys), made)
        return min(size, 100 * MAX_TEXT)

    def _at(self, keys: Sequence[str]) -> tuple[Any, tuple[Any, ...]]:
        """Return the value that keys lead to, as far as they are known."""
        value: Any = self._plain
        path: tuple[Any, ...] = ()
        for key in keys:
            names: dict[str, Any] = {}
            if isinstance(value, dict):
                names = {str(k): k for k in value}
            elif isinstance(value, list):
                names = {str(i): i for i in range(len(value))}
            if key not in names:
                break
            path = (*path, names[key])
            value = value[names[key]]
        return value, path


def _references(text: str, path: tuple[Any, ...]) -> Iterator[tuple[list[str], bool]]:
    """Yield the keys, from the top, that the interpolations of a text at `path` refer to.

    With each whether another interpolation makes the rest of it.
    """
    for found in re.finditer(r"\$\{\s*(?:oc\.select:\s*['\"]?)?([\w.\[\]-]*)(\$\{)?", text):
        named, made = found.group(1), found.group(2) is not None
        keys = [k for k in re.split(r"[.\[\]]", named) if k]
        up = len(named) - len(named.lstrip("."))
        yield ([*map(str, path[: len(path) - up]), *keys] if up else keys), made
