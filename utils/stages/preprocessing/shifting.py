"""What the variations of a sample do to the entries of a tree: which columns, what rows.

A shift replaces branches; what is computed from these follows. Everything else of a row stays as it
is, and is neither read nor computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from utils.columns.arrays import Array, Columns, Floats, Mask
from utils.columns.expressions import Expression, Step, any_of, expand, parse
from utils.columns.roles import Roles
from utils.columns.values import holds_missing
from utils.columns.variations import ComputedBranch, Shift
from utils.formats import ntuples
from utils.schema import InputError, Missing, nearest

MissingValues = Callable[[Iterable[str]], Mapping[str, Missing]]
"""What an analysis declares of missing values, by name: `AnalysisConfig.missing_values`."""

_NOMINAL = "the nominal cut"
"""Among columns that are read: whether a row passes it."""

_FACTOR = "the factor on the physics weight"
_WEIGHT = "the physics weight"


@dataclass(frozen=True)
class TreeShift:
    """What a shift does to a tree.

    `replaced` are the branches, each with the partner or the expression that is read in its place.
    Of what a row holds it changes `features`, these with what they are derived from (`columns`),
    the cut, and by a factor the physics weight.
    """

    shift: Shift
    replaced: Mapping[str, str]
    features: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    cut: bool = False
    factor: bool = False

    @property
    def suffix(self) -> str:
        return self.shift.suffix

    @property
    def is_scored(self) -> bool:
        """Whether it gives scores of its own: that of a weight needs none."""
        return bool(self.features) or self.cut


@dataclass(frozen=True)
class ShiftedTree:
    """A tree under all shifts that are declared for it.

    `info` has the branches that expressions compute. `made` are the columns to read beside the
    nominal ones, `cuts` those by which a shift keeps a row that the nominal cut removes.
    """

    info: ntuples.TreeInfo
    shifts: tuple[TreeShift, ...] = ()
    made: Mapping[str, ntuples.Made] = field(default_factory=dict)
    cuts: tuple[Expression, ...] = ()

    def any_cut(self, cut: str | None, definitions: Mapping[str, str]) -> ntuples.Cut:
        """Return what keeps a row that the nominal cut or that of a shift keeps."""
        if not self.cuts or cut is None:
            return cut
        return any_of([expand(cut, definitions), *self.cuts])


@dataclass(frozen=True)
class ShiftedRows:
    """Rows under their shifts: of those that any cut keeps, `(n,)` each, by suffix.

    `nominal` passes the nominal cut, `selected` that of the shift. `features` are those that it
    changes, untransformed and float32 as nominal ones, and `factor` is that on the physics weight.
    """

    nominal: Mask
    selected: Mapping[str, Mask] = field(default_factory=dict)
    features: Mapping[str, Columns] = field(default_factory=dict)
    factor: Mapping[str, Floats] = field(default_factory=dict)


# --- what is replaced ----------------------------------------------------------------------------


def shifted_tree(
    info: ntuples.TreeInfo,
    shifts: Sequence[Shift],
    roles: Roles,
    cut: str | None,
    weight: str | None,
    missing: MissingValues,
    sample: str,
    reads_weight: bool = True,
) -> ShiftedTree:
    """Return what the shifts that are declared for `sample` do to one of its trees.

    `weight` is the expression of the physics weight, which may not be read at all. Raises
    InputError, naming the key, where a shift replaces nothing here, or a partner is not what it
    should be.
    """
    nominal = _Nominal(info, roles, cut, weight)
    replaced = [(shift, _replaced(info, shift, nominal, sample)) for shift in shifts]
    _check_both_ways(info, replaced)
    if not reads_weight:
        nominal.weight = None
        replaced = [(s, branches) for s, branches in replaced if s.variation.kind != "weight"]
    return _applied(info, replaced, nominal, missing)


def restated_tree(
    info: ntuples.TreeInfo,
    replaced: Sequence[tuple[Shift, Mapping[str, str]]],
    roles: Roles,
    cut: str | None,
    missing: MissingValues,
) -> ShiftedTree:
    """Return the tree under shifts of which it is known what they replace."""
    nominal = _Nominal(info, roles, cut, None)
    for shift, branches in replaced:
        for branch, text in branches.items():
            _check_replacement(info, shift, branch, text, nominal)
    return _applied(info, replaced, nominal, missing)


class _Nominal:
    """What a tree's columns, cut and weight are made of where nothing is shifted."""

    def __init__(
        self, info: ntuples.TreeInfo, roles: Roles, cut: str | None, weight: str | None
    ) -> None:
        self.roles = roles
        self.columns: dict[str, ntuples.Made] = {}
        for name in roles.with_sources(*roles.features):
            if name in roles.definitions:
                self.columns[name] = expand(name, roles.definitions)
            elif name.endswith("]") and name not in info.branches:
                self.columns[name] = parse(name).program[0]
            else:
                self.columns[name] = Step("column", name)
        self.cut = expand(cut, roles.definitions) if cut and cut.strip() else None
        self.weight = None if weight is None else expand(weight, roles.definitions)

    @property
    def branches(self) -> list[str]:
        """The branches that it is made of, which a shift may replace."""
        made = [*self.columns.values(), *filter(None, (self.cut, self.weight))]
        return sorted(set().union(*map(_reads, made)))


