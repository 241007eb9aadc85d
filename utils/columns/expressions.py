"""The language of cuts, weights and derived features: parse a text, evaluate it on columns.

A text is never handed to Python: its own small grammar knows numbers, branch names, elements of
fixed-size branches (`jet_pt[0]`), operators and the functions of `FUNCTIONS`, and nothing else can
be called or reached. Operators, loosest first, with the precedence of C and of TTree::Draw:

    ||  or          &&  and         not
    |               &               truth values, like the others; comparisons in parentheses
    == !=           < <= > >=       one at a time: `0 < x < 5` is refused
    + -             * / %           `%` as in C: the sign of its left side; `a % b * c` is refused
    ! ~ - +                         `!a > 2` is `(!a) > 2`
    ^ **                            power

Operands are float64 (integers are exact below 2**53), results are IEEE's: 1/0 is infinite and
sqrt(-4) is NaN, where TTree::Draw says 0 and 2. A truth value is `not equal to zero`.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from utils.columns.arrays import Array, Mask
from utils.schema import ConfigError, InputError, nearest

MAX_DEPTH = 200
"""Levels of nesting that are parsed; far beyond any cut, far below what a Python stack holds."""

MAX_STEPS = 50_000
"""Operations of one expression after its named cuts and derived features are filled in."""


class Step(NamedTuple):
    """One operation of a program in postfix order: push a number or a column, or apply."""

    kind: Literal["number", "column", "apply"]
    name: str
    value: float = 0.0
    n_args: int = 0
    element: tuple[int, ...] = ()


@dataclass(frozen=True)
class Expression:
    """A parsed text, and the definitions it used."""

    text: str
    program: tuple[Step, ...]
    defined: frozenset[str] = frozenset()

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The branches it reads."""
        return frozenset(step.name for step in self.program if step.kind == "column")

    def evaluate(self, columns: Mapping[str, Array], n_rows: int | None = None) -> Array:
        """Return the value for each row as float64, shape (n,).

        `columns` holds arrays of shape (n,), and (n, size) for fixed-size branches. `n_rows` is
        needed only where `columns` is empty (a constant). Raises InputError for a column that is
        missing or not a number.
        """
        return np.asarray(self._value(columns, n_rows), dtype=np.float64)

    def mask(self, columns: Mapping[str, Array], n_rows: int | None = None) -> Mask:
        """Return for each row whether the value differs from zero, shape (n,)."""
        return np.asarray(_truth(self._value(columns, n_rows)), dtype=np.bool_)

    def renamed(self, names: Mapping[str, str]) -> Expression:
        """Return it with another column read in the place of each that `names` has."""
        program = tuple(
            step._replace(name=names.get(step.name, step.name)) if step.kind == "column" else step
            for step in self.program
        )
        return Expression(self.text, program, self.defined)

    def _value(self, columns: Mapping[str, Array], n_rows: int | None) -> Array:
        if n_rows is None:
            n_rows = len(next(iter(columns.values()), ()))
        stack: list[Array] = []
        with np.errstate(all="ignore"):
            for step in self.program:
                if step.kind == "number":
                    stack.append(np.float64(step.value))  # type: ignore[arg-type]
                elif step.kind == "column":
                    stack.append(_column(columns, step, self.text, n_rows))
                else:
                    first = len(stack) - step.n_args
                    stack[first:] = [_APPLY[step.name](*stack[first:])]
        [value] = stack
        return value if np.ndim(value) else np.full(n_rows, value)


def parse(text: str) -> Expression:
    """Return the expression that `text` says. Raises ConfigError for what is not the language's."""
    if not isinstance(text, str):
        raise ConfigError(f"an expression must be a text, not {type(text).__name__} {text!r}"[:200])
    return Expression(text, _Parser(text).run())


