"""The language of cuts: meaning, precedence, refusals, safety, and agreement with TTree::Draw."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.columns.expressions import FUNCTIONS, MAX_DEPTH, expand, parse
from utils.schema import ConfigError, InputError, PipelineError

A = np.array([3.0, -3.0, 0.0, 0.5])
B = np.array([2, 2, -1, 7], dtype=np.int32)
T = np.array([True, False, True, False])
J = np.arange(12, dtype=np.float32).reshape(4, 3)
COLUMNS = {"a": A, "b": B, "t": T, "j": J, "a.x": A + 1}


def value(text: str) -> list[float]:
    result = parse(text).evaluate(COLUMNS)
    assert result.dtype == np.float64
    assert result.shape == (4,)
    return result.tolist()


# --- meaning -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * 2", A + B * 2),
        ("(a + b) * 2", (A + B) * 2),
        ("a - b - 1", A - B - 1),
        ("8 / b / 2", 8 / B / 2),
        ("8 / b * 2", 8 / B * 2),
        ("-a^2", -(A**2)),
        ("-a**2", -(A**2)),
        ("2^-1 * a", A / 2),
        ("a * -b", A * -B),
        ("a--b", A + B),
        ("+a", A),
        ("-7 % 3", [-1] * 4),
        ("7 % -3", [1] * 4),
        ("7.9 % 3.9", [1] * 4),
        ("2 * 7 % 4 - 1", [1] * 4),
        ("a > 1 && b > 3 || t", ((A > 1) & (B > 3)) | T),
        ("t || a > 1 && b > 3", T | ((A > 1) & (B > 3))),
        ("a > 1 or not t and b == 7", (A > 1) | (~T & (B == 7))),
        ("not a > 1", ~(A > 1)),
        ("!a > 1", np.zeros(4)),
        ("!a == 1", A == 0),
        ("~t", ~T),
        ("~(a > 1) & t", ~(A > 1) & T),
        ("(a > 1) | (b > 3) & t", (A > 1) | ((B > 3) & T)),
        ("true & true", np.ones(4)),
        ("a & b", (A != 0) & (B != 0)),
        ("a != 3", A != 3),
        ("a <= 0", A <= 0),
        ("a >= 0", A >= 0),
        ("a < b == t", None),
        ("t + t", T * 2),
        ("-t", -1.0 * T),
        ("(a > 0) * b", (A > 0) * B),
        ("j[1]", J[:, 1]),
        ("j[0] + j [ 2 ]", J[:, 0] + J[:, 2]),
        ("a.x - 1", A),
        ("true", np.ones(4)),
        ("False", np.zeros(4)),
        (".5e1 + 1. + 2", [8] * 4),
        ("a\n  > 1\u00a0\n", A > 1),
        ("abs(a)", abs(A)),
        ("fabs(a) + std::abs(a) + TMath::Abs(a)", 3 * abs(A)),
        ("TMath::Power(a, 2) + pow(a, 2)", 2 * A**2),
        ("TMath::Pi() * 2", [2 * math.pi] * 4),
        ("min(a, b, 0)", np.minimum(np.minimum(A, B), 0)),
        ("max(a, b)", np.maximum(A, B)),
        ("TMath::ATan2(a, b)", np.arctan2(A, B)),
        ("int(a / 2)", np.trunc(A / 2)),
        ("log(exp(a))", A),
        ("log10(1000) + log2(8) + TMath::Log(1)", [6] * 4),
        ("hypot(a, b)", np.hypot(A, B)),
        ("isnan(a / 0 - a / 0)", np.ones(4)),
        ("isfinite(1 / a)", A != 0),
        ("fmod(a, 2)", np.fmod(A, 2)),
        ("floor(a) + ceil(a)", np.floor(A) + np.ceil(A)),
        ("sqrt(b * b)", abs(B)),
    ],
)
def test_meaning(text, expected):
    if expected is None:
        with pytest.raises(ConfigError, match="chains comparisons"):
            parse(text)
        return
    np.testing.assert_allclose(value(text), np.asarray(expected, dtype=float), rtol=1e-15)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"pi"}))
def test_every_function_gives_one_float64_per_row(name):
    least, _, _ = FUNCTIONS[name]
    assert len(value(f"{name}({', '.join(['0.5 + 0 * a'] * least)})")) == 4


def test_float32_is_widened_before_it_is_compared():
    x = np.array([0.1], dtype=np.float32)
    assert not parse("x == 0.1").mask({"x": x})[0]
    assert parse("x > 0.1").mask({"x": x})[0]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_integers_do_not_wrap(dtype):
    x = np.array([100], dtype=dtype)
    assert parse("x * x - 20000").evaluate({"x": x}) == [-10000]


def test_integers_are_exact_below_2_to_53():
    x = np.array([2**53 - 1, 2**53 - 2], dtype=np.uint64)
    assert parse(f"x == {2**53 - 1}").mask({"x": x}).tolist() == [True, False]
    assert parse("x % 2").evaluate({"x": x}).tolist() == [1, 0]


def test_results_are_those_of_ieee_without_a_warning():
    got = parse("1 / x").evaluate({"x": np.array([0.0, -0.0])})
    assert got.tolist() == [math.inf, -math.inf]
    assert np.isnan(parse("sqrt(x) + log(x) + (x)^0.5 + x % 0").evaluate({"x": np.array([-1.0])}))
    assert parse("exp(x)").evaluate({"x": np.array([800.0])}) == [math.inf]
    nan = {"x": np.array([np.nan])}
    assert not parse("x > 1 || x <= 1 || x == x").mask(nan)[0]
    assert parse("x != x").mask(nan)[0]


def test_a_mask_is_whether_the_value_differs_from_zero():
    assert parse("a").mask(COLUMNS).tolist() == [True, True, False, True]
    assert parse("a").mask(COLUMNS).dtype == np.bool_


def test_a_constant_takes_the_length_of_the_columns_or_a_given_one():
    assert parse("2").evaluate({}, n_rows=3).tolist() == [2, 2, 2]
    assert parse("2").evaluate(COLUMNS).shape == (4,)
    assert parse("a > 1").mask({"a": np.empty(0)}).shape == (0,)


def test_names_are_those_of_the_branches():
    assert parse("min(j[0], a.x) > pow and max").names == {"j", "a.x", "pow", "max"}
    assert parse("1 + pi()").names == set()


def test_columns_are_left_as_they_were():
    a = A.copy()
    parse("a").evaluate({"a": a})[:] = 0
    parse("-a + a * 2").evaluate({"a": a})
    assert (a == A).all()


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("a == 2 & b > 0", "(a == 2) & (b > 0)"),
        ("a == 2 & b > 0 | t", "(a == 2) & (b > 0) | t"),
        ("a > 1 | b", "(a > 1) | b"),
        ("t & b > 0", "t & (b > 0)"),
        ("a>1&b>2&a<5", "(a>1)&(b>2)&(a<5)"),
        ("(t | a < 1) && b", "(t | (a < 1)) && b"),
        ("0 < a < 5", "(0 < a) && (a < 5)"),
        ("0 < a + 1 <= 5", "(0 < a + 1) && (a + 1 <= 5)"),
        ("a == b == 1", "(a == b) == 1"),
        ("a == b < 1", "a == (b < 1)"),
        ("b % 3 * 2", "(b % 3) * 2"),
        ("8 % b / 2", "(8 % b) / 2"),
        ("9 % 5 % 3", "(9 % 5) % 3"),
        ("2^3^2", "(2^3)^2"),
        ("2 ** 3 ** 2", "2**(3**2)"),
    ],
)
def test_what_is_read_in_two_ways_is_refused_with_the_mended_form(text, mended):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert f"'{mended}'" in str(error.value)
    parse(mended)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("a >", "ends too early"),
        ("(a > 1", "ends too early"),
        ("a > 1)", "')' at position 5"),
        ("a b", "'b' at position 2"),
        ("3pt > 1", "'pt' at position 1"),
        ("a = 1", "compare with '=='"),
        ("a >> 1", "position 3"),
        ("a ? 1 : 2", "'?'"),
        ("foo(a)", "there is no function 'foo'"),
        ("sqr(a)", "nearest: 'sqrt'"),
        ("TMath::Gaus(a)", "there is no function 'TMath::Gaus'"),
        ("os::abs(a)", "there is no function"),
        ("TMath::Pi", "functions need (...)"),
        ("abs()", "abs takes 1 argument, not 0"),
        ("abs(a, b)", "abs takes 1 argument, not 2"),
        ("min(a)", "min takes at least 2 arguments, not 1"),
        ("pi(1)", "pi takes 0 arguments, not 1"),
        ("abs(a,)", "')' at position 6"),
        ("j[-1]", "'-' at position 2"),
        ("j[a]", "'a' at position 2"),
        ("j[1.5]", "'1.5' at position 2"),
        ("j[0", "ends too early"),
        ("a == not b", "'not'"),
        ("1e999 > a", "too large"),
        ("a == 9007199254740993", "2**53"),
        ("Sum$(j) > 1", "'$'"),
        ("a > 'x'", "position 4"),
    ],
)
def test_mistakes_are_named(text, said):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="'bb' in 'bb > 1' is missing; nearest: 'b'"):
        parse("bb > 1").evaluate(COLUMNS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("j > 1", r"3 values per entry: choose one, from j\[0\] to j\[2\]"),
        ("j[3] > 1", "3 values per entry"),
        ("j[0][0] > 1", "3 values per entry"),
        ("a[0] > 1", "one value per entry"),
    ],
)
def test_elements_must_fit_the_branch(text, said):
    with pytest.raises(InputError, match=said):
        parse(text).evaluate(COLUMNS)


def test_columns_that_are_no_numbers_or_too_short_are_refused():
    with pytest.raises(InputError, match="holds no numbers"):
        parse("x == 1").evaluate({"x": np.array(["1"])})
    with pytest.raises(InputError, match="2 rows where others have 4"):
        parse("a + x").evaluate({"a": A, "x": A[:2]})


# --- definitions ---------------------------------------------------------------------------------


def test_definitions_are_filled_in_with_their_own_precedence():
    definitions = {"sum": "a + b", "tight": "sum > 2 && t", "unused": "nonsense ("}
    expression = expand("2 * sum + tight", definitions)
    expected = 2 * (A + B) + ((A + B > 2) & T)
    np.testing.assert_array_equal(expression.evaluate(COLUMNS), expected)
    assert expression.names == {"a", "b", "t"}
    assert expression.defined == {"sum", "tight"}


@pytest.mark.parametrize(
    ("definitions", "said"),
    [
        ({"x": "x + 1"}, r"comes back to itself \(x -> x\)"),
        ({"x": "y", "y": "z", "z": "y"}, r"comes back to itself \(y -> z -> y\)"),
        ({"x": "a >"}, "definition of 'x': 'a >' ends too early"),
    ],
)
def test_definitions_that_cannot_be_filled_in(definitions, said):
    with pytest.raises(ConfigError, match=said):
        expand("x > 1", definitions)


def test_a_definition_has_no_elements():
    with pytest.raises(ConfigError, match="has no elements"):
        expand("x[0]", {"x": "a"})


def test_definitions_that_explode_are_stopped():
    doubling = {f"x{i}": f"x{i - 1} * x{i - 1}" for i in range(1, 40)} | {"x0": "a"}
    with pytest.raises(ConfigError, match="operations"):
        expand("x39", doubling)
    chain = {f"x{i}": f"x{i + 1}" for i in range(5000)}
    with pytest.raises(ConfigError, match="nested deeper"):
        expand("x0", chain)


# --- safety --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "eval(a)",
        "exec(a)",
        "().__class__.__bases__[0]",
        "a.__class__.__init__.__globals__[0](1)",
        "abs.__self__(1)",
        "getattr(a, b)",
        "lambda: 0",
        "[x for x in a]",
        "{a}",
        "f'{a}'",
        "a if b else c",
        "a := 1",
        "a; b",
        "a @ b",
        "`a`",
        "a\\b",
        "*a",
        "a,b",
        "\x00",
        "٣ > 1",
        "1_000",
        "0x10",
        "1j",
    ],
)
def test_python_is_out_of_reach(text):
    with pytest.raises(ConfigError):
        parse(text)


def test_a_dotted_name_is_a_branch_and_never_an_attribute():
    assert parse("a.__class__").names == {"a.__class__"}
    with pytest.raises(InputError, match=r"'a.shape' in 'a.shape' is missing"):
        parse("a.shape").evaluate(COLUMNS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(", ")"),
        ("-", ""),
        ("!", ""),
        ("not ", ""),
        ("abs(", ")"),
        ("min(1, ", ")"),
        ("a^-", ""),
        ("1 || 1 && 1 | 1 & 1 == 1 + 1 * (", ")"),
        ("(", ""),
        ("", ")"),
        ("a[", ""),
    ],
)
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 5_000])
def test_deep_nesting_ends_in_one_line(before, after, levels):
    with pytest.raises(ConfigError) as error:
        parse(before * levels + "a" + after * levels)
    assert len(str(error.value)) < 500


def test_reasonable_nesting_and_long_chains_are_fine():
    assert value("(" * 90 + "a" + ")" * 90) == A.tolist()
    assert value(" + ".join(["a"] * 3_000)) == pytest.approx((A * 3_000).tolist())
    assert value(" || ".join(["a > 5"] * 2_000)) == [0, 0, 0, 0]
    assert value("0" * 5_000 + "1") == [1] * 4


NAMES = ["a", "b", "t", "j", "j[1]", "a.x", "zz", "__class__", "__import__", "true"]
NUMBERS = ["0", "1", "2.5", "1e3", ".5", "9007199254740993", "1e400"]
SYMBOLS = [*"+-*/%^<>!&|~()()[],.='\"$?:{}\\é\n", "**", "<=", "==", "&&", "||", "::"]
WORDS = ["and", "or", "not", "abs(", "min(", "TMath::Power(", "std::max(", "eval(", "pi()"]
PIECES = NAMES + NUMBERS + SYMBOLS + WORDS


@settings(max_examples=200)
@given(
    st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join), st.text(max_size=30))
)
def test_any_text_is_either_understood_or_refused(text):
    refused, got = "", np.empty(4)
    try:
        got = parse(text).evaluate(COLUMNS)
    except PipelineError as error:
        refused = str(error)
    assert "\n" not in refused
    assert got.shape == (4,)
    assert got.dtype == np.float64


# --- against ROOT --------------------------------------------------------------------------------

IN_ROOT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, ROOT
path, texts, out = sys.argv[1:]
file = ROOT.TFile(path)
tree = file.Get("t")
tree.SetEstimate(tree.GetEntries() + 1)
results = []
for text in json.load(open(texts)):
    n = tree.Draw(text, "", "goff")
    results.append(np.array([tree.GetV1()[i] for i in range(n)]) if n > 0 else np.empty(0))
np.savez(out, *results)
"""


