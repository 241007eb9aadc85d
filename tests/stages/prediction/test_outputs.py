"""A kind of output is a module and a line: one made up here is written as those we have."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from predictions import MODULO, friend_task, scorer_of, write_tree

from utils.columns.audit import LeakAudit
from utils.formats.runs import Run
from utils.schema import ConfigError, EngineConfig, PredictConfig, ProofError, RunError, load
from utils.stages.prediction import OUTPUT_KINDS, output_kind, publish
from utils.stages.prediction import outputs as outputs_module
from utils.stages.prediction.inputs import input_samples
from utils.stages.prediction.outputs import Outcome, Scored, Task, write
from utils.stages.prediction.rows import RowSource
from utils.stages.prediction.scorer import Scorer
from utils.stages.preprocessing import reading
from utils.system import engine, units
from utils.system.files import complete


class Means:
    """The mean score of each class, a JSON file for every input file."""

    name = "means"

    def __init__(self, config: PredictConfig, scorer: Scorer) -> None:
        self.datasets = config.sample_names
        self._config, self._scorer = config, scorer

    def tasks(self, scratch: Path, /) -> list[Task]:
        samples = input_samples(self._config, self._scorer)
        return [
            Task(
                s.name, self._scorer, [Mean(f.source, scratch / f"{s.name}.json") for f in s.files]
            )
            for s in samples
        ]

    def summary(self, n_outputs: int) -> str:
        return f"Logged {n_outputs} means"

    def next_commands(self, run: Any, prefix: str) -> list[str]:
        return []


@dataclass(frozen=True)
class Mean:
    source: RowSource
    path: Path
    lasting: Sequence[Path] = ()

    @contextmanager
    def written(self, scorer: Scorer, scored: Iterable[Scored]) -> Iterator[Outcome]:
        means = np.nanmean(np.concatenate([scores for _, scores, _ in scored]), axis=0).tolist()
        with complete(self.path) as partial:
            partial.write_text(json.dumps(means))
            yield Outcome({self.path.name: self.path}, {"means": means}, ["computed"])


class FakeRun:
    """Keeps what is published."""

    run_id = "run"

    def __init__(self) -> None:
        self.published: dict[str, str] = {}
        self.said: list[Mapping[str, Any]] = []

    def publish(self, files: Mapping[str, Path], about: Mapping[str, Any] | None = None) -> None:
        self.published |= {name: path.read_text() for name, path in files.items()}
        self.said.append(about or {})

    def address(self, path: str) -> str:
        return f"runs:/run/{path}"


@pytest.fixture
def predict(
    tmp_path: Path,
    tree: dict[str, Any],
    boosters: tuple[lightgbm.Booster, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """What predicts the means of sample S for a run, with keys of the configuration."""
    monkeypatch.setitem(OUTPUT_KINDS, "for_means", Means)
    monkeypatch.setattr(units, "RECORDS", tmp_path / "done")
    scorer = scorer_of(tmp_path, boosters, MODULO)

    def predict(run: Any, memory: int | None = None, **keys: Any) -> None:
        raw = {"kind": "for_means", "run_id": "run", "sample_names": ["S"], "source": "ntuples"}
        config = load(PredictConfig, {**raw, **keys})
        with engine.start(EngineConfig(kind="serial")) as workers:
            workers = replace(workers, memory=memory)
            publish(run, config, output_kind(config.kind)(config, scorer), workers)

    return predict


def test_a_third_kind_needs_a_line_only(predict: Callable[..., None]) -> None:
    run = FakeRun()
    predict(run, cut="x > 0")
    assert set(run.published) == {"pred/S.json", "pred/audit_means_S.csv"}
    assert sum(json.loads(run.published["pred/S.json"])) == pytest.approx(1)
    assert run.said[0]["means"] == json.loads(run.published["pred/S.json"])


@pytest.mark.parametrize(("memory", "sizes"), [(None, [50]), (1, [7] * 7 + [1])])
def test_rows_are_read_in_chunks_that_fit_into_a_worker(
    predict: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    memory: int | None,
    sizes: list[int],
) -> None:
    monkeypatch.setattr(reading, "_LEAST_ROWS", 7)
    found: list[int] = []

    def written(self: Mean, scorer: Scorer, scored: Iterable[Scored]) -> Any:
        return write_mean(self, scorer, (found.append(s.rows.span.size) or s for s in scored))

    write_mean = Mean.written
    monkeypatch.setattr(Mean, "written", written)
    predict(FakeRun(), memory=memory)
    assert found == sizes


def test_what_another_command_put_in_its_place_is_not_published(
    tmp_path: Path, predict: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(task: Task) -> tuple[list[Outcome], LeakAudit]:
        done = write(task)
        with complete(tmp_path / "theirs") as partial:
            partial.write_text("of another run")
        [outcome] = done[0]
        (tmp_path / "theirs").replace(outcome.files["S.json"])
        return done

    monkeypatch.setattr(outputs_module, "write", replaced)
    run = FakeRun()
    with pytest.raises(RunError, match=r"S\.json was replaced by another command before run run"):
        predict(run)
    assert run.published == {}
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"chunk_size": 7}, False),
        ({"engine": {"kind": "local"}}, False),
        ({"cut": "x > 1"}, True),
        ({"double_precision": True}, True),
        ({"force": True}, True),
        ("input", True),
        ("damage", True),
    ],
    ids=str,
)
def test_what_makes_a_prediction_done_again(
    tmp_path: Path,
    predict: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any] | str,
    again: bool,
) -> None:
    artifacts = tmp_path / "run" / "artifacts"
    artifacts.mkdir(parents=True)
    run, written = Run("run", "0", str(artifacts)), []

    def counted(task: Task) -> tuple[list[Outcome], LeakAudit]:
        written.append(task)
        return write(task)

    monkeypatch.setattr(outputs_module, "write", counted)
    predict(run)
    predict(run)
    assert len(written) == 1
    if changed == "input":
        os.utime(tmp_path / "S.root", (1, 1))
    if changed == "damage":
        (artifacts / "pred" / "S.json").write_text("other")
    predict(run, **changed if isinstance(changed, dict) else {})
    assert len(written) == 1 + again


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="kind 'for_datacard' is unknown; nearest: 'for_datacards'"
    ):
        output_kind("for_datacard")


def test_friend_trees_of_a_sample_are_all_there_or_none(
    tmp_path: Path, boosters: tuple[lightgbm.Booster, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from utils.stages.prediction import friend_trees

    scorer = scorer_of(tmp_path, boosters, MODULO, samples={"S": {"files": "part_*.root"}})
    n = np.arange(5)
    columns = {"run": n.astype("i4"), "evt": n, "x": n / 2.0, "y": n / 3.0, "n": n.astype("i4")}
    for part in (1, 2):
        write_tree(tmp_path, columns, 3).rename(tmp_path / f"part_{part}.root")
    task = friend_task(tmp_path, scorer, {"source": "ntuples"})
    prove = friend_trees.prove_alignment

    def refute_the_second(path: Path, *rest: Any, **more: Any) -> Any:
        if path.name == "part_2.root":
            raise ProofError("refuted")
        return prove(path, *rest, **more)

    monkeypatch.setattr(friend_trees, "prove_alignment", refute_the_second)
    with pytest.raises(ProofError, match="refuted"):
        write(task)
    assert list((tmp_path / "friends").iterdir()) == []