def expand(text: str, definitions: Mapping[str, str]) -> Expression:
    """Return the expression `text` with every name in `definitions` replaced by its meaning.

    Meanings may use other definitions. Raises ConfigError like `parse`, and for a definition that
    comes back to itself.
    """
    done: dict[str, tuple[Step, ...]] = {}

    def fill_in(program: tuple[Step, ...], trail: tuple[str, ...]) -> tuple[Step, ...]:
        filled: list[Step] = []
        for step in program:
            is_defined = step.kind == "column" and step.name in definitions
            if is_defined and step.element:
                raise ConfigError(
                    f"'{step.name}[{step.element[0]}]': '{step.name}' is defined by an expression "
                    "and has no elements"
                )
            filled += meaning(step.name, trail) if is_defined else [step]
            if len(filled) > MAX_STEPS:
                raise ConfigError(
                    f"{quote(text)} has more than {MAX_STEPS} operations once its definitions "
                    "are filled in"
                )
        return tuple(filled)

    def meaning(name: str, trail: tuple[str, ...]) -> tuple[Step, ...]:
        if name in trail:
            circle = " -> ".join((*trail[trail.index(name) :], name))
            raise ConfigError(
                f"the definition of '{name}' comes back to itself ({circle}): give it a name that "
                "its own text does not use"
            )
        if len(trail) >= MAX_DEPTH:
            raise ConfigError(f"{quote(text)}: definitions nested deeper than {MAX_DEPTH}")
        if name not in done:
            try:
                program = parse(definitions[name]).program
            except ConfigError as error:
                raise ConfigError(f"definition of '{name}': {error}") from None
            done[name] = fill_in(program, (*trail, name))
        return done[name]

    return Expression(text, fill_in(parse(text).program, ()), frozenset(done))


def any_of(expressions: Sequence[Expression]) -> Expression:
    """Return what is true where one of the expressions, one or more, is not zero."""
    program = list(expressions[0].program)
    for other in expressions[1:]:
        program += [*other.program, Step("apply", "||", n_args=2)]
    return Expression(
        " || ".join(f"({e.text})" for e in expressions),
        tuple(program),
        frozenset().union(*(e.defined for e in expressions)),
    )


# --- evaluation ----------------------------------------------------------------------------------


def _column(columns: Mapping[str, Array], step: Step, text: str, n_rows: int) -> Array:
    if step.name not in columns:
        raise InputError(
            f"branch '{step.name}' in {quote(text)} is missing; {nearest(step.name, columns)}"
        )
    column = np.asarray(columns[step.name])
    if column.dtype.kind not in "biuf":
        raise InputError(f"branch '{step.name}' in {quote(text)} holds no numbers: {column.dtype}")
    if len(column) != n_rows:
        raise InputError(f"branch '{step.name}' has {len(column)} rows where others have {n_rows}")
    check_index(step.name, column.shape[1:], step.element, text)
    column = column[(..., *step.element)]  # type: ignore[arg-type]
    return column if column.dtype == bool else column.astype(np.float64)


def check_index(name: str, shape: tuple[int, ...], index: tuple[int, ...], text: str) -> None:
    """Raise InputError unless `index` picks one number of a branch with this shape per entry."""
    if len(index) == len(shape) and all(i < n for i, n in zip(index, shape, strict=True)):
        return
    if not shape:
        raise InputError(
            f"branch '{name}' in {quote(text)} has one value per entry: drop the [...]"
        )
    last = name + "".join(f"[{n - 1}]" for n in shape)
    raise InputError(
        f"branch '{name}' in {quote(text)} has {' x '.join(map(str, shape))} values per entry: "
        f"choose one, from {name}{'[0]' * len(shape)} to {last}"
    )


def _truth(value: Array) -> Array:
    return value if value.dtype == bool else np.not_equal(value, 0)


def _number(value: Array) -> Array:
    return value.astype(np.float64) if value.dtype == bool else value


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda *values: function(*map(_number, values))


