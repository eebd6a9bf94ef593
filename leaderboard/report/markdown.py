"""The table as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from ..cell import Record
from ..table import Row
from .folds import folds_markdown
from .layout import (
    COLUMNS,
    LEGEND,
    cell_text,
    corpora,
    escape_markdown,
    finetuning,
    markdown_line,
    name,
)
from .survival import survival_markdown


def markdown(title: str, rows: list[Row], records: Iterable[Record] = ()) -> str:
    """One section per corpus, then the definitions and why numbers are missing.

    Args:
        title: of the page.
        rows: the table.
        records: what the rows were made from; those of folds have a section of their own.
    """
    parts = [f"# {escape_markdown(title)}"]
    for corpus in corpora(rows):
        members = [row for row in rows if row.corpus == corpus]
        header = ["Method", "Finetuning", "Precision", *(column.title for column in COLUMNS)]
        lines = [markdown_line(header), markdown_line(["---"] * 3 + ["---:"] * len(COLUMNS))]
        for row in members:
            labels = [
                escape_markdown(text) for text in (name(row, rows), finetuning(row), row.precision)
            ]
            lines.append(markdown_line([*labels, *(cell_text(column, row) for column in COLUMNS)]))
        parts += [f"## {escape_markdown(corpus)}", "\n".join(lines)]
    parts.append("\n".join(f"- {escape_markdown(line)}" for line in LEGEND))
    if section := survival_markdown(rows):
        parts.append(section)
    if section := folds_markdown(records):
        parts.append(section)
    notes = [
        f"- {escape_markdown(' '.join((row.corpus, row.method, row.finetuning, row.precision)))}: "
        f"{escape_markdown(note)}"
        for row in rows
        for note in row.notes
    ]
    if notes:
        parts += ["## Missing numbers", "\n".join(notes)]
    return "\n\n".join(parts) + "\n"