def _reads(made: ntuples.Made) -> frozenset[str]:
    return made.names if isinstance(made, Expression) else frozenset((made.name,))


def _renamed(made: ntuples.Made, names: Mapping[str, str]) -> ntuples.Made:
    if isinstance(made, Expression):
        return made.renamed(names)
    return made._replace(name=names.get(made.name, made.name))


def _replaced(
    info: ntuples.TreeInfo, shift: Shift, nominal: _Nominal, sample: str
) -> dict[str, str]:
    """Return the branches that a shift replaces, each with what is read in its place."""
    replacement, kind = shift.replacement, shift.variation.kind
    if kind == "weight":
        return {}
    mend = f"; if sample '{sample}' has none, say which have by 'samples: [...]'"
    if isinstance(replacement, str):
        _refuse_identity(info, shift, replacement, nominal.roles.identity)
        partners = {name: replacement.replace("{branch}", name) for name in nominal.branches}
        found = {n: p for n, p in partners.items() if p in {*info.branches, *info.unreadable}}
        if not found:
            names = ", ".join(partners)
            raise InputError(
                f"{shift.where}: '{replacement}' matches no branch of {info.where}, of all that "
                f"features, cut and weight of sample '{sample}' are made of ({names}); "
                f"{nearest(next(iter(partners.values()), ''), info.branches)}{mend}"
            )
    else:
        found = dict(replacement or {})
    for branch, text in found.items():
        _check_replacement(info, shift, branch, text, nominal)
    used = {name: text for name, text in found.items() if name in nominal.branches}
    if not used:
        raise InputError(
            f"{shift.where} replaces {', '.join(found)}, of which no feature, cut or weight of "
            f"sample '{sample}' is made: it would change nothing{mend}"
        )
    return used


def _check_both_ways(
    info: ntuples.TreeInfo, replaced: Sequence[tuple[Shift, Mapping[str, str]]]
) -> None:
    """Raise InputError where a branch has a partner in one direction and none in the other."""
    for shift, branches in replaced:
        for other, its in replaced:
            lacking = sorted(its.keys() - branches.keys())
            if other.variation.name == shift.variation.name and isinstance(shift.replacement, str):
                if not lacking:
                    continue
                raise InputError(
                    f"{shift.where}: '{lacking[0]}' has a partner for {other.suffix} and none for "
                    f"{shift.suffix} in {info.where}: add the branch, or name what is shifted in "
                    "expressions by branch"
                )


