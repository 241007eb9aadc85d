"""Entries that pass cuts, with their columns, chunk by chunk in one pass over a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from utils.columns.arrays import Array, Integers
from utils.columns.expressions import Expression, Step, check_index, expand, parse, quote
from utils.columns.variations import ComputedBranch
from utils.formats.ntuples.baskets import Reader
from utils.formats.ntuples.memory import ColumnsInfo, ColumnsReader
from utils.formats.ntuples.trees import TreeInfo
from utils.schema import ConfigError, InputError
from utils.system.threads import ahead

Cut = str | Expression | None
"""A text in which `definitions` are filled in, an expression as it is, or None: all entries."""

Made = Expression | Step
"""A column that is evaluated, or one that is read as it is under another name."""


@dataclass(frozen=True)
class Rows:
    """Entries that passed a cut: their ascending numbers in the tree, and their columns.

    Columns keep the types of the input; derived ones are float64. Selections that share rows may
    share arrays: they are to be read, not changed in place.
    """

    entry: Integers
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(self.entry)


@dataclass(frozen=True)
class Chunk:
    """The entries from `start` to `stop`: how many passed the common cut, and the rows per cut."""

    start: int
    stop: int
    n_common: int
    selections: tuple[Rows, ...]


def stream(
    info: TreeInfo,
    *,
    columns: Sequence[Sequence[str]] | Sequence[str],
    cuts: Sequence[Cut],
    common_cut: Cut = None,
    other_common: Sequence[Expression] = (),
    definitions: Mapping[str, str] | None = None,
    made: Mapping[str, Made] | None = None,
    start: int = 0,
    stop: int | None = None,
    chunk_entries: int = 200_000,
    n_threads: int | None = None,
) -> Iterator[Chunk]:
    """Read the entries from `start` to `stop` once and yield, chunk by chunk, the rows of each cut.

    `columns` names what the rows of every cut carry, or gives one list per cut: branches, elements
    of fixed-size branches (`jet_pt[0]`) and keys of `definitions` (derived features and named
    cuts, usable in cuts too). A cut that is None keeps what the common cut keeps. The branches of
    cuts are read first, the others only for rows that survive. The next chunk is read while the
    caller works on this one. `made` are further columns that `columns` may name. What passes one of
    `other_common` is kept as well as what passes `common_cut`, which alone is counted.

    Everything is checked before anything is read. Raises InputError for a branch that is missing,
    jagged or not a number, naming it, the file and the nearest branch, or (while reading) for
    damaged data; ConfigError for a cut outside the language.
    """
    plan = _plan(info, columns, cuts, [common_cut, *other_common], definitions or {}, made or {})
    stop = info.n_entries if stop is None else min(stop, info.n_entries)
    starts = range(max(start, 0), stop, max(chunk_entries, 1))
    threads = n_threads or _n_cores()
    return _chunks(info, plan, starts, stop, threads)


def check(
    info: TreeInfo,
    *,
    columns: Sequence[Sequence[str]] | Sequence[str],
    cuts: Sequence[Cut],
    common_cut: Cut = None,
    other_common: Sequence[Expression] = (),
    definitions: Mapping[str, str] | None = None,
    made: Mapping[str, Made] | None = None,
) -> None:
    """Raise what `stream` would raise for these arguments before it reads anything.

    With many files, a branch that one of them lacks is named before the first of them is read.
    """
    _plan(info, columns, cuts, [common_cut, *other_common], definitions or {}, made or {})


class _Plan(NamedTuple):
    columns: list[list[str]]
    common: list[Expression]  # the cut that is counted, and others; none keeps all
    cuts: list[Expression | None]
    derived: dict[str, Expression]  # computed on rows that survive
    elements: dict[str, tuple[str, tuple[int, ...]]]  # column -> branch, element of it
    computed: Mapping[str, ComputedBranch]

    def branches_of(self, column: str) -> frozenset[str]:
        if column in self.derived:
            return self.derived[column].names
        return frozenset((self.elements.get(column, (column,))[0],))


def _plan(
    info: TreeInfo,
    columns: Sequence[Sequence[str]] | Sequence[str],
    cuts: Sequence[Cut],
    common: Sequence[Cut],
    definitions: Mapping[str, str],
    made: Mapping[str, Made],
) -> _Plan:
    per_cut = [
        [str(c) for c in columns] if all(isinstance(c, str) for c in columns) else list(columns[i])
        for i in range(len(cuts))
    ]
    derived: dict[str, Expression] = {}
    elements: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in dict.fromkeys(name for names in per_cut for name in names):
        if name in made:
            _take(info, name, made[name], derived, elements)
        elif name in definitions:
            derived[name] = _checked(info, name, definitions, f"{name}: {definitions[name]}")
        elif name.endswith("]") and name not in info.branches:
            program = _checked(info, name, {}).program
            if len(program) > 1:
                raise ConfigError(
                    f"column {quote(name)} is computed: give it a name in derived_features"
                )
            elements[name] = (program[0].name, program[0].element)
        else:
            _check_branch(info, name, (), name, definitions)
    one_of = [_cut(info, cut, definitions) for cut in common]
    return _Plan(
        columns=per_cut,
        common=[] if one_of[0] is None else [cut for cut in one_of if cut is not None],
        cuts=[_cut(info, cut, definitions) for cut in cuts],
        derived=derived,
        elements=elements,
        computed=info.computed,
    )


def _take(
    info: TreeInfo,
    name: str,
    made: Made,
    derived: dict[str, Expression],
    elements: dict[str, tuple[str, tuple[int, ...]]],
) -> None:
    if isinstance(made, Expression):
        derived[name] = _checked(info, made, {})
    else:
        _check_branch(info, made.name, made.element, name, {})
        elements[name] = (made.name, made.element)


def _cut(info: TreeInfo, cut: Cut, definitions: Mapping[str, str]) -> Expression | None:
    if cut is None or (isinstance(cut, str) and not cut.strip()):
        return None
    return _checked(info, cut, definitions)


def _checked(
    info: TreeInfo, said: str | Expression, definitions: Mapping[str, str], shown: str = ""
) -> Expression:
    """Return the expression after making sure that the tree has all it names."""
    if isinstance(said, Expression):
        expression = said
    else:
        expression = expand(said, definitions) if definitions else parse(said)
    text = expression.text
    for name in sorted(expression.defined):
        if name in info.branches or name in info.shared:
            raise InputError(
                f"'{name}' is defined in the configuration and also a branch of {info.where}: "
                "rename the definition"
            )
    for step in expression.program:
        if step.kind == "column":
            _check_branch(info, step.name, step.element, shown or text, definitions)
    return expression


def _check_branch(
    info: TreeInfo, name: str, element: tuple[int, ...], text: str, definitions: Mapping[str, str]
) -> None:
    if name in info.branches:
        try:
            check_index(name, info.branches[name].shape, element, text)
        except InputError as error:
            raise InputError(f"{error} ({info.where})") from None
    else:
        used = "" if text == name else f" (used in {quote(text)})"
        raise InputError(info.why_not(name, used, definitions))


def _chunks(info: TreeInfo, plan: _Plan, starts: range, stop: int, threads: int) -> Iterator[Chunk]:
    if not starts:
        return
    source = ColumnsReader(info) if isinstance(info, ColumnsInfo) else Reader(info)
    with source as reader, ThreadPoolExecutor(threads, "unpack") as pool:

        def read(names: Sequence[str], rows: Integers | range, span: range) -> dict[str, Array]:
            reader.prepare(names, rows, span, stop)
            return dict(
                zip(names, pool.map(lambda name: reader.read(name, rows), names), strict=True)
            )

        yield from ahead(
            _read_chunk(plan, first, min(first + starts.step, stop), read) for first in starts
        )


ReadColumns = Callable[[Sequence[str], Integers | range, range], dict[str, Array]]


def _read_chunk(plan: _Plan, start: int, stop: int, read: ReadColumns) -> Chunk:
    rows: Integers | range = range(start, stop)
    have: dict[str, Array] = {}

    def fetch(names: Iterable[str]) -> None:
        wanted = set(names) - set(have)
        computed = sorted(wanted & set(plan.computed))
        sources = wanted.union(*(plan.computed[name].names for name in computed))
        needed = sorted(sources - set(have) - set(computed))
        have.update(read(needed, rows, range(start, stop)))
        for name in computed:
            have[name] = plan.computed[name].evaluate(have)

    def keep_only(mask: npt.NDArray[np.bool_]) -> None:
        nonlocal rows, have
        if not mask.all():
            rows = np.asarray(rows, dtype=np.int64)[mask]
            have = {name: column[mask] for name, column in have.items()}

    n_common = len(rows)
    if plan.common:
        fetch(name for cut in plan.common for name in cut.names)
        common = [cut.mask(have, len(rows)) for cut in plan.common]
        n_common = int(np.count_nonzero(common[0]))
        keep_only(np.logical_or.reduce(common))
    fetch(name for cut in plan.cuts if cut is not None for name in cut.names)
    masks = [None if cut is None else cut.mask(have, len(rows)) for cut in plan.cuts]
    passing = [mask for mask in masks if mask is not None]
    if len(passing) == len(masks) and masks:
        some = np.logical_or.reduce(passing)
        masks = [mask[some] for mask in passing]
        keep_only(some)
    wanted = list(dict.fromkeys(name for names in plan.columns for name in names))
    fetch(branch for name in wanted for branch in plan.branches_of(name))
    values: dict[str, Array] = {}
    for name in wanted:
        if name in plan.derived:
            values[name] = plan.derived[name].evaluate(have, len(rows))
        elif name in plan.elements:
            branch, element = plan.elements[name]
            values[name] = np.ascontiguousarray(have[branch][(..., *element)])  # type: ignore[arg-type]
        else:
            values[name] = have[name]
    entry = np.asarray(rows, dtype=np.int64)
    selections = []
    for names, mask in zip(plan.columns, masks, strict=True):
        pick: Any = slice(None) if mask is None or mask.all() else mask
        selections.append(Rows(entry[pick], {name: values[name][pick] for name in names}))
    return Chunk(start, stop, n_common, tuple(selections))


def _n_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
