"""Escaping of untrusted text for every form of the table."""

import pytest

from leaderboard.reading.escaping import (
    escape_csv,
    escape_latex,
    escape_markdown,
    one_line,
    visible,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("npo_gdr", "npo_gdr"),
        ("naïve 日本 😀", "naïve 日本 😀"),
        ("a\u202eb", r"a\u202eb"),  # right-to-left override
        ("a\u2066b\u200d", r"a\u2066b\u200d"),  # isolate, zero-width joiner
        ("a\u00adb\u00a0c", r"a\xadb\xa0c"),  # soft hyphen, no-break space
        ("\x1b[31m", r"\x1b[31m"),
        ("\u3164\ufe0f\u2028", r"\u3164\ufe0f\u2028"),  # filler, variation selector, line separator
        ("\U000e0041", r"\U000e0041"),  # tag letter
        ("\ud800", r"\ud800"),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_line_breaks_may_stay() -> None:
    assert visible("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"
    assert one_line(" a\n\n\tb ") == "a b"


def test_markdown() -> None:
    assert escape_markdown("<b>|`*_[x](y)\n&") == r"&lt;b&gt;\|\`\*\_\[x\](y) &amp;"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50% & $5 #1 a_b {c}", r"50\% \& \$5 \#1 a\_b \{c\}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^<>|", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"),
        ("[2em] *", "{[}2em] {*}"),  # would be arguments of a preceding line break
        ("a--b---c", "a-{}-b-{}-{}-c"),  # would be dashes
        ("é", r"\textbackslash{}xe9"),
    ],
)
def test_latex(text: str, escaped: str) -> None:
    assert escape_latex(text) == escaped


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\tx", "\rx"])
def test_no_formula_in_csv(text: str) -> None:
    assert escape_csv(text) == f"'{text}"
    assert escape_csv(f"a{text}") == f"a{text}"