def _refuse_identity(
    info: ntuples.TreeInfo, shift: Shift, pattern: str, identity: Sequence[str]
) -> None:
    for name in identity:
        partner = pattern.replace("{branch}", name)
        if partner in info.branches:
            raise InputError(
                f"{shift.where}: '{partner}' of {info.where} would shift '{name}', which "
                "identifies events or gives their fold: rename the branch, or name what is shifted "
                "in expressions by branch"
            )


def _check_replacement(
    info: ntuples.TreeInfo, shift: Shift, branch: str, text: str, nominal: _Nominal
) -> None:
    """Raise InputError where a branch, its partner or a name in its expression is unusable."""
    where = f"{shift.where}: "
    if branch not in info.branches:
        raise InputError(where + info.why_not(branch))
    if branch in nominal.roles.identity:
        raise InputError(
            f"{where}'{branch}' identifies events or gives their fold: it never shifts"
        )
    if shift.variation.kind == "branches":
        if text not in info.branches:
            raise InputError(where + info.why_not(text))
        its, mine = info.branches[text], info.branches[branch]
        if its != mine:
            raise InputError(
                f"{where}'{text}' of {info.where} is {its}, and '{branch}', which it stands for, "
                f"is {mine}: store both as one type"
            )
        return
    if info.branches[branch].shape:
        raise InputError(
            f"{where}'{branch}' of {info.where} has several values per entry: an expression gives "
            "one; shift it by branches"
        )
    expression = expand(text, nominal.roles.definitions)
    ntuples.check(info, columns=["shifted"], cuts=[None], made={"shifted": expression})


def _applied(
    info: ntuples.TreeInfo,
    replaced: Sequence[tuple[Shift, Mapping[str, str]]],
    nominal: _Nominal,
    missing: MissingValues,
) -> ShiftedTree:
    """Return a tree under shifts that replace these branches."""
    computed: dict[str, ComputedBranch] = {}
    shifts: list[TreeShift] = []
    made: dict[str, ntuples.Made] = {}
    cuts: list[Expression] = []
    for shift, texts in replaced:
        names = dict(texts)
        if shift.variation.kind == "expressions":
            for branch, text in texts.items():
                names[branch] = f"{branch} under {shift.suffix}"
                expression = expand(text, nominal.roles.definitions)
                computed[names[branch]] = ComputedBranch(
                    branch,
                    info.branches[branch],
                    expression,
                    missing(sorted({branch, *expression.names})),
                    shift.where,
                )
        changed = [n for n, of in nominal.columns.items() if _reads(of) & names.keys()]
        for name in changed:
            made[_key(name, shift)] = _renamed(nominal.columns[name], names)
        of_cut = nominal.cut is not None and bool(nominal.cut.names & names.keys())
        if nominal.cut is not None and of_cut:
            cuts.append(nominal.cut.renamed(names))
            made[_key(_NOMINAL, shift)] = cuts[-1]
        factor = _factor(shift, nominal.weight, names)
        if factor is not None:
            made[_key(_FACTOR if shift.variation.kind == "weight" else _WEIGHT, shift)] = factor
        features = nominal.roles.features
        sources = [n for n in features if _made_of(nominal.roles, n) & set(changed)]
        shifts.append(
            TreeShift(
                *(shift, texts, tuple(sources)),
                *(tuple(changed), of_cut, factor is not None),
            )
        )
    if cuts and nominal.cut is not None:
        made[_NOMINAL] = nominal.cut
    return ShiftedTree(info.with_computed(computed), tuple(shifts), made, tuple(cuts))


def _made_of(roles: Roles, feature: str) -> set[str]:
    return {feature, *roles.meaning[feature].sources}


def _factor(shift: Shift, weight: Expression | None, names: Mapping[str, str]) -> Expression | None:
    """Return the factor on the physics weight, or that weight itself where branches are shifted."""
    if shift.variation.kind == "weight" and isinstance(shift.replacement, str):
        return parse(shift.replacement)
    if weight is not None and weight.names & names.keys():
        return weight.renamed(names)
    return None


