"""Every file made from a run's records, as text: the same records give the same bytes."""

from __future__ import annotations

from pathlib import Path

from unlearners.files import replace_file

from ..records.schema import Record
from ..records.store import read_survival
from ..standings.published import Reported
from ..standings.table import Row
from . import plots, svg
from .json_csv import table_csv, table_json
from .latex import latex
from .markdown import markdown
from .page import page


def outputs(
    folder: Path, name: str, records: list[Record], rows: list[Row], reported: list[Reported]
) -> dict[str, str]:
    """Content of each file by its name.

    Args:
        folder: of the run, where answers lie beside the records.
        name: of the run.
        records: all of them.
        rows: the table made from them.
        reported: published rows to show beside it.

    Raises:
        InputError: a record or its answers cannot be read as what they say they are.
    """
    stems = {row.records[0].cell.training.stem for row in rows if not row.is_reference}
    reports = {stem: report for stem in stems if (report := read_survival(folder, stem))}
    drawn = plots.make_plots(rows, reports)
    pictures = {
        f"{kind}.svg": svg.standalone([plot for found in boards.values() for plot in found])
        for kind, boards in drawn.items()
    }
    figures = [(f"{kind}.svg", plots.TITLES[kind]) for kind in drawn]
    return {
        "table.md": markdown(name, rows, records, reported, figures),
        "table.csv": table_csv(rows, reported),
        "table.tex": latex(rows, reported),
        "table.json": table_json(name, rows, reported),
        "index.html": page(folder, name, rows, records, reported, drawn),
        **pictures,
    }


def write(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write every file, each whole or not at all; the paths that were written."""
    paths = [folder / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        replace_file(path, text)
    return paths


def differences(folder: Path, texts: dict[str, str]) -> list[str]:
    """Name the files that are not, byte by byte, what the records give.

    A form of the table that the folder does not keep is no difference; ``table.md`` is always
    expected.
    """
    lines = []
    for name, text in texts.items():
        path = folder / name
        if not path.exists():
            if name == "table.md":
                lines.append(f"missing: {path}")
        elif path.read_bytes() != text.encode():
            lines.append(f"differs: {path}")
    return lines
