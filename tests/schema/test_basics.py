"""Names: safe in paths and metrics, and the nearest of those that exist."""

from __future__ import annotations

from utils.schema import (
    nearest,
    slug,
    unique_slugs,
)


def test_slugs_are_safe_and_distinct() -> None:
    assert slug("h+jets") == "h_jets"
    assert unique_slugs(["h+jets", "h jets", "h_jets"]) == ["h_jets", "h_jets_2", "h_jets_3"]
    assert nearest("m_svv", ["m_sv", "pt"]) == "nearest: 'm_sv'"
    assert nearest("zzz", []) == "there are none"
