"""Rows in chunks: types, cuts and ranges, and what is refused before reading."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ntuple_trees import N, read, write_tree

from utils.formats.ntuples import Chunk, check, open_tree, stream
from utils.schema import ConfigError, InputError


@pytest.mark.parametrize("chunk_entries", [1, 137, 200, 5_000])
def test_every_type_comes_back_as_it_was_written(info, columns, chunk_entries):
    stop = 30 if chunk_entries == 1 else None
    names = [name for name in columns if name != "jet_pt"]
    entry, got = read(info, names, chunk_entries=chunk_entries, stop=stop)
    np.testing.assert_array_equal(entry, np.arange(N)[:stop])
    for name in names:
        assert got[name].dtype == columns[name].dtype
        assert got[name].flags.c_contiguous
        np.testing.assert_array_equal(got[name], columns[name][:stop])


def test_elements_of_fixed_size_branches(info, columns):
    entry, got = read(
        info,
        ["jet_pt[1]", "sum"],
        "jet_pt[0] > 20",
        definitions={"sum": "jet_pt[2] + jet_pt[3]"},
        chunk_entries=300,
    )
    keep = columns["jet_pt"][:, 0] > 20
    np.testing.assert_array_equal(entry, np.flatnonzero(keep))
    np.testing.assert_array_equal(got["jet_pt[1]"], columns["jet_pt"][keep, 1])
    assert got["jet_pt[1]"].dtype == np.float32
    wide = columns["jet_pt"][keep].astype(np.float64)
    np.testing.assert_array_equal(got["sum"], wide[:, 2] + wide[:, 3])


def test_each_cut_has_its_own_rows_and_columns(info, columns):
    pt, njets = columns["pt"].astype(np.float64), columns["njets"]
    common, low, high = pt > 20, njets < 2, njets >= 4
    chunks = list(
        stream(
            info,
            columns=[["pt", "ratio"], ["evt"], []],
            cuts=["low", "njets >= 4", None],
            common_cut="pt > 20",
            definitions={"low": "njets < 2", "ratio": "pt / mass"},
            chunk_entries=300,
        )
    )
    assert [(c.start, c.stop) for c in chunks] == [(0, 300), (300, 600), (600, 900), (900, 1000)]
    assert [c.n_common for c in chunks] == [int(common[c.start : c.stop].sum()) for c in chunks]
    for position, keep in enumerate([common & low, common & high, common]):
        entry = np.concatenate([c.selections[position].entry for c in chunks])
        np.testing.assert_array_equal(entry, np.flatnonzero(keep))
    got = np.concatenate([c.selections[0].columns["ratio"] for c in chunks])
    np.testing.assert_array_equal(got, (pt / columns["mass"])[common & low])
    assert got.dtype == np.float64
    assert list(chunks[0].selections[1].columns) == ["evt"]
    assert chunks[0].selections[2].columns == {}


def test_nothing_survives(info):
    [chunk] = stream(info, columns=["pt", "d"], cuts=["pt < 0"], definitions={"d": "2 * pt"})
    assert chunk.n_common == N
    [rows] = chunk.selections
    assert len(rows) == 0
    assert rows.columns["pt"].dtype == np.float32
    assert rows.columns["d"].dtype == np.float64


def test_a_tree_without_entries_gives_no_chunks(tmp_path):
    path = write_tree(tmp_path / "0.root", {"x": np.empty(0, dtype="f4")})
    info = open_tree(path, "TauCheck")
    assert info.n_entries == 0
    assert list(stream(info, columns=["x"], cuts=["x > 1"])) == []
    with pytest.raises(InputError, match="branch 'y' is not in"):
        stream(info, columns=["y"], cuts=[None])


@settings(max_examples=40)
@given(
    start=st.integers(0, N + 5),
    length=st.integers(0, N + 5),
    chunk=st.integers(1, N),
    common=st.sampled_from([None, "pt > 30", "flag", "evt % 7 == 1", "pt < 0", "true"]),
    cut=st.sampled_from([None, "njets > 2", "mass > 90 && !flag", "charge", "false"]),
    threads=st.integers(1, 3),
)
def test_any_range_in_any_chunks_gives_the_same_rows(
    info, columns, start, length, chunk, common, cut, threads
):
    chunk = max(chunk, length // 20)
    keep = np.zeros(N, dtype=bool)
    keep[start : start + length] = True
    c = {k: v.astype(np.float64) for k, v in columns.items()}
    keep &= {
        None: True,
        "pt > 30": c["pt"] > 30,
        "flag": columns["flag"],
        "evt % 7 == 1": np.fmod(c["evt"], 7) == 1,
        "pt < 0": False,
        "true": True,
    }[common]
    keep &= {
        None: True,
        "njets > 2": c["njets"] > 2,
        "mass > 90 && !flag": (c["mass"] > 90) & ~columns["flag"],
        "charge": c["charge"] != 0,
        "false": False,
    }[cut]
    got: list[Chunk] = list(
        stream(
            info,
            columns=["pt", "evt", "charge"],
            cuts=[cut],
            common_cut=common,
            start=start,
            stop=start + length,
            chunk_entries=chunk,
            n_threads=threads,
        )
    )
    rows = [c.selections[0] for c in got]
    for name in ("pt", "evt", "charge"):
        values = [r.columns[name] for r in rows]
        together = np.concatenate(values) if values else np.empty(0)
        np.testing.assert_array_equal(together, columns[name][keep])
    entry = np.concatenate([r.entry for r in rows]) if rows else np.empty(0)
    np.testing.assert_array_equal(entry, np.flatnonzero(keep))


def test_the_consumer_may_stop_early(info):
    chunks = stream(info, columns=["pt"], cuts=[None], chunk_entries=10)
    assert next(iter(chunks)).stop == 10
    chunks.close()


def test_a_file_that_changes_between_opening_and_reading_is_refused(tmp_path, columns):
    path = write_tree(tmp_path / "d.root", {"pt": columns["pt"]})
    info = open_tree(path, "TauCheck")
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="changed while it was being read"):
        read(info, ["pt"])
    path.unlink()
    with pytest.raises(InputError, match="there is no file"):
        read(info, ["pt"])


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["m_ass"], {}, r"branch 'm_ass' is not in tree 'TauCheck' of .*a.root; nearest: 'mass'"),
        (["pt"], {"cut": "mas > 1"}, r"branch 'mas' \(used in 'mas > 1'\) is not in .*'mass'"),
        (["pt"], {"common_cut": "njet > 1"}, "nearest: 'njets'"),
        (["d"], {"definitions": {"d": "pt / mss"}}, r"branch 'mss' \(used in 'd: pt / mss'\)"),
        (["pt"], {"cut": "c", "definitions": {"c": "mss > 1"}}, r"branch 'mss' \(used in 'c'\)"),
        (["pt"], {"cut": "cc", "definitions": {"ccc": "pt > 1"}}, "nearest: 'ccc'"),
        (["jet_pt"], {}, r"choose one, from jet_pt\[0\] to jet_pt\[3\] \(tree 'TauCheck' of"),
        (["jet_pt[4]"], {}, "has 4 values per entry"),
        (["pt[0]"], {}, "has one value per entry"),
        (["pt"], {"cut": "jet_pt > 1"}, "has 4 values per entry"),
        (["pt"], {"definitions": {"pt": "mass * 2"}}, "'pt' is defined .* and also a branch"),
    ],
)
def test_impossible_columns_are_refused_before_reading(info, names, options, said):
    with pytest.raises(InputError, match=said) as error:
        stream(info, columns=names, cuts=[options.get("cut")], **without_cut(options))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=said):
        check(info, columns=names, cuts=[options.get("cut")], **without_cut(options))


def without_cut(options: dict) -> dict:
    return {name: value for name, value in options.items() if name != "cut"}


def test_computed_columns_need_a_name(info):
    with pytest.raises(ConfigError, match="give it a name in derived_features"):
        stream(info, columns=["pt + jet_pt[0]"], cuts=[None])


def test_a_cut_outside_the_language_is_refused_before_reading(info):
    with pytest.raises(ConfigError, match=r"write '\(njets == 2\) & \(pt > 0\)'"):
        stream(info, columns=["pt"], cuts=["njets == 2 & pt > 0"])
