"""Scores, matrices and yields against scikit-learn and plain sums, in every view."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scored_tables import FAST, scored_table
from sklearn import metrics as sk

from utils.results.evaluation import evaluate
from utils.results.events import VIEWS
from utils.results.options import EvaluationOptions


def test_numbers_equal_scikit_learn_in_every_view():
    table = scored_table()
    n = len(table.target)
    count = np.bincount(table.target)
    found = evaluate(table, FAST)
    weights = {
        "balanced": (n / count)[table.target],
        "physics": table.weight,
        "unweighted": np.ones(n),
    }
    assert found.views == VIEWS
    for view in VIEWS:
        scores, w = found.view(view), weights[view]
        predicted = table.proba.argmax(axis=1)
        loss = sk.log_loss(table.target, table.proba, sample_weight=w)
        assert scores.log_loss.value == pytest.approx(loss, rel=1e-9)
        accuracy = sk.accuracy_score(table.target, predicted, sample_weight=w)
        assert scores.accuracy.value == pytest.approx(accuracy, rel=1e-9)
        brier = 0
        for c in range(3):
            y = table.target == c
            own = np.where(y, n / count[c], n / (n - count[c])) if view == "balanced" else w
            p = table.proba[:, c]
            assert scores.roc_auc[c].value == pytest.approx(
                sk.roc_auc_score(y, p, sample_weight=own), abs=1e-12
            )
            assert scores.average_precision[c].value == pytest.approx(
                sk.average_precision_score(y, p, sample_weight=own), abs=1e-12
            )
            share = 0.5 if view == "balanced" else np.average(y, weights=w)
            assert scores.prevalence[c] == pytest.approx(share)
            term = sk.brier_score_loss(y, p, sample_weight=w)
            assert scores.brier_class[c].value == pytest.approx(term, rel=1e-9)
            brier += term
        assert scores.brier.value == pytest.approx(brier, rel=1e-9)
        matrix = next(m for m in found.confusion if m.view == view)
        for name, how in (("norm_true", "true"), ("norm_pred", "pred")):
            expected = sk.confusion_matrix(table.target, predicted, sample_weight=w, normalize=how)
            np.testing.assert_allclose(getattr(matrix, name).value, expected, rtol=1e-9)
        np.testing.assert_allclose(
            matrix.yields.value,
            sk.confusion_matrix(table.target, predicted, sample_weight=w),
            rtol=1e-9,
        )


def test_values_per_fold_are_those_of_the_fold_alone():
    table = scored_table(n=3000)
    found = evaluate(table, FAST)
    shares = []
    for fold in (0, 1):
        mine = table.fold == fold
        alone = evaluate(
            dataclasses.replace(
                table,
                proba=table.proba[mine],
                target=table.target[mine],
                fold=table.fold[mine],
                weight=table.weight[mine],
                features={},
            ),
            FAST,
        )
        for view in VIEWS:
            for name in ("roc_auc_macro", "log_loss", "brier", "accuracy"):
                folds = getattr(found.view(view), name).folds
                expected = getattr(alone.view(view), name).value
                assert folds[fold] == pytest.approx(expected, rel=1e-4), (view, name)
            for c in range(3):
                assert found.view(view).average_precision[c].folds[fold] == pytest.approx(
                    alone.view(view).average_precision[c].value, abs=2e-3
                )
        shares.append([(m.norm_true.value, m.norm_pred.value) for m in alone.confusion])
    for matrix, *folds in zip(found.confusion, *shares, strict=True):
        true, predicted = np.std(folds, axis=0, ddof=1)
        np.testing.assert_allclose(matrix.norm_true.spread, true, atol=1e-6)
        np.testing.assert_allclose(matrix.norm_pred.spread, predicted, atol=1e-6)


def test_signed_weights_stay_signed():
    table = scored_table(weight="signed")
    found = evaluate(table, FAST)
    physics = found.view("physics")
    y, p, w = table.target == 0, table.proba[:, 0], table.weight
    a, b = p[y][:, None], p[~y][None]
    pairs = w[y][:, None] * w[~y][None]
    expected = ((a > b) * pairs).sum() / pairs.sum()
    assert physics.roc_auc[0].value == pytest.approx(expected, abs=1e-10)
    assert physics.roc_auc[0].error > 0
    assert all(math.isnan(e.value) for e in physics.average_precision)
    assert "negative weights" in physics.average_precision[0].note
    assert "negative weights" in found.gaps["average_precision/physics"]
    assert not [c for c in found.precision_recall if c.view == "physics"]
    assert np.isfinite(found.view("balanced").average_precision[0].value)
    matrix = next(m for m in found.confusion if m.view == "physics")
    cell = (table.target == 1) & (table.proba.argmax(axis=1) == 2)
    assert matrix.yields.value[1, 2] == pytest.approx(w[cell].sum())
    assert matrix.yields.error[1, 2] == pytest.approx(np.sqrt((w[cell] ** 2).sum()))
    counts = found.class_counts[1]
    mine = w[table.target == 1]
    assert counts.negative_fraction == pytest.approx((mine < 0).mean())
    assert counts.n_effective == pytest.approx(mine.sum() ** 2 / (mine**2).sum())


def test_yields_have_intervals_and_a_spread_over_folds():
    """The interval of a sum of weights is 1.96 sqrt(sum of squares) wide on either side."""
    table = scored_table(n=20_000, weight="signed", features=False)
    found = evaluate(table, EvaluationOptions(seed=1, n_bootstrap=400, sections=("confusion",)))
    matrix = next(m for m in found.confusion if m.view == "physics")
    for end, sign in ((matrix.yields.low, -1), (matrix.yields.high, 1)):
        pull = (end - matrix.yields.value) / (sign * matrix.yields.error)
        np.testing.assert_allclose(pull, 1.96, atol=0.45)
        assert pull.mean() == pytest.approx(1.96, abs=0.15)
    n_folds = table.n_folds
    cell = 3 * table.target + table.proba.argmax(axis=1)
    folds = [
        n_folds * np.bincount(cell[mine], table.weight[mine], minlength=9).reshape(3, 3)
        for mine in (table.fold == i for i in range(n_folds))
    ]
    np.testing.assert_allclose(matrix.yields.spread, np.std(folds, axis=0, ddof=1), rtol=1e-4)
    few = evaluate(scored_table(n=12, features=False), FAST).confusion[0]
    assert np.isnan(few.yields.low[few.counts < 5]).all()


def test_yields_are_divided_by_the_evaluated_fraction():
    whole = evaluate(scored_table(features=False), FAST)
    tenth = evaluate(scored_table(features=False, fraction=0.1), FAST)
    for a, b in zip(whole.confusion, tenth.confusion, strict=True):
        factor = 10 if a.view == "physics" else 1
        np.testing.assert_allclose(b.yields.value, factor * a.yields.value)
        np.testing.assert_allclose(b.yields.error, factor * a.yields.error)
        np.testing.assert_allclose(b.norm_true.value, a.norm_true.value)
    for a, b in zip(whole.densities, tenth.densities, strict=True):
        factor = 10 if a.view == "physics" else 1
        np.testing.assert_allclose(b.yields, factor * a.yields)
        np.testing.assert_allclose(b.density, a.density)
