"""How the four scripts start: Hydra's command line, logging, and errors in one line.

What users may type goes beyond plain Hydra in three ways. Any `key=value` can be given on any
configuration file, also where the file does not name the key (an undeclared key is still refused,
by the schema). The groups `analysis` and `engine` are found from every primary file. An analysis
may be named by the path of its file: `analysis=/home/me/my_channel.yaml`; such a file may come from
anyone, and only describes (`configuration_files.py`). `key={}` empties a mapping, where any other
mapping is merged into what is there.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import io
import logging
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel
from yaml import YAMLError

from utils.schema import (
    PROJECT,
    AnalysisConfig,
    ConfigError,
    PipelineError,
    load,
    nearest,
    project_path,
    refuse_secrets,
    undeclared_keys,
)
from utils.system import interrupts
from utils.system.configuration_files import (
    check_growth,
    interpolated,
    own_analyses,
    read_analysis,
    read_yaml,
)
from utils.system.files import (
    check_addressable,
    discard_unfinished,
    scratch,
    system_message,
)
from utils.system.libraries.imports import spare_collections

log = logging.getLogger(__name__)

CONFIGS = PROJECT / "configs"
C = TypeVar("C", bound=BaseModel)
_HELP = {"--hydra-help", "--version"}


class ProjectConfigs(SearchPathPlugin):
    """Lets every primary file use the groups of the project's `configs` folder."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="project", path=f"file://{CONFIGS}")


@dataclass
class _Sweep:
    """What the runs of a multirun (`-m`) made so far, and the worst exit status among them."""

    made: list[str] = field(default_factory=list)
    status: int = 0


_TYPED: ContextVar[Sequence[str]] = ContextVar("typed", default=())


def typed_in(key: str) -> str | None:
    """Return the value that the user's command gives a key, as typed; None where it gives none."""
    values = [a.partition("=")[2] for a in _TYPED.get() if a.startswith(f"{key}=")]
    return values[-1] if values else None


def primary() -> list[str]:
    """Return the options by which the user's command names a primary file, as typed."""
    words, found = list(_TYPED.get()), []
    for i, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in ("--config-path", "-cp", "--config-name", "-cn"):
            found += [option, value or "".join(words[i + 1 : i + 2])]
    return found


_SWEEP: ContextVar[_Sweep | None] = ContextVar("sweep", default=None)


def run(
    main: Callable[[], None],
    model: type[BaseModel],
    primaries: str,
    default: str | None,
    ranked: Callable[[Sequence[str]], Sequence[str]] = lambda made: made,
) -> int:
    """Run a script's Hydra `main`, which takes the keys of `model`, and return its exit status.

    `primaries` is the folder of the script's own primary files, relative to `configs`, and
    `default` the one that is taken where none is named (None: one must be named). A mistake
    of the user ends as one line on standard error and status 1; anything else is a bug of ours and
    keeps its traceback. What was made goes to standard output, a line each (`call`); of a multirun
    (`-m`) at its end, in the order that `ranked` gives it. A run of a multirun that fails has its
    one line, and the others go on.
    """
    # OpenMP threads that spin while they wait starve each other on shared cores; the variable is
    # read when LightGBM or scikit-learn are first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    spare_collections()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, so that the one line can be ours
    Plugins.instance().register(ProjectConfigs)
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.stdout.write(help_text(sys.modules["__main__"].__doc__ or "", model, primaries))
        return 0
    interrupts.listen()
    atexit.register(discard_unfinished)  # of threads that end with this process
    faulthandler.enable(2)  # a library that crashes would end the process without a word
    logging.raiseExceptions = False  # a full disk is told of by the work, not by its log file
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the locale, what is said can be written
            stream.reconfigure(errors="backslashreplace")
    with _one_line_errors(), _composing(sys.argv[1:]):
        check_addressable(PROJECT, "this project's folder")
        _TYPED.set(tuple(sys.argv[1:]))
        sys.argv[1:] = command_line(sys.argv[1:], CONFIGS / primaries, default, model.model_fields)
        sweep = _Sweep() if _is_multirun(sys.argv[1:]) else None
        _SWEEP.set(sweep)
        main()
        if sweep is not None:
            _tell(ranked(sweep.made))
    return sweep.status if sweep else 0


def _tell(made: Iterable[str]) -> None:
    """Write what was made to standard output, which holds nothing else: for scripts that follow."""
    for line in made:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _is_multirun(arguments: Sequence[str]) -> bool:
    return bool({"-m", "--multirun"} & set(arguments))


