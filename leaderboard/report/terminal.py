"""The table in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..table import Row
from .layout import COLUMNS, LEGEND, cell_text, corpora, finetuning, name

STYLES = {"target": "red", "retrain": "green"}


def print_table(console: Console, title: str, rows: list[Row]) -> None:
    """Print one table per corpus, the definitions below; less of it on a narrow terminal."""
    with_errors = console.width >= 140
    columns = [column for column in COLUMNS if console.width >= 110 or not column.minor]
    for corpus in corpora(rows):
        members = [row for row in rows if row.corpus == corpus]
        table = Table(
            title=escape(f"{title}: {corpus}"),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column("Method", no_wrap=True)
        table.add_column("FT", no_wrap=True)
        table.add_column("Prec.", no_wrap=True)
        for column in columns:
            table.add_column(column.title, justify="right")
        for row, following in zip(members, [*members[1:], None], strict=True):
            table.add_row(
                escape(name(row, rows)),
                escape(finetuning(row)),
                escape(row.precision),
                *(cell_text(column, row, with_error=with_errors) for column in columns),
                style=STYLES.get(row.method),
                end_section=following is not None and _block(row) != _block(following),
            )
        console.print(table)
    for line in LEGEND:
        console.print(line, style="dim", markup=False, highlight=False)
    for row in rows:
        for note in row.notes:
            place = " ".join((row.corpus, row.method, row.finetuning, row.precision))
            console.print(f"{place}: {note}", style="yellow", markup=False, highlight=False)


def _block(row: Row) -> tuple[str, str, str]:
    return row.method, row.finetuning, row.settings
