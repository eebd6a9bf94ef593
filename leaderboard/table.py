"""The leaderboard as data: one row per (method, finetuning, precision), from records alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from .cell import METRICS, REFERENCES, Metric, Record
from .groups import (
    UNQUANTIZED,
    Board,
    Group,
    Key,
    Peers,
    finite,
    group_records,
    make_boards,
)
from .scores import bits, combine, recovery, way_back


@dataclass(frozen=True)
class Value:
    """A number with what is known of its error.

    Attributes:
        mean: over seeds.
        spread: sample standard deviation over seeds; None with a single one.
        stderr: lm-eval's standard error; only with a single seed.
    """

    mean: float
    spread: float | None = None
    stderr: float | None = None

    @property
    def error(self) -> float | None:
        """What is shown behind ±."""
        return self.stderr if self.spread is None else self.spread


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        settings: digest of everything but precision and seed, to tell apart two rows of the
            same method.
        quantizer: digest of the quantizer and its parameters.
        records: of all seeds, in their order.
        values: the four metrics; for each ``recovery_…`` in points and ``way_back_…`` as a share;
            ``forget_quality`` and ``score``; one without a number is missing.
        extra: scores of other tasks, in lm-eval's own units; one that a seed lacks is missing.
        forgot: whether every seed passed the gate; None where that is unknown.
        setting: what sets the checkpoint apart from others of the same name; empty without such.
        variant: the quantizer's digest where another one has the same name, else empty.
    """

    board: Board
    method: str
    finetuning: str
    precision: str
    settings: str
    quantizer: str
    records: tuple[Record, ...]
    values: dict[str, Value]
    extra: dict[str, Value]
    forgot: bool | None
    setting: str
    variant: str

    @property
    def corpus(self) -> str:
        """Name of the corpus."""
        return self.board.corpus

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.records)

    @property
    def is_reference(self) -> bool:
        """Whether this is a target or retrain row, which are not ranked."""
        return self.method in REFERENCES

    @property
    def is_quantized(self) -> bool:
        """Whether a quantizer changed the checkpoint."""
        return self.records[0].cell.quantizer != UNQUANTIZED

    @property
    def notes(self) -> tuple[str, ...]:
        """Why numbers are missing."""
        return tuple(
            f"{r.status}: {r.reason}" for r in self.records if r.status != "done" or r.reason
        )

    @property
    def checkpoint(self) -> tuple[str, ...]:
        """What its rows at all precisions share."""
        return self.board.title, self.method, self.finetuning, self.settings


def build_table(records: Iterable[Record]) -> list[Row]:
    """Rows of all boards: references first, then methods, best first.

    Methods are ordered by their score at the lowest precision; those that did not forget (the
    gate) come after all that did, those without a score last.

    Raises:
        InputError: two records are of one cell.
    """
    groups = group_records(records)
    boards = make_boards(groups)
    peers = Peers(groups)
    rows = [_row(key, group, boards[key.board], peers) for key, group in groups.items()]
    return sorted(rows, key=_order(rows))


def lowest_precision(rows: Iterable[Row]) -> str:
    """The precision with the fewest bits; of several, the first by name."""
    return min((row.precision for row in rows), key=lambda name: (bits(name), name))


def _row(key: Key, group: Group, board: Board, peers: Peers) -> Row:
    is_reference = key.method in REFERENCES
    target, retrain = (peers.reference(role, key, group) for role in REFERENCES)
    unquantized = peers.unquantized(key, group)
    columns: dict[str, list[float | None]] = defaultdict(list)
    verdicts = []
    for seed, record in group.items():
        metrics = finite(record.metrics)
        before = finite(unquantized[seed].metrics) if seed in unquantized else {}
        for metric in METRICS:
            columns[metric].append(metrics.get(metric))
            columns[f"recovery_{metric}"].append(recovery(metrics, before, metric))
        if is_reference:
            continue
        for metric in METRICS:
            share = way_back(metrics.get(metric), before.get(metric), target.get(metric))
            columns[f"way_back_{metric}"].append(share)
        scores = combine(metrics, target, retrain)
        columns["forget_quality"].append(scores.forget_quality)
        columns["score"].append(scores.score)
        verdicts.append(scores.forgot)
    records = tuple(group.values())
    tasks = sorted({name for record in records for name in record.extra})
    extra = {name: [finite(record.extra).get(name) for record in records] for name in tasks}
    return Row(
        board=board,
        method=key.method,
        finetuning=key.finetuning,
        precision=key.precision,
        settings=key.settings,
        quantizer=key.quantizer,
        records=records,
        values=_summaries(columns, records[0].metrics),
        extra=_summaries(extra, records[0].extra),
        forgot=None if None in verdicts or not verdicts else all(verdicts),
        setting=peers.setting(key),
        variant=peers.variant(key),
    )


def _summaries(
    columns: Mapping[str, list[float | None]], single: Mapping[str, Metric]
) -> dict[str, Value]:
    """Mean and spread over seeds; nothing where a seed has no number.

    Args:
        columns: numbers by seed.
        single: metrics of the first seed, for the error where it is the only one.
    """
    values = {}
    for name, numbers in columns.items():
        known = [number for number in numbers if number is not None]
        if not known or len(known) < len(numbers):
            continue
        if len(known) > 1:
            values[name] = Value(fmean(known), spread=stdev(known))
        else:
            stderr = single[name].stderr if name in single else None
            finite = stderr is not None and math.isfinite(stderr)
            values[name] = Value(known[0], stderr=stderr if finite else None)
    return values


def _order(rows: Sequence[Row]) -> Callable[[Row], tuple]:
    """Sort key: board, references, then (forgot, score) at the lowest precision, then bits."""
    checkpoints: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        checkpoints[row.checkpoint].append(row)
    lowest = {}
    for checkpoint, members in checkpoints.items():
        name = lowest_precision(members)
        lowest[checkpoint] = next(row for row in members if row.precision == name)

    def key(row: Row) -> tuple:
        last = lowest[row.checkpoint]
        score = last.values.get("score")
        rank = (
            (REFERENCES.index(row.method), 0.0)
            if row.is_reference
            else (len(REFERENCES) + (not last.forgot), -score.mean if score else 1.0)
        )
        return (
            row.board,
            *rank,
            *row.checkpoint,
            -bits(row.precision),
            row.precision,
            row.quantizer,
        )

    return key
