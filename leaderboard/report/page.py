"""The leaderboard as one self-contained HTML page.

The table is plain HTML; the script sorts and filters it and shows a row's details, which lie
beside it as JSON. Nothing is loaded from anywhere, and the page's policy allows no script or style
but its own two.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..reading.escaping import one_line
from ..records.schema import Record, digest
from ..standings.published import Reported
from ..standings.table import Board, Row, precision
from . import svg
from .columns import (
    COLUMNS,
    DEFINITIONS,
    DID_NOT_FORGET,
    METRIC_COLUMNS,
    MISSING,
    REPORTED,
    Column,
    error_text,
    finetuning,
    number_text,
    place,
)
from .details import Section, reported_details, row_details
from .plots import TITLES
from .suites import folds

HERE = Path(__file__).parent
GATED = 1000.0
"""Taken off the score of a row that did not forget where rows are sorted by it."""


@dataclass(frozen=True)
class Number:
    """A number as the page shows it, with its error; ``sort`` None comes last."""

    column: Column
    text: str
    error: str
    sort: float | None


@dataclass(frozen=True)
class Line:
    """A row of the page's table; everything in it is visible text.

    Attributes:
        key: what the address calls it by.
        kind: ``reference``, ``measured`` or ``reported``.
        begins: true for the first row of its checkpoint.
        bits: bits per weight, by which precisions are sorted.
        setting: settings that tell the row from another one of the same method.
        source: of a published row, and its settings.
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
        """Sort keys of the line by column."""
        width = round(10 * (100 - min(self.bits, 99)))
        sorts: dict[str, str | float | None] = dict.fromkeys(column.key for column in COLUMNS)
        labels = {
            "board": self.board,
            "method": self.name,
            "finetuning": self.finetuning,
            "precision": f"{width:04d} {self.precision}",
        }
        return sorts | labels | {number.column.key: number.sort for number in self.numbers}


def page(
    folder: Path,
    name: str,
    rows: Sequence[Row],
    records: Sequence[Record],
    reported: Sequence[Reported],
    plots: Mapping[str, Mapping[Board, list[Element]]],
) -> str:
    """``index.html``.

    Args:
        folder: of the run, where answers lie beside the records.
        name: of the run.
        rows: the table.
        records: what it was made from; those of folds have a section of their own.
        reported: published rows; the page shows them where a switch says so.
        plots: by name and board, as `plots.make_plots` draws them.

    Raises:
        InputError: answers are not those of their record.
    """
    lines = _measured(rows, folder) + _reported(rows, reported)
    style = svg.STYLE + (HERE / "page.css").read_text(encoding="utf-8")
    script = (HERE / "page.js").read_text(encoding="utf-8")
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
            "plots": [Markup(svg.inline(plot)) for plot in found],
        }
        for kind, boards in plots.items()
        for board, found in boards.items()
    ]
    return environment.get_template("page.html.j2").render(
        name=name,
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
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
        folds=folds(records),
        definitions=DEFINITIONS,
        did_not_forget=DID_NOT_FORGET,
        missing=MISSING,
        about_reported=REPORTED if reported else "",
        notes=[f"{place(row)}: {note}" for row in rows for note in row.notes],
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
    """Published rows, on the first board of their corpus."""
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
    """Gives equal things one place in a list."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[str, int] = {}

    def __call__(self, item: Any) -> int:
        place = self._places.setdefault(json.dumps(item), len(self.items))
        if place == len(self.items):
            self.items.append(item)
        return place


def _data(lines: Sequence[Line]) -> dict[str, Any]:
    """What the script reads: lines in the table's order, what they repeat kept once."""
    texts, sections = _Pool(), _Pool()
    rows = []
    for line in lines:
        places = []
        for section in line.details:
            answers = [
                {name: texts(text) for name, text in answer.items()}
                for answer in section.get("answers", ())
            ]
            places.append(sections(section | ({"answers": answers} if answers else {})))
        rows.append(
            {
                "key": line.key,
                "kind": line.kind,
                "board": line.board,
                "method": line.name,
                "finetuning": line.finetuning,
                "precision": line.precision,
                "sort": line.sort,
                "sections": places,
            }
        )
    return {"rows": rows, "sections": sections.items, "texts": texts.items}


def _hash(source: str) -> str:
    """The expression by which a content security policy knows a script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
