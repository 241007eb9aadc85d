"""URLs are what users wrote, joined and compared like paths, and never hold credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.schema import (
    PROJECT,
    ConfigError,
    PreprocessConfig,
    Url,
    is_within,
    joined,
    load,
    location,
    normal,
    project_path,
    refuse_secrets,
    servers_of,
    without_secrets,
)


@pytest.mark.parametrize(
    ("written", "kept", "name", "stem"),
    [
        ("root://h:1094//store/a.root", "root://h:1094//store/a.root", "a.root", "a"),
        ("root://h/store/a.root", "root://h//store/a.root", "a.root", "a"),
        ("https://h/x/a%20b.root", "https://h/x/a%20b.root", "a b.root", "a b"),
        ("s3://bucket/2018/a.root", "s3://bucket/2018/a.root", "a.root", "a"),
        ("s3://bucket/dt=?/part=1.root", "s3://bucket/dt=?/part=1.root", "part=1.root", "part=1"),
    ],
)
def test_url_of_what_a_user_wrote(written: str, kept: str, name: str, stem: str) -> None:
    url = location(written)
    assert isinstance(url, Url)
    assert str(url) == kept
    assert Url.of(kept) == url
    assert (url.name, url.stem, url.suffix) == (name, stem, ".root")
    assert url.parent / url.path.rpartition("/")[2] == url


def test_paths_stay_paths() -> None:
    assert location("data/a.root") == PROJECT / "data" / "a.root"
    assert location("/data/a.root") == Path("/data/a.root")
    assert joined("data", "a.root") == PROJECT / "data" / "a.root"
    assert joined("root://h//store", "/data/a.root") == Path("/data/a.root")


def test_names_are_joined_to_folders_on_servers() -> None:
    assert str(joined("root://h//store", "2018/a.root")) == "root://h//store/2018/a.root"
    assert str(joined("root://h//store/", "a.root")) == "root://h//store/a.root"
    assert str(joined("data", "s3://b/a.root")) == "s3://b/a.root"


def test_what_is_within() -> None:
    store = Url.of("root://h//store")
    assert is_within(store / "a.root", store)
    assert not is_within(Url.of("root://h//stored/a.root"), store)
    assert not is_within(Url.of("root://h:1095//store/a.root"), store)
    assert not is_within(Url.of("https://h/store/a.root"), store)
    assert not is_within(Path("/store/a.root"), store)
    assert not is_within(store, Path("/"))
    assert is_within(normal(Path("/a/b/../c")), Path("/a/c"))


@pytest.mark.parametrize(
    ("written", "because"),
    [
        ("gsiftp://h/a.root", "files are not read by gsiftp://"),
        ("root:///store/a.root", "names no server"),
        ("s3:///a.root", "names no bucket"),
        ("root://h//store/../etc/a.root", "leads upwards"),
        ("https://h/x/*.root", "a pattern can't be matched over https"),
        ("http://h/x/a?.root", "a pattern can't be matched over http"),
        ("http://h/x/[ab].root", "a pattern can't be matched over http"),
    ],
)
def test_refused(written: str, because: str) -> None:
    with pytest.raises(ConfigError, match=because):
        location(written)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "written",
    [
        f"https://me:{SECRET}@h/a.root",
        f"root://{SECRET}@h//store/a.root",
        f"https://h/a.root?X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"root://h//store/a.root?authz={SECRET}",
        f"davs://me:{SECRET}@h/a.root",
    ],
)
def test_credentials_are_refused_and_not_repeated(written: str) -> None:
    for refuse in (location, refuse_secrets, lambda text: joined("root://h//store", text)):
        with pytest.raises(ConfigError, match="credentials") as refused:
            refuse(written)
        assert SECRET not in str(refused.value)
    assert SECRET not in without_secrets(f"could not open '{written}': no")


def test_refuse_secrets_leaves_other_texts_alone() -> None:
    refuse_secrets("common_cut='pt_1 > 40'", "root://h//store/a@b.root", "me@example.org", "a?b=c")


def test_outputs_are_on_this_machine() -> None:
    with pytest.raises(ConfigError, match="name a file or folder of this machine"):
        project_path("root://h//store")
    config = load(PreprocessConfig, {"input_path": "in", "output_path": "s3://b/out"})
    with pytest.raises(ConfigError, match="s3://b/out is on a server"):
        _ = config.output_folder
    with pytest.raises(ConfigError) as refused:
        project_path(f"https://me:{SECRET}@h/out?t={SECRET}")
    assert SECRET not in str(refused.value)


def test_files_of_samples_on_servers() -> None:
    base = {
        "input_tree_name": "T",
        "input_path": "root://h:1094//store/2018",
        "for_training": False,
        "samples": {"B": {"files": ["more/b.root", "https://other/b.root"]}},
        "input_samples": ["A", "B"],
    }
    first, second = load(PreprocessConfig, base).read_samples
    assert first.files == ("root://h:1094//store/2018/A.root",)
    assert second.files == ("root://h:1094//store/2018/more/b.root", "https://other/b.root")
    by_template = {
        **base,
        "input_path": "",
        "samples": {},
        "input_filename_template": "s3://ntuples/v1/{sample_name}.root",
    }
    assert load(PreprocessConfig, by_template).read_samples[0].files == ("s3://ntuples/v1/A.root",)


def test_servers_of_files() -> None:
    files = ["root://h//a.root", "root://h//b.root", "/c.root", "s3://b/d.root"]
    assert servers_of(files) == {"root://h", "s3://b"}
