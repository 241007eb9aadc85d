"""Over-training: scores of trained-on events, of left-out events, and of the test set compared.

An in-fold score is the mean of the models that trained on the event, an out-of-fold score that of
the one model that did not; analyses use the latter. In-fold above out-of-fold is memory: it costs
performance but biases nothing. Out-of-fold unlike test is bias, and that is what must not be. The
verdict rests on gaps of class-balanced AUC and log-loss with bootstrap intervals; the
Kolmogorov-Smirnov p-values stand beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from utils.columns.arrays import Floats
from utils.results.containers import (
    VIEWS,
    EvaluationOptions,
    EvaluationTable,
    Gap,
    KsTest,
    OverTraining,
    OverTrainingDensity,
    Sample3,
    View,
)
from utils.results.metrics import curves
from utils.results.metrics.bootstrap import Sums, estimate, poisson_sums
from utils.results.metrics.distributions import density, histogram, score_edges
from utils.results.metrics.scores import class_note, exact_numbers, numbers, score_terms
from utils.results.metrics.table import labelled, learnt, made_ready, views_of
from utils.system.threads import each

_PERMUTATION_BLOCK = 100

_GRID = 1024
"""Bins of the scores in which permuted samples are compared."""

_PARTS: tuple[Literal["class", "rest"], ...] = ("class", "rest")


@dataclass(frozen=True, eq=False)
class _Set:
    """One set of scores: exact values and bootstrap columns of the metrics gaps are made of.

    exact, columns: by view, then by metric.
    """

    name: Sample3
    proba: Floats
    target: NDArray[np.integer]
    exact: dict[View, dict[str, Floats]]
    columns: dict[View, dict[str, Floats]]


def make_over_training(
    train: EvaluationTable | None, test: EvaluationTable | None, options: EvaluationOptions
) -> OverTraining:
    """Return densities, gaps, Kolmogorov-Smirnov tests and the verdict.

    train: the training set, with in-fold scores (with one fold its scores are in-fold themselves).
    test: events that no model trained on. Either may be None, but two sets of scores must remain
    (see `reason_against`).
    """
    sets = _sets(train, test, options)
    table = train if train is not None else test
    assert table is not None
    by_name = {s.name: s for s in sets}
    gaps: list[Gap] = []
    tests: list[KsTest] = []
    for first, second in _pairs(tuple(by_name)):
        a, b = by_name[first], by_name[second]
        gaps.extend(
            gap for v in VIEWS if v in a.exact and v in b.exact for gap in _gaps(a, b, table, v)
        )
        tests.extend(_ks_tests(a, b, options))
    memorised, biased, verdict = _verdict(gaps)
    return OverTraining(
        densities=tuple(
            _density(sets, table, c, options.density_bin) for c in range(len(table.classes))
        ),
        gaps=tuple(gaps),
        ks=tuple(tests),
        memorised=memorised,
        biased=biased,
        verdict=verdict,
    )


def reason_against(train: EvaluationTable | None, test: EvaluationTable | None) -> str:
    """Return why there is nothing to compare, '' if there is."""
    if train is None:
        return "the training set's scores are not given"
    if len(labelled(train).target) == 0 or (test is not None and len(labelled(test).target) == 0):
        return "no event of known class in the training or test set"
    if test is None and (train.infold_proba is None or train.n_folds == 1):
        return (
            "one set of scores only: the training set's in-fold scores and the test set are missing"
        )
    return ""


def _pairs(names: tuple[Sample3, ...]) -> Iterator[tuple[Sample3, Sample3]]:
    """Yield in-fold with out-of-fold and out-of-fold with test, or in-fold with test."""
    yield from itertools.pairwise(names)


def _sets(
    train: EvaluationTable | None, test: EvaluationTable | None, options: EvaluationOptions
) -> list[_Set]:
    sets: list[_Set] = []
    if train is not None:
        train = learnt(labelled(made_ready(train)[0]))
        scores: dict[Sample3, Floats] = {}
        if train.n_folds == 1:
            scores["in-fold"] = train.proba
        else:
            if train.infold_proba is not None:
                scores["in-fold"] = np.asarray(train.infold_proba, dtype=np.float64)
            scores["out-of-fold"] = train.proba
        sets.extend(_score_sets(scores, train, [options.seed, 1], options))
    if test is not None:
        test = labelled(made_ready(test)[0])
        sets.extend(_score_sets({"test": test.proba}, test, [options.seed, 2], options))
    return sets


def _score_sets(
    scores: dict[Sample3, Floats],
    table: EvaluationTable,
    seed: list[int],
    options: EvaluationOptions,
) -> list[_Set]:
    """Return the sets of one table: bootstrapped together, so that they are paired."""
    k = len(table.classes)
    views = [view for view in views_of(table) if view != "unweighted"]
    terms = {}
    aucs: dict[tuple[str, View], Floats] = {}
    for name, proba in scores.items():

        def ranked(c: int, proba: Floats = proba) -> tuple[NDArray[np.int32], list[float]]:
            ranking, positive = curves.rank(proba[:, c]), table.target == c
            passed = [
                curves.cumulate(ranking, positive, None if view == "balanced" else table.weight)
                for view in views
            ]
            areas = [curves.area(*curves.roc_points(p)) for p in passed]
            return curves.bin_codes(ranking, passed[0]), areas

        found = each(ranked, range(k), options.n_threads)
        codes = [of_class[0] for of_class in found]
        terms.update(score_terms(proba, table.target, codes, table.weight, f"{name}:", brier=False))
        for v, view in enumerate(views):
            aucs[name, view] = np.array([areas[v] for _, areas in found])
    sums: Sums = poisson_sums(terms, options.n_bootstrap, seed, n_threads=options.n_threads)
    sets = []
    for name, proba in scores.items():
        one = _Set(name, proba, table.target, {}, {})
        for view in views:
            exact = exact_numbers(sums, k, view, f"{name}:")
            exact["roc_auc"] = aucs[name, view]
            known = aucs[name, view][np.isfinite(aucs[name, view])]
            exact["roc_auc_macro"] = np.array(known.mean() if len(known) else np.nan)
            one.exact[view] = exact
            one.columns[view] = numbers(sums.columns, k, view, f"{name}:", precision=False)
        sets.append(one)
    return sets


def _gaps(a: _Set, b: _Set, table: EvaluationTable, view: View) -> Iterator[Gap]:
    paired = "test" not in (a.name, b.name)
    k = a.proba.shape[1]
    notes = []
    for c in range(k):
        sizes = [(int((s.target == c).sum()), int((s.target != c).sum())) for s in (a, b)]
        n, n_rest = (min(pair) for pair in zip(*sizes, strict=True))
        notes.append(class_note(n, n_rest, table.classes[c].name))
    all_note = next((n for n in notes if n), "")
    rows: list[tuple[str, int | None, str]] = [("roc_auc", c, notes[c]) for c in range(k)]
    rows += [("roc_auc_macro", None, all_note), ("log_loss", None, all_note)]
    for metric, class_id, note in rows:
        at = ... if class_id is None else class_id
        first, second = (s.exact[view][metric][at] for s in (a, b))
        reps = [s.columns[view][metric][at] for s in (a, b)]
        difference = estimate(float(first - second), reps[0] - reps[1], note=note)
        if note.endswith("no interval"):
            difference = type(difference)(difference.value, note=note)
        values = (float(first), float(second))
        yield Gap(view, metric, class_id, a.name, b.name, paired, *values, difference)


def _density(
    sets: list[_Set], table: EvaluationTable, category: int, default_bin: float
) -> OverTrainingDensity:
    edges = score_edges(table, category, default_bin)
    parts: list[dict[str, tuple[Floats, Floats]]] = [{}, {}]
    for s in sets:
        inside = s.proba.argmax(axis=1) == category
        for part, mine in zip(parts, (s.target == category, s.target != category), strict=True):
            chosen = inside & mine
            weight = np.ones(int(chosen.sum()))
            if part is parts[1]:
                # Every class of the rest counts alike, so that samples of other mixture compare.
                sizes = np.bincount(s.target, minlength=s.proba.shape[1])
                weight = 1.0 / np.maximum(sizes, 1)[s.target[chosen]]
            part[s.name] = density(*histogram(s.proba[chosen, category], edges, weight), edges)
    return OverTrainingDensity(category, edges, parts[0], parts[1])


# --- Kolmogorov-Smirnov --------------------------------------------------------------------------


def _ks_tests(a: _Set, b: _Set, options: EvaluationOptions) -> Iterator[KsTest]:
    """Yield one test per class and of class or rest; the same permutations serve all of them.

    The p-value's statistic is the distance on a grid of pooled quantiles, the same for observed and
    permuted scores; the distance reported is the full one.
    """
    generator = np.random.default_rng([options.seed, 3])
    paired = "test" not in (a.name, b.name)
    most = options.max_permuted_rows
    if paired:
        rows_a = rows_b = _sample(generator, len(a.target), most)
    else:
        share = most * len(a.target) // (len(a.target) + len(b.target))
        rows_a = _sample(generator, len(a.target), max(share, 1))
        rows_b = _sample(generator, len(b.target), max(most - share, 1))
    n_a, k = len(rows_a), a.proba.shape[1]
    targets = np.concatenate([a.target[rows_a], b.target[rows_b]])
    pooled = np.concatenate([a.proba[rows_a], b.proba[rows_b]])
    grids = [_grid(pooled[:, c], targets == c) for c in range(k)]
    exceeding = np.zeros((k, 2), dtype=np.int64)
    observed = np.zeros((k, 2))
    for number, signs in enumerate(_signs(generator, n_a, targets, paired, options)):
        for c, grid in enumerate(grids):
            for part, distance in enumerate(_distances(grid, signs, targets == c, n_a)):
                if number == 0:
                    observed[c, part] = distance[0]
                # Rounding must not make an equal distance smaller.
                exceeding[c, part] += np.sum(distance >= observed[c, part] * (1 - 1e-6))
    for c in range(k):
        for part, of in enumerate(_PARTS):
            chosen = (targets == c) == (of == "class")
            first, second = pooled[:n_a, c][chosen[:n_a]], pooled[n_a:, c][chosen[n_a:]]
            if min(len(first), len(second)) == 0:
                continue
            # The observed arrangement is one of those counted: p is at least 1/(permutations + 1).
            p = float(exceeding[c, part]) / (options.n_permutations + 1)
            sizes = (len(first), len(second))
            yield KsTest(c, of, a.name, b.name, ks_distance(first, second), p, sizes)


def ks_distance(first: Floats, second: Floats) -> float:
    """Return the largest difference of the two empirical distribution functions."""
    values = np.concatenate([first, second])
    below = [
        np.searchsorted(np.sort(part), values, side="right") / len(part) for part in (first, second)
    ]
    return float(np.abs(below[0] - below[1]).max())


def _sample(generator: np.random.Generator, n: int, most: int) -> NDArray[np.integer]:
    if n <= most:
        return np.arange(n)
    return np.sort(generator.choice(n, most, replace=False))


def _grid(score: Floats, is_class: NDArray[np.bool_]) -> sparse.csr_array:
    """Return the matrix (2 _GRID, n) that sums over bins of pooled quantiles, class before rest."""
    code = np.empty(len(score), dtype=np.int64)
    for part, chosen in enumerate((is_class, ~is_class)):
        if chosen.any():
            inner = np.quantile(score[chosen], np.linspace(0, 1, _GRID + 1)[1:-1], method="lower")
            code[chosen] = np.searchsorted(inner, score[chosen], side="right") + part * _GRID
    ones = np.ones(len(score), dtype=np.float32)
    entries = (ones, (code, np.arange(len(score))))
    return sparse.csr_array(entries, shape=(2 * _GRID, len(score)))


def _signs(
    generator: np.random.Generator,
    n_a: int,
    targets: NDArray[np.integer],
    paired: bool,
    options: EvaluationOptions,
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks (n pooled, permutations) of +1, first set, and -1, second; first as observed.

    Paired scores are swapped within the event; others are permuted within the true class, which
    keeps the number of events of each class in both sets.
    """
    observed = np.ones(len(targets), dtype=np.float32)
    observed[n_a:] = -1
    total = options.n_permutations + 1
    of_class = [np.flatnonzero(targets == c) for c in np.unique(targets)]
    for start in range(0, total, _PERMUTATION_BLOCK):
        signs = np.repeat(observed[:, None], min(_PERMUTATION_BLOCK, total - start), axis=1)
        moved = signs if start else signs[:, 1:]
        if paired:
            drawn = generator.integers(0, 2, size=(n_a, moved.shape[1]), dtype=np.int8)
            moved[:n_a] = 2 * drawn - 1
            moved[n_a:] = -moved[:n_a]
        else:
            for mine in of_class:
                rows = np.repeat(observed[mine].astype(np.int8)[None], moved.shape[1], axis=0)
                moved[mine] = generator.permuted(rows, axis=1, out=rows).T
        yield signs


