"""The table as data: ``table.json``, and the same rows flat in ``table.csv``.

`Table` is the schema of ``table.json``; a change of meaning raises its ``format``. Numbers have six
decimals and are finite. A missing number is absent (JSON) or empty (CSV).
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
        mean: Mean over seeds.
        stderr: Standard error over documents and seeds; null if it is not known or if all
            documents agree.
        low: Lower end of the exact 95% interval if all documents agree, otherwise null.
        high: Upper end of the same interval.
        spread: Sample standard deviation over seeds; null with a single seed.
    """

    mean: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None


class TableRow(Frozen):
    """A row: a method, a finetuning and a precision on one board, over all seeds.

    Attributes:
        board: Title of the board: corpus and evaluation. Rows of one board are comparable.
        corpus: Name of the corpus.
        evaluation: ``subset``, ``limit`` and ``extra_tasks``.
        method: A registered method, or a reference: ``target`` or ``retrain``.
        finetuning: ``full`` or ``lora``; ``none`` for a reference.
        precision: Label of the quantizer; ``none`` is the checkpoint as saved.
        bits: Bits per quantized weight; null if nothing is quantized.
        dtype: Dtype of the weights that are not quantized; null if it is not known.
        settings: Digest of corpus, model and all settings except the seed.
        params: Parameters of the method.
        finetuning_params: Parameters of the finetuning.
        training: Training settings of the first seed.
        quantizer: Name of the quantizer.
        quantizer_params: Parameters of the quantizer.
        seeds: Seeds of the records.
        forgot: Result of the gate on the unquantized checkpoint; null if it is not known.
        ranked: True if the checkpoint has all scores that order the board.
        values: By ``Column.key``: metrics × 100; ``recovery_…``, points gained by quantization;
            ``way_back_…``, the same as a share of the way to the target; ``forget_quality``;
            ``score``. A number is absent if a seed lacks it.
        extra: Scores of other lm-eval tasks, in lm-eval's own units.
        survival: Survival of the first seed, as in its record; null if it was not measured.
        notes: Reasons for missing numbers and ranks.
        records: Names of the record files.
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
    """A column of numbers.

    Attributes:
        key: Key in ``TableRow.values``.
        name: Heading.
        better: Direction of better numbers; null for a column without one.
    """

    key: str
    name: str
    better: Literal["lower", "higher", "zero"] | None


class Table(Frozen):
    """Content of ``table.json``.

    Attributes:
        format: Version of this schema.
        name: Name of the run.
        definitions: Explanations by term.
        columns: Columns of the other forms of the table.
        rows: Rows by board: references, then methods, best first.
        reported: Published rows, if requested; not comparable with ``rows``.
        about_reported: Explanation of ``reported``.
    """

    # a setting may be infinite
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    format: int
    name: str
    definitions: dict[str, str]
    columns: list[ColumnId]
    rows: list[TableRow]
    reported: list[Reported]
    about_reported: str


def table_json(name: str, rows: Iterable[Row], reported: Iterable[Reported] = ()) -> str:
    """Build ``table.json``: ASCII, with keys in the order of `Table`.

    Args:
        name: Name of the run.
        rows: The table.
        reported: Published rows to show as well.
    """
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
    """Convert a row, with all settings of its records."""
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
    """Round off the last bits, which depend on library versions."""
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
    """Build ``table.csv``: a line per row, with the numbers of `TableRow`.

    Every number has a column, and one each for its ``…_stderr``, ``…_low``, ``…_high`` and
    ``…_spread``. Columns of extra tasks begin with ``extra/``. ``kind`` is ``measured`` or
    ``reported``. Text that a spreadsheet would take for a formula starts with an apostrophe.

    Args:
        rows: The table.
        reported: Published rows to add below.
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
