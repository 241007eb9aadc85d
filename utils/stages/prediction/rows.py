"""The rows that are predicted, with all their columns: what every kind of output is made from.

Skims and ntuples give the same rows. What is read of a row, and what follows from its columns (its
fold, the hash of its identity), is there once, in the order of the input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Columns, Groups, Int32, Integers, Mask, RowRange, UInt64
from utils.columns.folds import fold_of
from utils.columns.identity import group_of_rows, identity_of_rows
from utils.columns.pipeline import FeaturePipeline, feature_matrix
from utils.columns.roles import Roles
from utils.columns.variations import shifted_name
from utils.formats import ntuples
from utils.formats.skims import SHIFTED, Skim
from utils.schema import SELECTED, FoldRule, Location, ProofError, portable, portable_location
from utils.stages.preprocessing import reading
from utils.system.units import stamp

Described = Sequence[Mapping[str, Any]]
"""What is known of some samples or files: group, fingerprint."""


@dataclass(frozen=True)
class ShiftedFeatures:
    """What a shift makes of the rows that some cut kept: which it selects, `(n,)`, and features.

    `features` are those that it changes, by name, as models take them.
    """

    selected: Mask
    features: Columns


@dataclass(frozen=True)
class Part:
    """A range of rows: columns of all, numbers of those that some cut kept, features of these.

    Of these rows `nominal` marks those that the nominal cut kept (None: all), and `shifted` says by
    suffix what shifts make of them.
    """

    span: RowRange
    groups: Groups
    kept: Integers
    features: NDArray[np.float32]
    nominal: Mask | None = None
    shifted: Mapping[str, ShiftedFeatures] = field(default_factory=dict)


@dataclass(frozen=True)
class InputRows:
    """A range of rows of one input.

    `groups` are the columns `(n,)` of all rows by group of a skim: identity, misc_features and
    provenance at least. `fold`, `identity` (a hash) and `group` (the code of the group of samples,
    or of the file, in which that tells events apart) are those of all rows. Where in the range the
    rows are that some cut kept is `place`, ascending; `features` are theirs, `(len(place), n)`,
    `nominal` marks those that the nominal cut kept and `shifted` says what shifts make of them.
    """

    span: RowRange
    groups: Groups
    fold: Int32
    identity: UInt64
    group: UInt64
    place: Integers
    features: NDArray[np.float32]
    nominal: Mask
    shifted: Mapping[str, ShiftedFeatures]


@dataclass(frozen=True)
class RowSource(ABC):
    """Where the rows of one input come from: `span`, with these `features` in order."""

    span: RowRange
    features: tuple[str, ...]

    @property
    @abstractmethod
    def samples_and_files(self) -> tuple[Described, Described]:
        """The samples and the files that codes in the rows' provenance point to."""

    @property
    @abstractmethod
    def inputs(self) -> Any:
        """What tells the files that the rows are read from: where they are, size and time."""

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """Yield all rows in order, range by range, one range at least."""

    @abstractmethod
    def within(self, memory: int | None) -> Self:
        """Return the same rows in ranges that fit into `memory` bytes; None: in any."""

    def rows(self, rule: FoldRule) -> Iterator[InputRows]:
        """Yield the parts, with what follows from their columns."""
        for part in self.parts():
            identity, provenance = part.groups["identity"], part.groups["provenance"]
            fold = fold_of(rule, identity, provenance["entry"])
            nominal: Mask = np.ones(len(part.kept), np.bool_)
            nominal = nominal if part.nominal is None else part.nominal
            yield InputRows(
                *(part.span, part.groups, fold),
                identity_of_rows(rule, identity, provenance, *self.samples_and_files),
                group_of_rows(rule, provenance, *self.samples_and_files),
                place=_places(part.span, part.kept),
                features=part.features,
                nominal=nominal,
                shifted=part.shifted,
            )


def _places(span: RowRange, numbers: Integers) -> Integers:
    """Return where rows are in a range. Raises ProofError where one would be misplaced."""
    place = numbers - span.start
    if len(place) and (place[0] < 0 or place[-1] >= span.size or np.any(np.diff(place) <= 0)):
        raise ProofError(
            f"rows for entries {span.start} to {span.stop - 1} name entries {np.min(numbers)} to "
            f"{np.max(numbers)} or are not ascending: scores would be misplaced"
        )
    return place