@contextlib.contextmanager
def _composing(typed_in: list[str]) -> Iterator[None]:
    """Turn what Hydra can't compose of a command into a ConfigError that names the command.

    Hydra tells some mistakes by errors of Python's own. Errors of a stage pass.
    """
    try:
        yield
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        AssertionError,
        RecursionError,
    ) as error:
        frames = {frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)}
        if call.__code__ in frames:
            raise
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"no configuration can be composed of '{' '.join(typed_in)}': {said[0]}"
        ) from None


def help_text(about: str, model: type[BaseModel], primaries: str) -> str:
    """Return what `--help` prints: what the script does, its groups, and its keys with defaults."""
    lines = [about.strip(), "", "Groups (group=choice):"]
    own = sorted((CONFIGS / primaries).glob("*/")) if primaries else []
    described = [CONFIGS / "analysis"] if issubclass(model, AnalysisConfig) else []
    for folder in (*described, CONFIGS / "engine", *own):
        choices = sorted(p.stem for p in folder.glob("*.yaml"))
        if choices:
            lines.append(f"  {folder.name}: {', '.join(choices)}")
    lines += ["", "Keys (key=value) and their defaults, which configuration files change:"]
    for name, info in model.model_fields.items():
        default = "(must be given)" if info.is_required() else repr(info.get_default())
        lines.append(f"  {info.alias or name} = {default}")
    lines += ["", "Files: --config-name NAME.yaml [--config-path FOLDER]. More: --hydra-help", ""]
    return "\n".join(lines)


def call(stage: Callable[[C], Sequence[str]], cfg: DictConfig, model: type[C]) -> None:
    """Call a stage with the composed configuration as a typed `model`, and tell what it made.

    Errors end here, because Hydra would add lines of its own to them. Temporary files of libraries
    go where they are removed with ours, at the latest by the next command.
    """
    sweep = _SWEEP.get()
    if sweep is None:
        with _one_line_errors(), _own_temporary_files():
            _tell(_made_by(stage, cfg, model))
        return
    varied = _varied()
    log.info("--- %s", varied)
    try:
        with _one_line_errors(), _own_temporary_files():
            if "run_name" in model.model_fields:
                named = OmegaConf.select(cfg, "run_name")
                OmegaConf.update(
                    cfg, "run_name", f"{named}: {varied}" if named else varied, force_add=True
                )
            sweep.made += _made_by(stage, cfg, model)
    except SystemExit as failed:
        sweep.status = max(sweep.status, int(failed.code or 1))


@contextlib.contextmanager
def _own_temporary_files() -> Iterator[None]:
    with scratch() as temporary:
        before = tempfile.tempdir
        tempfile.tempdir = str(temporary)
        try:
            yield
        finally:
            tempfile.tempdir = before


def _made_by(stage: Callable[[C], Sequence[str]], cfg: DictConfig, model: type[C]) -> Sequence[str]:
    """Return what a stage made, or the job script where `engine.dry_run` asks for it instead."""
    _refuse_secrets(cfg)
    config = typed(resumed(cfg), model)
    engine = getattr(config, "engine", None)
    if engine is None or not engine.dry_run:
        return stage(config)
    from utils.system import clusters

    return clusters.job_script(engine).splitlines()


def resumed(cfg: DictConfig) -> DictConfig:
    """Return the keys that count where a run is resumed, which all others come from; else all."""
    if OmegaConf.is_missing(cfg, "resume") or not cfg.get("resume"):
        return cfg
    return OmegaConf.create({key: cfg[key] for key in ("resume", "force", "engine") if key in cfg})


def typed_keys() -> list[str]:
    """Return the keys that the command itself gives, in its own words; none outside a command."""
    if not HydraConfig.initialized():
        return []
    return [text.lstrip("+~").partition("=")[0] for text in HydraConfig.get().overrides.task]


def _varied() -> str:
    """Return what this run of a multirun has of its own, such as `max_depth=4 n_splits=3`."""
    hydra = HydraConfig.get()
    fixed = set(hydra.job.config.override_dirname.exclude_keys)
    given = (override.lstrip("+") for override in hydra.overrides.task)
    parts = (override.partition("=") for override in given)
    return " ".join(
        f"{key.removeprefix('model_param.')}={value.strip(chr(39))}"
        for key, _, value in parts
        if key not in fixed
    )


