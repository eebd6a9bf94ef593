"""The leaderboard as a self-contained HTML page.

The table is plain HTML. The script sorts and filters it and shows the details of a row, which the
page holds as JSON. Nothing is loaded from the network, and the content security policy allows only
the script and the style of the page itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..reading.escaping import one_line
from ..records.schema import Record, digest
from ..standings.published import Reported
from ..standings.table import Board, Row, precision
from .columns import (
    COLUMNS,
    DEFINITIONS,
    DID_NOT_FORGET,
    METRIC_COLUMNS,
    MISSING,
    REPORTED,
    Column,
    describe,
    error_text,
    finetuning,
    number_text,
)
from .details import Section, reported_details, row_details
from .plots import TITLES, Plot, svg
from .suites import suite_tables

HERE = Path(__file__).parent
GATED = 1000.0
"""Subtracted from the score of a row that did not forget, for sorting."""


@dataclass(frozen=True)
class Number:
    """A number on the page.

    Attributes:
        column: Column of the number.
        text: Formatted number.
        error: Formatted error; may be empty.
        sort: Sort key; None comes last.
    """

    column: Column
    text: str
    error: str
    sort: float | None


@dataclass(frozen=True)
class Line:
    """A row of the page's table; all its text is visible text.

    Attributes:
        key: Identifies the row in the page's address.
        kind: ``reference``, ``measured`` or ``reported``.
        board: Title of the board.
        method: Name of the method.
        finetuning: ``full``, ``lora`` or a dash.
        precision: Label of the precision.
        numbers: Numbers in the order of their columns.
        details: Sections that the row shows when it is opened.
        setting: Settings that tell the row from other rows of the method; may be empty.
        forgot: Result of the gate; None if it is not known.
        begins: True for the first row of its checkpoint.
        bits: Bits per weight, for sorting precisions.
        source: Source and settings of a published row; otherwise empty.
    """

    key: str
    kind: str
    board: str
    method: str
    finetuning: str
    precision: str
    numbers: list[Number]
    details: list[Section]
    setting: str = ""
    forgot: bool | None = None
    begins: bool = False
    bits: float = math.inf
    source: str = ""

    @property
    def name(self) -> str:
        """Method and setting."""
        return f"{self.method} {self.setting}".rstrip()

    @property
    def sort(self) -> dict[str, str | float | None]:
        """Sort keys by column."""
        rank = round(10 * (100 - min(self.bits, 99)))
        sorts: dict[str, str | float | None] = dict.fromkeys(column.key for column in COLUMNS)
        labels = {
            "board": self.board,
            "method": self.name,
            "finetuning": self.finetuning,
            "precision": f"{rank:04d} {self.precision}",
        }
        return sorts | labels | {number.column.key: number.sort for number in self.numbers}


def page(
    folder: Path,
    name: str,
    rows: Sequence[Row],
    records: Sequence[Record],
    reported: Sequence[Reported],
    plots: Mapping[str, Mapping[Board, list[Plot]]],
) -> str:
    """Build ``index.html``.

    Args:
        folder: Folder of the run, with the answers.
        name: Name of the run.
        rows: The table.
        records: Records of the table; those of suites have a section of their own.
        reported: Published rows, hidden until the reader switches them on.
        plots: Plots by file and board, from `make_plots`.

    Raises:
        InputError: Answers are damaged or belong to another record.
    """
    lines = _measured(rows, folder) + _reported(rows, reported)
    style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters["one_line"] = one_line
    figures = [
        {
            "kind": kind,
            "board": one_line(board.title),
            "title": TITLES[kind],
            "plots": [_picture(plot) for plot in members],
        }
        for kind, by_board in plots.items()
        for board, members in by_board.items()
    ]
    return environment.get_template("page.html.j2").render(
        name=name,
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        style=Markup(style),
        script=Markup(script),
        columns=COLUMNS,
        lines=lines,
        boards=list(dict.fromkeys(line.board for line in lines)),
        kinds=["reference", "measured", "reported"],
        finetunings=sorted({line.finetuning for line in lines} - {MISSING}),
        precisions=list(
            dict.fromkeys(line.precision for line in sorted(lines, key=lambda line: -line.bits))
        ),
        data=_data(lines),
        figures=figures,
        suites=suite_tables(records),
        definitions=DEFINITIONS,
        did_not_forget=DID_NOT_FORGET,
        missing=MISSING,
        about_reported=REPORTED if reported else "",
        notes=[f"{describe(row)}: {note}" for row in rows for note in row.notes],
        records=len(records),
    )


def _measured(rows: Sequence[Row], folder: Path) -> list[Line]:
    lines = []
    for row, before in zip(rows, [None, *rows], strict=False):
        lines.append(
            Line(
                key=digest(row.records[0].cell),
                kind="reference" if row.is_reference else "measured",
                board=one_line(row.board.title),
                method=one_line(row.method),
                finetuning=one_line(finetuning(row)),
                precision=one_line(precision(row)),
                numbers=[_number(row, column) for column in COLUMNS],
                details=row_details(row, folder),
                setting=one_line(row.setting),
                forgot=row.forgot,
                begins=before is None or before.checkpoint != row.checkpoint,
                bits=row.bits,
            )
        )
    return lines


def _number(row: Row, column: Column) -> Number:
    value = row.values.get(column.key)
    if value is None:
        return Number(column, MISSING, "", None)
    sort = abs(value.mean) if column.better == "zero" else value.mean
    if column.key == "score" and not row.forgot:
        sort -= GATED
    text = number_text(value.mean, column.digits, column.signed)
    return Number(column, text, error_text(value, column.digits).strip(), sort)


def _reported(rows: Sequence[Row], reported: Sequence[Reported]) -> list[Line]:
    """Lines of published rows, on the first board of their corpus."""
    boards = {row.corpus: row.board.title for row in reversed(rows)}
    lines: list[Line] = []
    for n, row in enumerate(reported):
        numbers = []
        for column in METRIC_COLUMNS:
            number = getattr(row, column.key)
            sort = abs(number) if number is not None and column.better == "zero" else number
            numbers.append(Number(column, number_text(number, column.digits), "", sort))
        lines.append(
            Line(
                key=f"reported-{n}",
                kind="reported",
                board=one_line(boards[row.corpus]),
                method=one_line(row.method),
                finetuning=MISSING if row.finetuning == "none" else row.finetuning,
                precision=one_line(row.precision),
                numbers=numbers,
                details=reported_details(row),
                begins=n == 0 or reported[n - 1].source != row.source,
                source=one_line("; ".join(filter(None, (f"reported: {row.source}", row.settings)))),
            )
        )
    return lines


class _Pool:
    """A list without duplicates."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._indices: dict[str, int] = {}

    def index(self, item: Any) -> int:
        """Index of an item, which is added if it is new."""
        index = self._indices.setdefault(json.dumps(item), len(self.items))
        if index == len(self.items):
            self.items.append(item)
        return index


def _data(lines: Sequence[Line]) -> dict[str, Any]:
    """Data of the script: rows in the table's order, with repeated sections and texts once."""
    texts, sections = _Pool(), _Pool()
    rows = []
    for line in lines:
        sections_of_line = []
        for section in line.details:
            answers = [
                {name: texts.index(text) for name, text in answer.items()}
                for answer in section.get("answers", ())
            ]
            shared = section | ({"answers": answers} if answers else {})
            sections_of_line.append(sections.index(shared))
        rows.append(
            {
                "key": line.key,
                "kind": line.kind,
                "board": line.board,
                "method": line.name,
                "finetuning": line.finetuning,
                "precision": line.precision,
                "sort": line.sort,
                "sections": sections_of_line,
            }
        )
    return {"rows": rows, "sections": sections.items, "texts": texts.items}


def _picture(plot: Plot) -> dict[str, str]:
    """Title, size and data of a plot. An image keeps its styles and ids apart from the page."""
    text = svg([plot])
    (box,) = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    data = base64.b64encode(text.encode()).decode()
    return {"title": one_line(plot.title), "width": box[0], "height": box[1], "data": data}


def _hash(source: str) -> str:
    """Hash of a script or style in the form of a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
