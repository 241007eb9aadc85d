"""What reaches into a library still finds it there; if not, each failure says where and what to do.

The list with its reasons is in docs/architecture.md, "What reaches into a library". A test here
fails when a new release of a library changes what it promised to nobody: mend the one place that
the failure names, or use the public way that the release may have brought.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.schema import PROJECT

UTILS = PROJECT / "utils"

PRIVATE = {
    "formats/runs.py: _MODULES_TO_PACKAGES",
    "system/libraries/boosters.py: _ConfigAliases",
    "system/libraries/boosters.py: _get_all_param_aliases",
    "system/libraries/jit.py: _already_initialized",
}
"""Every private name of a library that `utils` uses; what is public but promised to nobody has
its test below all the same."""


@contextmanager
def at(place: str, mend: str) -> Iterator[None]:
    """Let any error inside say which place has to change, and how."""
    assert (PROJECT / place).is_file(), f"{place} moved: name its new place here"
    try:
        yield
    except Exception as error:
        pytest.fail(f"{place} reaches into a library that changed ({error!r}). {mend}")


# --- the list is complete ------------------------------------------------------------------------


def test_private_names_are_the_listed_ones() -> None:
    assert private_names(UTILS) == PRIVATE, (
        "use the public way; where there is none, keep it in one place, list it here and in "
        "docs/architecture.md with its reason, and write a test that says how to mend it"
    )


def test_the_document_names_every_place() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"^\| `(utils/\S+)` \|", text, re.MULTILINE))
    tested = set(re.findall(r'\bat\(\s*"(utils/\S+)"', Path(__file__).read_text()))
    assert named == tested


def private_names(folder: Path) -> set[str]:
    """Return each private name that is used and that no file of `folder` makes itself."""
    used, own = set(), set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(attr=name) if _is_private(name):
                    if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                        own.add(name)
                    used.add((path, name))
                case ast.ImportFrom(module=str(module), names=names):
                    if not module.startswith("utils"):
                        used |= {(path, n.name) for n in names if _is_private(n.name)}
                        used |= {(path, p) for p in module.split(".") if _is_private(p)}
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    own.add(name)
    return {f"{path.relative_to(folder)}: {name}" for path, name in used if name not in own}


DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_exit"}
"""Public, by Python's documentation, in spite of their names: of named tuples, and of `os`."""


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def test_a_new_private_use_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "from numpy._core import _methods\nimport uproot\nx = uproot._util\n"
        "class A:\n    def _f(self):\n        self._g = self._f()\n        return A()._g\n"
    )
    assert private_names(tmp_path) == {"a.py: _core", "a.py: _methods", "a.py: _util"}


# --- LightGBM ------------------------------------------------------------------------------------


def test_lightgbm_tells_its_parameters() -> None:
    from utils.system.libraries.boosters import parameter_names

    with at(
        "utils/system/libraries/boosters.py",
        "Let parameter_names() find LightGBM's parameters and their other names elsewhere: look "
        "for a public twin of _ConfigAliases, or call LGBM_DumpParamAliases of its C library, "
        "which gives the same as JSON.",
    ):
        names = parameter_names()
        wanted = {
            "eta": "learning_rate",
            "n_estimators": "num_iterations",
            "objective": "objective",
        }
        assert {name: names.get(name) for name in wanted} == wanted
        assert len(set(names.values())) > 100


def test_lightgbm_is_imported_without_scikit_learn() -> None:
    with at(
        "utils/system/libraries/boosters.py",
        "Import LightGBM without hidden('sklearn'): slower, and nothing else changes.",
    ):
        passes(
            "import sys\n"
            "from utils.system.libraries.boosters import lightgbm\n"
            "assert 'sklearn' not in sys.modules\n"
            "import sklearn\n"
            "assert lightgbm.train\n"
        )


