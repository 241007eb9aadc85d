"""The house: floors import downwards only, in no circle, libraries have one home, tests mirror it.

The picture and its reasons are in docs/architecture.md.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from utils.schema import PROJECT

FLOORS = (
    "schema",  # what users may write, and the types that travel between stages
    "system",  # files, threads, engines, how a program starts, libraries imported late
    "columns",  # numpy on columns: opens no file
    "formats",  # one module a file format: knows no physics
    "models",  # one module a kind of model, and fold-routed scores
    "results",  # named results, and what people look at
    "stages",  # one folder a script
)
"""From the ground up: each may import those before it."""

STAGES = ("preprocessing", "training", "prediction", "evaluation", "notebook")
"""Folders of `stages` in order: each may use those before it (predicting reads ntuples)."""

SCRIPTS = ("preprocess.py", "train.py", "predict.py", "evaluate.py")

ENTRY_ONLY = "utils.system.program"
"""What only scripts and commands may import: how a program starts."""

HOMES = {
    "mlflow": "formats/runs.py",
    "tables": "formats/skims.py",
    "h5py": "formats/skims.py",
    "lightgbm": "system/libraries/boosters.py",
    "numba": "system/libraries/jit.py",
    "uproot": "system/libraries/rootfiles.py",
    "xxhash": "formats/ntuples/",
    "dask": "system/clusters/",
    "distributed": "system/clusters/",
    "dask_jobqueue": "system/clusters/",
    "cloudpickle": "system/clusters/",
    "fsspec": "system/remote.py",
    "aiohttp": "system/remote.py",
    "joblib": "system/engine.py",
    "tqdm": "system/engine.py",
    "hydra": "system/program.py",
    "plotly": "results/",
    "kaleido": "results/report/",
    "boost_histogram": "results/histograms.py",
    "pydantic": "schema/",
}
"""Libraries that one place imports."""

ALSO = {
    "pydantic": ("system/program.py",),  # the base class of every configuration
    "hydra": SCRIPTS,
}
"""Who else may."""

KINDS = ("lightgbm", "boosting", "booster", "forest", "mlp", "perceptron")
"""Words that tell one kind of model from another."""

KNOW_KINDS = ("models/", "schema/", "system/libraries/", "formats/runs.py")
"""Who may use them: the kinds, the default, the library's home, and MLflow's own way to log."""

ABOVE_THE_FLOORS = {
    "test_kills.py": "what a killed command leaves, and the next one makes of it",
    "test_architecture.py": "the floors themselves",
    "test_bad_inputs.py": "damaged files of other groups, through every reader",
    "test_chain.py": "all stages, as users run them",
    "test_chain_mlp.py": "all stages, with the other kind of model",
    "test_daily_use.py": "choosing among runs and notebooks, on one small channel",
    "test_configs.py": "the files in configs/",
    "test_earlier_version.py": "what earlier versions wrote, in every script",
    "test_engines.py": "all stages, on every engine",
    "test_flat_files.py": "all stages, with the files that groups have",
    "test_walk_through.py": "all stages, as the page on new analyses has its reader type them",
    "test_variations.py": "all stages, under variations",
    "test_foreign_files.py": "runs and analyses from elsewhere, in every script",
    "test_group_files.py": "all stages, with files composed as groups compose them",
    "test_labelled_set.py": "all stages, with a labelled set of one's own",
    "test_full_disks.py": "all stages, on a disk that is full",
    "test_house.py": "environments, documents and what is tracked",
    "test_listening.py": "what a command with an engine listens to",
    "test_lost_store.py": "a training whose tracking server goes away, and what resume delivers",
    "test_mlflow_ui.py": "a run in MLflow's own pages",
    "test_open_data.py": "all stages, on open data",
    "test_other_channel.py": "all stages, in another channel",
    "test_slurm.py": "jobs that do not run, in a script",
    "test_readme.py": "what the documents show",
    "test_remote_inputs.py": "all stages, with inputs on servers",
}
"""Flat test files that are about no command, and what they are about."""

NAMED_OTHERWISE = {
    "formats/ntuples/test_damage.py": "changed bytes, through every reader of the package",
    "formats/ntuples/test_servers.py": "inputs on servers, through every reader of the package",
    "formats/test_skims_untrusted.py": "what a skim from elsewhere may try",
    "system/test_heartbeat.py": "signs of life, of whatever a process holds",
    "system/test_private_parts.py": "what any module uses of a library's private parts",
    "formats/test_histograms_oracle.py": "published histograms, from what ntuples/ reads",
    "results/test_two_classes.py": "a binary problem, through metrics and figures",
    "formats/test_root_readers.py": "ROOT itself reads friends and rewrites what is proved",
}
"""Test files on a floor that are about no one module, and why they are there."""

NO_TESTS = {"__pycache__", "fixtures", "flat", "golden", "groups"}
"""Folders of `tests` that hold data."""

TYPE_MAKERS = {"NDArray", "dict", "Mapping", "Callable", "Sequence", "Iterator", "Literal", "tuple"}


@dataclass(frozen=True)
class Import:
    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line} imports {self.module}"


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(), str(path))))


def imports_of(path: Path) -> Iterator[Import]:
    """Yield every module that a file imports, also inside functions; `from a import b` as a.b."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield Import(path, node.lineno, f"{node.module}.{alias.name}")


