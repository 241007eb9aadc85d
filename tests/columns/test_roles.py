"""What a column means: compared whole, whatever the words for it."""

from __future__ import annotations

from pathlib import Path

from small_analysis import config

from utils.columns.roles import other_meaning
from utils.schema import PreprocessConfig


def test_features_are_compared_by_their_meaning(tmp_path: Path) -> None:
    def made(text: str, cut: str) -> PreprocessConfig:
        derived = {"a": text, "unused": cut}
        return config(
            tmp_path, cont_features=["a"], derived_features=derived, cuts={"boosted": cut}
        )

    run = made("boosted * x", "x > 2")
    assert other_meaning(run, made("(x>2)*x", "x > 50"), ()) == ""
    for other in (made("boosted * x", "x > 3"), made("boosted * jpt_1", "x > 2")):
        assert other_meaning(run, other, ()).startswith("'a' (its definition")


def test_of_a_misc_column_clipping_and_policy_do_not_matter(tmp_path: Path) -> None:
    def made(clip: float, **keys: object) -> PreprocessConfig:
        derived = {"d": "v + 1"}
        return config(tmp_path, clip={"v": [0, clip]}, derived_features=derived, **keys)

    assert other_meaning(made(1), made(2), ["v", "d"]) == ""
    assert other_meaning(made(1, missing=-9), made(2, missing=-9), ["v", "d"]) == ""
    assert other_meaning(made(1, missing=-9), made(1, missing=-8), ["v"]).startswith("'x' (missing")
    of_v = {"feature_info": {"v": {"missing": -9}}}
    assert other_meaning(made(1, **of_v), made(1), ["v"]) == ""
    assert other_meaning(made(1, **of_v), made(1), ["d"]).startswith("'d' (sources")