def test_uproot_reads_from_a_handler_of_ours(tmp_path: Path) -> None:
    from utils.system.libraries.rootfiles import open_root, uproot
    from utils.system.opening import open_bytes

    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("T", {"x": "f8"}).extend({"x": np.arange(9.0)})
    with (
        at(
            "utils/system/libraries/rootfiles.py",
            "See what uproot.source.chunk.Source must have now (FSSpecSource is an example), "
            "and let _Bytes have it.",
        ),
        open_bytes(path) as bytes_of_file,
        open_root(bytes_of_file) as root,
    ):
        assert root["T"]["x"].array(library="np").tolist() == list(range(9))


def test_fsspec_has_a_session_for_http() -> None:
    import fsspec

    with at(
        "utils/system/remote.py",
        "Find where fsspec's HTTPFileSystem keeps its aiohttp session, its options and what "
        "quotes URLs; or let _Http open an aiohttp.ClientSession of its own.",
    ):
        server = fsspec.filesystem("http", skip_instance_cache=True)
        session = fsspec.asyn.sync(server.loop, server.set_session)
        assert callable(session.get)
        assert dict(server.kwargs) == {}
        assert str(server.encode_url("http://h/a b.root")) == "http://h/a%20b.root"


def test_lightgbm_writes_models_as_we_read_them() -> None:
    from utils.models.forest import compile_forest
    from utils.system.libraries.boosters import lightgbm

    random = np.random.default_rng(0)
    matrix = random.normal(size=(400, 3))
    target = (matrix[:, 0] > 0).astype(float)
    with at(
        "utils/models/forest/arrays.py",
        "LightGBM writes its models differently: compare a text of the old release with one of "
        "the new, follow the change in parse_tree and compile_forest, and let "
        "tests/models/test_forest.py hold it bit for bit.",
    ):
        options = {"objective": "binary", "verbosity": -1, "num_leaves": 4, "seed": 0}
        booster = lightgbm.train(options, lightgbm.Dataset(matrix, target), 3)
        forest = compile_forest(booster.model_to_string())
        assert (forest.n_trees, forest.booster) == (3, None)
        assert np.array_equal(
            forest.raw_scores(matrix)[:, 0], booster.predict(matrix, raw_score=True)
        )


# --- numba, uproot -------------------------------------------------------------------------------


def test_numba_starts_without_the_extensions_of_others() -> None:
    with at(
        "utils/system/libraries/jit.py",
        "Find what numba now asks before it loads the entry points `numba_extensions` (it was "
        "numba.core.entrypoints.init_all), or drop the two blocks: slower, and nothing else.",
    ):
        passes(
            "import sys\n"
            "from utils.system.libraries.jit import njit\n"
            "from numba.core import entrypoints\n"
            "entrypoints.init_all()\n"
            "assert 'awkward' not in sys.modules, 'extensions were loaded'\n"
            "assert 'scipy.linalg' not in sys.modules, 'scipy was loaded'\n"
            "assert njit(lambda x: x + 1)(1) == 2\n"
            "assert 'awkward' not in sys.modules, 'extensions were loaded'\n"
        )


def test_uproot_is_imported_without_awkward() -> None:
    with at(
        "utils/system/libraries/rootfiles.py",
        "uproot uses awkward while it is imported: drop `later('awkward')`, which only saves time.",
    ):
        passes(
            "import sys\n"
            "from utils.system.libraries.rootfiles import uproot\n"
            "assert 'awkward.contents' not in sys.modules\n"
        )


def test_uproot_tells_where_baskets_lie(tmp_path: Path) -> None:
    from utils.system.libraries.rootfiles import uproot

    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("t", {"x": np.float32}).extend({"x": np.arange(9, dtype=np.float32)})
    with at(
        "utils/formats/ntuples/trees.py",
        "Find the new names in uproot's TBranch and interpretations and use them in "
        "_describe_branch; whatever _is_plain refuses is read by uproot itself, only slower.",
    ):
        branch = uproot.open(path)["t"]["x"]
        assert type(branch.interpretation) is uproot.interpretation.numerical.AsDtype
        assert branch.interpretation.from_dtype == np.dtype(">f4")
        assert list(branch.entry_offsets) == [0, 9]
        assert list(branch.embedded_baskets) == []
        assert branch.member("fBasketSeek")[0] > 0
        assert branch.member("fBasketBytes")[0] > 36
        for name in ("AsDouble32", "AsFloat16"):
            assert hasattr(uproot.interpretation.numerical, name)