def sources(utils: Path) -> list[Path]:
    return sorted(utils.rglob("*.py"))


def floor_of(parts: tuple[str, ...]) -> str | None:
    """Return the floor of a module by the parts of its name below `utils`; None: a command."""
    return parts[0] if parts and parts[0] in FLOORS else None


def upward_imports(utils: Path) -> list[str]:
    """Return a complaint for each import of a floor above, a later stage, or a command."""
    found = []
    for path in sources(utils):
        here = path.relative_to(utils).with_suffix("").parts
        mine = floor_of(here)
        for item in imports_of(path):
            top, *there = item.module.split(".")
            if top != "utils" or mine is None:
                continue
            its = floor_of(tuple(there))
            if its is None:
                found.append(f"{item}: {mine} -> command {there[0] if there else 'utils'}")
            elif FLOORS.index(its) > FLOORS.index(mine):
                found.append(f"{item}: {mine} -> {its} goes up")
            elif mine == its == "stages" and len(here) > 1 and len(there) > 1:
                order = [STAGES.index(name) for name in (here[1], there[1])]
                if order[1] > order[0]:
                    found.append(f"{item}: {here[1]} -> {there[1]}, a later stage")
            if item.module.startswith(ENTRY_ONLY) and "program" not in here:
                found.append(f"{item}: only scripts and commands start programs")
    return found


