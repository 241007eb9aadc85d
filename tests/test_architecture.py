"""The imports of `utils` stay a star, prints stay out, and some libraries have one home."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from utils.schema import PROJECT

SCRIPTS = ("preprocess.py", "train.py", "predict.py", "evaluate.py")

FREE = {"schema", "files", "threads", "imports", "boosters", "jit", "rootfiles"}
"""What every module may import: shared types, files that are complete or absent, and libraries
without what they would import for others."""

ENTRY_ONLY = {"program"}
"""What only scripts and `python -m` entries may import: how a program starts."""

ARROWS = {
    "ntuples": {"expressions"},
    "training": {"folds"},
    "identities": {"folds"},
    "inference": {"folds", "forest"},
    "plotting": {"metrics"},
    "report": {"plotting", "metrics"},
    "tables": {"metrics"},
    "alignment": {"folds", "friends"},
    "new_analysis": {"ntuples"},
}
"""Every arrow between modules beyond FREE: each imports what makes its input. A new one is a
decision: draw it here."""

STEPS = {
    "preprocess": {"selection", "skimming"},
    "train": {"crosstraining", "recording"},
    "predict": {"prediction_tasks", "prediction", "publishing", "scored_tables"},
    "proof": {"proof"},
    "evaluate": {"evaluation", "presentation"},
}
"""The steps that a stage's script (or `python -m utils.proof`) calls by name, in order of the
stages. Like a script a step joins modules, and no module imports it. It may use steps of its own
and of earlier stages (predicting from ntuples selects as preprocessing does), never later ones."""

ALL_STEPS = set().union(*STEPS.values())

RESULT_TYPES = "utils.metrics.results"
"""Of the metrics, figures and the report know the result types and nothing that computes."""


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


def unit(path: Path, utils: Path) -> str:
    """Return the module a file belongs to: its own name, or its package's."""
    part = path.relative_to(utils).parts[0]
    return part.removesuffix(".py")


def is_entry(path: Path) -> bool:
    """Return whether `python -m` starts this file."""
    return path.name == "__main__.py" or 'if __name__ == "__main__":' in path.read_text()


def allowed_from(source: str, modules: set[str]) -> set[str]:
    """Return the modules that `source` may import."""
    if source not in ALL_STEPS:
        return {source} | FREE | ARROWS.get(source, set())
    usable: set[str] = set()
    for steps in STEPS.values():
        usable |= steps
        if source in steps:
            break
    return (modules - ALL_STEPS - ENTRY_ONLY) | usable


def forbidden_arrows(utils: Path) -> list[str]:
    """Return a complaint for each import that the picture above does not show."""
    paths = sorted(utils.rglob("*.py"))
    modules = {unit(path, utils) for path in paths}
    found = []
    for path in paths:
        source = unit(path, utils)
        allowed = allowed_from(source, modules) | (ENTRY_ONLY if is_entry(path) else set())
        for item in imports_of(path):
            if not item.module.startswith("utils."):
                continue
            target = item.module.split(".")[1]
            if target not in allowed:
                found.append(f"{item}: {source} -> {target} is a new arrow")
            computes = target == "metrics" and not item.module.startswith(RESULT_TYPES)
            if source in ("plotting", "report") and computes:
                found.append(f"{item}: {source} may know {RESULT_TYPES} only")
    return found


def prints(folder: Path) -> list[str]:
    return [
        f"{path.name}:{node.lineno} prints: log it, or write a result to sys.stdout"
        for path in sorted(folder.rglob("*.py"))
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "pprint")
    ]


HOMES = {
    "mlflow": "tracking.py",
    "lightgbm": "boosters.py",
    "numba": "jit.py",
    "uproot": "rootfiles.py",
}
"""Libraries that only one module imports."""


def imports_elsewhere(files: list[Path]) -> list[str]:
    return [
        f"{item}: this belongs in {HOMES[library]}"
        for path in files
        for item in imports_of(path)
        if (library := item.module.split(".")[0]) in HOMES and path.name != HOMES[library]
    ]


def scripts() -> list[Path]:
    return [PROJECT / name for name in SCRIPTS if (PROJECT / name).is_file()]


def test_no_new_arrow() -> None:
    assert forbidden_arrows(PROJECT / "utils") == []


def test_no_print_in_utils() -> None:
    assert prints(PROJECT / "utils") == []


def test_some_libraries_have_one_home() -> None:
    assert imports_elsewhere([*(PROJECT / "utils").rglob("*.py"), *scripts()]) == []


def test_utils_never_imports_a_script() -> None:
    stems = {name.removesuffix(".py") for name in SCRIPTS}
    found = [
        str(item)
        for path in (PROJECT / "utils").rglob("*.py")
        for item in imports_of(path)
        if item.module.split(".")[0] in stems
    ]
    assert found == []


def test_arrows_have_no_cycle() -> None:
    def reach(start: str, seen: tuple[str, ...] = ()) -> None:
        assert start not in seen, f"cycle: {' -> '.join([*seen, start])}"
        for target in ARROWS.get(start, ()):
            reach(target, (*seen, start))

    for source in ARROWS:
        reach(source)


def test_every_allowed_arrow_ends_at_a_module() -> None:
    utils = PROJECT / "utils"
    there = {unit(path, utils) for path in utils.rglob("*.py")}
    named = FREE | ENTRY_ONLY | ARROWS.keys() | set().union(*ARROWS.values()) | ALL_STEPS
    assert named - there == set()


def test_scripts_are_short() -> None:
    for path in scripts():
        lines = path.read_text().splitlines()
        assert len(lines) <= 120, f"{path.name} has {len(lines)} lines: move steps into a module"


# --- the checks themselves fail when they should -------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("folds.py", "from utils import tracking\n", "folds -> tracking"),
        ("folds.py", "def f():\n    import utils.skims\n", "folds -> skims"),
        ("weights.py", "from utils.program import fail\n", "weights -> program"),
        ("weights.py", "from utils import skimming\n", "weights -> skimming"),
        ("skimming.py", "from utils import crosstraining\n", "skimming -> crosstraining"),
        ("plotting/a.py", "from utils.metrics import evaluate\n", "results only"),
    ],
)
def test_a_new_arrow_is_found(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    [found] = forbidden_arrows(tmp_path)
    assert complaint in found


def test_an_entry_may_start_a_program(tmp_path: Path) -> None:
    (tmp_path / "proof.py").write_text(
        'from utils.program import fail\nif __name__ == "__main__":\n    fail("x")\n'
    )
    assert forbidden_arrows(tmp_path) == []


def test_print_and_mlflow_are_found(tmp_path: Path) -> None:
    path = tmp_path / "weights.py"
    path.write_text("def f():\n    from mlflow.tracking import MlflowClient\n    print(1)\n")
    assert len(prints(tmp_path)) == 1
    assert len(imports_elsewhere([path])) == 1
