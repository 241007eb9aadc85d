"""Columns that tell the class by themselves, by name and by values."""

from __future__ import annotations

import numpy as np
import pytest
from omegaconf import OmegaConf

from utils.columns import suspicion
from utils.schema import PROJECT


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[(n, "a label") for n in ("classID", "class_id", "label", "isSignal", "is_signal")],
        *[(n, "another classifier") for n in ("BDT", "DNN_score", "bdtScore", "my_xgb", "pred_2")],
        *[(n, None) for n in ("pt_1", "mjj", "classic", "byMediumDeepTau2017v2p1VSjet_1")],
        *[(n, None) for n in ("predicate", "scorecard", "dr_tt", "nbtag", "svfit_prob", "m_sv")],
    ],
)
def test_names(name: str, kind: str | None) -> None:
    said = suspicion.by_name(name)
    assert (said is None) if kind is None else str(said).startswith(kind)


def test_no_feature_of_the_shipped_analyses_is_suspicious_by_its_name() -> None:
    for path in (PROJECT / "configs" / "analysis").glob("*.yaml"):
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        for name in [*content.get("cont_features", []), *content.get("cat_features", [])]:
            assert suspicion.by_name(name) is None, name


def test_values() -> None:
    rng = np.random.default_rng(3)
    n = 300
    group = np.repeat([0, 1, 2], n // 3)
    x = rng.normal(size=n)
    with_holes = np.where(rng.random(n) < 0.2, np.nan, x)
    columns = {
        "x": x,
        "holes": with_holes,
        "again": with_holes.copy(),
        "apart": x + 100.0 * group,
        "code": (group * 2 + rng.integers(0, 2, n)).astype(np.int32),
        "shared": group % 2,
        "count": rng.integers(0, 4, n),
        "never": np.full(n, np.nan),
        "one": np.where(rng.random(n) < 0.2, np.nan, 1.0),
    }
    found = suspicion.suspicious(columns, group)
    assert found.pop("again") == "equal to holes in every event"
    assert found.pop("never") == "never measured"
    assert found.pop("one") == "constant: 1"
    assert "do not overlap" in found.pop("apart")
    assert "in two classes" in found.pop("code")
    assert found == {}


def test_one_class_separates_nothing() -> None:
    assert suspicion.suspicious({"n": np.arange(9) % 3}, np.zeros(9, int)) == {}