def _refuse_secrets(cfg: DictConfig) -> None:
    """Raise ConfigError for a URL with credentials; the copy that Hydra keeps of it goes, too."""
    try:
        refuse_secrets(*_texts(OmegaConf.to_container(cfg, resolve=False)))
    except ConfigError:
        if HydraConfig.initialized():
            kept = Path(HydraConfig.get().runtime.output_dir) / str(HydraConfig.get().output_subdir)
            shutil.rmtree(kept, ignore_errors=True)
        raise


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn a mistake of the user into one line on standard error and the exit status 1.

    What came of unwinding an interrupt, whatever error it is, is told as the interrupt.
    """
    try:
        yield
    except BaseException as error:
        number = interrupts.ended_by(error)
        if number is not None:
            interrupts.end(number)
        discard_unfinished()  # of threads that were at work on something else
        line = _explained(error)
        if line is None:
            raise
        raise SystemExit(fail(line)) from None


def _explained(error: BaseException) -> str | None:
    """Return the line that explains a mistake of the user; None for a bug of ours."""
    match error:
        case PipelineError():
            return str(error)
        case MissingConfigException():
            return _missing_config(error)
        case OverrideParseException():
            return (
                f"{str(error.override).lstrip('+')!r} can't be read: a text with signs or blanks "
                "needs quotes of its own inside the shell's: \"common_cut='pt_1 > 40'\""
            )
        case HydraException() | OmegaConfBaseException():
            return str(error)
        case YAMLError():
            return f"a configuration file is not YAML: {error}"
        case OSError() if error.errno is not None:
            return system_message(error)
        case MemoryError():
            return f"the memory of this machine does not suffice: {error}"
    return None


def fail(message: str, status: int = 1) -> int:
    """Write `message` as the one line that explains a failure, and return the exit status."""
    line = " ".join(message.split())
    sys.stderr.write(f"error: {line[:2000]}{' ...' if len(line) > 2000 else ''}\n")
    sys.stderr.flush()
    return status


def typed(cfg: DictConfig, model: type[C]) -> C:
    """Return the composed configuration `cfg` as a typed `model`.

    Raises ConfigError where a mandatory value is missing, an interpolation leads nowhere, a key is
    unknown or a value has the wrong type.
    """
    raw = OmegaConf.to_container(cfg, resolve=False)
    if not isinstance(raw, dict) or not raw:
        raise ConfigError("no configuration is named: add --config-name NAME.yaml")
    plain = {str(key): value for key, value in raw.items()}
    referred = set(interpolated(raw))
    undeclared_keys(model, plain, referred)
    for key, value in plain.items():
        if value == "???":
            raise ConfigError(f"{key} is not set: add {key}=... to the command")
    try:
        check_growth(plain)
        resolved = _emptied(OmegaConf.to_container(cfg, resolve=True))
    except RecursionError:
        raise ConfigError("the configuration refers from key to key too many times") from None
    return load(model, {str(k): v for k, v in resolved.items()}, referred)


_EMPTY = "<empty>"
"""Stands for `{}` while Hydra composes, which would merge it into what is there."""


def _emptied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _emptied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_emptied(item) for item in value]
    return {} if isinstance(value, str) and value == _EMPTY else value


def command_line(
    arguments: list[str], primaries: Path, default: str | None, keys: Iterable[str] = ()
) -> list[str]:
    """Return what the user typed in the form Hydra takes.

    Where `analysis_file` is one of the script's own `keys`, `analysis` is short for it: a file that
    is not composed.

    Raises ConfigError where a primary file must be named and none is, an analysis file is not
    there, or a key has no value.
    """
    refuse_secrets(*arguments)  # Hydra keeps what was typed
    named = _option(arguments, "--config-name", "-cn") or default
    if named is None and not _HELP & set(arguments):
        names = " or ".join(sorted(p.name for p in primaries.glob("*.yaml")))
        raise ConfigError(f"no configuration is named: add --config-name {names}")
    primary = _primary_file(arguments, primaries, named)
    folders = [CONFIGS, primaries, *([primary.parent] if primary else [])]
    groups = {
        p.name for folder in folders if folder.is_dir() for p in folder.iterdir() if p.is_dir()
    }
    if "analysis_file" in keys:
        arguments = [re.sub(r"^analysis=", "analysis_file=", a) for a in arguments]
    declared = _groups_in_defaults(primary)
    empty = [a for a in arguments if a.endswith("=") and not a.startswith("-")]
    if empty and "MLFLOW_RUN_ID" not in os.environ:
        raise ConfigError(f"'{empty[0]}' has no value: leave it out, or write {empty[0]}null")
    # `key=` is how MLproject says "not given": what is configured stands.
    arguments = [a for a in arguments if a not in empty]
    options, arguments = _options(arguments)
    rewritten = [*options, *(_override(a, groups, declared) for a in arguments)]
    given = {a.split("=", 1)[0] for a in arguments}
    stamp = "${now:%Y-%m-%d_%H-%M-%S}" + f"_{os.getpid()}"
    defaults = {
        "hydra/job_logging": "pipeline",
        "hydra/hydra_logging": "pipeline",
        "hydra.run.dir": f"'{PROJECT}/outputs/${{hydra.job.name}}/{stamp}'",
        "hydra.sweep.dir": f"'{PROJECT}/outputs/${{hydra.job.name}}/{stamp}'",
    }
    if _HELP & set(arguments):
        return rewritten
    if _is_multirun(options):
        fixed = _fixed(rewritten[len(options) :])
        defaults["hydra.job.config.override_dirname.exclude_keys"] = f"[{','.join(fixed)}]"
    return rewritten + [f"{k}={v}" for k, v in defaults.items() if k not in given]


def _fixed(overrides: Sequence[str]) -> list[str]:
    """Return the keys that have one value in all runs of a multirun."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [o.key_or_group for o in parsed if not o.is_sweep_override()]


