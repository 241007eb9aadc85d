"""Write a commented starting analysis file from ROOT files.

    python -m utils.new_analysis FILE.root [FILE2.root ...] [--tree T] [-o MY_CHANNEL.yaml]

What it can see it fills in: branches by type and range, event identity and fold rule, missing
values, one sample a file or, of files with several trees of the same branches, one a tree; signal
by name. What only a physicist knows is marked `EDIT` in the file.
"""

from __future__ import annotations

import argparse
import colorsys
import os
import re
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from string import Template

import numpy as np

from utils.columns.arrays import Array
from utils.columns.conventions import GuessedShifts, guess_shifts
from utils.columns.suspicion import by_name, codes, digest, equal_columns, separates
from utils.formats import ntuples
from utils.formats.ntuples.trees import cause, open_input
from utils.schema import (
    COMPUTED_COLUMNS,
    PROJECT,
    ConfigError,
    InputError,
    Location,
    PipelineError,
    given_location,
    is_within,
    nearest,
    portable,
    portable_location,
)
from utils.system.files import complete, system_message

MAX_ENTRIES = 100_000
"""Entries looked at in each file, from its start."""

MAX_CELLS = 20_000_000
"""Numbers held at a time: files of very many branches are looked at in fewer entries."""

MAX_CATEGORIES = 20
"""Whole-number branches with at most this many values are suggested as categorical."""

SENTINELS = (-9999.0, -999.0, -99.0, -1000.0, -10000.0, 999.0, 9999.0, 99999.0)
"""Values that ntuples use for `not measured`, where they end a branch's range."""

SMALL_SENTINELS = (-10.0, -9.0)
"""The same, where no other value is near."""

_RUN = re.compile(r"^(f_)?run(_?number|_?no)?$", re.IGNORECASE)
_LUMI = re.compile(r"^(f_)?(lumi|ls|lumi_?block|luminosity_?block|lumi_?section)$", re.IGNORECASE)
_EVENT = re.compile(r"^(f_)?(evt|event)(_?number|_?no|_?id|nr|num)?$", re.IGNORECASE)
_WEIGHT = re.compile(r"weight|wgt|^w_|(^|_)(sf|xsec|xs)(_|$)", re.IGNORECASE)
_TRUTH = re.compile(r"(^|_)(gen|mc|truth|lhe)(_|[A-Z0-9]|$)|^gen|_match$", re.IGNORECASE)
_DATA = re.compile(r"(^|[_-])data([_-]|\d|$)|Run20\d\d", re.IGNORECASE)
_SIGNAL = re.compile(
    r"(?i:signal|higgs|(?<![a-z])sig(?![a-z]))|(?<![A-Za-z])(gg|vbf|qq|bb|tt|[VWZ])?[hH](?=125|$|_)"
    r"|[Hh](?=To[A-Z])|[Hh]125|(?<![A-Za-z])(ggH|qqH|VBFH|VH|WH|ZH|ttH|bbH|HH)"
    r"|([Tt]ree|_)S(ig)?$"
)
"""Names of samples of a Higgs boson, or that say that they are signal."""

_PLAIN = re.compile(r"[A-Za-z_][\w.-]*")
_YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
_COLORS = (
    "rgb(194, 71, 92)",
    "rgb(65, 123, 159)",
    "rgb(222, 143, 5)",
    "rgb(0, 130, 100)",
    "rgb(120, 94, 170)",
    "rgb(90, 90, 90)",
)


@dataclass(frozen=True)
class Column:
    """What one branch looks like in one file.

    `low` and `high` leave missing and non-finite values out; `n_values` counts different ones.
    `missing` is the value that seems to mean `not measured`, found in the share `missing_share`.
    `codes` are the values of a whole number of few; columns of one `digest` are equal.
    """

    dtype: str
    n_rows: int
    low: float
    high: float
    n_values: int
    whole: bool
    n_not_finite: int
    missing: float | None
    missing_share: float
    negative_share: float
    codes: frozenset[float] | None
    digest: bytes

    @property
    def unique(self) -> bool:
        return self.whole and self.n_values == self.n_rows > MAX_CATEGORIES

    @property
    def categorical(self) -> bool:
        return self.whole and self.n_values <= MAX_CATEGORIES


