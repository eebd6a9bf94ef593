"""Text from records, which may be anybody's, as each form of the table can show it."""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
"""Unicode categories of what cannot be seen: controls, bidirectional marks, unassigned, …"""
BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Characters of other categories that show nothing: fillers, variation selectors."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a line, these two would belong to it
    "*": "{*}",
} | {char: f"\\{char}" for char in "&%$#_{}"}


def visible(text: str, keep: str = "") -> str:
    r"""The text with every invisible character as an escape: ``\u202e`` turns nothing around.

    Args:
        text: of any origin.
        keep: characters that stay, for example line breaks.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or _shows(char) else char.encode("unicode_escape").decode()
        for char in text
    )


def one_line(text: str) -> str:
    """Visible text, every run of white space a single space."""
    return visible(" ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line, without HTML."""
    text = re.sub(r"([\\`*_\[\]|~])", r"\\\1", one_line(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is; what is not ASCII, as an escape, whatever the engine."""
    ascii_only = one_line(text).encode("ascii", "backslashreplace").decode()
    escaped = "".join(_LATEX.get(char, char) for char in ascii_only)
    return re.sub(r"-(?=-)", "-{}", escaped)  # two hyphens would be a dash


def escape_csv(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _shows(char: str) -> bool:
    if char == " ":
        return True
    category = unicodedata.category(char)
    return category not in INVISIBLE and category != "Zs" and char not in BLANK
