"""Scalability and sustainability of MUSE: growing and successive forget sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from ..errors import InputError
from ..reading.escaping import escape_markdown
from ..records.schema import Record, Training
from ..standings.grouping import Group, Key, board_titles, finite, key_of, setting_labels
from ..standings.table import precision_label
from .columns import markdown_table, number_text

TITLES = {
    "scal": "Scalability: four growing forget sets, each unlearned from the target",
    "sust": "Sustainability: four forget sets unlearned one after another",
}
STAGES = (1, 2, 3, 4)
EXPLANATION = (
    "Utility after each stage; memorized: share of the tokens of the stage's own forget set that "
    "the model predicts right, × 100."
)

LABELS = 4
HEADER = [
    *("Corpus", "Method", "Finetuning", "Precision"),
    *(f"Utility {stage}" for stage in STAGES),
    *(f"Memorized {stage}" for stage in STAGES),
]

Stages = dict[int, Group]
"""Records by stage number, then by seed."""


@dataclass(frozen=True)
class SuiteTable:
    """Table of a suite: a line per method, finetuning and precision.

    Attributes:
        title: Name of the suite and its meaning.
        header: Headings of the labels and numbers.
        lines: Lines of cells, four labels and then numbers.
    """

    title: str
    header: list[str]
    lines: list[list[str]]


def suite_tables(records: Iterable[Record]) -> list[SuiteTable]:
    """Make a table of utility and memorization for each suite that has records.

    Several seeds give their mean. A stage has no number if a seed lacks it.

    Raises:
        InputError: Two records are of the same cell.
    """
    suites: dict[str, dict[Key, Stages]] = {suite: defaultdict(dict) for suite in TITLES}
    for record in records:
        stage = record.cell.training.stage
        if stage is None:
            continue
        seeds = suites[stage.suite][_row_key(record)].setdefault(stage.number, {})
        seed = record.cell.training.seed
        if seed in seeds:
            raise InputError(f"two records are of the same cell: {record.cell.stem}")
        seeds[seed] = record
    return [
        SuiteTable(TITLES[suite], HEADER, _lines(rows)) for suite, rows in suites.items() if rows
    ]


def suites_markdown(records: Iterable[Record]) -> str:
    """Section per suite; empty without records of suites."""
    parts = []
    for table in suite_tables(records):
        lines = [[*map(escape_markdown, line[:LABELS]), *line[LABELS:]] for line in table.lines]
        parts += [f"## {table.title}", markdown_table(table.header, lines, LABELS)]
    return "\n\n".join([*parts, EXPLANATION]) if parts else ""


def _row_key(record: Record) -> Key:
    """Key that all stages of a row share."""
    training = record.cell.training
    corpus = training.corpus.model_copy(update={"forget": ""})
    training = training.model_copy(update={"stage": None, "corpus": corpus})
    return key_of(record.cell.model_copy(update={"training": training}))


def _lines(rows: dict[Key, Stages]) -> list[list[str]]:
    cells, dtypes = {}, {}
    trainings: dict[tuple[str, ...], dict[str, Training]] = defaultdict(dict)
    for key, stages in rows.items():
        records = [record for seeds in stages.values() for record in seeds.values()]
        cells[key.board] = cell = records[0].cell
        dtypes[key] = next((record.dtype for record in records if record.dtype), None)
        trainings[key.board, key.method, key.finetuning][key.settings] = cell.training
    boards = board_titles(cells)
    lines = []
    for key, stages in rows.items():
        same_name = trainings[key.board, key.method, key.finetuning]
        setting = f" [{setting_labels(same_name)[key.settings]}]" if len(same_name) > 1 else ""
        method = key.method + setting
        quantizer = next(iter(next(iter(stages.values())).values())).cell.quantizer
        precision = precision_label(key.precision, quantizer, dtypes[key])
        names = boards[key.board], method, key.finetuning, precision
        numbers = [
            number_text(_mean(metric, stages.get(stage, {})))
            for metric in ("utility", "exact_memorization")
            for stage in STAGES
        ]
        lines.append((names, key, [*names, *numbers]))
    return [line for _, _, line in sorted(lines)]


def _mean(metric: str, seeds: Group) -> float | None:
    numbers = [finite(record.metrics).get(metric) for record in seeds.values()]
    finite_numbers = [number for number in numbers if number is not None]
    is_complete = numbers and len(finite_numbers) == len(numbers)
    return fmean(finite_numbers) if is_complete else None