def _override(argument: str, groups: set[str], declared: set[str]) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key[:1] in "-+~" or key.split(".")[0].split("/")[0] == "hydra":
        return argument
    if key == "analysis" and value.endswith((".yaml", ".yml")):
        value = _register_analysis(Path(value))
        argument = f"{key}={value}"
    if key in groups:
        if re.fullmatch(r"[\w.+-]+", value):
            argument = f"{key}='{value}'"  # a choice is a text, also one named 2018 or null
        return argument if key in declared else f"+{argument}"
    if not re.fullmatch(r"[\w.$/@-]+", key):
        return argument
    if re.fullmatch(r"\{\s*\}", value):
        return f"++{key}='{_EMPTY}'"
    if key in ("run_id", "experiment_id", "resume") and re.fullmatch(r"\w+", value):
        # Hydra would make a number of digits around one 'e', and drop zeros.
        return f"++{key}='{value}'"
    return f"++{argument}"


def _register_analysis(path: Path) -> str:
    """Make the analysis file at `path` a choice of the group `analysis`, and return its name."""
    path = project_path(path)
    if not path.is_file():
        raise ConfigError(f"there is no analysis file {path}")
    own = own_analyses()
    if path.stem in own and own[path.stem].samefile(path):
        return path.stem
    content = read_analysis(path, own)
    # A name that Hydra takes for nothing else, whatever that of the file.
    name = "given_" + re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    ConfigStore.instance().store(group="analysis", name=name, node=content, package="_global_")
    return name


def _primary_file(arguments: list[str], primaries: Path, name: str | None) -> Path | None:
    folder = _option(arguments, "--config-path", "-cp")
    if folder:
        primaries = PROJECT / folder
    if not name:
        return None
    path = primaries / (name if name.endswith(".yaml") else f"{name}.yaml")
    return path if path.is_file() else None


_OPTIONS = {
    **dict.fromkeys(("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd"), 1),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--experimental-rerun"), 1),
    **dict.fromkeys(
        ("--hydra-help", "--version", "--resolve", "-r", "--run", "--multirun", "-m"), 0
    ),
    **dict.fromkeys(("--info", "-i", "--shell-completion", "-sc"), 0),
}
"""Hydra's options, and how many values each takes."""


def _options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return options with their values, and the overrides, which Hydra takes behind them only.

    Raises ConfigError for an option that Hydra does not have or that lacks its value.
    """
    options, others = [], []
    left = iter(arguments)
    for argument in left:
        name, equals, _ = argument.partition("=")
        if not name.startswith("-"):
            others.append(argument)
            continue
        if name not in _OPTIONS:
            raise ConfigError(f"there is no option {name}; {nearest(name, _OPTIONS)}")
        options.append(argument)
        if _OPTIONS[name] and not equals:
            value = next(left, None)
            if value is None:
                raise ConfigError(f"the option {name} has no value")
            options.append(value)
    return options, others


def _option(arguments: list[str], *names: str) -> str | None:
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in names:
            if equals:
                return value
            return arguments[position + 1] if position + 1 < len(arguments) else None
    return None


def _groups_in_defaults(primary: Path | None) -> set[str]:
    """Return the groups that a primary file's defaults list names."""
    if primary is None:
        return set()
    entries: Iterable[Any] = read_yaml(primary).get("defaults") or []
    return {
        re.sub(r"^(optional |override )?/?", "", str(key)).split("@")[0]
        for entry in entries
        if isinstance(entry, DictConfig)
        for key in entry
    }


def _missing_config(error: MissingConfigException) -> str:
    wanted = str(error.missing_cfg_file or "").removesuffix(".yaml")
    if error.options is not None:
        return f"there is no '{wanted}'; {nearest(wanted.split('/')[-1], error.options)}"
    folder = _option(sys.argv[1:], "--config-path", "-cp")
    places = [PROJECT / folder] if folder else list(CONFIGS.rglob("*.yaml"))
    names = {
        p.stem for place in places for p in ([place] if place.is_file() else place.glob("*.yaml"))
    }
    place = f" in {folder}" if folder else ""
    return f"there is no configuration '{wanted}'{place}; {nearest(wanted, names)}"
