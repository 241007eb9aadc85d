"""No event on both sides: what becomes of repeated events, and the audit of a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from utils.columns.audit import (
    audit_prediction,
    audit_training,
    merge_audits,
    resolve_duplicates,
    trained_on,
    unique_identities,
)
from utils.columns.identity import group_code, identity_hash
from utils.schema import InputError

# --- identities and duplicates -------------------------------------------------------------------


IDENTITY = np.array([7, 8, 7, 9, 8, 7], dtype=np.uint64)
SIDE = np.array([0, 1, 1, 0, 1, 0])


def test_repeated_events_follow_their_first_occurrence() -> None:
    side, keep, found = resolve_duplicates(IDENTITY, SIDE, "keep_same_fold")
    assert side.tolist() == [0, 1, 0, 0, 1, 0]
    assert keep.all()
    assert (found.identities, found.later_rows, found.straddling) == (2, 3, 1)
    assert (found.moved, found.dropped) == (1, 0)
    assert found.warning is not None
    assert "2 events occur more than once" in found.warning


def test_later_occurrences_are_dropped() -> None:
    side, keep, found = resolve_duplicates(IDENTITY, SIDE, "drop_later")
    assert side.tolist() == SIDE.tolist()
    assert keep.tolist() == [True, True, False, True, False, False]
    assert found.dropped == 3


def test_events_on_both_sides_are_an_error_if_so_wished() -> None:
    with pytest.raises(InputError, match=r"1 events are on both sides.*rows 0 and 2"):
        resolve_duplicates(IDENTITY, SIDE, "error")
    one_side = np.zeros(6, dtype=int)
    _, keep, found = resolve_duplicates(IDENTITY, one_side, "error")
    assert keep.all()
    assert found.straddling == 0


def test_no_repeated_events_means_no_warning() -> None:
    for policy in ("error", "keep_same_fold", "drop_later"):
        _, keep, found = resolve_duplicates(np.arange(4, dtype="u8"), SIDE[:4], policy)
        assert keep.all()
        assert found.warning is None
    _, keep, _ = resolve_duplicates(np.array([], dtype="u8"), np.array([]), "error")
    assert len(keep) == 0


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=30))
def test_no_policy_leaves_an_event_on_both_sides(rows: list[tuple[int, int]]) -> None:
    identity = np.array([r[0] for r in rows], dtype=np.uint64)
    side = np.array([r[1] for r in rows], dtype=np.int64)
    for policy in ("keep_same_fold", "drop_later"):
        new, keep, found = resolve_duplicates(identity, side, policy)
        kept = list(zip(identity[keep].tolist(), new[keep].tolist(), strict=True))
        assert len({i for i, _ in kept}) == len(set(kept)) == len(set(identity.tolist()))
        assert found.later_rows == len(rows) - len(set(identity.tolist()))


# --- the audit -----------------------------------------------------------------------------------


def test_cross_training_passes_its_audit() -> None:
    identity = identity_hash(1, {"evt": np.arange(100)})
    fold_numbers = np.arange(100) % 4
    train = [np.flatnonzero(fold_numbers != i) for i in range(4)]
    audit = audit_training(identity, fold_numbers, train, [fold_numbers == i for i in range(4)])
    assert audit.passed
    assert [m.n_train for m in audit.models] == [75] * 4
    assert [m.predicted_in_validation for m in audit.models] == [25] * 4  # reported, not refused
    assert audit.to_rows()[0]["passed"] is True
    assert "passed" in audit.summary


def test_a_leak_into_the_validation_is_found() -> None:
    identity = identity_hash(1, {"evt": np.array([0, 1, 2, 3, 4, 5, 0])})
    fold_numbers = np.array([0, 1, 0, 1, 0, 1, 1])  # event 0 again, in the other fold
    audit = audit_training(
        identity,
        fold_numbers,
        [fold_numbers == 1, fold_numbers == 0],
        [fold_numbers == 0, fold_numbers == 1],
    )
    assert not audit.passed
    assert [m.validation_in_train for m in audit.models] == [1, 1]
    assert [row["passed"] for row in audit.to_rows()] == [False, False]
    assert "FAILED" in audit.summary


def test_with_inner_validation_no_predicted_row_is_validated_on() -> None:
    identity = identity_hash(1, {"evt": np.arange(40)})
    fold_numbers = np.arange(40) % 2
    rest = [np.flatnonzero(fold_numbers != i) for i in range(2)]
    train, validation = [r[4:] for r in rest], [r[:4] for r in rest]
    audit = audit_training(identity, fold_numbers, train, validation)
    assert audit.passed
    assert [m.predicted_in_validation for m in audit.models] == [0, 0]


def test_a_single_model_flags_what_it_was_trained_on() -> None:
    identity = identity_hash(1, {"evt": np.arange(10)})
    fold_numbers = np.zeros(10, dtype=int)
    train, validation = np.arange(8), np.arange(8, 10)
    audit = audit_training(identity, fold_numbers, [train], [validation])
    assert audit.passed
    assert [m.predicted_in_train for m in audit.models] == [8]
    leaky = audit_training(identity, fold_numbers, [train], [np.arange(7, 10)])
    assert not leaky.passed


def test_predicted_rows_are_audited_against_what_their_model_trained_on() -> None:
    def identities(numbers: NDArray[Any]) -> NDArray[np.uint64]:
        return identity_hash(group_code("DY"), {"evt": numbers})

    trained = [
        unique_identities(identities(np.arange(100)), np.arange(100) % 2 != i) for i in range(2)
    ]
    assert all(len(t) == 50 and np.all(np.diff(t) > 0) for t in trained)
    numbers = np.arange(50, 150)
    right = audit_prediction(trained, identities(numbers), numbers % 2)
    assert right.passed
    swapped = audit_prediction(trained, identities(numbers), 1 - numbers % 2)
    assert [m.predicted_in_train for m in swapped.models] == [25, 25]
    joined = merge_audits([right, swapped])
    assert [m.n_predicted for m in joined.models] == [100, 100]
    assert not joined.passed
    assert "validation" not in joined.summary
    assert [*joined.to_rows()[0]] == [
        "model",
        "n_train",
        "n_predicted",
        "predicted_in_train",
        "n_not_compared",
        "passed",
    ]
    other = identity_hash(group_code("TT"), {"evt": numbers})
    assert audit_prediction(trained, other, 1 - numbers % 2).passed


def test_nothing_was_trained_on_by_an_empty_training() -> None:
    nothing = np.array([], dtype=np.uint64)
    assert not trained_on(nothing, np.arange(3, dtype=np.uint64)).any()
    assert trained_on(np.arange(3, dtype=np.uint64), nothing).tolist() == []