def test_uproot_tells_where_pages_lie(tmp_path: Path) -> None:
    from utils.formats.ntuples.pages import PageCheck
    from utils.system.libraries.rootfiles import uproot
    from utils.system.opening import open_bytes

    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=None) as file:
        file.mkrntuple("t", {"x": np.dtype(np.float32)}).extend({"x": np.ones(9, np.float32)})
    with (
        at(
            "utils/formats/ntuples/pages.py",
            "Find where uproot's RNTuple keeps its clusters and pages now and follow it in "
            "PageCheck; or drop PageCheck if uproot compares the checksums itself by then "
            "(tests/formats/ntuples/test_damage.py says).",
        ),
        open_bytes(path) as opened,
    ):
        ntuple = uproot.open(path)["t"]
        PageCheck(ntuple, opened).check("x", 0, 9)
        [[column]] = ntuple.page_link_list
        [page] = column.pages
        assert page.has_checksum in (True, False)
        assert (page.num_elements, page.locator.num_bytes) == (9, 36)
        assert page.locator.offset > 0


# --- pandas, MLflow ------------------------------------------------------------------------------


def test_pandas_reads_the_layout_of_skims(tmp_path: Path) -> None:
    import pandas

    from utils.formats.skims import GROUPS, SkimWriter

    path = tmp_path / "a.h5"
    types = {"x": np.float32, "n": np.int64}
    values = {"x": np.arange(3, dtype=np.float32), "n": np.arange(3)}
    with SkimWriter(path, {"misc_features": types}, {}) as writer:
        writer.append({"misc_features": values})
    with at(
        "utils/formats/skims.py",
        "pandas reads another layout as `fixed`: write a small frame with pandas' own to_hdf, "
        "compare (h5dump), and follow it in _create; skims of earlier versions must stay readable.",
    ):
        frame = pandas.read_hdf(path, "misc_features")
        assert {name: frame[name].tolist() for name in types} == {
            "x": [0.0, 1.0, 2.0],
            "n": [0, 1, 2],
        }
        assert all(len(pandas.read_hdf(path, group)) == 3 for group in GROUPS)


def test_mlflow_keeps_runs_in_the_tables_we_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from utils.formats import runs

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    with runs.training_run("here", None, {}) as new:
        pass
    with at(
        "utils/formats/runs.py",
        "MLflow's sqlite tables changed: follow them in _run_in_sqlite (or drop it: MLflow's own "
        "client then answers, seconds later) and in rebase.",
    ):
        run = runs._run_in_sqlite(new.run_id)
        assert run is not None
        asked = new.client.get_run(new.run_id).info
        assert (run.run_id, run.experiment_id) == (asked.run_id, asked.experiment_id)
        assert run.artifact_uri == asked.artifact_uri
        changed = runs.rebase(str(tmp_path), tmp_path / "moved")
        assert changed >= 2
        moved = runs._run_in_sqlite(new.run_id)
        assert moved is not None
        assert str(tmp_path / "moved" / "mlruns") in moved.artifact_uri


# --- Hydra, pydantic, kaleido --------------------------------------------------------------------


