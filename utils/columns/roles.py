"""Which columns an analysis reads, by role, and what each of them means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from utils.columns.arrays import Columns
from utils.columns.expressions import expand, parse
from utils.columns.values import apply_missing, check_finite, clip_columns, holds_missing
from utils.schema import COMPUTED_COLUMNS, PHYSICS_WEIGHT, AnalysisConfig, Missing

NAN = float("nan")


@dataclass(frozen=True)
class Meaning:
    """All that decides what a column holds, and what skims are compared by.

    A derived column is computed by `steps` from branches, and is `filler` where a column of
    `sources` holds one of its missing values; a branch has none of these. Of a feature, but never
    of a misc column, `missing` values are replaced and the others limited to `clip`.
    """

    steps: tuple[str, ...] = ()
    sources: Mapping[str, Missing] = field(default_factory=dict)
    filler: float = NAN
    missing: Missing | None = None
    clip: tuple[float | None, float | None] | None = None


@dataclass(frozen=True)
class Roles:
    """Which columns an analysis reads, by role, and what those mean that are no identity.

    `kept` are further columns stored with the weights, because the training weight names them.
    `definitions` are derived features and named cuts.
    """

    cont: tuple[str, ...]
    cat: tuple[str, ...]
    misc: tuple[str, ...]
    identity: tuple[str, ...]
    kept: tuple[str, ...]
    definitions: Mapping[str, str]
    meaning: Mapping[str, Meaning]

    @property
    def features(self) -> tuple[str, ...]:
        return (*self.cont, *self.cat)

    @property
    def missing(self) -> dict[str, Missing]:
        """The declared missing values of features, by name."""
        declared = {name: self.meaning[name].missing for name in self.features}
        return {name: missing for name, missing in declared.items() if missing is not None}

    def columns(self) -> tuple[str, ...]:
        """Every column to read, each once; computed ones are not read."""
        return self.with_sources(*self.features, *self.misc, *self.identity, *self.kept)

    def with_sources(self, *names: str) -> tuple[str, ...]:
        """Return the named columns and those that derived ones among them are made from."""
        sources = [s for name in names if name in self.meaning for s in self.meaning[name].sources]
        return tuple(dict.fromkeys([*names, *sources]))

    def with_fillers(self, columns: Columns) -> Columns:
        """Return the columns with derived ones missing where a column they are made from is.

        They then hold a declared value, as a branch would, and the policy for it follows: from -999
        and -999 no ratio of 1 is computed.
        """
        result = dict(columns)
        for name in columns:
            meaning = self.meaning.get(name, Meaning())
            holes = [holds_missing(columns[s], missing) for s, missing in meaning.sources.items()]
            if np.any(holes):
                result[name] = np.where(np.logical_or.reduce(holes), meaning.filler, columns[name])
        return result

    def transformed(self, columns: Columns, where: str = "") -> tuple[Columns, dict[str, int]]:
        """Return features as the feature pipeline takes them, float32, and counts of missing cells.

        Raises InputError, naming `where`, for values that are refused or that float32 can't hold.
        """
        raw = {name: columns[name] for name in self.features}
        features, counts = apply_missing(raw, self.missing, where)
        limits = {name: self.meaning[name].clip for name in features}
        features = clip_columns(features, {n: clip for n, clip in limits.items() if clip})
        # A value too large for float32 becomes infinite here, and check_finite then names it.
        with np.errstate(over="ignore"):
            features = {n: values.astype(np.float32, copy=False) for n, values in features.items()}
        check_finite(features, self.features, where, allow_nan=True)
        return features, counts


def roles_of(config: AnalysisConfig, misc: Sequence[str] | None = None) -> Roles:
    """Return the roles an analysis gives its columns; `misc` replaces its `misc_features`."""
    features = [*config.cont_features, *config.cat_features]
    chosen = config.misc_features if misc is None else misc
    misc_read = [name for name in chosen if name not in COMPUTED_COLUMNS]
    known = {*COMPUTED_COLUMNS, PHYSICS_WEIGHT, *config.misc_features}
    kept = sorted(weight_names(config) - known)
    return Roles(
        cont=tuple(config.cont_features),
        cat=tuple(config.cat_features),
        misc=tuple(misc_read),
        identity=config.identity_columns,
        kept=tuple(kept),
        definitions={**config.derived_features, **config.cuts},
        meaning={n: _meaning(config, n, n in features) for n in (*features, *misc_read, *kept)},
    )


def other_meaning(mine: AnalysisConfig, its: AnalysisConfig, misc: Sequence[str]) -> str:
    """Return which feature, or column that `misc` names, has another meaning, and how; else ''."""
    theirs = roles_of(its, misc).meaning
    for name, meaning in roles_of(mine, misc).meaning.items():
        other = theirs.get(name, Meaning())
        # As texts, in which NaN equals NaN.
        for (key, wanted), found in zip(vars(meaning).items(), vars(other).values(), strict=True):
            if str(wanted) != str(found) and key == "steps":
                return f"'{name}' (its definition, or one that this uses, differs)"
            if str(wanted) != str(found):
                return f"'{name}' ({key}: {found}, not {wanted})"
    return ""


def physics_weight(config: AnalysisConfig) -> str | None:
    """Return the expression of the physics weight; the branch `weight` if only its use is named."""
    uses_branch = (
        config.compute_w_CP
        or config.class_balance == "weight"
        or PHYSICS_WEIGHT in weight_names(config)
    )
    return config.weight or (PHYSICS_WEIGHT if uses_branch else None)


def weight_names(config: AnalysisConfig) -> frozenset[str]:
    """Return the names of the columns that the training weight is made from."""
    return parse(config.weight_name).names if config.weight_name else frozenset()


def _meaning(config: AnalysisConfig, name: str, is_feature: bool) -> Meaning:
    missing, clip = config.missing_values([name]).get(name), config.clip.get(name)
    if name not in config.derived_features:
        return Meaning(missing=missing, clip=clip) if is_feature else Meaning()
    definitions = {**config.derived_features, **config.cuts}
    program = expand(definitions[name], definitions).program
    read = (s.name + "".join(f"[{i}]" for i in s.element) for s in program if s.kind == "column")
    sources = config.missing_values(dict.fromkeys(read))
    missing = missing or next(iter(sources.values()), None)
    made = Meaning(
        steps=tuple(map(str, program)),
        sources={source: Missing(declared.values) for source, declared in sources.items()},
        filler=missing.values[0] if missing else NAN,
    )
    return replace(made, missing=missing, clip=clip) if is_feature else made