def circles(utils: Path) -> list[str]:
    """Return the circles of imports between files, also of those inside functions."""
    names = {}
    for path in sources(utils):
        parts = path.relative_to(utils.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    arrows = {
        name: {
            found
            for item in imports_of(path)
            if (found := _longest(item.module, names)) and found != name
        }
        # A package's own names are no arrow to it: importing it is importing what it hands out.
        for name, path in names.items()
    }
    found, done = [], set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            found.append(" -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for target in sorted(arrows[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in arrows:
        visit(name, ())
    return found


def _longest(module: str, known: Iterable[str]) -> str | None:
    parts = module.split(".")
    while parts:
        if ".".join(parts) in known:
            return ".".join(parts)
        parts.pop()
    return None


def prints(folder: Path) -> list[str]:
    return [
        f"{path.name}:{node.lineno} prints: log it, or write a result to sys.stdout"
        for path in sources(folder)
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "pprint")
    ]


def imports_elsewhere(files: Iterable[Path], utils: Path) -> list[str]:
    """Return a complaint for each library that is imported outside its home."""
    found = []
    for path in files:
        inside = path.is_relative_to(utils)
        place = str(path.relative_to(utils)) if inside else path.name
        for item in imports_of(path):
            library = item.module.split(".")[0]
            allowed = (HOMES.get(library, ""), *ALSO.get(library, ()))
            if library in HOMES and not place.startswith(allowed):
                found.append(f"{item}: this belongs in {HOMES[library]}")
    return found


def synonyms(utils: Path) -> list[str]:
    """Return a complaint for each name of a type that is defined twice, and each second name."""
    by_name: dict[str, str] = {}
    by_type: dict[str, str] = {}
    found = []
    for path in sources(utils):
        for node in ast.parse(path.read_text()).body:
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)):
                continue
            maker = ast.unparse(node.value.value).split(".")[-1]
            [target] = node.targets
            if maker not in TYPE_MAKERS or not isinstance(target, ast.Name):
                continue
            where, means = f"{path.name}:{node.lineno}", ast.unparse(node.value)
            first = by_name.setdefault(target.id, where)
            if first != where:
                found.append(f"{where} defines {target.id}, as {first} does")
            other = by_type.setdefault(means, target.id)
            if other != target.id:
                found.append(f"{where} defines {target.id}, which is {other}")
    return found


def kinds_named(files: Iterable[Path], utils: Path) -> list[str]:
    """Return a complaint for each name and text of code that tells a kind of model from another."""
    found = []
    for path in files:
        if path.is_relative_to(utils) and str(path.relative_to(utils)).startswith(KNOW_KINDS):
            continue
        for node in nodes(path):
            words = set(_words(node))
            found += [
                f"{path.name}:{getattr(node, 'lineno', 0)} says {kind}: let the kind say it"
                for kind in KINDS
                if words & {kind, f"{kind}s"}
            ]
    return found


def _words(node: ast.AST) -> Iterator[str]:
    """Yield the words, in small letters, of what a node names or says; comments are no nodes."""
    texts: list[str | None] = []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        texts = [node.value]
    elif isinstance(node, ast.ImportFrom):
        texts = [node.module]
    else:  # each kind of node keeps the name it gives or uses in one of these
        texts = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname")]
    for text in texts:
        if isinstance(text, str):
            yield from re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", text).lower())


def unmirrored(tests: Path, utils: Path) -> list[str]:
    """Return a complaint for each test file that is not named after a module, in its folder."""
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        place = path.relative_to(tests)
        if NO_TESTS & set(place.parts):
            continue
        module = utils / place.with_name(place.stem.removeprefix("test_"))
        exists = module.is_dir() or module.with_suffix(".py").is_file()
        listed = ABOVE_THE_FLOORS if len(place.parts) == 1 else NAMED_OTHERWISE
        if exists == (str(place) in listed):
            wrong = "is named after a module" if exists else f"tests no {module.relative_to(utils)}"
            found.append(f"{place} {wrong}")
    return found


def scripts() -> list[Path]:
    return [PROJECT / name for name in SCRIPTS]


UTILS = PROJECT / "utils"


def test_floors_import_downwards_only() -> None:
    assert upward_imports(UTILS) == []


def test_imports_have_no_circle() -> None:
    assert circles(UTILS) == []


def test_every_folder_is_a_floor_or_a_command() -> None:
    folders = {p.name for p in UTILS.iterdir() if p.is_dir() and p.name != "__pycache__"}
    commands = {name for name in folders if (UTILS / name / "__main__.py").is_file()}
    assert folders - commands == set(FLOORS)
    stages = {p.name for p in (UTILS / "stages").iterdir() if p.is_dir()} - {"__pycache__"}
    assert stages == set(STAGES)


def test_every_flat_file_is_a_command() -> None:
    flat = [p for p in UTILS.glob("*.py") if p.name != "__init__.py"]
    assert [p.name for p in flat if 'if __name__ == "__main__":' not in p.read_text()] == []


