"""What every form of the table shares: its columns, the text of its cells, its footnotes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..scores import GATE
from ..table import Row, Value

MISSING = "—"


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        key: of ``Row.values``.
        title: its heading; the arrow says which way is better.
        digits: decimals.
        signed: whether a plus sign is shown.
        minor: left out where there is little room.
    """

    key: str
    title: str
    digits: int = 1
    signed: bool = False
    minor: bool = False


COLUMNS = (
    Column("verbmem", "VerMem ↓"),
    Column("knowmem", "KnowMem ↓"),
    Column("privleak", "PrivLeak →0"),
    Column("utility", "Utility ↑"),
    Column("recovery_verbmem", "Δ VerMem", signed=True, minor=True),
    Column("recovery_knowmem", "Δ KnowMem", signed=True, minor=True),
    Column("forget_quality", "Forget quality", digits=2),
    Column("score", "Score"),
)

LEGEND = (
    "VerMem, KnowMem, PrivLeak, Utility: scores of MUSE × 100, ± the standard error over examples "
    "(several seeds: ± the standard deviation over seeds).",
    "Δ: points gained when the unlearned model is quantized; above 0, text came back.",
    "Forget quality: mean share of the way from target (0) to retrain (1) at the same precision, "
    "of VerMem, KnowMem and PrivLeak (for PrivLeak, overshooting counts against).",
    "Score: harmonic mean of forget quality and utility relative to the target, × 100; methods are "
    "ordered by it at their lowest precision.",
    f"*: did not forget: VerMem or KnowMem went less than {GATE:.0%} of the way; ranks below all "
    "that did.",
    f"{MISSING}: no number.",
)


def cell_text(column: Column, row: Row, with_error: bool = True) -> str:
    """The text of one number, with its error where there is one."""
    value: Value | None = row.values.get(column.key)
    if value is None or (column.signed and row.precision == "bf16"):
        return MISSING
    text = f"{value.mean:{'+' if column.signed else ''}.{column.digits}f}"
    if text.strip("-+0.") == "":  # no minus sign on a zero
        text = text.lstrip("-+")
    error = value.spread if value.spread is not None else value.stderr
    if with_error and error is not None:
        text += f" ±{error:.{column.digits}f}"
    return text


def name(row: Row, rows: list[Row]) -> str:
    """A row's method; with the settings' digest where another row has the same name."""
    twin = any(
        (other.corpus, other.method, other.finetuning) == (row.corpus, row.method, row.finetuning)
        and other.settings != row.settings
        for other in rows
    )
    mark = "*" if row.forgot is False else ""
    return row.method + (f" [{row.settings}]" if twin else "") + mark


def finetuning(row: Row) -> str:
    """How a row's weights were trained; references have none here."""
    return MISSING if row.is_reference else row.finetuning


def corpora(rows: list[Row]) -> list[str]:
    """The corpora of a table, in order."""
    return list(dict.fromkeys(row.corpus for row in rows))


def markdown_line(cells: list[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line, without HTML."""
    text = " ".join(text.split())
    text = re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