def _key(name: str, shift: Shift) -> str:
    """Return what a shifted column is called while rows are read: as no branch can be."""
    return f"{name} under {shift.suffix}"


# --- rows under shifts ---------------------------------------------------------------------------


def shifted_rows(
    tree: ShiftedTree, roles: Roles, columns: Columns, n_rows: int, weight: Array | None = None
) -> tuple[ShiftedRows, Columns]:
    """Return rows under their shifts, and raw columns for nominal features.

    The latter are what was read, except that cells which neither the nominal selection nor a shift
    needs are 0 where no feature may hold what they do: it is to be cut away. `columns` are all that
    `made` and `roles` name, `weight` is the physics weight.
    """
    nominal = columns[_NOMINAL] != 0 if _NOMINAL in columns else np.ones(n_rows, np.bool_)
    selected, raw, factor = {}, {}, {}
    for of in tree.shifts:
        shift, name = of.shift, of.suffix
        selected[name] = columns[_key(_NOMINAL, shift)] != 0 if of.cut else nominal
        own = {c: columns[_key(c, shift)] for c in of.columns}
        needed = {c for f in of.features for c in _made_of(roles, f)}
        view = roles.with_fillers({c: own.get(c, columns[c]) for c in needed})
        raw[name] = {f: _usable(selected[name], view[f], roles, f) for f in of.features}
        if _key(_FACTOR, shift) in columns:
            factor[name] = np.asarray(columns[_key(_FACTOR, shift)], np.float64)
        elif _key(_WEIGHT, shift) in columns and weight is not None:
            factor[name] = _ratio(columns[_key(_WEIGHT, shift)], weight, shift)
    usable = dict(columns)
    if tree.cuts:
        for feature in roles.features:
            needs = [selected[s.suffix] for s in tree.shifts if feature not in s.features]
            usable[feature] = _usable(
                np.logical_or.reduce([nominal, *needs]), columns[feature], roles, feature
            )
    return ShiftedRows(nominal, selected, raw, factor), usable


def _usable(needed: Mask, column: Array, roles: Roles, feature: str) -> Array:
    """Return a column of a feature, 0 in cells that are not needed and that would be refused."""
    if needed.all():
        return column
    with np.errstate(over="ignore"):
        good = needed | np.isfinite(column.astype(np.float32))
    missing = roles.missing.get(feature)
    if missing is not None:
        held = holds_missing(column, missing)
        good = needed | (good & ~held) if missing.refuse else good | held
    return np.where(good, column, column.dtype.type(0))


def _ratio(shifted: Array, nominal: Array, shift: Shift) -> Floats:
    """Return the factor by which a shift changes the physics weight, 1 where both are 0."""
    shifted, nominal = np.asarray(shifted, np.float64), np.asarray(nominal, np.float64)
    lost = (nominal == 0) & (shifted != 0)
    if lost.any():
        raise InputError(
            f"variations.{shift.variation.name}: {int(lost.sum())} events have the physics weight "
            f"0 and another under {shift.suffix}, which is no factor: cut these events away"
        )
    return np.divide(shifted, nominal, out=np.ones(len(shifted)), where=nominal != 0)


def transformed(tree: ShiftedTree, roles: Roles, rows: ShiftedRows, where: str) -> ShiftedRows:
    """Return the rows with features as the feature pipeline takes them: float32, clipped.

    Raises InputError, naming `where` and the shift, for values that are refused.
    """
    features = {}
    for shift in tree.shifts:
        named = rows.features[shift.suffix]
        mine = replace(roles, cont=tuple(n for n in roles.cont if n in named), cat=())
        mine = replace(mine, cat=tuple(n for n in roles.cat if n in named))
        features[shift.suffix], _ = mine.transformed(named, f"{where} under {shift.suffix}")
    return replace(rows, features=features)
