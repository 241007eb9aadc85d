"""Files of feature pipelines: what is saved is read back, and nothing else is read."""

from __future__ import annotations

import json
import pickle

import pytest
from feature_matrix import NAMES, PCAS, SCALERS, matrix

from utils.columns.pipeline import FeaturePipeline, fit_pipeline
from utils.formats.pipelines import load_pipeline, save_pipeline
from utils.schema import InputError


@pytest.mark.parametrize("pca", PCAS)
@pytest.mark.parametrize("scaler", SCALERS)
def test_a_saved_pipeline_is_the_same_pipeline(tmp_path, scaler, pca):
    fitted = fit_pipeline(matrix(), NAMES, scaler, pca, seed=1)
    path = save_pipeline(fitted, tmp_path / "new" / "pipe.pkl")
    assert path == tmp_path / "new" / "pipe.json"
    assert load_pipeline(tmp_path / "new" / "pipe.pkl") == fitted
    assert load_pipeline(path).fingerprint == fitted.fingerprint
    assert FeaturePipeline.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    assert [p.name for p in path.parent.iterdir()] == ["pipe.json"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("written", "asked"), [("pkl", "pkl"), ("json", "json"), ("pkl", "json")])
def test_a_pickle_is_refused_with_the_command(tmp_path, written, asked, protocol):
    (tmp_path / f"pipe.{written}").write_bytes(pickle.dumps({"a": [1.5]}, protocol))
    with pytest.raises(
        InputError, match=rf"pipe\.{written} is (a pickle|damaged).*python preprocess\.py"
    ):
        load_pipeline(tmp_path / f"pipe.{asked}")


def test_a_pipeline_beside_a_pickle_is_read(tmp_path):
    fitted = FeaturePipeline(("a",), ("a",))
    save_pipeline(fitted, tmp_path / "pipe")
    (tmp_path / "pipe.pkl").write_bytes(pickle.dumps(1))
    assert load_pipeline(tmp_path / "pipe.pkl") == fitted


def test_a_missing_pipeline_is_answered_with_its_neighbour(tmp_path):
    save_pipeline(FeaturePipeline(("a",), ("a",)), tmp_path / "pipe.json")
    with pytest.raises(
        InputError, match=r"pip\.json does not exist; nearest: 'pipe\.json'; make it: python"
    ):
        load_pipeline(tmp_path / "pip.json")
    with pytest.raises(InputError, match="does not exist; there are none"):
        load_pipeline(tmp_path / "none" / "pipe.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(mean=[1.0]), "was changed after it was made"),
        (lambda raw: raw.pop("mean"), "damaged"),
        (lambda raw: raw.update(components=3), "damaged"),
        (lambda raw: raw.update(format="other"), "not a feature pipeline of feature-pipeline-1"),
    ],
)
def test_a_changed_pipeline_is_refused(tmp_path, change, message):
    path = save_pipeline(FeaturePipeline(("a",), ("a",)), tmp_path / "pipe.json")
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=rf"pipe\.json (is )?{message}.*python preprocess\.py"):
        load_pipeline(path)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"text"'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "pipe.json").write_text(content)
    with pytest.raises(InputError, match=r"pipe\.json is (damaged|not a feature pipeline)"):
        load_pipeline(tmp_path / "pipe.json")


def test_a_dot_in_a_name_is_no_suffix(tmp_path):
    """pipe.v1 and pipe.v2 were one file, the later one."""
    pipelines = [FeaturePipeline(("x",), ("x",), mean=(mean,)) for mean in (1.0, 2.0)]
    for name, pipeline in zip(("pipe.v1", "pipe.v2"), pipelines, strict=True):
        assert save_pipeline(pipeline, tmp_path / name) == tmp_path / f"{name}.json"
    for name, pipeline in zip(("pipe.v1", "pipe.v2.json"), pipelines, strict=True):
        assert load_pipeline(tmp_path / name) == pipeline