@dataclass(frozen=True)
class Sight:
    """What one file looks like: its columns, arrays and unreadable branches, and its identity.

    `shifted` are branches that seem to be shifted partners of others, which are not looked at.
    `repeated` is the share of events whose identity occurs earlier in the file, 0 where there is
    no event number; `uneven` whether its event numbers fill two folds unequally.
    """

    path: Location
    tree: str
    n_seen: int
    columns: Mapping[str, Column]
    arrays: Mapping[str, tuple[int, ...]]
    unreadable: Mapping[str, str]
    shifted: tuple[str, ...]
    identity: tuple[str, ...]
    repeated: float
    uneven: bool


def describe_column(values: Array) -> Column:
    """Return what `values`, `(n,)`, look like."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    different, counts = np.unique(finite, return_counts=True)
    missing, share = None, 0.0
    for end in (0, -1):
        if len(different) and counts[end] > 1 and _stands_for_missing(different, end):
            missing, share = float(different[end]), float(counts[end]) / len(values)
            different = np.delete(different, end)
            break
    whole = values.dtype.kind != "f" or bool(np.all(different == np.trunc(different)))
    return Column(
        dtype=str(values.dtype),
        n_rows=len(values),
        low=float(different[0]) if len(different) else float("nan"),
        high=float(different[-1]) if len(different) else float("nan"),
        n_values=len(different),
        whole=whole,
        n_not_finite=len(values) - len(finite),
        missing=missing,
        missing_share=share,
        negative_share=float(np.mean(values < 0)) if len(values) else 0.0,
        codes=codes(different),
        digest=digest(values),
    )


def _stands_for_missing(different: Array, end: int) -> bool:
    value = float(different[end])
    if value in SENTINELS:
        return True
    alone = len(different) > 1 and abs(float(different[1]) - value) > 2
    return end == 0 and value in SMALL_SENTINELS and alone


def look_at(path: Location, tree: str) -> Sight:
    """Return what the file at `path` looks like. Raises InputError where it can't be read."""
    info = ntuples.open_tree(path, tree)
    shapes = {n: info.branches[n].shape for n in info.columns if n in info.branches}
    shifted = {n for guess in guess_shifts(list(info.columns)) for n in guess.shifted}
    names = [n for n, shape in shapes.items() if not shape and n not in shifted]
    if not names:
        raise InputError(f"tree '{tree}' of {path} has no branch that holds one number per entry")
    stop = min(info.n_entries, MAX_ENTRIES, MAX_CELLS // len(names))
    parts = [
        c.selections[0].columns for c in ntuples.stream(info, columns=names, cuts=[None], stop=stop)
    ]
    if not parts:
        raise InputError(f"tree '{tree}' of {path} has no entries: nothing can be suggested")
    values = {n: np.concatenate([p[n] for p in parts]) for n in names}
    columns = {n: describe_column(v) for n, v in values.items()}
    identity = _identity(columns)
    repeated, uneven = 0.0, False
    if identity and _EVENT.match(identity[-1]):
        rows = np.stack([values[n].astype(np.int64) for n in identity], axis=1)
        repeated = 1 - len(np.unique(rows, axis=0)) / len(rows)
        odd = np.count_nonzero(rows[:, -1] % 2)
        uneven = abs(odd - len(rows) / 2) > 2.5 * np.sqrt(len(rows))
    return Sight(
        path,
        tree,
        stop,
        columns,
        {n: shape for n, shape in shapes.items() if shape and n not in shifted},
        {n: why for n, why in info.unreadable.items() if n in info.columns},
        tuple(n for n, shape in shapes.items() if not shape and n in shifted),
        identity,
        repeated,
        bool(uneven),
    )


def _identity(columns: Mapping[str, Column]) -> tuple[str, ...]:
    """Return run, luminosity block and event number, as far as there are such columns."""
    exact = [n for n, c in columns.items() if c.whole and not c.n_not_finite and c.dtype != "bool"]
    found = (next((n for n in exact if p.match(n)), None) for p in (_RUN, _LUMI, _EVENT))
    return tuple(n for n in found if n is not None)


def find_trees(
    paths: Sequence[Location], tree: str | None
) -> tuple[list[tuple[Location, str]], list[str]]:
    """Return the trees to draft, each with its file, and the names of trees that were left out.

    That is `tree` of each file, else the one that all files have, else all that are like the
    largest one: of the same branches, but for a fifth of them. Raises InputError where there is
    none.
    """
    if tree is not None:
        return [(path, tree) for path in paths], []
    trees = [_trees_of(path) for path in paths]
    shared = set.intersection(*map(set, trees))
    if len(shared) == 1:
        [only] = shared
        return [(path, only) for path in paths], []
    columns = {
        (path, name): set(ntuples.open_tree(path, name).columns)
        for path, names in zip(paths, trees, strict=True)
        for name in names
    }
    largest = max(columns.values(), key=len)
    alike = [
        place for place, its in columns.items() if 5 * len(its & largest) >= 4 * len(its | largest)
    ]
    lacking = [path for path in paths if path not in {place for place, _ in alike}]
    if lacking:
        raise InputError(
            f"{lacking[0]} has no tree like those of the other files: name files of one kind, or "
            f"the tree as --tree; {nearest('', {name for _, name in columns})}"
        )
    return alike, sorted({name for _, name in columns} - {name for _, name in alike})


def _trees_of(path: Location) -> list[str]:
    """Return the names of a file's trees. Raises InputError where there is none."""
    from utils.system.libraries.rootfiles import open_root

    with open_input(path) as file:
        try:
            with open_root(file) as root:
                kinds = root.classnames(recursive=True, cycle=False)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{path} cannot be read: {cause(error)}") from error
    found = [str(name) for name, kind in kinds.items() if "Tree" in kind or "Tuple" in kind]
    if not found:
        raise InputError(f"{path} holds no tree")
    return found


# --- from what was seen to suggestions -----------------------------------------------------------


@dataclass(frozen=True)
class Suggestion:
    """The roles suggested for the branches, and why others were left out (`why` by branch)."""

    cont: Sequence[str]
    cat: Sequence[str]
    why: Mapping[str, str]
    identity: Sequence[str]
    fold_rule: str
    fold_why: str


def suggest(sights: Sequence[Sight]) -> Suggestion:
    """Return the roles that the branches of all files seem to have."""
    names = dict.fromkeys(n for s in sights for n in s.columns)
    identity = [n for n in sights[0].identity if all(n in s.identity for s in sights)]
    why = {n: reason for n in names if (reason := _reason(n, sights, identity))}
    features = [n for n in names if n not in why]
    digests = {n: tuple(s.columns[n].digest for s in sights) for n in features}
    why |= {n: f"equal to {first} in every event" for n, first in equal_columns(digests).items()}
    features = [n for n in features if n not in why]
    cat = [n for n in features if all(s.columns[n].categorical for s in sights)]
    cont = [n for n in features if n not in cat]
    rule, fold_why = _fold_rule(sights, identity)
    if rule == "entry":
        identity = [n for n in identity if not _EVENT.match(n)]
    return Suggestion(cont, cat, why, identity, rule, fold_why)


def _reason(name: str, sights: Sequence[Sight], identity: Sequence[str]) -> str | None:
    """Return why a branch should be no feature, or None."""
    lacking = [s.path.name for s in sights if name not in s.columns]
    if lacking:
        return f"not in {lacking[0]}" + f" and {len(lacking) - 1} more" * (len(lacking) > 1)
    seen = [s.columns[name] for s in sights]
    if name in COMPUTED_COLUMNS:
        return "a name that preprocessing computes itself"
    if name in identity:
        return "identifies the event"
    if all(c.n_values == 0 for c in seen):
        return "never measured"
    if all(c.n_values <= 1 for c in seen):
        if len({c.low for c in seen}) == 1:
            return f"constant: {seen[0].low:g}"
        return "constant in each file, different among them: gives the process away"
    if _WEIGHT.search(name):
        return "a weight by its name"
    if _TRUTH.search(name):
        return "generator information by its name: not in collision data, gives the process away"
    if (flagged := by_name(name)) is not None:
        return flagged
    ranges = sorted((c.low, c.high) for c in seen)
    if len(seen) > 1 and all(a[1] < b[0] for a, b in pairwise(ranges)):
        return "ranges of the files do not overlap: gives the process away"
    if separates([c.codes for c in seen]):
        return "no value of it is in two files: a label, gives the process away"
    if all(c.unique for c in seen):
        return "unique in every event: a number of the event, no measurement"
    return None


def _fold_rule(sights: Sequence[Sight], identity: Sequence[str]) -> tuple[str, str]:
    """Return the fold rule that these events allow, and why."""
    if not identity or not _EVENT.match(identity[-1]):
        why = "there is no event number that all files have: folds follow the entry number"
        return "entry", why
    repeated = max(s.repeated for s in sights)
    if repeated > 0.5:
        why = f"{repeated:.0%} of the event numbers are repeated in a file: not an identity"
        return "entry", why
    if any(s.uneven for s in sights):
        return "hash", f"{identity[-1]} alone fills folds unequally: all identity columns are mixed"
    note = f"; {repeated:.2%} of the events are repeated within a file" if repeated else ""
    return "modulo", f"folds are {identity[-1]} modulo n_splits{note}"


# --- the file ------------------------------------------------------------------------------------

_FILE = Template("""\
# @package _global_
# yaml-language-server: $$schema=$schema
# Written by `python -m utils.new_analysis` from $n_files; EDIT marks what only you know.
# At most $n_seen entries of a file were looked at.
analysis_name: $name
input_path: $folder  # relative to the project folder, or absolute
skim_path: $skims
input_filename_template: '{sample_name}.root'
${tree}
# $fold_why.
identity: [$identity]
fold_rule: $fold_rule
${split_feature}n_splits: 2

# EDIT: names, colours and number of the classes (ids from 0), and which are signal.
class_to_info:
${classes}
# --- selection ------------------------------------------------------------
# EDIT: your selection, such as (pt_1 > 20) & (abs(eta_1) < 2.1); null keeps every event.
cuts: {}  # names for parts of it, usable in every cut
common_cut: null

# EDIT: which class each process of a sample belongs to; `cut` selects the process.
training_samples:
${training_samples}
# Collision data (by the names of the files) is declared never trained on.
prediction_samples:
${prediction_samples}${files}
# --- columns by role ------------------------------------------------------
# EDIT: drop what simulation describes badly or what would give a process away.
${cont_features}${cat_features}misc_features: [$identity]  # copied to the friend trees
derived_features: {}  # such as pt_ratio: pt_1 / pt_2; then list it above
${arrays}${missing}${left_out}${unreadable}${variations}
# --- weights and training -------------------------------------------------
${weight}weight_name: w_class_imbalance  # the training weight: all classes count the same
train_size: 0.8
scaler: {with_mean: true, with_std: true}
pca: null
model_param: {num_iterations: 100}
""")
"""The analysis file: what is in braces ends its own lines, and may have none."""


def analysis_text(name: str, sights: Sequence[Sight], schema: str, left: Sequence[str]) -> str:
    """Return the analysis file called `name` as YAML.

    `schema` is where editors find its JSON Schema; `left` are trees that were not drafted.
    """
    s = suggest(sights)
    left_out = [f"#   {n}: {why}" for n, why in s.why.items()]
    split_feature = s.identity[-1:] if s.fold_rule == "modulo" else []
    blocks = {
        "split_feature": [f"xtrain_split_feature: {_quoted(n)}" for n in split_feature],
        "tree": _tree(sights, left),
        **_samples(_sample_names(sights)),
        "cont_features": _listed("cont_features", s.cont, sights),
        "cat_features": _listed("cat_features", s.cat, sights),
        "arrays": [
            f"#   {n} has {' x '.join(map(str, shape))} values per entry: "
            f"{n}_0: {n}{'[0]' * len(shape)} makes a feature of one"
            for n, shape in sights[0].arrays.items()
        ],
        "missing": _missing([x.columns[n] for x in sights for n in (*s.cont, *s.cat)]),
        "left_out": ["# Left out of the features:"] * bool(left_out) + left_out,
        "unreadable": _unreadable(sights),
        "variations": _variations(sights),
        "weight": [f"weight: {_weight(sights)}"],
    }
    return _FILE.substitute(
        {block: "".join(f"{line}\n" for line in lines) for block, lines in blocks.items()},
        n_files=f"{len(sights)} file{'s' * (len(sights) > 1)}",
        n_seen=max(x.n_seen for x in sights),
        name=_quoted(name),
        folder=_quoted(portable_location(sights[0].path.parent)),
        skims=_quoted(f"data/{name}_skims"),
        schema=schema,
        fold_why=s.fold_why[0].upper() + s.fold_why[1:],
        identity=", ".join(map(_quoted, s.identity)),
        fold_rule=s.fold_rule,
    )


def _tree(sights: Sequence[Sight], left: Sequence[str]) -> list[str]:
    note = f"  # left out, of other branches: {', '.join(left)}" if left else ""
    return [f"input_tree_name: {_quoted(sights[0].tree)}{note}"]


def _samples(sights: Mapping[str, Sight]) -> dict[str, list[str]]:
    """Return classes, one for each simulated sample, and what is trained on and predicted."""
    of_their_own = [n for n in sights if n not in _alternative(sights)]
    simulated = [n for n in of_their_own if not _DATA.search(n)] or of_their_own
    classes, training, prediction, files = [], [], [], []
    for i, sample in enumerate(map(_quoted, simulated)):
        classes.append(f"  {i}: {{name: {sample}, color: '{color(i, len(simulated))}'}}")
        training.append(f"  - {sample}: {{{sample}: {{class: {i}}}}}")
    if len(simulated) == 1:
        classes.append(
            "  # EDIT: a training needs a second class: of another file, or by a cut below"
        )
    first = next(iter(sights.values()))
    folder = first.path.parent
    for name, sight in sights.items():
        sample, path = _quoted(name), sight.path
        if name in of_their_own:
            never = f"{{sample: {sample}, never_trained: true}}"
            prediction.append(f"  - {sample if name in simulated else never}")
        inside = "/".join(path.parts[len(folder.parts) :])
        file = inside if is_within(path, folder) else str(path)
        tree = f", tree: {_quoted(sight.tree)}" if sight.tree != first.tree else ""
        files.append(f"  {sample}: {{files: {_quoted(file)}{tree}}}")
    plain = (s.path == folder / f"{n}.root" and s.tree == first.tree for n, s in sights.items())
    if all(plain):
        files = []
    return {
        "classes": [*classes, _signal(simulated)],
        "training_samples": training,
        "prediction_samples": prediction,
        "files": ["samples:"] * bool(files) + files,
    }


def _signal(simulated: Sequence[str]) -> str:
    """Return the signal classes: those whose names say so, else the first one."""
    found = [name for name in simulated if _SIGNAL.search(name)]
    if not found or (len(found) == len(simulated) > 1):
        note = "  # EDIT: no name told which; this is the first"
        return f"signal_classes: [{_quoted(simulated[0])}]{note}"
    return f"signal_classes: [{', '.join(map(_quoted, found))}]  # by name"


def color(i: int, n: int) -> str:
    """Return the colour of class i of n: no two are alike, however many there are."""
    if n <= len(_COLORS):
        return _COLORS[i]
    lightness, saturation = ((0.42, 0.65), (0.62, 0.55), (0.3, 0.5))[i % 3]
    rgb = colorsys.hls_to_rgb(i / n, lightness, saturation)
    return f"rgb({', '.join(str(round(255 * part)) for part in rgb)})"


def _alternative(samples: Collection[str]) -> set[str]:
    """Return the samples that seem to stand for others under a variation."""
    return {name for guess in guess_shifts(samples) for name in guess.shifted}


def _variations(sights: Sequence[Sight]) -> list[str]:
    """Return the block of variations that the names of branches and of files tell of."""
    samples = _sample_names(sights)
    lines = []
    for guess in guess_shifts(samples):
        parts = [f"samples_{way}: {{{_pairs(of)}}}" for way, of in guess.partners.items()]
        parts += [] if guess.two_sided else ["one_sided: true"]
        lines.append(f"  {_quoted(guess.name)}: {{{', '.join(parts)}}}")
    for name in _alternative(samples):
        del samples[name]
    sights = list(samples.values())
    branches = dict.fromkeys(n for s in sights for n in (*s.columns, *s.shifted))
    for guess in guess_shifts(list(branches)):
        has = [set(guess.shifted) <= {*s.shifted} for s in sights]
        where = [_quoted(n) for n, yes in zip(samples, has, strict=True) if yes]
        if not where:  # some branches here, some there: nothing that one block could say
            continue
        parts = _replacements(guess)
        parts += [] if guess.two_sided else ["one_sided: true"]
        parts += [] if all(has) else [f"samples: [{', '.join(where)}]"]
        some = ", ".join(guess.branches[:4]) + ", ..." * (len(guess.branches) > 4)
        note = f"{len(guess.branches)} branch{'es' * (len(guess.branches) > 1)}: {some}"
        lines += [f"  # {note}", f"  {_quoted(guess.name)}: {{{', '.join(parts)}}}"]
    if not lines:
        return []
    edit = (
        "# EDIT: drop what is no uncertainty of yours, and rename: the names end those of branches."
    )
    return ["", "# --- systematic variations " + 46 * "-", edit, "variations:", *lines]


def _replacements(guess: GuessedShifts) -> list[str]:
    """Return what stands in the place of what, in each direction of a variation."""
    if all(_WEIGHT.search(branch) for branch in guess.branches):
        factors = {
            way: " * ".join(f"{shifted} / {nominal}" for nominal, shifted in of.items())
            for way, of in guess.partners.items()
        }
        return [f"weight_{way}: {_text(factor)}" for way, factor in factors.items()]
    if (patterns := guess.patterns) is not None:
        return [f"{way}: {_text(pattern)}" for way, pattern in patterns.items()]
    return [f"{way}: {{{_pairs(of)}}}" for way, of in guess.partners.items()]


def _pairs(partners: Mapping[str, str]) -> str:
    return ", ".join(f"{_quoted(n)}: {_quoted(shifted)}" for n, shifted in partners.items())


def _missing(columns: Sequence[Column]) -> list[str]:
    texts = [f"{m:g}" for m in sorted({c.missing for c in columns if c.missing is not None})]
    texts += [".nan"] * any(c.n_not_finite for c in columns)
    line = f"missing: {{values: [{', '.join(texts)}], to: nan}}  # models are given NaN"
    return [line] if texts else []


def _weight(sights: Sequence[Sight]) -> str:
    """Return the physics weight: the shortest name that says so in all files."""
    found = [n for n in sights[0].columns if "weight" in n.lower()]
    found = [n for n in found if all(n in s.columns for s in sights)]
    if not found:
        return "null  # EDIT: no branch looks like one; factor: per sample is possible"
    name = min(found, key=len)
    negative = max(s.columns[name].negative_share for s in sights)
    note = f"; up to {negative:.1%} are negative" if negative else ""
    return f"{_quoted(name)}  # EDIT: the physics weight, an expression{note}"


def _sample_names(sights: Sequence[Sight]) -> dict[str, Sight]:
    """Return what was seen by sample name.

    That is the file's stem, with the folder's name where stems repeat; of several trees of one
    file, which is the only one, the tree's name, of more files both.
    """
    places = list(dict.fromkeys(s.path for s in sights))
    stems = [path.stem for path in places]
    names: dict[str, Sight] = {}
    for sight in sights:
        path, tree = sight.path, sight.tree.rsplit("/", 1)[-1]
        name = path.stem if stems.count(path.stem) == 1 else f"{path.parent.name}_{path.stem}"
        if sum(s.path == path for s in sights) > 1:
            name = tree if len(places) == 1 else f"{name}_{tree}"
        if name in names:
            raise InputError(f"two files would both be the sample '{name}': rename one of them")
        names[name] = sight
    return names


def _quoted(text: str) -> str:
    """Return `text` as YAML reads it back."""
    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    return _text(text)


def _text(text: str) -> str:
    """Return `text` in quotes, as YAML reads it back."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _listed(role: str, names: Sequence[str], sights: Sequence[Sight]) -> list[str]:
    """Return a list of branches, each with its type, range and missing values beside it."""
    if not names:
        return [f"{role}: []"]
    width = max(len(_quoted(n)) for n in names)
    looks = [_looks([s.columns[n] for s in sights]) for n in names]
    lines = [f"  - {_quoted(n):{width}}  # {look}" for n, look in zip(names, looks, strict=True)]
    return [f"{role}:", *lines]


def _looks(seen: Sequence[Column]) -> str:
    low, high = min(c.low for c in seen), max(c.high for c in seen)
    text = f"{'/'.join(sorted({c.dtype for c in seen}))}, {low:.4g} .. {high:.4g}"
    missing = [f"{c.missing:g}" for c in seen if c.missing is not None]
    if missing:
        text += f", {missing[0]} in up to {max(c.missing_share for c in seen):.0%}"
    bad = sum(c.n_not_finite for c in seen)
    return f"{text}, {bad} NaN or infinite" if bad else text


def _unreadable(sights: Sequence[Sight]) -> list[str]:
    names = list(dict.fromkeys(n for s in sights for n in s.unreadable))
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    line = f"# Not one number per entry, so not usable: {', '.join(names[:8])}{more}"
    return [line] if names else []


def write(files: Sequence[str | Path], tree: str | None, output: Path) -> str:
    """Write the analysis file `output` from ROOT files and return its text.

    Raises ConfigError where `output` exists, InputError where a file can't be used.
    """
    if output.exists():
        raise ConfigError(f"{output} exists and is not overwritten: name another with -o")
    if output.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{output} is to be an analysis file: let its name end in .yaml")
    paths = [given_location(f) for f in files]
    trees, left = find_trees(paths, tree)
    sights = [look_at(path, name) for path, name in trees]
    text = analysis_text(output.stem, sights, _schema_place(output), left)
    with complete(output) as partial:
        partial.write_text(text, encoding="utf-8")
    return text


def _schema_place(output: Path) -> str:
    """Return where the JSON Schema is, as seen from the file: relative inside the project."""
    schema = PROJECT / "docs" / "schema" / "analysis.json"
    if not output.absolute().is_relative_to(PROJECT):
        return str(schema)
    return os.path.relpath(schema, output.absolute().parent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a commented starting analysis file from ROOT files; returns the exit status."""
    from utils.system.program import fail

    parser = argparse.ArgumentParser(prog="python -m utils.new_analysis", description=main.__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE.root")
    parser.add_argument("--tree", help="default: the only tree of the files")
    parser.add_argument(
        "-o", "--output", type=Path, default=PROJECT / "configs" / "analysis" / "my_channel.yaml"
    )
    options = parser.parse_args(arguments)
    output = options.output.expanduser().absolute()
    try:
        text = write(options.files, options.tree, output)
    except PipelineError as error:
        return fail(str(error))
    except OSError as error:
        return fail(system_message(error))
    inside = output.parent == PROJECT / "configs" / "analysis"
    choice = shlex.quote(output.stem if inside else str(output))
    sys.stdout.write(
        f"Wrote {portable(output)}; edit its {text.count('EDIT:')} lines marked EDIT, then:\n"
        f"  python preprocess.py analysis={choice}\n"
        "  python preprocess.py --config-path configs/preprocess/prediction_data "
        f"analysis={choice}\n"
        f"  python train.py analysis={choice}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
