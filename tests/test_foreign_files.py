"""Runs and analyses from elsewhere are data: they execute nothing and lead to no other place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from workspaces import Workspace, unpack

from utils.formats.manifests import Manifest, summed

VERSION = Path(__file__).parent / "fixtures" / "version-1"
SKIMS = "data/bbH/tt/2018/skims"


@dataclass(frozen=True)
class Colleagues:
    """A run from elsewhere in a copy of today's project, and a folder that it must not touch."""

    workspace: Workspace
    run_id: str
    artifacts: Path
    victim: Path

    def recipe(self, change: Callable[[dict[str, Any]], object], forged: bool = True) -> None:
        """Change the recipe, and by a forger's hand also the manifest that lists it."""
        path = self.artifacts / "recipe" / "recipe.json"
        recipe = json.loads(path.read_text())
        change(recipe)
        path.write_text(json.dumps(recipe))
        if forged:
            listed = sorted(p for p in path.parent.iterdir() if p.name != "manifest.json")
            files = {f"recipe/{p.name}": p for p in listed}
            manifest = Manifest(summed(files, {name: name for name in files}))
            path.with_name("manifest.json").write_text(manifest.to_json())

    def is_refused(self, script: str, *arguments: str) -> str:
        before = {p.name: p.read_text() for p in self.victim.iterdir()}
        said = self.workspace.fails("python", f"{script}.py", *arguments, f"run_id={self.run_id}")
        assert {p.name: p.read_text() for p in self.victim.iterdir()} == before
        return said


TABLES = ("predict", "--config-name", "for_evaluation.yaml")
FRIENDS = ("predict", "--config-name", "for_datacards.yaml", "sample_names=[Tau_Run2018B]")
NTUPLES = (*FRIENDS, "source=ntuples")
EVALUATION = ("evaluate", "dataset=test", "sections=[scores]", "n_bootstrap=10")


@pytest.fixture(scope="module")
def received(shared_workspace: Workspace) -> Workspace:
    unpack(VERSION / "version-1.tar.xz", shared_workspace.folder)
    run_id = json.loads((VERSION / "expected.json").read_text())["run_id"]
    shared_workspace.run("python", "-m", "utils.tracking", "adopt", run_id)
    return shared_workspace


@pytest.fixture
def colleagues(received: Workspace, tmp_path: Path) -> Colleagues:
    run_id = json.loads((VERSION / "expected.json").read_text())["run_id"]
    artifacts = received.folder / "mlruns" / "0" / run_id / "artifacts"
    kept = received.folder / "kept"
    if kept.exists():
        shutil.rmtree(artifacts)
        shutil.copytree(kept, artifacts)
    else:
        shutil.copytree(artifacts, kept)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "train.csv").write_text("precious")
    (victim / "keep.txt").write_text("precious")
    return Colleagues(received, run_id, artifacts, victim)


# --- edits and damage ----------------------------------------------------------------------------


@pytest.mark.parametrize("script", [TABLES, NTUPLES, EVALUATION])
def test_an_edited_recipe_is_refused_by_name(
    colleagues: Colleagues, script: tuple[str, ...]
) -> None:
    colleagues.recipe(lambda r: r["fold"].update(kind="hash", columns=["run", "evt"]), False)
    said = colleagues.is_refused(*script)
    assert said.startswith(f"recipe/recipe.json of run {colleagues.run_id} is not what ")


@pytest.mark.parametrize("script", [TABLES, NTUPLES, EVALUATION])
def test_swapped_models_are_refused_by_name(
    colleagues: Colleagues, script: tuple[str, ...]
) -> None:
    first, second = (colleagues.artifacts / "recipe" / f"model_{i}.txt" for i in range(2))
    first.rename(first.with_suffix(".kept"))
    second.rename(first)
    first.with_suffix(".kept").rename(second)
    assert "recipe/model_0.txt" in colleagues.is_refused(*script)


def test_a_damaged_table_is_refused_by_name(colleagues: Colleagues) -> None:
    path = colleagues.artifacts / "pred" / "test.parquet"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert "pred/test.parquet" in colleagues.is_refused(*EVALUATION)


def test_a_run_whose_models_are_others_is_not_adopted(colleagues: Colleagues) -> None:
    first, second = (colleagues.artifacts / "recipe" / f"model_{i}.txt" for i in range(2))
    shutil.copy(second, first)
    (colleagues.artifacts / "recipe" / "manifest.json").unlink()
    command = ("python", "-m", "utils.tracking", "adopt", colleagues.run_id)
    assert "model 0 of run" in colleagues.workspace.fails(*command)
    assert not (colleagues.artifacts / "recipe" / "manifest.json").exists()


# --- places outside ------------------------------------------------------------------------------


def test_a_link_in_a_run_leads_no_script_out_of_it(colleagues: Colleagues) -> None:
    shutil.rmtree(colleagues.artifacts / "pred")
    (colleagues.artifacts / "pred").symlink_to(colleagues.victim)
    assert "is a symbolic link" in colleagues.is_refused(*TABLES)


def test_a_manifest_deletes_nothing_outside(colleagues: Colleagues) -> None:
    folder = colleagues.artifacts / "plots" / "test"
    folder.mkdir(parents=True)
    (folder / "extra").symlink_to(colleagues.victim)
    listed = ["plots/test/extra/keep.txt"]
    (folder / "manifest.json").write_text(json.dumps({"files": listed, "metrics": {}}))
    assert "is a symbolic link" in colleagues.is_refused(*EVALUATION)


def test_a_samples_name_leads_nowhere(colleagues: Colleagues) -> None:
    evil = {"sample": f"{'../' * 12}{colleagues.victim}/evil", "files": "Tau_Run2018B.root"}
    colleagues.recipe(lambda r: r["analysis"].update(prediction_samples=[evil]))
    assert "can't lead elsewhere" in colleagues.is_refused(FRIENDS[0], *FRIENDS[1:3], NTUPLES[-1])


def test_an_output_folder_outside_must_be_given(colleagues: Colleagues) -> None:
    place = colleagues.victim / "skims"
    colleagues.recipe(lambda r: r["analysis"].update(skim_path=str(place)))
    said = colleagues.is_refused(*NTUPLES)
    assert f"{colleagues.victim}/friends as the place of friend trees, outside this" in said
    assert "add output_path=FOLDER to the command" in said
    colleagues.workspace.run(
        *("python", "predict.py", *NTUPLES[1:], "output_path=data/mine"),
        f"run_id={colleagues.run_id}",
    )


def test_skims_and_ntuples_outside_must_be_given(colleagues: Colleagues) -> None:
    outside = str(colleagues.victim / "skims")
    colleagues.recipe(lambda r: r["skims"].update(test=f"{outside}/test.h5"))
    assert "as its test skim, outside" in colleagues.is_refused(*TABLES)
    colleagues.recipe(lambda r: r["analysis"].update(skim_path=outside, input_path=outside))
    here = "output_path=data/mine"
    assert "as the folder of skims, outside" in colleagues.is_refused(*FRIENDS, here)
    assert "as the folder of ntuples, outside" in colleagues.is_refused(*NTUPLES, here)
    evil = {"sample": "Tau_Run2018B", "files": "../../../other.root"}
    colleagues.recipe(lambda r: r["analysis"].update(prediction_samples=[evil]))
    given = f"input_path={SKIMS}"
    assert "names the ntuple ../../../other.root" in colleagues.is_refused(*NTUPLES, here, given)