def test_no_print_in_utils() -> None:
    assert prints(UTILS) == []


def test_libraries_have_one_home() -> None:
    assert imports_elsewhere([*sources(UTILS), *scripts()], UTILS) == []


OPENERS = {"pathlib", "io", "os", "shutil", "tempfile", "h5py", "pyarrow"}
"""What opens files."""


def files_opened(folder: Path) -> list[str]:
    """Return a complaint for each import of what opens files, and each `open`."""
    found = [
        f"{item}: columns open no file"
        for path in sources(folder)
        for item in imports_of(path)
        if item.module.split(".")[0] in OPENERS
    ]
    return found + [
        f"{path.name}:{node.lineno} opens a file"
        for path in sources(folder)
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]


def test_columns_open_no_file() -> None:
    assert files_opened(UTILS / "columns") == []


def test_a_type_has_one_name() -> None:
    assert synonyms(UTILS) == []


def handed_out(package: Path) -> set[str]:
    """Return what a package says that it hands out: `__all__`, and its modules."""
    names = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    for node in ast.parse((package / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names |= set(ast.literal_eval(node.value))
    return names


def taken_unsaid(utils: Path, files: Iterable[Path]) -> list[str]:
    """Return a complaint for each name that is taken from a package which does not list it."""
    found = []
    for path in files:
        for node in nodes(path):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("utils."):
                continue
            package = utils.joinpath(*str(node.module).split(".")[1:])
            if (package / "__init__.py").is_file():
                missing = {alias.name for alias in node.names} - handed_out(package)
                found += [f"{path.name}:{node.lineno} takes {n} of {node.module}" for n in missing]
    return found


def test_packages_hand_out_what_they_say() -> None:
    assert taken_unsaid(UTILS, [*sources(UTILS), *scripts()]) == []


def test_kinds_of_models_are_known_to_models_only() -> None:
    assert kinds_named([*sources(UTILS), *scripts()], UTILS) == []


def test_utils_never_imports_a_script() -> None:
    stems = {name.removesuffix(".py") for name in SCRIPTS}
    found = [
        str(item)
        for path in sources(UTILS)
        for item in imports_of(path)
        if item.module.split(".")[0] in stems
    ]
    assert found == []


def test_tests_mirror_the_floors() -> None:
    assert unmirrored(PROJECT / "tests", UTILS) == []
    folders = {p.name for p in (PROJECT / "tests").iterdir() if p.is_dir()} - NO_TESTS
    assert folders <= set(FLOORS)
    gone = [n for n in ABOVE_THE_FLOORS | NAMED_OTHERWISE if not (PROJECT / "tests" / n).is_file()]
    assert gone == []


def test_scripts_are_short() -> None:
    for path in scripts():
        lines = path.read_text().splitlines()
        assert len(lines) <= 120, f"{path.name} has {len(lines)} lines: move steps into a module"


# --- the checks themselves fail when they should -------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("columns/folds.py", "from utils.formats import runs\n", "columns -> formats goes up"),
        ("columns/a.py", "def f():\n    import utils.stages.training\n", "goes up"),
        ("formats/a.py", "from utils import proof\n", "formats -> command proof"),
        ("models/a.py", "from utils.system.program import fail\n", "start programs"),
        (
            "stages/preprocessing/a.py",
            "from utils.stages.training import fitting\n",
            "preprocessing -> training, a later stage",
        ),
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    [found] = upward_imports(tmp_path)
    assert complaint in found


def test_a_command_may_import_all_and_start_a_program(tmp_path: Path) -> None:
    (tmp_path / "proof.py").write_text(
        "from utils.stages import prediction\nfrom utils.system.program import fail\n"
    )
    assert upward_imports(tmp_path) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "utils" / "columns"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("from utils.columns.b import x\n")
    (folder / "b.py").write_text("def f():\n    from utils.columns import a\n")
    [found] = circles(tmp_path / "utils")
    assert found == "utils.columns.a -> utils.columns.b -> utils.columns.a"


def test_print_and_mlflow_are_found(tmp_path: Path) -> None:
    path = tmp_path / "weights.py"
    path.write_text("def f():\n    from mlflow.tracking import MlflowClient\n    print(1)\n")
    assert len(prints(tmp_path)) == 1
    assert len(imports_elsewhere([path], tmp_path)) == 1


def test_an_opened_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "values.py").write_text("from pathlib import Path\nx = open('y')\n")
    assert len(files_opened(tmp_path)) == 2


def test_a_second_name_and_a_second_definition_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("Array = NDArray[Any]\nColumns = dict[str, Array]\n")
    (tmp_path / "b.py").write_text("Values = NDArray[Any]\nColumns = Mapping[str, Array]\n")
    assert sorted(text.split(" ", 1)[1] for text in synonyms(tmp_path)) == [
        "defines Columns, as a.py:2 does",
        "defines Values, which is Array",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "from utils.models import mlp\n",
        "from utils.models.boosting import settings\n",
        "import utils.models.forest.kernels\n",
        "def train_boosters(): ...\n",
        "class FoldForest: ...\n",
        "def f(mlp_text): ...\n",
        "f(lightgbm=1)\n",
        "a.forests\n",
        "x = f'{y} LightGBM parameters'\n",
        "if recipe.model_kind == 'mlp': ...\n",
    ],
)
def test_a_kind_that_is_named_elsewhere_is_found(tmp_path: Path, text: str) -> None:
    for name in ("stages/a.py", "models/a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# LightGBM in a comment\ncolour = 'forestgreen'\n{text}")
    [found] = kinds_named(sources(tmp_path), tmp_path)
    assert found.startswith("a.py:3 says ")


