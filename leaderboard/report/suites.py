"""MUSE's last two ways: utility and forgetting over growing and over successive forget sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from ..errors import InputError
from ..reading.escaping import escape_markdown
from ..records.schema import Record, Training
from ..standings.grouping import (
    Group,
    Key,
    board_titles,
    finite,
    key_of,
    setting_labels,
)
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

Folds = dict[int, Group]
"""Records by number of the stage, then by seed."""


@dataclass(frozen=True)
class FoldTable:
    """One suite: a line per method, finetuning and precision; four labels, then numbers."""

    title: str
    header: list[str]
    lines: list[list[str]]


def folds(records: Iterable[Record]) -> list[FoldTable]:
    """A table per suite: utility, and what is remembered of the stage; none without records of it.

    Several seeds give their mean; a stage that one of them lacks has no number.

    Raises:
        InputError: two records are of one cell.
    """
    suites: dict[str, dict[Key, Folds]] = {suite: defaultdict(dict) for suite in TITLES}
    for record in records:
        stage = record.cell.training.stage
        if stage is None:
            continue
        seeds = suites[stage.suite][_whole(record)].setdefault(stage.number, {})
        seed = record.cell.training.seed
        if seed in seeds:
            raise InputError(f"two records are of the same cell: {record.cell.stem}")
        seeds[seed] = record
    return [
        FoldTable(TITLES[suite], HEADER, _lines(rows)) for suite, rows in suites.items() if rows
    ]


def folds_markdown(records: Iterable[Record]) -> str:
    """A section per suite; empty without any."""
    parts = []
    for table in folds(records):
        lines = [[*map(escape_markdown, line[:LABELS]), *line[LABELS:]] for line in table.lines]
        parts += [f"## {table.title}", markdown_table(table.header, lines, LABELS)]
    return "\n\n".join([*parts, EXPLANATION]) if parts else ""


def _whole(record: Record) -> Key:
    """What the folds of one row share."""
    training = record.cell.training
    corpus = training.corpus.model_copy(update={"forget": ""})
    training = training.model_copy(update={"stage": None, "corpus": corpus})
    return key_of(record.cell.model_copy(update={"training": training}))


def _lines(rows: dict[Key, Folds]) -> list[list[str]]:
    cells, dtypes = {}, {}
    trainings: dict[tuple[str, ...], dict[str, Training]] = defaultdict(dict)
    for key, folds in rows.items():
        records = [record for seeds in folds.values() for record in seeds.values()]
        cells[key.board] = cell = records[0].cell
        dtypes[key] = next((record.dtype for record in records if record.dtype), None)
        trainings[key.board, key.method, key.finetuning][key.settings] = cell.training
    boards = board_titles(cells)
    lines = []
    for key, folds in rows.items():
        alike = trainings[key.board, key.method, key.finetuning]
        setting = f" [{setting_labels(alike)[key.settings]}]" if len(alike) > 1 else ""
        method = key.method + setting
        quantizer = next(iter(next(iter(folds.values())).values())).cell.quantizer
        shown = precision_label(key.precision, quantizer, dtypes[key])
        names = boards[key.board], method, key.finetuning, shown
        numbers = [
            number_text(_mean(metric, folds.get(stage, {})))
            for metric in ("utility", "exact_memorization")
            for stage in STAGES
        ]
        lines.append((names, key, [*names, *numbers]))
    return [line for _, _, line in sorted(lines)]


def _mean(metric: str, seeds: Group) -> float | None:
    numbers = [finite(record.metrics).get(metric) for record in seeds.values()]
    known = [number for number in numbers if number is not None]
    return fmean(known) if known and len(known) == len(numbers) else None