def test_hydra_says_what_it_misses() -> None:
    from hydra import compose, initialize_config_dir
    from hydra.errors import MissingConfigException, OverrideParseException

    with (
        at(
            "utils/system/program.py",
            "Hydra's exceptions lost an attribute: read it from the text in _missing_config and "
            "_one_line_errors, or show the exception's own text.",
        ),
        initialize_config_dir(str(PROJECT / "configs" / "train"), version_base="1.3"),
    ):
        with pytest.raises(MissingConfigException) as missing:
            compose("trian")
        assert str(missing.value.missing_cfg_file).removesuffix(".yaml") == "trian"
        assert missing.value.options is None
        with pytest.raises(OverrideParseException) as parsed:
            compose("train", ["++common_cut=pt > 40"])
        assert parsed.value.override == "++common_cut=pt > 40"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"missing": {"vals": 1}}, "unknown key 'missing.vals'; nearest: 'values'"),
        ({"missing": {"to": []}}, "missing: Input should be a valid number"),
        ({"feature_info": {"x": {"missing": {"vals": 1}}}}, "'feature_info.x.missing.vals'"),
        ({"feature_info": {"float": {"labl": 1}}}, "'feature_info.float.labl'; nearest: 'label'"),
        ({"samples": {"files": {"fils": 3}}}, "'samples.files.fils'; nearest: 'files'"),
        ({"samples": {"TT": {"files": [1]}}}, "samples.TT.files: "),
        ({"pca": {"n_components": -1}}, "pca.n_components: "),
        ({"clip": {"x": ["a", 2]}}, "clip.x.0: "),
        ({"class_to_info": {0: {"nam": "a"}}}, "'class_to_info.0.nam'; nearest: 'name'"),
        ({"engine": "loca"}, "engine.kind: "),
        ({"cuts": {"float": 3}}, "cuts.float: "),
    ],
)
def test_pydantic_locates_errors_as_we_read_them(given: dict[str, Any], line: str) -> None:
    from utils.schema import ConfigError, PreprocessConfig, load

    with at(
        "utils/schema/loading.py",
        "pydantic's `loc` has other parts than keys, indices and, after a key of several types, "
        "the type that was tried: follow it in _place.",
    ):
        with pytest.raises(ConfigError) as refused:
            load(PreprocessConfig, given)
        assert line in str(refused.value)


def test_mlflow_logs_models_without_a_map_of_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib_metadata
    import lightgbm
    import mlflow

    from utils.formats import runs

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    matrix = np.random.default_rng(0).random((300, 1), np.float32)
    data = lightgbm.Dataset(matrix, matrix[:, 0] > 0.5, feature_name=["a"])
    model = lightgbm.train({"objective": "binary", "verbosity": -1}, data, 2)
    with at(
        "utils/formats/runs.py",
        "MLflow maps packages to modules in another way: mend _without_a_map_of_packages, or drop "
        "it, which costs a second of each training.",
    ):
        with monkeypatch.context() as patched:
            patched.delattr(importlib_metadata, "packages_distributions")
            with runs.training_run("an experiment", None, {}) as run:
                run.log_models("lightgbm", [model.model_to_string()], ["a"], matrix[:5])
        told = mlflow.pyfunc.get_model_dependencies(f"runs:/{run.run_id}/model_0")
        assert set(Path(told).read_text().split()) == {
            f"mlflow=={mlflow.__version__}",
            f"lightgbm=={lightgbm.__version__}",
        }


def test_kaleido_takes_arguments_for_its_engine() -> None:
    with at(
        "utils/results/report/pdf.py",
        "kaleido is no longer 0.2: drop the block about `scope` in serve(), and see whether "
        "tests/results/report/test_pdf.py still gets its PDFs on a busy machine.",
    ):
        passes(
            "import warnings\n"
            "warnings.simplefilter('ignore')\n"
            "import plotly.io\n"
            "scope = plotly.io.kaleido.scope\n"
            "scope.chromium_args = (*scope.chromium_args, '--single-process')\n"
            "assert '--single-process' in scope.chromium_args\n"
        )


def passes(code: str) -> None:
    """Run `code` in a Python of its own, which has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stderr.strip().splitlines() or ["no message"])[-1]