class Generator:
    """Random expressions on which IEEE and TTree::Draw agree: nothing overflows or leaves a domain.

    Parentheses are mostly left out, so that both sides have to find the same precedence.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def number(self, depth: int) -> str:
        pick = self.random.random()
        if depth == 0 or pick < 0.2:
            return self.random.choice(
                ["x", "y", "i", "k", "u", "v[0]", "v[2]", "2", "0.5", "1.25e1"]
            )
        one, two = self.number(depth - 1), self.number(depth - 1)
        if pick < 0.55:
            return f"{one} {self.random.choice('+-*')} {two}"
        if pick < 0.65:
            return f"({one} {self.random.choice('+-')} {two})"
        if pick < 0.9:
            return self.random.choice(
                [
                    f"{self.atom()} / (1 + abs({one}))",
                    f"sqrt(abs({one}))",
                    f"log(1 + TMath::Abs({one}))",
                    f"log10(2 + fabs({one}))",
                    f"exp(-abs({one}))",
                    f"min({one}, {two})",
                    f"TMath::Max({one}, {two})",
                    f"pow(1 + abs({self.atom()}), 0.5)",
                    f"sin({self.atom()}) - cos({self.atom()})",
                    f"atan2({one}, 1 + abs({two}))",
                    f"int({self.atom()})",
                ]
            )
        return self.random.choice(
            [
                f"-{self.atom()}^2",
                f"{self.atom()}**2 * 3",
                f"{one} - -{self.atom()}",
                "(e % 3 + 1)",
                "(2 * i % 3 - 1)",
            ]
        )

    def atom(self) -> str:
        return self.random.choice(["x", "y", "i", "k", "u", "v[1]"])

    def truth(self, depth: int) -> str:
        pick = self.random.random()
        if depth == 0 or pick < 0.4:
            symbol = self.random.choice(["==", "!=", "<", "<=", ">", ">="])
            return f"{self.number(1)} {symbol} {self.number(1)}"
        one, two = self.truth(depth - 1), self.truth(depth - 1)
        if pick < 0.8:
            return f"{one} {self.random.choice(['&&', '||'])} {two}"
        if pick < 0.9:
            return f"!({one})"
        return f"({one}) {self.random.choice('&|')} ({two})"


@pytest.mark.skipif(importlib.util.find_spec("ROOT") is None, reason="ROOT is not installed")
def test_root_gives_the_same_for_random_expressions(tmp_path):
    rng = np.random.default_rng(5)
    n = 100
    columns = {
        "x": rng.normal(0, 3, n).astype(np.float32),
        "y": rng.exponential(2, n),
        "i": rng.integers(-3, 4, n).astype(np.int32),
        "k": rng.integers(-1000, 1000, n),
        "e": rng.integers(-(2**53), 2**53, n),
        "u": rng.integers(0, 5, n).astype(np.uint8),
        "v": rng.normal(0, 2, (n, 3)).astype(np.float32),
    }
    with uproot.recreate(tmp_path / "t.root") as file:
        types = {k: (v.dtype, v.shape[1:]) if v.ndim > 1 else v.dtype for k, v in columns.items()}
        file.mktree("t", types)
        file["t"].extend(columns)
    generator = Generator(seed=20)
    texts = [generator.number(3) for _ in range(120)] + [generator.truth(3) for _ in range(120)]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    paths = [str(tmp_path / name) for name in ("t.root", "texts.json", "out.npz")]
    done = subprocess.run([sys.executable, "-c", IN_ROOT, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as results:
        root = [results[f"arr_{position}"] for position in range(len(texts))]
    for text, expected in zip(texts, root, strict=True):
        got = parse(text).evaluate(columns)
        if not parse(text).names:
            expected = np.full(n, expected[0])
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, err_msg=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!a^b", r"'\(!a\)\^b' or '!\(a\^b\)'"),  # TTree::Draw negates first
        ("a ** -b ** c", "chains powers"),  # and takes the powers from the left
        ("flags & 4", "would test bits in ROOT and C"),
        ("flags&1", "would test bits"),
        ("flags | 2 * b", "would test bits"),
        ("a > 0 && (flags & 0.5e1)", "would test bits"),
    ],
)
def test_what_root_reads_differently_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize("text", ["a & b", "!a & b", "true & a", "(!a)^b", "-a^2", "2 ** -a"])
def test_what_root_reads_alike_or_is_documented_stays(text: str) -> None:
    parse(text)
