"""The table as data: ``table.json``, and the same rows flat in ``table.csv``.

`Table` is what ``table.json`` holds; a change of meaning raises its ``format``. Numbers have six
decimals, none is infinite or NaN, a missing one is absent (JSON) or empty (CSV).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import ConfigDict

from ..reading.escaping import escape_csv, visible
from ..records.schema import METRICS, Frozen, Survival
from ..records.survival import Rounding
from ..standings.grouping import evaluation
from ..standings.published import Reported
from ..standings.table import Row, Value
from .columns import COLUMNS, DEFINITIONS, REPORTED
from .survival import row_survival

FORMAT = 2
DECIMALS = 6


class Number(Frozen):
    """A number of the table; see `table.Value`.

    Attributes:
        mean: over seeds.
        stderr: standard error over documents and seeds; null where it is not known, and where all
            documents agree.
        low: lower end of the exact 95% interval where all documents agree, otherwise null.
        high: upper end of it.
        spread: sample standard deviation over seeds, where there are several.
    """

    mean: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None


class TableRow(Frozen):
    """One line: a method, a finetuning and a precision on one board, over all its seeds.

    Attributes:
        board: the corpus and how it was evaluated, as a title; rows of one board can be compared.
        corpus: name of the corpus.
        evaluation: ``subset``, ``limit`` and ``extra_tasks``.
        method: a registered method, or ``target`` or ``retrain``, the references.
        finetuning: ``full``, ``lora``; ``none`` for a reference.
        precision: name of the quantizer; ``none`` is the checkpoint as saved.
        bits: bits per quantized weight; null where nothing is quantized.
        dtype: dtype of the weights that are not quantized; null where it is not known.
        settings: digest of corpus, model and all settings but the seed.
        params: of the method.
        finetuning_params: of the finetuning.
        training: training settings of the first seed.
        quantizer: the quantizer's name.
        quantizer_params: its parameters.
        seeds: seeds of the records.
        forgot: verdict of the gate on the unquantized checkpoint; null where it is not known.
        ranked: true where the row's checkpoint has all scores that the board is ordered by.
        values: by ``Column.key``: metrics × 100; ``recovery_…``, points gained by quantization;
            ``way_back_…``, the same as a share of the way to the target; ``forget_quality``;
            ``score``. A number that a seed lacks is absent.
        extra: scores of other lm-eval tasks, in lm-eval's own units.
        survival: of the first seed, as in its record; null where its rounding was not measured.
        notes: reasons for missing numbers and ranks.
        records: names of the record files.
    """

    board: str
    corpus: str
    evaluation: dict[str, Any]
    method: str
    finetuning: str
    precision: str
    bits: float | None
    dtype: str | None
    settings: str
    params: dict[str, Any]
    finetuning_params: dict[str, Any]
    training: dict[str, Any]
    quantizer: str
    quantizer_params: dict[str, Any]
    seeds: list[int]
    forgot: bool | None
    ranked: bool
    values: dict[str, Number]
    extra: dict[str, Number]
    survival: Survival | None
    notes: list[str]
    records: list[str]


class ColumnId(Frozen):
    """A column of numbers: its key in ``values``, what it is called, which way is better."""

    key: str
    name: str
    better: Literal["lower", "higher", "zero"] | None


class Table(Frozen):
    """Content of ``table.json``.

    Attributes:
        format: version of this schema.
        name: of the run.
        definitions: what the columns mean, by term.
        columns: those that the other forms of the table show.
        rows: references first, then methods, best first, board by board.
        reported: published rows, where they were asked for; not comparable with ``rows``.
        about_reported: what to know about them.
    """

    # of a setting, which may be anything
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    format: int
    name: str
    definitions: dict[str, str]
    columns: list[ColumnId]
    rows: list[TableRow]
    reported: list[Reported]
    about_reported: str


def table_json(name: str, rows: Iterable[Row], reported: Iterable[Reported] = ()) -> str:
    """``table.json``: ASCII, keys in the order of `Table`."""
    table = Table(
        format=FORMAT,
        name=name,
        definitions=DEFINITIONS,
        columns=[ColumnId(key=c.key, name=c.name, better=c.better) for c in COLUMNS],
        rows=[table_row(row) for row in rows],
        reported=list(reported),
        about_reported=REPORTED,
    )
    return json.dumps(json.loads(table.model_dump_json()), indent=1, allow_nan=False) + "\n"


def table_row(row: Row) -> TableRow:
    """A row with all that its records say of its settings."""
    cell = row.records[0].cell
    return TableRow(
        board=row.board.title,
        corpus=row.corpus,
        evaluation=evaluation(cell),
        method=row.method,
        finetuning=row.finetuning,
        precision=row.precision,
        bits=row.records[0].bits,
        dtype=row.dtype,
        settings=row.settings,
        params=cell.training.params,
        finetuning_params=cell.training.finetuning_params,
        training=cell.training.settings,
        quantizer=cell.quantizer,
        quantizer_params=cell.quantizer_params,
        seeds=[record.cell.training.seed for record in row.records],
        forgot=row.forgot,
        ranked=row.ranked,
        values={key: _number(value) for key, value in row.values.items()},
        extra={task: _number(value) for task, value in row.extra.items()},
        survival=row_survival(row),
        notes=list(row.notes),
        records=[f"{record.cell.stem}.json" for record in row.records],
    )


def _number(value: Value) -> Number:
    numbers = {name: _round(number) for name, number in vars(value).items()}
    return Number.model_validate(numbers)


def _round(number: float | None) -> float | None:
    """Round off the last bits of a mean, which a library decides."""
    return None if number is None else round(number, DECIMALS) + 0.0


LABELS = (
    "board",
    "corpus",
    "method",
    "finetuning",
    "precision",
    "bits",
    "dtype",
    "settings",
    "quantizer",
)
ERRORS = ("stderr", "low", "high", "spread")
SURVIVAL = ["relative_norm", "effective_rank", *Rounding.model_fields]
VALUES = (
    *METRICS,
    *(f"recovery_{metric}" for metric in METRICS),
    *(f"way_back_{metric}" for metric in METRICS),
    "forget_quality",
    "score",
)


def table_csv(rows: Iterable[Row], reported: Iterable[Reported] = ()) -> str:
    """``table.csv``: a line per row, its numbers as in `TableRow`.

    Every number has a column, and one each for its ``…_stderr``, ``…_low``, ``…_high`` and
    ``…_spread``; the names of an extra task's begin with ``extra/``. ``kind`` is
    ``measured`` or ``reported``. A text that a spreadsheet would take for a formula has an
    apostrophe in front.
    """
    lines = [_measured_line(table_row(row)) for row in rows]
    lines += [_reported_line(row) for row in reported]
    columns = ["kind", *LABELS, "seeds", "forgot", "ranked"]
    columns += [
        name
        for key in VALUES
        for name in (
            [key] if key.startswith("way_back") else [key, *(f"{key}_{error}" for error in ERRORS)]
        )
    ]
    columns += SURVIVAL
    others = {key for line in lines for key in line} - set(columns)
    columns += [*sorted(others - {"notes"}), "notes"]
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writerow({name: escape_csv(visible(name)) for name in columns})
    writer.writerows(
        {key: escape_csv(visible(x)) if isinstance(x, str) else x for key, x in line.items()}
        for line in lines
    )
    return file.getvalue()


def _measured_line(row: TableRow) -> dict[str, Any]:
    line: dict[str, Any] = {"kind": "measured"}
    line |= {name: getattr(row, name) for name in LABELS}
    line |= {"seeds": len(row.seeds), "forgot": row.forgot, "ranked": row.ranked}
    line["notes"] = "; ".join(row.notes)
    extra = {f"extra/{task}": number for task, number in row.extra.items()}
    for key, number in (row.values | extra).items():
        line[key] = number.mean
        errors = {name: getattr(number, name) for name in ERRORS}
        line |= {f"{key}_{name}": error for name, error in errors.items() if error is not None}
    if row.survival and row.survival.rounding:
        measured = row.survival.update.model_dump() | row.survival.rounding.model_dump()
        line |= {name: measured[name] for name in SURVIVAL}
    return line


def _reported_line(row: Reported) -> dict[str, Any]:
    numbers = row.model_dump(exclude={"note"}, exclude_none=True)
    return {"kind": "reported", "board": row.corpus, "notes": row.note, **numbers}