def _distances(
    grid: sparse.csr_array, signs: NDArray[np.float32], is_class: NDArray[np.bool_], n_a: int
) -> Iterator[Floats]:
    """Yield the distances on the grid of the class's scores, then of the rest, (permutations,)."""
    sums = grid @ signs
    sizes = np.diff(grid.indptr)
    for part, chosen in enumerate((is_class, ~is_class)):
        first, second = int(chosen[:n_a].sum()), int(chosen[n_a:].sum())
        if min(first, second) == 0:
            yield np.zeros(signs.shape[1])
            continue
        rows = slice(part * _GRID, (part + 1) * _GRID)
        gap = np.cumsum(sums[rows], axis=0, dtype=np.float64)
        below = np.cumsum(sizes[rows])[:, None]
        # With d = (first) - (second) among the lowest n: first = (n + d)/2, second = (n - d)/2.
        gap = gap * (0.5 / first + 0.5 / second) + below * (0.5 / first - 0.5 / second)
        yield np.abs(gap).max(axis=0)


# --- verdict -----------------------------------------------------------------------------------


def _verdict(gaps: list[Gap]) -> tuple[bool | None, bool | None, str]:
    """Return memorised, biased and the sentence, from the gaps of macro AUC and log-loss."""
    headline = {
        (g.first, g.second, g.metric): g
        for g in gaps
        if g.view == "balanced" and g.metric in ("roc_auc_macro", "log_loss")
    }
    memory = _judge(headline, "in-fold", "out-of-fold")
    bias = _judge(headline, "out-of-fold", "test")
    direct = _judge(headline, "in-fold", "test")
    if direct is not None:
        better, differs, text = direct
        if differs is None:
            return None, None, f"No verdict: {text}."
        if better:
            return (
                True,
                None,
                (
                    f"With one fold the models do better on the events they trained on than on the "
                    f"test set ({text}): use their scores on events that were not trained on only."
                ),
            )
        if differs:
            return (
                False,
                None,
                (
                    f"With one fold the models do worse on the events they trained on than on the "
                    f"test set ({text}), which is not over-training: find out in what the two "
                    "sets differ (of ten trainings where they do not, up to one looks like this)."
                ),
            )
        return (
            False,
            None,
            (
                f"No over-training is seen: scores of trained-on events and of the test set "
                f"agree within the intervals ({text})."
            ),
        )
    sentences = []
    memorised = biased = None
    if memory is not None:
        better, differs, text = memory
        memorised = None if differs is None else better
        sentences.append(
            f"there is no verdict on memory, {text}"
            if differs is None
            else f"the models remember their training events ({text})"
            if better
            else f"the models show no memory of their training events ({text})"
        )
    if bias is not None:
        better, biased, text = bias
        sentences.append(
            f"there is no verdict on bias, {text}"
            if biased is None
            else f"out-of-fold scores, those an analysis uses, agree with the test set ({text})"
            if not biased
            else "out-of-fold scores, those an analysis uses, are "
            f"{'better' if better else 'worse'} than on the test set ({text}): find out why (of "
            "ten trainings without bias up to one looks like this)"
        )
    if not sentences:
        return None, None, "No verdict: nothing to compare."
    joint = "; ".join(sentences)
    return memorised, biased, joint[0].upper() + joint[1:] + "."


def _judge(
    headline: dict[tuple[Sample3, Sample3, str], Gap], first: Sample3, second: Sample3
) -> tuple[bool, bool | None, str] | None:
    """Return whether `first` is better, whether they differ at all (None: unknown), and numbers."""
    auc = headline.get((first, second, "roc_auc_macro"))
    loss = headline.get((first, second, "log_loss"))
    if auc is None or loss is None:
        return None
    a, b = auc.difference, loss.difference
    if not (np.isfinite(a.low) and np.isfinite(b.low)):
        return False, None, a.note or b.note or "the metrics are undefined"
    text = (
        f"macro AUC {a.value:+.4f} [{a.low:+.4f}, {a.high:+.4f}], "
        f"log-loss {b.value:+.4f} [{b.low:+.4f}, {b.high:+.4f}]"
    )
    differs = bool(a.low > 0 or a.high < 0 or b.low > 0 or b.high < 0)
    better = bool(a.low > 0 or b.high < 0)
    return better, differs, text
