"""Which name leads to which column of a tree, as in ROOT, except that a name never means two.

ROOT knows a column by the name of its branch (`pt`), by that behind the object it is a member of
(`near.pt`), by its leaf (`evt`) and by both (`info.evt`). Where several columns have a name in
common, TTree::Draw takes one in silence; here nobody has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class ColumnNames(NamedTuple):
    """The names ROOT has for a column, the usual one first, and one for where they are shared."""

    names: tuple[str, ...]
    spare: str


class Names(NamedTuple):
    """The names of columns, which are numbered: `of` those that lead to one column each.

    `shared` are those of several, each with a name to write instead for each column, None for a
    column that no name leads to. `columns` has one name of each column that has any.
    """

    of: Mapping[str, int]
    shared: Mapping[str, tuple[str | None, ...]]
    columns: tuple[str, ...]


def names_of(branch: str, mother: str, leaf: str, has_others: bool) -> ColumnNames:
    """Return the names of a leaf of a branch.

    `mother` is the top-level branch that the branch is part of ('': itself one); `has_others` says
    that the branch has more leaves.
    """
    branch = branch.partition("[")[0]
    # This is TBranch::GetFullName: the dot behind an object's name puts it before its members'.
    full = branch if not mother or mother.endswith(".") else f"{mother}.{branch}"
    both = f"{full}.{leaf}"
    if has_others:
        return ColumnNames((f"{branch}.{leaf}", leaf, both), both)
    says_more = () if branch == leaf else (leaf, both)
    return ColumnNames((branch, full, *says_more), both)


def tell_apart(columns: Sequence[ColumnNames]) -> Names:
    """Return what the names of all columns of a tree lead to."""
    holders: dict[str, list[int]] = {}
    for place, column in enumerate(columns):
        for name in dict.fromkeys(column.names):
            holders.setdefault(name, []).append(place)
    shared = {name: places for name, places in holders.items() if len(places) > 1}
    own = [[n for n in column.names if n not in shared] for column in columns]
    spares = [column.spare for column, mine in zip(columns, own, strict=True) if not mine]
    for column, mine in zip(columns, own, strict=True):
        if not mine and column.spare not in holders and spares.count(column.spare) == 1:
            mine.append(column.spare)
    first = [mine[0] if mine else None for mine in own]
    return Names(
        of={name: place for place, mine in enumerate(own) for name in mine},
        shared={name: tuple(first[p] for p in places) for name, places in shared.items()},
        columns=tuple(name for name in first if name is not None),
    )


def refusal(name: str, choices: Sequence[str | None], where: str) -> str:
    """Return the line that refuses a shared name of the tree `where`."""
    known = [choice for choice in choices if choice is not None]
    unknown = len(choices) - len(known)
    if not known:
        return f"{where} holds {len(choices)} branches named '{name}', and nothing tells them apart"
    others = f", or rename the {unknown} that no name leads to" if unknown else ""
    return f"'{name}' means {len(choices)} columns of {where}: write {' or '.join(known)}{others}"
