"""Files made from the records of a run, as text. The same records give the same bytes."""

from __future__ import annotations

import re
from pathlib import Path

from unlearners.files import replace_file

from ..records.schema import Record
from ..records.store import read_survival
from ..standings.published import Reported
from ..standings.table import Row
from .json_csv import table_csv, table_json
from .latex import latex
from .markdown import markdown
from .page import page
from .plots import TITLES, make_plots, svg

PLOT_DATA = re.compile(r'(?<="data:image/svg\+xml;base64,)[^"]*')
"""A plot inside the page."""


def outputs(
    folder: Path, name: str, records: list[Record], rows: list[Row], reported: list[Reported]
) -> dict[str, str]:
    """Make the content of each file, by file name.

    Args:
        folder: Folder of the run, with the answers and survival reports of the records.
        name: Name of the run.
        records: All records of the run.
        rows: The table made from them.
        reported: Published rows to show as well; may be empty.

    Raises:
        InputError: Answers or a survival report are damaged or belong to another record.
    """
    stems = {row.records[0].cell.training.stem for row in rows if not row.is_reference}
    reports = {stem: report for stem in stems if (report := read_survival(folder, stem))}
    plots = make_plots(rows, reports)
    figures = [(f"{kind}.svg", TITLES[kind]) for kind in plots]
    return {
        "table.md": markdown(name, rows, records, reported, figures),
        "table.csv": table_csv(rows, reported),
        "table.tex": latex(rows, reported),
        "table.json": table_json(name, rows, reported),
        "index.html": page(folder, name, rows, records, reported, plots),
        **{
            f"{kind}.svg": svg([plot for members in by_board.values() for plot in members])
            for kind, by_board in plots.items()
        },
    }


def write(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write every file, each whole or not at all, and return the paths."""
    paths = [folder / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        replace_file(path, text)
    return paths


def differences(folder: Path, texts: dict[str, str]) -> list[str]:
    """List the files that differ from what the records give.

    Plots are not compared, since their bytes depend on matplotlib's version. Of the other files,
    only ``table.md`` has to exist.

    Args:
        folder: Folder of the run.
        texts: The expected content of each file, from `outputs`.
    """
    lines = []
    for name, text in texts.items():
        path = folder / name
        if name.endswith(".svg"):
            continue
        if not path.exists():
            if name == "table.md":
                lines.append(f"missing: {path}")
        elif _without_plots(path.read_bytes()) != _without_plots(text.encode()):
            lines.append(f"differs: {path}")
    return lines


def _without_plots(content: bytes) -> str:
    return PLOT_DATA.sub("", content.decode(errors="surrogateescape"))