def _of_truths(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda *values: function(*map(_truth, values))


def _remainder(left: Array, right: Array) -> Array:
    # C and TTree::Draw drop the fractions and give the remainder the sign of the left side.
    return np.asarray(np.fmod(np.trunc(left), np.trunc(right)))


FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    **{
        name: (1, 1, getattr(np, name))
        for name in (
            *("abs", "sqrt", "exp", "log", "log10", "log2", "floor", "ceil", "isnan", "isfinite"),
            *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
        )
    },
    **{name: (2, 2, getattr(np, name)) for name in ("atan2", "hypot", "fmod")},
    "int": (1, 1, np.trunc),
    "pow": (2, 2, operator.pow),
    "min": (2, 99, lambda *values: functools.reduce(np.minimum, values)),
    "max": (2, 99, lambda *values: functools.reduce(np.maximum, values)),
    "pi": (0, 0, lambda: np.float64(np.pi)),
}
"""Functions of the language: least and most arguments, meaning. `log` is the natural one."""

_SPELLINGS = {
    "fabs": "abs",
    "power": "pow",
    "ln": "log",
    "finite": "isfinite",
    "ceilnint": "ceil",
    "floornint": "floor",
}

_APPLY: dict[str, Callable[..., Array]] = {
    "unary !": _of_truths(np.logical_not),
    "unary -": _of_numbers(operator.neg),
    "unary +": _of_numbers(operator.pos),
    "||": _of_truths(np.logical_or),
    "&&": _of_truths(np.logical_and),
    "==": _of_numbers(np.equal),
    "!=": _of_numbers(np.not_equal),
    "<": _of_numbers(np.less),
    "<=": _of_numbers(np.less_equal),
    ">": _of_numbers(np.greater),
    ">=": _of_numbers(np.greater_equal),
    "+": _of_numbers(operator.add),
    "-": _of_numbers(operator.sub),
    "*": _of_numbers(operator.mul),
    "/": _of_numbers(operator.truediv),
    "%": _of_numbers(_remainder),
    "^": _of_numbers(operator.pow),
    **{name: _of_numbers(function) for name, (_, _, function) in FUNCTIONS.items()},
}