@dataclass(frozen=True)
class NtupleEntries(RowSource):
    """The entries of a file, read from the file itself; its sample is of `group`."""

    entries: reading.Entries
    pipeline: FeaturePipeline
    group: str

    @property
    def samples_and_files(self) -> tuple[Described, Described]:
        return [{"group": self.group}], [ntuples.fingerprint(self.entries.info)]

    @property
    def inputs(self) -> Any:
        info, shifts = self.entries.info, [s.suffix for s in self.entries.tree.shifts]
        return [portable_location(info.path), stamp(info.path), ntuples.fingerprint(info), shifts]

    def parts(self) -> Iterator[Part]:
        shifts = [shift for shift in self.entries.tree.shifts if shift.is_scored]
        for part in reading.stream_entries(self.entries, self.span):
            matrix = feature_matrix(part.features, self.pipeline, self.features)
            shifted = {
                shift.suffix: ShiftedFeatures(
                    part.shifted.selected[shift.suffix],
                    self._changed(part.features, part.shifted.features[shift.suffix]),
                )
                for shift in shifts
            }
            nominal = part.shifted.nominal
            yield Part(part.span, part.groups, part.kept, matrix, nominal, shifted)

    def within(self, memory: int | None) -> Self:
        entries = self.entries
        n_rows = reading.rows_within(memory, entries.n_columns, entries.chunk_size)
        return replace(self, entries=replace(entries, chunk_size=n_rows))

    def _changed(self, nominal: Columns, changed: Columns) -> Columns:
        """Return the features that a shift changes, transformed."""
        of_pipeline = self.pipeline.transform_changed(nominal, changed)
        others = {n: c for n, c in changed.items() if n not in self.pipeline.inputs}
        return {n: c for n, c in {**of_pipeline, **others}.items() if n in self.features}


@dataclass(frozen=True)
class SkimRows(RowSource):
    """The rows of a skim, with everything that it holds, and under `shifts`, by their suffixes."""

    skim: Skim
    chunk_size: int
    shifts: tuple[str, ...] = ()

    @property
    def samples_and_files(self) -> tuple[Described, Described]:
        return self.skim.metadata["samples"], self.skim.metadata["files"]

    @property
    def inputs(self) -> Any:
        return [portable(self.skim.path), list(self.skim.stamp), list(self.shifts)]

    def parts(self) -> Iterator[Part]:
        every = ("identity", "misc_features", "provenance", "targets", "weights")
        names = {g: list(self.skim.groups[g]) for g in every}
        for span in self.span.chunks(self.chunk_size):
            features = self.skim.matrix(self.features, span)
            groups = self.skim.read({**names, **self._of_shifts}, span)
            nominal, shifted = self._shifted(groups.get(SHIFTED, {}), span.size)
            yield Part(span, groups, span.numbers, features, nominal, shifted)

    def within(self, memory: int | None) -> Self:
        n_columns = sum(map(len, self.skim.groups.values()))
        n_rows = reading.rows_within(memory, n_columns, self.chunk_size)
        return replace(self, chunk_size=n_rows)

    @property
    def _of_shifts(self) -> dict[str, list[str]]:
        """The columns that shifts are read from, by group."""
        return {SHIFTED: list(self.skim.groups[SHIFTED])} if SHIFTED in self.skim.groups else {}

    def _shifted(
        self, columns: Columns, n_rows: int
    ) -> tuple[Mask | None, dict[str, ShiftedFeatures]]:
        """Return which rows are nominal, and what shifts make of all, from columns of a skim."""
        nominal = columns.get(SELECTED)
        every = np.ones(n_rows, np.bool_) if nominal is None else nominal
        shifted = {}
        for suffix in self.shifts:
            named = {name: shifted_name(name, suffix) for name in self.features}
            shifted[suffix] = ShiftedFeatures(
                columns.get(shifted_name(SELECTED, suffix), every),
                {name: columns[its] for name, its in named.items() if its in columns},
            )
        return nominal, shifted


def _rows_of(shifted: ShiftedFeatures, rows: slice) -> ShiftedFeatures:
    features = {name: values[rows] for name, values in shifted.features.items()}
    return ShiftedFeatures(shifted.selected[rows], features)


