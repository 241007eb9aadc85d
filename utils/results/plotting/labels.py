"""Text that goes into figures: names as they are, labels as the field writes them.

Plotly reads a little HTML and hands `$...$` to MathJax, which is not there offline. So a name is
always escaped, and the part of TeX (and of ROOT's TLatex) that axis titles use becomes HTML here.
"""

from __future__ import annotations

import math
import re

_GREEK = (
    "alpha=α beta=β gamma=γ delta=δ epsilon=ε varepsilon=ε zeta=ζ eta=η theta=θ iota=ι kappa=κ "
    "lambda=λ mu=μ nu=ν xi=ξ pi=π rho=ρ sigma=σ tau=τ upsilon=υ phi=φ varphi=φ chi=χ psi=ψ omega=ω "
    "Gamma=Γ Delta=Δ Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ Phi=Φ Psi=Ψ Omega=Ω"
)
_SIGNS = (
    "to=→ rightarrow=→ times=× pm=± cdot=· ell=ℓ infty=∞ sqrt=√ leq=≤ geq=≥ le=≤ ge=≥ approx=≈ "
    "sim=~ ast=* circ=° prime=′ left= right="
)
_SYMBOLS = {
    word: sign for word, _, sign in (p.partition("=") for p in f"{_GREEK} {_SIGNS}".split())
}
_COMMAND = re.compile(r"(?:\\|#)([A-Za-z]+)\s?")
_UPRIGHT = re.compile(r"\\(?:mathrm|text|mathit|mathbf|rm|mbox|textrm|operatorname)\s*\{([^{}]*)\}")
_BAR = re.compile(r"(?:\\(?:bar|overline)|#bar)\s*\{?([A-Za-z])\}?")
_TILDE = re.compile(r"(?:\\tilde|#tilde)\s*\{?([A-Za-z])\}?")
_SCRIPT = re.compile(r"([_^])(?:\{([^{}]*)\}|([A-Za-z0-9*+\-′]))")
_BRACED_SCRIPT = re.compile(r"([_^])\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def literal(text: str) -> str:
    """Return `text` so that a figure shows exactly these characters, on one line."""
    text = _CONTROL.sub(" ", str(text)).replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("$", "&#36;").replace("%", "&#37;")


def shorten(text: str, length: int) -> str:
    """Return `text`, its middle replaced by an ellipsis where it is longer than `length`."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def label(text: str) -> str:
    """Return a user's label as figure text.

    `$...$` is read as TeX, `#tau` and `p_{T}` outside of it as TLatex; what is not understood stays
    as it was written.
    """
    parts = re.split(r"\$([^$]*)\$", text)
    if len(parts) == 1:
        return _tlatex(text)
    return "".join(_tex(p) if i % 2 else _tlatex(p) for i, p in enumerate(parts))


def _tlatex(text: str) -> str:
    text = literal(text)
    if not re.search(r"#[A-Za-z]|[_^]\{", text):
        return text
    return _scripts(_symbols(text.replace("&#36;", "$"), "#"), _BRACED_SCRIPT).replace("$", "&#36;")


def _tex(text: str) -> str:
    text = re.sub(r"\\[,;:! ]|~", " ", _CONTROL.sub(" ", text))
    for _ in range(3):
        text = _UPRIGHT.sub(r"{\1}", text)
    text = _symbols(literal(text), "\\")
    return _scripts(text, _SCRIPT).replace("{", "").replace("}", "")


def _symbols(text: str, mark: str) -> str:
    text = _BAR.sub("\\1\N{COMBINING OVERLINE}", text)
    text = _TILDE.sub("\\1\N{COMBINING TILDE}", text)

    def symbol(found: re.Match[str]) -> str:
        known = found.group(0).startswith(mark) and _SYMBOLS.get(found.group(1))
        return known if isinstance(known, str) else found.group(0)

    return _COMMAND.sub(symbol, text)


def _scripts(text: str, pattern: re.Pattern[str]) -> str:
    def script(found: re.Match[str]) -> str:
        tag = "sub" if found.group(1) == "_" else "sup"
        inside = next(g for g in found.groups()[1:] if g is not None)
        return f"<{tag}>{inside.replace('-', '−')}</{tag}>"

    for _ in range(3):
        text = pattern.sub(script, text)
    return text


def number(value: float, digits: int = 3) -> str:
    """Return a number with about `digits` significant digits; '–' where it is undefined."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 6 or size < -4:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}×10<sup>{int(power)}</sup>".replace("-", "−")
    return f"{value:,.{max(digits - 1 - size, 0)}f}".replace("-", "−")


def decimals(error: float, digits: int = 2, most: int = 5) -> int:
    """Return how many decimals show `digits` significant digits of an uncertainty."""
    if not math.isfinite(error) or error <= 0:
        return 3
    size = int(f"{error:.{digits - 1}e}".split("e")[1])  # of 0.0996 as of 0.10, two digits
    return min(max(digits - 1 - size, 0), most)


def measured(value: float, error: float) -> str:
    """Return `value ± error`, both with the decimals that the error deserves."""
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(error):
        return number(value)
    places = decimals(error)
    return f"{value:.{places}f} ± {error:.{places}f}".replace("-", "−")


def signed_percent(share: float) -> str:
    """Return a relative change in percent with its sign and two digits, without the sign `%`."""
    value = 100 * share
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size < 1e-4:  # what sums in single precision leave of nothing
        return "0"
    places = 0 if size >= 9.95 else 1 if size >= 0.995 else 2 if size >= 0.0995 else 3
    return f"{value:+.{places}f}".replace("-", "−")
