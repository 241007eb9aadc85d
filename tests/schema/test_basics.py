"""Names: safe in paths and metrics, and the nearest of those that exist."""

from __future__ import annotations

from utils.schema import (
    nearest,
    short_name,
    slug,
    unique_slugs,
)


def test_slugs_are_safe_and_distinct() -> None:
    assert slug("h+jets") == "h_jets"
    assert unique_slugs(["h+jets", "h jets", "h_jets"]) == ["h_jets", "h_jets_2", "h_jets_3"]
    assert nearest("m_svv", ["m_sv", "pt"]) == "nearest: 'm_sv'"
    assert nearest("zzz", []) == "there are none"


def test_long_names_that_begin_alike_stay_apart() -> None:
    long = "friends_" + "_".join(f"sample_{i}" for i in range(20))
    names = [short_name(f"{long}{end}") for end in "ab"]
    assert len(set(names)) == 2
    assert all(len(name) == 80 for name in names)
    assert short_name("friends_TT") == "friends_TT"
    assert short_name("tables_a/b").startswith("tables_a_b-")