@dataclass(frozen=True, kw_only=True)
class SkimEntries(SkimRows):
    """The entries of a file, `path`, read from the skim that was made of it (and others).

    `code` is the file's in the skim. What a cut removed is read from the file itself.
    """

    code: int
    path: Location
    roles: Roles

    @property
    def inputs(self) -> Any:
        place, known = portable_location(self.path), stamp(self.path)
        told = self._remote if known is None else known
        return [super().inputs, self.code, place, told, self.roles.misc]

    @cached_property
    def _remote(self) -> Any:
        """What tells a file on a server from another one of that name."""
        return ntuples.fingerprint(ntuples.open_tree(self.path, self._file["tree"]))

    def parts(self) -> Iterator[Part]:
        names = {
            "identity": list(self.roles.identity),
            "misc_features": list(self.roles.misc),
            "provenance": ["sample", "file", "entry"],
        }
        in_skim, done = self._rows_of_file(), 0
        for rows in in_skim.chunks(self.chunk_size):
            columns, features = self.skim.read(names, rows), self.skim.matrix(self.features, rows)
            of_shifts = self.skim.read(self._of_shifts, rows).get(SHIFTED, {})
            nominal, shifted = self._shifted(of_shifts, rows.size)
            entry = columns["provenance"]["entry"]
            end = self.span.stop if rows.stop == in_skim.stop else int(entry[-1]) + 1
            # Few rows may be left of very many entries, of which only so many fit in memory.
            for span in RowRange(done, end).chunks(self.chunk_size):
                mine = slice(*np.searchsorted(entry, span))
                groups = {g: {n: c[mine] for n, c in of.items()} for g, of in columns.items()}
                if len(entry[mine]) == span.size:
                    groups = {g: self._as_in_file(of) for g, of in groups.items()}
                else:
                    groups = self._of_all_entries(span, groups)
                yield Part(
                    *(span, groups, entry[mine], features[mine]),
                    None if nominal is None else nominal[mine],
                    {suffix: _rows_of(of, mine) for suffix, of in shifted.items()},
                )
            done = end

    def _rows_of_file(self) -> RowRange:
        """Return the rows that came from this file; those of a skim are in input order."""
        rows = range(self.skim.n_rows)
        if len(self.skim.metadata["files"]) == 1:
            return RowRange(0, len(rows))

        def file_of(row: int) -> int:
            read = self.skim.read({"provenance": ["file"]}, RowRange(row, row + 1))
            return int(read["provenance"]["file"][0])

        return RowRange(*(bisect_left(rows, self.code + i, key=file_of) for i in (0, 1)))

    def _as_in_file(self, columns: Columns) -> Columns:
        """Return columns in the file's types: another file of the sample may have widened them."""
        types = self._file.get("types", {})
        return {n: c.astype(types.get(n, c.dtype), copy=False) for n, c in columns.items()}

    def _of_all_entries(self, span: RowRange, of_skim: Groups) -> Groups:
        """Return the columns of entries of which a cut removed some, from the input file.

        Raises ProofError where the rows to be scored are not the file's events: these columns end
        in the friend tree, so its proof could not see that the scores are of other events.
        """
        n_entries = self._entries.info.n_entries
        if span.stop > n_entries:
            raise ProofError(
                f"{self.path} has {n_entries} entries, but its skim was made of {self.span.stop}: "
                "preprocess it again"
            )
        [part] = reading.stream_entries(self._entries, span)
        groups = part.groups
        groups["provenance"]["file"] += self.code
        scored = of_skim["provenance"]["entry"]
        for name, values in groups["identity"].items():
            its, mine = values[scored - span.start], of_skim["identity"][name]
            if np.any(its != mine):
                row = int(np.argmax(its != mine))
                raise ProofError(
                    f"{self.path}: entry {scored[row]} has {name} {its[row]!s}, but its skim was "
                    f"made when that was {mine[row]!s}: preprocess it again"
                )
        return groups

    @cached_property
    def _entries(self) -> reading.Entries:
        roles = replace(self.roles, cont=(), cat=())  # the skim has the features
        info = ntuples.open_tree(self.path, self._file["tree"])
        return reading.Entries(info, roles, None, self.chunk_size)

    @property
    def _file(self) -> Mapping[str, Any]:
        file: Mapping[str, Any] = self.skim.metadata["files"][self.code]
        return file
