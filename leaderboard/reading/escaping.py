"""Escaping of untrusted text for Markdown, LaTeX, CSV and terminals."""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
"""Unicode categories of invisible characters: controls, bidirectional marks, unassigned, …"""
BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Invisible characters of other categories: fillers, variation selectors."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line break (\\), these two would be its arguments
    "*": "{*}",
} | {char: f"\\{char}" for char in "&%$#_{}"}


def visible(text: str, keep: str = "") -> str:
    r"""Escape every invisible character, as ``\u202e``, which reverses text.

    Args:
        text: Untrusted text.
        keep: Characters that stay, for example line breaks.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or _is_visible(char) else char.encode("unicode_escape").decode()
        for char in text
    )


def one_line(text: str) -> str:
    """Escape invisible characters and replace every run of white space by a space."""
    return visible(" ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Escape text for one line of Markdown, its HTML included."""
    text = re.sub(r"([\\`*_\[\]|~])", r"\\\1", one_line(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escape_latex(text: str) -> str:
    """Escape text for LaTeX; characters other than ASCII become escapes, for every engine."""
    ascii_only = one_line(text).encode("ascii", "backslashreplace").decode()
    escaped = "".join(_LATEX.get(char, char) for char in ascii_only)
    return re.sub(r"-(?=-)", "-{}", escaped)  # two hyphens would be a dash


def escape_csv(text: str) -> str:
    """Prefix an apostrophe to text that a spreadsheet would read as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _is_visible(char: str) -> bool:
    if char == " ":
        return True
    category = unicodedata.category(char)
    return category not in INVISIBLE and category != "Zs" and char not in BLANK