def test_a_name_that_a_package_does_not_list_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "__init__.py").write_text('__all__ = ["a"]\n')
    user = tmp_path / "user.py"
    user.write_text("from utils.results import a, b\n")
    assert taken_unsaid(tmp_path, [user]) == ["user.py:1 takes b of utils.results"]


def test_a_test_file_that_mirrors_nothing_is_found(tmp_path: Path) -> None:
    tests, utils = tmp_path / "tests" / "columns", tmp_path / "utils" / "columns"
    for folder in (tests, utils / "folds"):
        folder.mkdir(parents=True)
    (utils / "weights.py").touch()
    for name in ("test_folds.py", "test_weights.py", "test_wieghts.py", "weights.py"):
        (tests / name).touch()
    (tests.parent / "test_chain.py").touch()
    (tests.parent / "test_weights.py").touch()
    assert unmirrored(tests.parent, utils.parent) == [
        "columns/test_wieghts.py tests no columns/wieghts",
        "test_weights.py tests no weights",
    ]


def without_encoding(utils: Path) -> list[str]:
    """Return a complaint for each text that is read or written in the encoding of the locale."""
    found = []
    for path in sources(utils):
        for node in nodes(path):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            binary = any(isinstance(t, str) and "b" in t and len(t) < 4 for t in texts)
            opens = name == "open" and bool(set(texts) & {"r", "w", "a", "x"} or not texts)
            said = {keyword.arg for keyword in node.keywords}
            if (name in ("read_text", "write_text") or (opens and "newline" in said)) and not (
                binary or "encoding" in said
            ):
                found.append(f"{path.name}:{node.lineno} {name} without an encoding")
    return found


def test_texts_have_an_encoding() -> None:
    """Whatever the locale: in some batch systems it is that of 1963."""
    assert without_encoding(UTILS) == []


def test_a_text_without_an_encoding_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("p.read_text()\np.write_text(x)\np.open('w', newline='')\n")
    assert len(without_encoding(tmp_path)) == 3
