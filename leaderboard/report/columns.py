"""Columns, cell texts and definitions, shared by all forms of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..records.schema import METRICS
from ..standings.scores import GATE, TESTABLE
from ..standings.table import Row, Value, precision

MISSING = "—"
ARROWS = {"lower": "↓", "higher": "↑", "zero": "→0", None: ""}


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        key: Key in ``Row.values``.
        name: Heading without the arrow.
        better: Direction of better numbers; None for a column without one.
        digits: Number of decimals.
        signed: True to show a plus sign.
        minor: True to leave the column out of narrow tables.
    """

    key: str
    name: str
    better: Literal["lower", "higher", "zero"] | None
    digits: int = 1
    signed: bool = False
    minor: bool = False

    @property
    def arrow(self) -> str:
        """Sign for the direction of better numbers; may be empty."""
        return ARROWS[self.better]

    @property
    def title(self) -> str:
        """Heading with the arrow."""
        return f"{self.name} {self.arrow}".rstrip()


COLUMNS = (
    Column("verbmem", "VerbMem", "lower"),
    Column("knowmem", "KnowMem", "lower"),
    Column("privleak", "PrivLeak", "zero"),
    Column("utility", "Utility", "higher"),
    Column("recovery_verbmem", "Δ VerbMem", None, signed=True, minor=True),
    Column("recovery_knowmem", "Δ KnowMem", None, signed=True, minor=True),
    Column("forget_quality", "Forget quality", "higher", digits=2),
    Column("score", "Score", "higher"),
)
METRIC_COLUMNS = tuple(column for column in COLUMNS if column.key in METRICS)

DID_NOT_FORGET = "*"
DEFINITIONS = {
    "VerbMem, KnowMem, PrivLeak, Utility": "scores of MUSE × 100.",
    "Precision": "quantizer of the checkpoint; the dtype of the weights where nothing is rounded.",
    "±": "standard error over documents and, with several seeds, over seeds; that of PrivLeak "
    "includes the error of its zero. For Δ it is the error of the difference on the same "
    "documents. (≥, ≤ or ± in parentheses: all documents agree, so that their spread tells no "
    "error; the bound is that of the exact 95% interval.)",
    "Δ": "points gained when the unlearned model is quantized; above 0, more is remembered.",
    "Forget quality": "mean share of the way from target (0) to retrain (1) at the same precision, "
    "of VerbMem, KnowMem and PrivLeak (for PrivLeak, overshooting counts against); none where "
    f"these two differ by less than {TESTABLE:g} standard errors in one of the three.",
    "Score": "harmonic mean of forget quality and utility relative to the target, × 100. Methods "
    "are ordered by its mean over the quantizers with the fewest bits at which scores exist; one "
    "that lacks a score there is not ranked and comes last.",
    DID_NOT_FORGET: f"did not forget: VerbMem or KnowMem of the unquantized checkpoint went less "
    f"than {GATE:.0%} of the way; ranks below all that did.",
    MISSING: "no number.",
}
REPORTED = (
    "numbers from publications, for comparison by eye: their models, settings and evaluation are "
    "not this run's, and they have no part in scores or order."
)


def cell_text(column: Column, row: Row, with_error: bool = True) -> str:
    """Format a number of a row.

    Args:
        column: Column of the number.
        row: Row of the number.
        with_error: True to add the error, if there is one.
    """
    return value_text(row.values.get(column.key), column.digits, column.signed, with_error)


def value_text(
    value: Value | None, digits: int = 1, signed: bool = False, with_error: bool = True
) -> str:
    """Format a value.

    Args:
        value: The value; None gives a dash.
        digits: Number of decimals.
        signed: True to show a plus sign.
        with_error: True to add the error.
    """
    if value is None:
        return MISSING
    text = number_text(value.mean, digits, signed)
    return text + (error_text(value, digits) if with_error else "")


def error_text(value: Value, digits: int = 1) -> str:
    """Format the error of a value: a bound in parentheses if all documents agree."""
    if value.stderr is not None:
        return f" ±{value.stderr:.{digits}f}"
    if value.low is None or value.high is None:
        return ""
    below, above = value.mean - value.low, value.high - value.mean
    half = 0.5 * 10**-digits
    if below > half and above > half:
        return f" (±{max(below, above):.{digits}f})"
    if above > half:
        return f" (≤{number_text(value.high, digits)})"
    return f" (≥{number_text(value.low, digits)})" if below > half else ""


def number_text(number: float | None, digits: int = 1, signed: bool = False) -> str:
    """Format a number, without a minus sign on a zero.

    Args:
        number: The number; None gives a dash.
        digits: Number of decimals.
        signed: True to show a plus sign.
    """
    if number is None:
        return MISSING
    text = f"{number:{'+' if signed else ''}.{digits}f}"
    return text.lstrip("-+") if text.strip("-+0.") == "" else text


def name(row: Row) -> str:
    """Method of a row, with a mark if it did not forget."""
    return method(row) + (DID_NOT_FORGET if row.forgot is False else "")


def method(row: Row) -> str:
    """Method of a row, with the setting that tells it from other rows of the method."""
    return row.method + (f" [{row.setting}]" if row.setting else "")


def finetuning(row: Row) -> str:
    """Finetuning of a row; a dash for references."""
    return MISSING if row.is_reference else row.finetuning


def describe(row: Row) -> str:
    """Board, method, finetuning and precision of a row, for notes about it."""
    return " ".join((row.board.title, method(row), row.finetuning, precision(row)))


def markdown_table(header: list[str], lines: list[list[str]], labels: int) -> str:
    """Build a Markdown table.

    Args:
        header: Headings, escaped.
        lines: One list of cells per line, escaped.
        labels: Number of text columns at the left; the others are aligned as numbers.
    """
    rule = ["---"] * labels + ["---:"] * (len(header) - labels)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))
