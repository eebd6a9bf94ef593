"""The table as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..reading.escaping import escape_markdown
from ..records.schema import Record
from ..standings.published import Reported
from ..standings.table import Board, Row, by_board, precision
from .columns import (
    COLUMNS,
    DEFINITIONS,
    METRIC_COLUMNS,
    REPORTED,
    cell_text,
    describe,
    finetuning,
    markdown_table,
    name,
    number_text,
    value_text,
)
from .suites import suites_markdown
from .survival import survival_markdown

LABELS = ["Method", "Finetuning", "Precision"]


def markdown(
    title: str,
    rows: list[Row],
    records: Iterable[Record] = (),
    reported: Sequence[Reported] = (),
    figures: Iterable[tuple[str, str]] = (),
) -> str:
    """Build ``table.md``: a section per board, definitions, and reasons for missing numbers.

    Args:
        title: Heading of the page.
        rows: The table.
        records: Records of the rows; those of suites have a section of their own.
        reported: Published rows, shown in a table of their own below the measured ones.
        figures: File name and title of each plot in the same folder.
    """
    parts = [f"# {escape_markdown(title)}"]
    parts += [f"![{escape_markdown(caption)}]({file})" for file, caption in figures]
    corpora = set()
    for board, members in by_board(rows).items():
        parts += [f"## {escape_markdown(board.title)}", _table(members)]
        if section := _extra(board, members):
            parts.append(section)
        published = [row for row in reported if row.corpus == board.corpus]
        if published and board.corpus not in corpora:
            parts += [f"### {escape_markdown(board.corpus)}, reported", _reported(published)]
        corpora.add(board.corpus)
    definitions = [f"- {escape_markdown(f'{term}: {text}')}" for term, text in DEFINITIONS.items()]
    parts.append("\n".join(definitions))
    if section := survival_markdown(rows):
        parts.append(section)
    if section := suites_markdown(records):
        parts.append(section)
    notes = [
        f"- {escape_markdown(f'{describe(row)}: {note}')}" for row in rows for note in row.notes
    ]
    if notes:
        parts += ["## Missing numbers", "\n".join(notes)]
    return "\n\n".join(parts) + "\n"


def _labels(row: Row) -> list[str]:
    return [escape_markdown(text) for text in (name(row), finetuning(row), precision(row))]


def _table(rows: list[Row]) -> str:
    header = LABELS + [column.title for column in COLUMNS]
    lines = [[*_labels(row), *(cell_text(column, row) for column in COLUMNS)] for row in rows]
    return markdown_table(header, lines, labels=len(LABELS))


def _extra(board: Board, rows: list[Row]) -> str:
    """Section of the scores of other tasks; empty without such scores."""
    tasks = sorted({task for row in rows for task in row.extra})
    if not tasks:
        return ""
    header = LABELS + [escape_markdown(task) for task in tasks]
    lines = [
        [*_labels(row), *(value_text(row.extra.get(task), digits=3) for task in tasks)]
        for row in rows
    ]
    title = f"### {escape_markdown(board.corpus)}, other tasks"
    return f"{title}\n\n{markdown_table(header, lines, labels=len(LABELS))}"


def _reported(rows: list[Reported]) -> str:
    header = [*LABELS, "Settings", "Source", "Note", *(column.title for column in METRIC_COLUMNS)]
    lines = [
        [
            *map(
                escape_markdown,
                (row.method, row.finetuning, row.precision, row.settings, row.source, row.note),
            ),
            *(number_text(getattr(row, column.key)) for column in METRIC_COLUMNS),
        ]
        for row in rows
    ]
    return (
        f"{escape_markdown(f'Reported: {REPORTED}')}\n\n{markdown_table(header, lines, labels=6)}"
    )
