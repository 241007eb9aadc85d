"""The rows that are predicted, with all their columns: what every kind of output is made from.

Skims and ntuples give the same rows. What is read of a row, and what follows from its columns (its
fold, the hash of its identity), is there once, in the order of the input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Columns, Groups, Int32, Integers, RowRange, UInt64
from utils.columns.folds import fold_of
from utils.columns.identity import group_of_rows, identity_of_rows
from utils.columns.pipeline import FeaturePipeline, feature_matrix
from utils.columns.roles import Roles
from utils.formats import ntuples
from utils.formats.skims import Skim
from utils.schema import FoldRule, Location, ProofError
from utils.stages.preprocessing import reading

Described = Sequence[Mapping[str, Any]]
"""What is known of some samples or files: group, fingerprint."""

Part = tuple[RowRange, Groups, Integers, NDArray[np.float32]]
"""A range of rows: columns of all, numbers of those to be scored, features of these."""


@dataclass(frozen=True)
class InputRows:
    """A range of rows of one input.

    `groups` are the columns `(n,)` of all rows by group of a skim: identity, misc_features and
    provenance at least. `fold`, `identity` (a hash) and `group` (the code of the group of samples,
    or of the file, in which that tells events apart) are those of all rows. Where in the range the
    rows are that no cut removed is `place`, ascending; `features` are theirs, `(len(place), n)`.
    """

    span: RowRange
    groups: Groups
    fold: Int32
    identity: UInt64
    group: UInt64
    place: Integers
    features: NDArray[np.float32]


@dataclass(frozen=True)
class RowSource(ABC):
    """Where the rows of one input come from: `span`, with these `features` in order."""

    span: RowRange
    features: tuple[str, ...]

    @property
    @abstractmethod
    def samples_and_files(self) -> tuple[Described, Described]:
        """The samples and the files that codes in the rows' provenance point to."""

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """Yield all rows in order, range by range, one range at least."""

    def rows(self, rule: FoldRule) -> Iterator[InputRows]:
        """Yield the parts, with what follows from their columns."""
        for span, groups, scored, features in self.parts():
            identity, provenance = groups["identity"], groups["provenance"]
            fold = fold_of(rule, identity, provenance["entry"])
            yield InputRows(
                *(span, groups, fold),
                identity_of_rows(rule, identity, provenance, *self.samples_and_files),
                group_of_rows(rule, provenance, *self.samples_and_files),
                *(_places(span, scored), features),
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

    def parts(self) -> Iterator[Part]:
        for span, groups, kept, columns in reading.stream_entries(self.entries, self.span):
            yield span, groups, kept, feature_matrix(columns, self.pipeline, self.features)


@dataclass(frozen=True)
class SkimRows(RowSource):
    """The rows of a skim, with everything that it holds."""

    skim: Skim
    chunk_size: int

    @property
    def samples_and_files(self) -> tuple[Described, Described]:
        return self.skim.metadata["samples"], self.skim.metadata["files"]

    def parts(self) -> Iterator[Part]:
        groups = ("identity", "misc_features", "provenance", "targets", "weights")
        names = {g: list(self.skim.groups[g]) for g in groups}
        for span in self.span.chunks(self.chunk_size):
            features = self.skim.matrix(self.features, span)
            yield span, self.skim.read(names, span), span.numbers, features


@dataclass(frozen=True)
class SkimEntries(SkimRows):
    """The entries of a file, `path`, read from the skim that was made of it (and others).

    `code` is the file's in the skim. What a cut removed is read from the file itself.
    """

    code: int
    path: Location
    roles: Roles

    def parts(self) -> Iterator[Part]:
        names = {
            "identity": list(self.roles.identity),
            "misc_features": list(self.roles.misc),
            "provenance": ["sample", "file", "entry"],
        }
        in_skim, done = self._rows_of_file(), 0
        for rows in in_skim.chunks(self.chunk_size):
            columns, features = self.skim.read(names, rows), self.skim.matrix(self.features, rows)
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
                yield span, groups, entry[mine], features[mine]
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
        [(_, groups, _, _)] = reading.stream_entries(self._entries, span)
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
