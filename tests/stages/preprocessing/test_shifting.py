"""What a variation replaces in a tree, what of the rows it changes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from small_analysis import config

from utils.columns.roles import roles_of
from utils.columns.variations import shifts_of
from utils.formats import ntuples
from utils.schema import InputError, PreprocessConfig
from utils.stages.preprocessing import reading
from utils.stages.preprocessing.shifting import ShiftedTree, shifted_tree

BOTH = {"up": "{branch}__tUp", "down": "{branch}__tDown"}


def analysis(folder: Path, variation: dict[str, Any], **keys: Any) -> PreprocessConfig:
    """An analysis of S.root with features x, r = x / y and j[1], and the variation t."""
    return config(
        folder,
        cont_features=["x", "r", "j[1]"],
        derived_features={"r": "x / y"},
        variations={"t": variation},
        **keys,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    n = 6
    columns = {
        **{"run": np.ones(n, "i4"), "evt": np.arange(n), "x": np.arange(n, dtype="f4")},
        **{
            "y": np.full(n, 2.0),
            "j": np.ones((n, 2), "f4"),
            "w": np.ones(n),
            "k": np.ones(n, "i2"),
        },
        **{"x__tUp": np.arange(n, dtype="f4") + 1, "x__tDown": np.arange(n, dtype="f4") - 1},
        **{"x__oddUp": np.ones(n), "x__oddDown": np.ones(n), "idle__tUp": np.ones(n)},
        **{"evt__idUp": np.ones(n), "evt__idDown": np.ones(n)},
        **{"x__halfUp": np.ones(n, "f4"), "x__halfDown": np.ones(n, "f4"), "y__halfUp": np.ones(n)},
        **{"j__jUp": np.ones((n, 2), "f4"), "j__jDown": np.ones((n, 2), "f4")},
    }
    with uproot.recreate(tmp_path / "S.root") as file:
        types = {k: np.dtype((v.dtype, v.shape[1:])) for k, v in columns.items()}
        file.mktree("T", types).extend(columns)
    return tmp_path


def tree_of(made: PreprocessConfig, weight: str | None = "w") -> ShiftedTree:
    [sample] = made.read_samples
    info = ntuples.open_tree(made.input_path + "/S.root", "T")
    shifts = shifts_of(made, sample)
    return shifted_tree(
        *(info, shifts, roles_of(made), made.common_cut, weight, made.missing_values, "S")
    )


@pytest.mark.parametrize(
    ("variation", "features", "cut", "factor"),
    [
        (BOTH, ("x", "r"), True, False),
        ({"up": {"y": "y * 2"}, "down": {"y": "y / 2"}}, ("r",), False, False),
        ({"up": "{branch}__jUp", "down": "{branch}__jDown"}, ("j[1]",), False, False),
        ({"up": {"w": "w * 2"}, "down": {"w": "w / 2"}}, (), False, True),
        ({"weight_up": "x / y", "weight_down": "y"}, (), False, True),
    ],
)
def test_what_follows_from_the_branches_that_are_replaced(
    folder: Path, variation: dict[str, Any], features: tuple[str, ...], cut: bool, factor: bool
) -> None:
    for shift in tree_of(analysis(folder, variation, common_cut="x > 2")).shifts:
        assert (shift.features, shift.cut, shift.factor) == (features, cut, factor)


@pytest.mark.parametrize(
    ("variation", "message"),
    [
        (
            {"up": "{branch}_TUp", "down": "{branch}_TDown"},
            r"variations.t.up: '\{branch\}_TUp' matches no branch of tree 'T' of .*S.root, of all "
            r"that features, cut and weight of sample 'S' are made of \(j, w, x, y\).* "
            r"'samples: \[\.\.\.\]'",
        ),
        (
            {"up": "{branch}__oddUp", "down": "{branch}__oddDown"},
            r"'x__oddUp' of tree 'T' of .* is float64, and 'x', which it stands for, is float32",
        ),
        (
            {"up": "{branch}__idUp", "down": "{branch}__idDown"},
            r"'evt__idUp' of .* would shift 'evt', which identifies events or gives their fold",
        ),
        (
            {"up": "{branch}__halfUp", "down": "{branch}__halfDown"},
            r"t.down: 'y' has a partner for tUp and none for tDown",
        ),
        ({"up": {"xx": "1"}, "down": {"xx": "2"}}, r"t.up: branch 'xx' is not in tree 'T' of"),
        ({"up": {"x": "z"}, "down": {"x": "2"}}, r"branch 'z' .*is not in tree"),
        ({"up": {"k": "2"}, "down": {"k": "3"}}, r"t.up replaces k, of which no feature, cut or"),
        ({"up": {"j": "2"}, "down": {"j": "3"}}, r"'j' of .* has several values per entry"),
        ({"weight_up": "ww", "weight_down": "2"}, r"branch 'ww' .*is not in tree"),
    ],
)
def test_what_a_variation_can_not_do_to_a_tree_is_refused(
    folder: Path, variation: dict[str, Any], message: str
) -> None:
    made = analysis(folder, variation)
    with pytest.raises(InputError, match=message):
        reading.plan(made.model_copy(update={"weight": "w"}), made.read_samples)


def test_a_shift_is_declared_for_samples_by_name_or_tag(folder: Path) -> None:
    for samples in (["S"], ["simulation"]):
        tags = {"S": {"tags": ["simulation"]}}
        made = analysis(folder, {**BOTH, "samples": samples}, samples=tags)
        assert len(tree_of(made).shifts) == 2
    data = analysis(
        folder,
        {**BOTH, "samples": ["simulation"]},
        prediction_samples=[{"sample": "X", "tags": ["simulation"]}],
    )
    assert not tree_of(data).shifts


def test_columns_of_shifts_count_among_those_that_are_read(folder: Path) -> None:
    """Chunks that are to fit into a worker hold them too: `x` and `r` under both shifts."""
    shifted = analysis(folder, BOTH, for_training=False, prediction_samples=["S"])
    plain = shifted.model_copy(update={"variations": {}})
    n_columns = [reading.plan(of, of.read_samples).units[0].n_columns for of in (plain, shifted)]
    assert n_columns[1] >= n_columns[0] + 2 * 2


def test_rows_are_those_that_any_cut_keeps(folder: Path) -> None:
    """Nominal rows, their order and counts are those of no variation; others are marked."""
    plain = analysis(folder, BOTH, common_cut="x > 2", for_training=False, prediction_samples=["S"])
    made = [
        reading.read(reading.plan(of, of.read_samples).units[0])
        for of in (plain.model_copy(update={"variations": {}}), plain)
    ]
    nominal, shifted = made[0].groups, made[1].groups
    marks = shifted["shifted"]
    assert shifted["provenance"]["entry"].tolist() == [2, 3, 4, 5]
    assert marks["selected"].tolist() == [False, True, True, True]
    assert marks["selected__tUp"].tolist() == [True, True, True, True]
    assert marks["selected__tDown"].tolist() == [False, False, True, True]
    assert marks["x__tUp"].tolist() == [3, 4, 5, 6]
    assert marks["r__tUp"].tolist() == [1.5, 2, 2.5, 3]
    assert "j[1]__tUp" not in marks
    assert "shifted" not in nominal
    for group, columns in nominal.items():
        for name, values in columns.items():
            assert shifted[group][name][marks["selected"]].tobytes() == values.tobytes()
    assert made[0].n_common == made[1].n_common == 3
    assert made[0].n_selected == made[1].n_selected == (3,)


def test_an_integer_branch_holds_whole_numbers_of_its_type(folder: Path) -> None:
    made = analysis(folder, {"up": {"k": "k + 1.75"}, "down": {"k": "k * 1e6"}}, cat_features=["k"])
    plan = reading.plan(made, made.read_samples)
    with pytest.raises(InputError, match=r"t.down.k: 'k \* 1e6' gives 1e\+06, which int16 can't"):
        reading.read(plan.units[0])
    fine = made.model_copy(
        update={"variations": {"t": made.variations["t"].model_copy(update={"down": {"k": "0"}})}}
    )
    rows = reading.read(reading.plan(fine, fine.read_samples).units[0]).groups["shifted"]
    assert rows["k__tUp"].tolist() == [2] * 6  # as C cuts off what is behind the point


def test_values_that_are_not_finite_under_a_shift_are_refused(folder: Path) -> None:
    made = analysis(folder, {"up": {"y": "y - 2"}, "down": {"y": "y"}})
    with pytest.raises(InputError, match=r"not finite in r under tUp \(1 NaN, 5 inf\): declare"):
        reading.read(reading.plan(made, made.read_samples).units[0])


def test_a_factor_of_a_weight_that_is_zero_is_refused(folder: Path) -> None:
    made = analysis(folder, {"up": {"w": "2"}, "down": {"w": "1"}}, weight="w * (x > 2)")
    rows = reading.read(reading.plan(made, made.read_samples).units[0]).groups["shifted"]
    assert rows["weight_factor__tUp"].tolist() == [1, 1, 1, 2, 2, 2]
    lost = analysis(folder, {"up": {"w": "2"}, "down": {"w": "0"}}, weight="w - 1")
    with pytest.raises(InputError, match=r"6 events have the physics weight 0 and another under"):
        reading.read(reading.plan(lost, lost.read_samples).units[0])
