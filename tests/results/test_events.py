"""Tables of scores: what is dropped, what is accepted and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scored_tables import FAST, scored_table

from utils.results.evaluation import evaluate
from utils.results.metrics.naming import flat_metrics
from utils.schema import InputError


def test_filler_rows_are_dropped_and_counted():
    table = scored_table()
    proba = np.concatenate([table.proba, np.full((100, 3), np.nan)])
    padded = dataclasses.replace(
        table,
        proba=proba,
        target=np.append(table.target, np.full(100, -1)),
        fold=np.append(table.fold, np.full(100, -1)),
        weight=np.append(table.weight, np.ones(100)),
        features={k: np.append(v, np.ones(100)) for k, v in table.features.items()},
    )
    found, plain = evaluate(padded, FAST), evaluate(table, FAST)
    assert (found.n_dropped, found.n_events, found.n_unlabelled) == (100, 2000, 0)
    assert flat_metrics(found) == flat_metrics(plain) | {"test/n_dropped": 100.0}


def test_rounded_probabilities_are_accepted():
    table = scored_table(n=200)
    rounded = (table.proba * (1 + 1e-7)).astype(np.float32)
    found = evaluate(dataclasses.replace(table, proba=rounded), FAST)
    exact = evaluate(table, FAST).view("balanced").roc_auc_macro.value
    assert found.view("balanced").roc_auc_macro.value == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": np.zeros(5, dtype=int)}, "target has 5 rows"),
        ({"target": np.full(2000, 3)}, "target 3 is none of the 3 classes"),
        ({"proba": np.ones((2000, 2))}, "one column a class"),
        ({"proba": np.full((2000, 3), 1.5)}, "outside 0..1"),
        ({"weight": np.full(2000, np.nan)}, "weight is NaN or infinite in 2000 rows"),
        ({"fraction": 0.0}, "evaluated fraction"),
        ({"features": {"m": np.ones(3)}}, "m has 3 rows"),
    ],
)
def test_contradictory_tables_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        evaluate(dataclasses.replace(scored_table(), **changes), FAST)
