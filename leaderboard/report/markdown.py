"""The table as Markdown."""

from __future__ import annotations

import re

from ..table import Row
from .layout import COLUMNS, LEGEND, cell_text, corpora, finetuning, name


def markdown(title: str, rows: list[Row]) -> str:
    """One section per corpus, then the definitions and why numbers are missing."""
    parts = [f"# {_escape(title)}"]
    for corpus in corpora(rows):
        members = [row for row in rows if row.corpus == corpus]
        header = ["Method", "Finetuning", "Precision", *(column.title for column in COLUMNS)]
        lines = [_line(header), _line(["---"] * 3 + ["---:"] * len(COLUMNS))]
        for row in members:
            labels = [_escape(text) for text in (name(row, rows), finetuning(row), row.precision)]
            lines.append(_line([*labels, *(cell_text(column, row) for column in COLUMNS)]))
        parts += [f"## {_escape(corpus)}", "\n".join(lines)]
    parts.append("\n".join(f"- {_escape(line)}" for line in LEGEND))
    notes = [
        f"- {_escape(' '.join((row.corpus, row.method, row.finetuning, row.precision)))}: "
        f"{_escape(note)}"
        for row in rows
        for note in row.notes
    ]
    if notes:
        parts += ["## Missing numbers", "\n".join(notes)]
    return "\n\n".join(parts) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line, without HTML."""
    text = " ".join(text.split())
    text = re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
