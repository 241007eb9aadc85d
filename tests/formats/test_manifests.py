"""A manifest lists the files of one publication; its place follows from any of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.formats.manifests import Manifest, is_manifest, manifest_of, summed


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("recipe/model_0.txt", "recipe/manifest.json"),
        ("plots/test/pdf/roc.pdf", "plots/test/manifest.json"),
        ("plots/test/report.html", "plots/test/manifest.json"),
        ("pred/test.csv", "pred/manifest_table_test.json"),
        ("pred/test.parquet", "pred/manifest_table_test.json"),
        ("pred/ZZ_pred.root", "pred/manifest_friend_ZZ_pred.json"),
        ("pred/S/pred.root", "pred/S/manifest_friend_pred.json"),
    ],
)
def test_the_place_of_a_manifest_follows_from_its_files(path: str, place: str) -> None:
    assert manifest_of(path) == place
    assert is_manifest(place)
    assert not is_manifest(path)


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"abc")
    files = summed({"pred/a.csv": source}, {"pred/a.csv": "pred/x/a.csv"})
    manifest = Manifest(files, {"n_events": 3})
    again = Manifest.from_json(manifest.to_json(), "pred/manifest_table_a.json")
    assert again == manifest
    listed = again.files["pred/a.csv"]
    assert listed.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert not listed.differs(source)
    source.write_bytes(b"abd")
    assert listed.differs(source)


def test_a_manifest_of_the_time_before_checksums_lists_names() -> None:
    text = '{"dataset": "test", "files": ["plots/test/a.html"], "metrics": {"test/a": 1}}'
    manifest = Manifest.from_json(text, "plots/test/manifest.json")
    assert manifest.former
    assert set(manifest.files) == {"plots/test/a.html"}
    assert manifest.about["metrics"] == {"test/a": 1}
