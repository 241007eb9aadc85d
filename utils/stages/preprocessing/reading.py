"""Ranges of ntuples -> events with their columns by role, for preprocessing and for prediction.

Both get their columns here, so a column means the same in training and in prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from utils.columns.arrays import Array, Columns, Groups, Integers, RowRange
from utils.columns.roles import Roles, physics_weight, roles_of
from utils.columns.values import (
    apply_missing,
    check_finite,
    count_not_finite,
    refuse_not_finite,
)
from utils.columns.variations import rows_at_once, shifted_name, shifts_of
from utils.formats import ntuples
from utils.formats.skims import SHIFTED
from utils.schema import (
    COMPUTED_COLUMNS,
    PHYSICS_WEIGHT,
    SELECTED,
    TARGET,
    WEIGHT_FACTOR,
    AnalysisConfig,
    ConfigError,
    InputError,
    Location,
    PreprocessConfig,
    Sample,
    Url,
    nearest,
)
from utils.stages.preprocessing.shifting import (
    ShiftedRows,
    ShiftedTree,
    TreeShift,
    shifted_rows,
    shifted_tree,
    transformed,
)
from utils.system import servers
from utils.system.threads import each

OPENED_TOGETHER = 16
"""Files on servers that are opened at the same time."""

_WEIGHT_KEY = "__physics_weight__"
"""The physics weight among the definitions."""


@dataclass(frozen=True)
class StoredShift:
    """What a skim holds of a shift: the features that it changes in any sample, and what more."""

    suffix: str
    features: tuple[str, ...]
    cut: bool
    factor: bool


@dataclass(frozen=True)
class Unit:
    """A range of entries of one file, to be read in one pass for all processes of its sample.

    `tree` are the file's entries under the shifts that are declared for the sample, `stored` what
    is kept of these and of other samples' shifts.
    """

    tree: ShiftedTree
    sample: Sample
    roles: Roles
    common_cut: str | None
    weight: str | None
    entries: RowRange
    file_code: int
    sample_code: int
    process_codes: tuple[int, ...]
    chunk_size: int
    stored: tuple[StoredShift, ...] = ()

    @property
    def info(self) -> ntuples.TreeInfo:
        return self.tree.info

    @property
    def n_columns(self) -> int:
        """The columns that are read of a row, under all its shifts."""
        return len(self.roles.columns()) + len(self.tree.made)

    def __str__(self) -> str:
        first, last = self.entries
        return f"sample {self.sample.name}, {self.info.path.name}, entries {first}-{last}"


@dataclass(frozen=True)
class Selected:
    """Selected events of a unit: columns by group of the skim, and how many survived where.

    `features` are untransformed, float32; `n_common` passed the common cut, `n_selected[p]` the cut
    of process p. `n_missing` counts cells of declared missing values by feature.
    """

    n_read: int
    n_common: int
    n_selected: tuple[int, ...]
    n_missing: Mapping[str, int]
    groups: dict[str, Columns]

    @property
    def n_rows(self) -> int:
        """How many there are, without those that only a shift admits."""
        return sum(self.n_selected)


@dataclass(frozen=True)
class Plan:
    """Everything to be read: trees, units of work in input order, and the names of codes."""

    samples: tuple[Sample, ...]
    processes: tuple[str, ...]
    trees: tuple[ntuples.TreeInfo, ...]
    units: tuple[Unit, ...]
    shifts: tuple[StoredShift, ...] = ()

    @property
    def n_entries(self) -> int:
        return sum(t.n_entries for t in self.trees)


def plan(config: PreprocessConfig, samples: Sequence[Sample], unit_size: int | None = None) -> Plan:
    """Open every input file, check its branches, and cut it into units of work.

    `unit_size` entries make a unit, by default a whole file.
    Raises InputError, naming file and branch, before anything is read.
    """
    roles = roles_of(config)
    if not config.for_training:
        roles = replace(roles, kept=())  # what the training weight needs matters to training only
    processes: list[str] = []
    trees: list[ntuples.TreeInfo] = []
    units: list[Unit] = []
    for sample_code, sample in enumerate(samples):
        codes = []
        for process in sample.processes:
            if process.name not in processes:
                processes.append(process.name)
            codes.append(processes.index(process.name))
        for info in open_files(sample):
            _check_branches(config.input_branches or [], info)
            trees.append(info)
            whole = Unit(
                tree=ShiftedTree(info),
                sample=sample,
                roles=roles,
                common_cut=config.common_cut,
                weight=sample.weight or physics_weight(config),
                entries=RowRange(0, info.n_entries),
                file_code=len(trees) - 1,
                sample_code=sample_code,
                process_codes=tuple(codes),
                chunk_size=config.chunk_size,
            )
            ntuples.check(info, **_wanted(whole))
            tree = _shifted(config, whole)
            n_rows = rows_at_once(config.chunk_size, len(tree.shifts))
            whole = replace(whole, tree=tree, chunk_size=n_rows)
            ntuples.check(whole.info, **_wanted(whole))
            size = unit_size or max(info.n_entries, 1)
            units += [replace(whole, entries=part) for part in whole.entries.chunks(size)]
    if config.for_training:
        refuse_shared_files(units)
        _check_described(config, roles, trees)
    servers.remember(tree.path for tree in trees)
    stored = _stored(roles, [unit.tree for unit in units])
    units = [replace(unit, stored=stored) for unit in units]
    return Plan(tuple(samples), tuple(processes), tuple(trees), tuple(units), stored)


def _shifted(config: PreprocessConfig, unit: Unit) -> ShiftedTree:
    shifts, sample = shifts_of(config, unit.sample), unit.sample.name
    return shifted_tree(
        *(unit.info, shifts, unit.roles, unit.common_cut, unit.weight),
        *(config.missing_values, sample),
    )


def _stored(roles: Roles, trees: Sequence[ShiftedTree]) -> tuple[StoredShift, ...]:
    """Return what a skim of these trees holds of their shifts."""
    every: dict[str, list[TreeShift]] = {}
    for tree in trees:
        for shift in tree.shifts:
            every.setdefault(shift.suffix, []).append(shift)
    return tuple(
        StoredShift(
            suffix,
            tuple(f for f in roles.features if any(f in s.features for s in shifts)),
            any(s.cut for s in shifts),
            any(s.factor for s in shifts),
        )
        for suffix, shifts in every.items()
    )


def _check_described(
    config: AnalysisConfig, roles: Roles, trees: Sequence[ntuples.TreeInfo]
) -> None:
    """Raise ConfigError where something is said of a column that is nowhere: a misspelt name."""
    known = {*roles.columns(), *roles.definitions, *COMPUTED_COLUMNS}
    known |= {branch for tree in trees for branch in tree.branches}
    for key in ("clip", "feature_info", "profile_features"):
        for name in getattr(config, key):
            if name not in known:
                raise ConfigError(
                    f"{key} names '{name}', which is no feature and no branch; "
                    f"{nearest(name, known)}"
                )


def open_files(sample: Sample) -> Iterator[ntuples.TreeInfo]:
    """Yield the trees of a sample's files.

    Raises InputError for a file and a copy of it: their events would count twice.
    """
    seen: dict[tuple[Any, ...], Location] = {}
    paths = ntuples.find_files(sample)
    # Opening a file on a server is mostly waiting for answers.
    n_threads = OPENED_TOGETHER if any(isinstance(path, Url) for path in paths) else 1
    infos = each(partial(ntuples.open_tree, tree=sample.tree), paths, n_threads)
    for path, info in zip(paths, infos, strict=True):
        first = seen.setdefault(_content(info), path)
        if first != path:
            raise InputError(
                f"files {first} and {path} of sample '{sample.name}' hold the same events, which "
                "would count twice: name one of them"
            )
        yield info


def _content(info: ntuples.TreeInfo) -> tuple[Any, ...]:
    """Return what files have in common that hold the same events."""
    return tuple(v for k, v in ntuples.fingerprint(info).items() if k != "name")


def refuse_shared_files(units: Sequence[Unit]) -> None:
    """Raise InputError where two samples read one file (or copies), but share no events by name.

    Each event would be two events, one of them perhaps in the test set, and nothing could tell.
    """
    seen: dict[tuple[Any, ...], Unit] = {}
    for unit in units:
        first = seen.setdefault(_content(unit.info), unit)
        if first.sample.group != unit.sample.group:
            raise InputError(
                f"samples {first.sample.name} and {unit.sample.name} read the same events, of "
                f"{unit.info.path}: name different files, or give both the same group"
            )


def _check_branches(names: Sequence[str], info: ntuples.TreeInfo) -> None:
    for name in names:
        if name not in info.branches:
            raise InputError(f"input_branches: {info.why_not(name)}")


_IMPORTED = 400_000_000
"""Bytes that Python and libraries take in a worker before it reads anything, rounded up."""

_COPIES = 4
"""How often selected rows are in memory at once, at most: as chunks, joined, and on their way."""


_LEAST_ROWS = 1_000
"""Rows of a chunk at least, however little memory there is."""


def rows_within(memory: int | None, n_columns: int, chunk_size: int) -> int:
    """Return the rows of a chunk: `chunk_size`, or less where `memory` bytes do not hold them.

    None: there is no bound.
    """
    return (
        chunk_size if memory is None else min(chunk_size, max(_LEAST_ROWS, _fit(memory, n_columns)))
    )


def _fit(memory: int, n_columns: int) -> int:
    row = 8 * (n_columns + 8)  # provenance, weights and target beside columns
    return (memory - _IMPORTED) // (_COPIES * row)


def chunked_within(units: Sequence[Unit], memory: int | None) -> list[Unit]:
    """Return units of which one chunk at a time fits into `memory` bytes."""
    return [
        replace(unit, chunk_size=rows_within(memory, unit.n_columns, unit.chunk_size))
        for unit in units
    ]


def within(units: Sequence[Unit], memory: int | None) -> list[Unit]:
    """Return units cut so that all rows of one, if all are selected, fit into `memory` bytes.

    They are cut between chunks, so that rows stay in their order; None: as they are.
    """
    if memory is None:
        return list(units)
    cut: list[Unit] = []
    for unit in chunked_within(units, memory):
        n_chunks = _fit(memory, unit.n_columns) // unit.chunk_size
        size = max(1, n_chunks) * unit.chunk_size
        if unit.entries.size <= size:
            cut.append(unit)
        else:
            cut += [replace(unit, entries=part) for part in unit.entries.chunks(size)]
    return cut


def read(unit: Unit) -> Selected:
    """Read a whole unit and return its selected events, process by process."""
    return join([_no_events(unit), *stream(unit)])


def stream(unit: Unit) -> Iterator[Selected]:
    """Yield the selected events of a unit chunk by chunk, in input order within a process.

    Raises InputError where a feature has NaN or infinite values that were not declared missing.
    """
    not_finite: dict[str, tuple[int, int]] = {}
    for chunk in ntuples.stream(
        unit.info,
        **_wanted(unit),
        start=unit.entries.start,
        stop=unit.entries.stop,
        chunk_entries=unit.chunk_size,
    ):
        selections = [_of_process(unit, rows) for rows in chunk.selections]
        for rows in selections:
            _add(not_finite, unit.roles, rows.usable, rows.shifted)
        if not_finite:
            continue  # nothing of this file can be used; the rest is read for the counts
        parts = [_by_role(unit, position, rows) for position, rows in enumerate(selections)]
        counts = tuple(int(np.count_nonzero(rows.shifted.nominal)) for rows in selections)
        missing = {n: sum(c.get(n, 0) for _, c in parts) for n in {n for _, c in parts for n in c}}
        groups = _concatenated([groups for groups, _ in parts])
        yield Selected(chunk.stop - chunk.start, chunk.n_common, counts, missing, groups)
    refuse_not_finite(not_finite, f"{unit.info.path} (sample {unit.sample.name})")


def _add(
    counts: dict[str, tuple[int, int]], roles: Roles, columns: Columns, rows: ShiftedRows
) -> None:
    """Count the values of features, under any shift, that are not finite nor declared missing."""
    found = count_not_finite(columns, roles.features, missing=roles.missing)
    for suffix, features in rows.features.items():
        its = count_not_finite(features, tuple(features), missing=roles.missing)
        found |= {f"{name} under {suffix}": counted for name, counted in its.items()}
    for name, (nan, inf) in found.items():
        before = counts.get(name, (0, 0))
        counts[name] = (before[0] + nan, before[1] + inf)


def _wanted(unit: Unit) -> dict[str, Any]:
    """Return what a unit reads, as `ntuples.stream` and `ntuples.check` take it."""
    definitions = dict(unit.roles.definitions)
    columns = [*unit.roles.columns(), *unit.tree.made]
    if unit.weight is not None:
        definitions[_WEIGHT_KEY] = unit.weight
        columns.append(_WEIGHT_KEY)
    return {
        "columns": columns,
        "cuts": [process.cut for process in unit.sample.processes],
        "common_cut": unit.common_cut,
        "other_common": unit.tree.cuts,
        "definitions": definitions,
        "made": unit.tree.made,
    }


class _ProcessRows(NamedTuple):
    """Rows of one process as they were read: `usable` are the columns for nominal features."""

    entry: Integers
    columns: Columns
    usable: Columns
    shifted: ShiftedRows


def _of_process(unit: Unit, rows: ntuples.Rows) -> _ProcessRows:
    columns = unit.roles.with_fillers(rows.columns)
    weight = columns.get(_WEIGHT_KEY, np.ones(len(rows)))
    shifted, usable = shifted_rows(unit.tree, unit.roles, columns, len(rows), weight)
    return _ProcessRows(rows.entry, columns, usable, shifted)


def _by_role(
    unit: Unit, position: int, rows: _ProcessRows
) -> tuple[dict[str, Columns], dict[str, int]]:
    """Return the rows of one process by group of the skim, and the counts of missing cells."""
    roles, n_rows, entry, columns = unit.roles, len(rows.entry), rows.entry, rows.columns
    process = unit.sample.processes[position]
    where = f"{unit.info.path} (process {process.name})"
    features, counts = roles.transformed(rows.usable, where)
    if not rows.shifted.nominal.all():
        nominal = {n: columns[n][rows.shifted.nominal] for n in roles.features}
        _, counts = apply_missing(nominal, roles.missing, where)
    weight = np.asarray(columns.get(_WEIGHT_KEY, np.ones(n_rows)), np.float64) * unit.sample.factor
    kept = {n: np.asarray(columns[n], np.float64) for n in roles.kept}
    check_finite({PHYSICS_WEIGHT: weight, **kept}, [PHYSICS_WEIGHT, *kept], where)
    code = unit.process_codes[position]
    return {
        "cont_features": {n: features[n] for n in roles.cont},
        "cat_features": {n: features[n] for n in roles.cat},
        "misc_features": {n: columns[n] for n in roles.misc},
        "targets": {TARGET: np.full(n_rows, process.class_id, np.int32)},
        "weights": {PHYSICS_WEIGHT: weight, **kept},
        "identity": {n: columns[n] for n in roles.identity},
        "provenance": {
            "sample": np.full(n_rows, unit.sample_code, np.int64),
            "process": np.full(n_rows, code, np.int64),
            "file": np.full(n_rows, unit.file_code, np.int64),
            "entry": entry.astype(np.int64, copy=False),
        },
        **_shifted_group(unit, features, transformed(unit.tree, roles, rows.shifted, where)),
    }, counts


def _shifted_group(unit: Unit, features: Columns, rows: ShiftedRows) -> dict[str, Columns]:
    """Return the columns of a skim that shifts make; none where there are no shifts.

    A shift that is not declared for the sample leaves all as it is.
    """
    if not unit.stored:
        return {}
    found: Columns = {}
    if any(stored.cut for stored in unit.stored):
        found[SELECTED] = rows.nominal
    for stored in unit.stored:
        suffix = stored.suffix
        mine, changed = rows.selected.get(suffix, rows.nominal), rows.features.get(suffix, {})
        if SELECTED in found and (stored.features or stored.cut):
            found[shifted_name(SELECTED, suffix)] = mine
        for name in stored.features:
            found[shifted_name(name, suffix)] = changed.get(name, features[name])
        if stored.factor:
            factor = rows.factor.get(suffix, np.ones(len(mine)))
            check_finite(
                {f"the factor of {suffix}": factor}, [f"the factor of {suffix}"], str(unit)
            )
            found[shifted_name(WEIGHT_FACTOR, suffix)] = factor
    return {SHIFTED: found}


def join(parts: Sequence[Selected]) -> Selected:
    """Return the events of several parts, one or more, as one.

    Samples may have different numbers of processes.
    """
    names = {name for part in parts for name in part.n_missing}
    return Selected(
        n_read=sum(p.n_read for p in parts),
        n_common=sum(p.n_common for p in parts),
        n_selected=tuple(map(sum, zip_longest(*(p.n_selected for p in parts), fillvalue=0))),
        n_missing={n: sum(p.n_missing.get(n, 0) for p in parts) for n in sorted(names)},
        groups=_concatenated([p.groups for p in parts]),
    )


def empty(whole: Plan) -> Selected:
    """Return no events of a plan, in the column types that all its files together have."""
    return join([_no_events(unit) for unit in whole.units])


def _no_events(unit: Unit) -> Selected:
    names = [*unit.roles.columns(), *unit.tree.made]
    rows = ntuples.Rows(np.empty(0, np.int64), _no_rows(unit.info, names))
    groups, _ = _by_role(unit, 0, _of_process(unit, rows))
    return Selected(0, 0, (0,) * len(unit.sample.processes), {}, groups)


def _no_rows(info: ntuples.TreeInfo, names: Iterable[str]) -> Columns:
    float64 = np.dtype(np.float64)
    return {n: np.empty(0, info.branches.get(n, float64)) for n in names}


# --- every entry, for prediction -----------------------------------------------------------------


@dataclass(frozen=True)
class Entries:
    """The entries of a file as prediction reads them; `cut` keeps those that are to be scored.

    `tree` are the file's entries under their shifts, if there are any. Raises InputError or
    ConfigError, as `plan`, where the file has not what is needed.
    """

    info: ntuples.TreeInfo
    roles: Roles
    cut: str | None
    chunk_size: int
    shifted: ShiftedTree | None = None

    def __post_init__(self) -> None:
        ntuples.check(self.tree.info, **self.wanted)

    @property
    def tree(self) -> ShiftedTree:
        return self.shifted or ShiftedTree(self.info)

    @property
    def n_columns(self) -> int:
        """The columns that are read of a row, under all its shifts."""
        return len(self.roles.columns()) + len(self.tree.made)

    @property
    def wanted(self) -> dict[str, Any]:
        """What is read, as `ntuples.stream` and `ntuples.check` take it."""
        roles, tree = self.roles, self.tree
        every = roles.with_sources(*roles.identity, *roles.misc)
        return {
            "columns": [every, [*roles.with_sources(*roles.features), *tree.made]],
            "cuts": [None, tree.any_cut(self.cut, roles.definitions)],
            "definitions": roles.definitions,
            "made": tree.made,
        }


class EntriesPart(NamedTuple):
    """A range of entries: columns of all by group of a skim, and of those that a cut kept more.

    `kept` are their numbers, ascending; their `features` are untransformed and float32, and
    `shifted` says which the nominal cut kept, and what they are under shifts.
    """

    span: RowRange
    groups: Groups
    kept: Integers
    features: Columns
    shifted: ShiftedRows


def stream_entries(source: Entries, span: RowRange) -> Iterator[EntriesPart]:
    """Yield entries in order, range by range; one range at least, empty for no entries.

    Weights are not read: they change no score, and what is only predicted may lack their branches.
    Raises InputError where a feature has NaN or infinite values that were not declared missing.
    """
    info, roles, tree = source.info, source.roles, source.tree
    if not span.size:
        nothing = {**_no_rows(info, roles.columns()), **_no_rows(info, tree.made)}
        yield _entries_part(source, span, nothing, span.numbers, nothing, {})
    not_finite: dict[str, tuple[int, int]] = {}
    for chunk in ntuples.stream(
        tree.info,
        **source.wanted,
        start=span.start,
        stop=span.stop,
        chunk_entries=source.chunk_size,
    ):
        every, kept = (rows.columns for rows in chunk.selections)
        part, numbers = RowRange(chunk.start, chunk.stop), chunk.selections[1].entry
        made = _entries_part(source, part, every, numbers, kept, not_finite)
        if not not_finite:
            yield made
    refuse_not_finite(not_finite, str(info.path))


def _entries_part(
    source: Entries,
    span: RowRange,
    every: Columns,
    numbers: Integers,
    kept: Columns,
    not_finite: dict[str, tuple[int, int]],
) -> EntriesPart:
    roles, tree, where = source.roles, source.tree, str(source.info.path)
    groups = _of_entries(roles, span, roles.with_fillers(every))
    rows, usable = shifted_rows(tree, roles, roles.with_fillers(kept), len(numbers))
    _add(not_finite, roles, usable, rows)
    if not_finite:  # nothing of this file can be used; the rest is read for the counts
        return EntriesPart(span, groups, numbers, {}, rows)
    features, _ = roles.transformed(usable, where)
    return EntriesPart(span, groups, numbers, features, transformed(tree, roles, rows, where))


def _of_entries(roles: Roles, span: RowRange, columns: Columns) -> Groups:
    """Return the columns of entries of one file, all of one sample, by group of a skim."""
    sample, file = np.zeros((2, span.size), np.int64)
    return {
        "identity": {n: columns[n] for n in roles.identity},
        "misc_features": {n: columns[n] for n in roles.misc},
        "provenance": {"sample": sample, "file": file, "entry": span.numbers},
    }


# --- parts joined --------------------------------------------------------------------------------


def _concatenated(parts: Sequence[dict[str, Columns]]) -> dict[str, Columns]:
    if len(parts) == 1:
        return parts[0]
    for name in parts[0]["identity"]:
        _check_one_kind([p["identity"][name] for p in parts], name)
    return {
        group: {name: _concatenate([p[group][name] for p in parts], name) for name in columns}
        for group, columns in parts[0].items()
    }


def _check_one_kind(arrays: Sequence[Array], name: str) -> None:
    """Raise InputError where an identity column is an integer in one input and not in another.

    Joined they would be float64, in which float32's rounding of large numbers no longer shows.
    """
    types = {str(a.dtype): a.dtype.kind == "f" for a in arrays}
    if len(set(types.values())) > 1:
        raise InputError(
            f"identity column '{name}' is {' in one input and '.join(sorted(types))} in another: "
            "store it as an integer in all of them"
        )


def _concatenate(arrays: list[Array], name: str) -> Array:
    """Join one column of several inputs; integers of different signedness stay integers.

    numpy would make float64 of int64 and uint64 and round event numbers above 2^53.
    """
    types = {a.dtype for a in arrays if len(a)} or {a.dtype for a in arrays}
    common = np.result_type(*types)
    if common.kind == "f" and all(t.kind in "iub" for t in types):
        if any(a.dtype.kind == "i" and len(a) and a.min() < 0 for a in arrays):
            raise InputError(
                f"column '{name}' is unsigned 64-bit in one input and negative in another: "
                "no integer type holds both"
            )
        common = np.dtype(np.uint64)
    return np.concatenate([a.astype(common, copy=False) for a in arrays])
