"""Command that writes the leaderboard from records: table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import out, say, show

NOT_CURRENT = 1

app = typer.Typer()


@app.command()
def table(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")] = Path("runs/demo"),
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing; list every file that is missing or differs from what the records "
            "give, and exit with 1 if there is one. Plots are not compared. Give the options with "
            "which the files were written.",
        ),
    ] = False,
    with_published: Annotated[
        bool,
        typer.Option(
            "--with-published",
            help="Show published results for the same corpora as well, marked as reported and "
            "not ranked.",
        ),
    ] = False,
) -> None:
    """Print and write the table of a run, from its records and answers.

    Writes table.md, table.csv, table.tex, table.json, plots as SVG, and index.html, one
    self-contained page.
    """
    from ..records.store import read_records, run_name
    from ..report.files import differences, outputs, write
    from ..report.terminal import print_table
    from ..standings.published import read_published
    from ..standings.table import build_table

    name = run_name(folder)
    records = read_records(folder)
    rows = build_table(records)
    reported = read_published({row.corpus for row in rows}) if with_published else []
    texts = outputs(folder, name, records, rows, reported)
    if check:
        lines = differences(folder, texts)
        for line in lines:
            show(line)
        raise typer.Exit(NOT_CURRENT if lines else 0)
    print_table(out, name, rows, reported)
    for path in write(folder, texts):
        say(f"written: {path}")
