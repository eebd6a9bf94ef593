"""The table in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..reading.escaping import one_line
from ..standings.published import Reported
from ..standings.table import Row, by_board, precision
from .columns import (
    COLUMNS,
    DEFINITIONS,
    METRIC_COLUMNS,
    REPORTED,
    Column,
    cell_text,
    describe,
    finetuning,
    name,
    number_text,
)

WITH_MINOR, WITH_ERRORS = 110, 140
"""Minimum widths of a terminal for minor columns and for errors, in characters."""
STYLES = {"target": "red", "retrain": "green"}


def print_table(
    console: Console, title: str, rows: list[Row], reported: Sequence[Reported] = ()
) -> None:
    """Print one table per board and the definitions; a narrow terminal gets fewer columns.

    Args:
        console: Console to print to.
        title: Name of the run.
        rows: The table.
        reported: Published rows to print as well.
    """
    columns = [column for column in COLUMNS if console.width >= WITH_MINOR or not column.minor]
    boards = by_board(rows)
    for board, members in boards.items():
        console.print(_measured(f"{title}: {board.title}", members, columns, console.width))
    for corpus in dict.fromkeys(board.corpus for board in boards):
        _print_reported(console, corpus, [row for row in reported if row.corpus == corpus])
    console.print()
    definitions = [f"{term}: {text}" for term, text in DEFINITIONS.items()]
    for line in [*definitions, *([f"reported: {REPORTED}"] if reported else [])]:
        console.print(line, style="dim", markup=False, highlight=False)
    for row in rows:
        for note in row.notes:
            text = one_line(f"{describe(row)}: {note}")
            console.print(text, style="yellow", markup=False, highlight=False)


def _measured(title: str, rows: list[Row], columns: Sequence[Column], width: int) -> Table:
    table, with_error = _empty(title, columns, width), width >= WITH_ERRORS
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(
            *_labels((name(row), finetuning(row), precision(row))),
            *(cell_text(column, row, with_error) for column in columns),
            style=STYLES.get(row.method),
            end_section=following is not None and row.checkpoint != following.checkpoint,
        )
    return table


def _print_reported(console: Console, corpus: str, rows: Sequence[Reported]) -> None:
    """Print a table per source; of published hyperparameter searches, only the number of rows."""
    for source in dict.fromkeys(row.source for row in rows if not row.settings):
        table = _empty(f"{corpus}, reported: {source}", METRIC_COLUMNS, console.width)
        for row in rows:
            if row.source == source:
                table.add_row(
                    *_labels((row.method, row.finetuning, row.precision)),
                    *(number_text(getattr(row, column.key)) for column in METRIC_COLUMNS),
                )
        console.print("", table)
    if searched := sum(bool(row.settings) for row in rows):
        console.print(
            f"{corpus}: {searched} more reported rows, of grids, in table.md", style="dim"
        )


def _empty(title: str, columns: Iterable[Column], width: int) -> Table:
    """Make an empty table; labels may wrap on a narrow terminal, numbers never do."""
    table = Table(
        title=escape(one_line(title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1 if width >= WITH_MINOR else 0),
        collapse_padding=True,
    )
    for label in ("Method", "FT", "Prec."):
        table.add_column(label, overflow="fold")
    for column in columns:
        heading = column.title if width >= WITH_MINOR else column.title.replace(" ", "\n", 1)
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _labels(texts: Iterable[str]) -> list[str]:
    return [escape(one_line(text)) for text in texts]