# --- parsing -------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<name>[^\W\d]\w*(?:(?:\.|::)[^\W\d]\w*)*)
  | (?P<symbol>\|\||&&|==|!=|<=|>=|\*\*|[-+*/%^<>!~&|()\[\],])
  | (?P<end>\Z)
  | (?P<unknown>\S) )""",
    re.VERBOSE,
)

_NUMBER = re.compile(r"[-+(\s]*[0-9.][0-9.eE+-]*[)\s]*")

_SAME = {"or": "||", "and": "&&", "not": "!", "|": "||", "&": "&&", "~": "!", "**": "^"}

_LEVEL = {
    "or": 1, "||": 1, "and": 2, "&&": 2, "|": 4, "&": 5, "==": 6, "!=": 6,
    "<": 7, "<=": 7, ">": 7, ">=": 7, "+": 8, "-": 8, "*": 9, "/": 9, "%": 9, "^": 11, "**": 11,
}  # fmt: skip
_LEVEL_NOT, _LEVEL_PREFIX, _LEVEL_POWER = 3, 10, 11
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_ARITHMETIC = ("+", "-", "*", "/", "%", "^")
_CONSTANTS = {"true": 1.0, "True": 1.0, "false": 0.0, "False": 0.0}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int

    @property
    def symbol(self) -> str:
        """The token in the one spelling that operators are applied and compared by."""
        return _SAME.get(self.text, self.text)


class _Part(NamedTuple):
    """A stretch of the text that was parsed, and the operator that joins it, if no parentheses."""

    start: int
    end: int
    joined_by: str = ""
    middle: int = 0  # where the right-hand side of a comparison or power starts


class _Parser:
    """Precedence climbing that writes the postfix program as it goes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [
            _Token(kind, match[kind], *match.span(kind))
            for match in _TOKEN.finditer(text)
            if (kind := match.lastgroup)
        ]
        self.at = 0
        self.depth = 0
        self.steps: list[Step] = []
        self.needs_parentheses: list[_Part] = []

    def run(self) -> tuple[Step, ...]:
        for token in self.tokens:
            if token.kind == "unknown":
                hint = "; compare with '=='" if token.text == "=" else ""
                raise self._refused(
                    f": {token.text!r} at position {token.start} means nothing here{hint}"
                )
        if self.tokens[0].kind == "end":
            raise ConfigError("an expression is empty: write 'true' to keep every event")
        self._expression(1)
        if self._now.kind != "end":
            raise self._unexpected()
        if self.needs_parentheses:
            raise self._refused(
                " mixes comparisons with & or | without parentheses, which C and Python read "
                f"differently; write {quote(self._mended())}"
            )
        return tuple(self.steps)

    @property
    def _now(self) -> _Token:
        return self.tokens[self.at]

    def _next(self, symbol: str) -> bool:
        """Step over the current token if it is this one."""
        found = self._now.text == symbol
        self.at += found
        return found

    def _refused(self, why: str) -> ConfigError:
        return ConfigError(f"{quote(self.text)}{why}")

    def _unexpected(self) -> ConfigError:
        token = self._now
        if token.kind == "end":
            return self._refused(" ends too early")
        return self._refused(f": '{token.text[:40]}' at position {token.start} is not expected")

    def _apply(self, name: str, n_args: int) -> None:
        self.steps.append(Step("apply", name, n_args=n_args))

    def _number(self, token: _Token, value: float) -> _Part:
        self.steps.append(Step("number", token.text, value))
        return _Part(token.start, token.end)

    def _expression(self, level: int) -> _Part:
        """Parse operators that bind at least as tightly as `level`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._refused(f" is nested deeper than {MAX_DEPTH} levels")
        left = self._operand(level)
        while (binds := _LEVEL.get(self._now.text, 0)) >= level:
            token = self._now
            self.at += 1
            right = self._expression(_LEVEL_PREFIX if binds == _LEVEL_POWER else binds + 1)
            self._check_mixture(token.text, left, right)
            self._apply(token.symbol, 2)
            left = _Part(left.start, right.end, token.symbol, right.start)
        self.depth -= 1
        return left

    def _operand(self, level: int) -> _Part:
        token = self._now
        self.at += 1
        if token.kind == "number":
            return self._number(token, self._exact(token.text))
        if token.text in ("!", "~", "-", "+"):
            return self._prefix(token, _LEVEL_PREFIX)
        if token.text == "not" and level <= _LEVEL_NOT:
            return self._prefix(token, _LEVEL_NOT)
        if token.kind == "name" and token.text not in ("and", "or", "not"):
            return self._call(token) if self._next("(") else self._name(token)
        if token.text == "(":
            self._expression(1)
            return self._up_to(")", token)
        self.at -= 1
        raise self._unexpected()

    def _up_to(self, symbol: str, first: _Token) -> _Part:
        """Step over `symbol`, which must be next, and return the part from `first` to it."""
        if not self._next(symbol):
            raise self._unexpected()
        return _Part(first.start, self.tokens[self.at - 1].end)

    def _prefix(self, token: _Token, level: int) -> _Part:
        part = self._expression(level)
        if token.text in ("!", "~") and part.joined_by == "^":
            base, _ = self._powers(part)
            raised = self.text[part.start + len(base) : part.end]
            raise self._refused(
                " negates a power, which ROOT reads differently; write "
                f"{quote(f'({token.text}{base}){raised}')} or "
                f"{quote(f'{token.text}({self._cut(part)})')}"
            )
        self._apply(f"unary {token.symbol}", 1)
        if part.joined_by == "^":  # a ** -b ** c chains powers too
            return part._replace(start=token.start)
        return _Part(token.start, part.end)

    def _exact(self, text: str) -> float:
        value = float(text)
        if not np.isfinite(value):
            raise self._refused(f": {text[:40]} is too large for a float64")
        # Without its zeros in front, an integer of finite value has at most 309 digits.
        if text.isdigit() and int(value) != int(text.lstrip("0") or "0"):
            raise self._refused(f": {text[:40]} is beyond 2**53 and cannot be compared exactly")
        return value

    def _name(self, token: _Token) -> _Part:
        if "::" in token.text:
            raise self._refused(f": '{token.text[:40]}' is not a branch; functions need (...)")
        if token.text in _CONSTANTS:
            return self._number(token, _CONSTANTS[token.text])
        part = _Part(token.start, token.end)
        index = []
        while self._next("["):
            number = self._now
            if not (number.kind == "number" and number.text.isdigit() and len(number.text) < 10):
                raise self._unexpected()
            self.at += 1
            index.append(int(number.text))
            part = self._up_to("]", token)
        self.steps.append(Step("column", token.text, element=tuple(index)))
        return part

    def _call(self, token: _Token) -> _Part:
        space, _, plain = token.text.rpartition("::")
        name = plain.lower() if space == "TMath" else plain
        name = _SPELLINGS.get(name, name)
        if name not in FUNCTIONS or space not in ("", "std", "TMath"):
            raise self._refused(
                f": there is no function '{token.text[:40]}'; {nearest(name, FUNCTIONS)}"
            )
        n_args = 0
        if self._now.text != ")":
            self._expression(1)
            n_args = 1
            while self._next(","):
                self._expression(1)
                n_args += 1
        part = self._up_to(")", token)
        least, most, _ = FUNCTIONS[name]
        if not least <= n_args <= most:
            wanted = str(least) if least == most else f"at least {least}"
            plural = "s" * (least != 1)
            raise self._refused(f": {name} takes {wanted} argument{plural}, not {n_args}")
        self._apply(name, n_args)
        return part

    def _check_mixture(self, symbol: str, left: _Part, right: _Part) -> None:
        """Refuse what readers of C, Python and mathematics read in different ways."""
        a, b = self._cut(left), self._cut(right)
        compared = [part for part in (left, right) if part.joined_by in _COMPARISONS]
        if symbol in ("&", "|"):
            if {left.joined_by, right.joined_by} & {*_ARITHMETIC} or any(
                map(_NUMBER.fullmatch, (a, b))
            ):
                raise self._refused(
                    f" would test bits in ROOT and C; {symbol} joins truth values here: write "
                    f"{quote(f'({a} != 0) {symbol} ({b} != 0)')} for those, or for bit n of a "
                    "branch 'int(branch / 2**n) % 2 == 1'"
                )
            self.needs_parentheses += compared
        elif symbol in _COMPARISONS and compared:
            mended = f"({a}) {symbol} {b}" if compared[0] is left else f"{a} {symbol} ({b})"
            if compared[0] is left and "=" not in (symbol[0], left.joined_by[0]):
                mended = f"({a}) && ({self.text[left.middle : left.end]} {symbol} {b})"
            raise self._refused(
                f" chains comparisons, which C and Python read differently; write {quote(mended)}"
            )
        elif symbol in ("*", "/", "%") and left.joined_by == "%":
            raise self._refused(
                " goes on after %, which ROOT and C read differently; "
                f"write {quote(f'({a}) {symbol} {b}')}"
            )
        elif symbol in ("^", "**") and right.joined_by == "^":
            b, c = self._powers(right)
            raise self._refused(
                " chains powers, which ROOT and Python read differently; "
                f"write {quote(f'({a}{symbol}{b}){symbol}{c}')} or "
                f"{quote(f'{a}{symbol}({b}{symbol}{c})')}"
            )

    def _powers(self, part: _Part) -> tuple[str, str]:
        """Return base and exponent of a part that is a power."""
        base = self.text[part.start : part.middle].rstrip(" *^")
        return base, self.text[part.middle : part.end]

    def _cut(self, part: _Part) -> str:
        return self.text[part.start : part.end]

    def _mended(self) -> str:
        inserts = [(p.start, "(") for p in self.needs_parentheses]
        inserts += [(p.end, ")") for p in self.needs_parentheses]
        text = self.text
        for position, character in sorted(inserts, reverse=True):
            text = text[:position] + character + text[position:]
        return text


def quote(text: str) -> str:
    """Return `text` in quotes on one line, shortened if it is long."""
    flat = " ".join(text.split())
    return f"'{flat}'" if len(flat) <= 160 else f"'{flat[:157]}...'"
