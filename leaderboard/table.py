"""The leaderboard as data: one row per (method, finetuning, precision), from records alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from .cell import METRICS, REFERENCES, Record, Training, digest
from .scores import Scores, bits, combine, recovery, way_back

UNQUANTIZED = "bf16"


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


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        settings: digest of everything but precision and seed, to tell apart two rows of the
            same method.
        values: the four metrics; for each ``recovery_…`` in points and ``way_back_…`` as a share;
            ``forget_quality`` and ``score``; one without a number is
            missing.
        forgot: whether every seed passed the gate; None where that is unknown.
        notes: why numbers are missing.
        survival: of the first seed's checkpoint, as in its record.
    """

    corpus: str
    method: str
    finetuning: str
    precision: str
    settings: str
    seeds: int
    values: dict[str, Value]
    forgot: bool | None
    notes: tuple[str, ...]
    survival: dict[str, Any] | None = None

    @property
    def is_reference(self) -> bool:
        """Whether this is a target or retrain row, which are not ranked."""
        return self.method in REFERENCES


def build_table(records: Iterable[Record]) -> list[Row]:
    """Rows of all corpora: references first, then methods, best first.

    Methods are ordered by their score at the lowest precision; those that did not forget (the
    gate) come after all that did, those without a score last.
    """
    groups: dict[tuple[str, str, str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        t = record.cell.training
        if t.fold:
            continue  # see `report.folds`
        key = (t.corpus.name, t.method, t.finetuning, record.cell.precision, settings_digest(t))
        groups[key].append(record)
    by_seed = {key: {r.cell.training.seed: _metrics(r) for r in rs} for key, rs in groups.items()}

    def reference(corpus: str, role: str, precision: str) -> dict[str, float]:
        found = [
            seeds[0]
            for key, seeds in by_seed.items()
            if (key[0], key[1], key[3]) == (corpus, role, precision)
        ]
        return found[0] if len(found) == 1 else {}

    rows = []
    for key, members in groups.items():
        corpus, method, finetuning, precision, settings = key
        target = reference(corpus, "target", precision)
        retrain = reference(corpus, "retrain", precision)
        plain = by_seed.get((corpus, method, finetuning, UNQUANTIZED, settings), {})
        derived: dict[int, Scores] = {}
        columns: dict[str, list[float | None]] = defaultdict(list)
        for seed, metrics in by_seed[key].items():
            for metric in METRICS:
                columns[metric].append(metrics.get(metric))
            for metric in METRICS:
                before = plain.get(seed, {})
                columns[f"recovery_{metric}"].append(recovery(metrics, before, metric))
                if method not in REFERENCES:
                    share = way_back(metrics.get(metric), before.get(metric), target.get(metric))
                    columns[f"way_back_{metric}"].append(share)
            if method not in REFERENCES:
                derived[seed] = combine(metrics, target, retrain)
                columns["forget_quality"].append(derived[seed].forget_quality)
                columns["score"].append(derived[seed].score)
        values = {
            name: value
            for name, numbers in columns.items()
            if (value := _summary(name, numbers, members)) is not None
        }
        verdicts = [scores.forgot for scores in derived.values()]
        rows.append(
            Row(
                corpus=corpus,
                method=method,
                finetuning=finetuning,
                precision=precision,
                settings=settings,
                seeds=len(members),
                values=values,
                forgot=None if None in verdicts or not verdicts else all(verdicts),
                notes=tuple(
                    f"{r.status}: {r.reason}" for r in members if r.status != "done" or r.reason
                ),
                survival=members[0].survival,
            )
        )
    return sorted(rows, key=_order(rows))


def settings_digest(training: Training) -> str:
    """What two rows of one method differ in: the checkpoint's settings, without the seed."""
    same = {**training.settings, "seed": 0}
    return digest(training.model_copy(update={"settings": same, "seed": 0}))


def _metrics(record: Record) -> dict[str, float]:
    return {name: metric.value for name, metric in record.metrics.items()}


def _summary(name: str, numbers: list[float | None], members: list[Record]) -> Value | None:
    """Mean and spread over seeds; None if a seed has no number."""
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return None
    if len(known) > 1:
        return Value(fmean(known), spread=stdev(known))
    metric = members[0].metrics.get(name)
    return Value(known[0], stderr=metric.stderr if metric else None)


def _order(rows: list[Row]) -> Callable[[Row], tuple]:
    """Sort key: corpus, references, then (forgot, score) at the lowest precision, then bits."""
    lowest: dict[tuple[str, ...], Row] = {}
    for row in rows:
        last = lowest.get(_group(row))
        if last is None or bits(row.precision) < bits(last.precision):
            lowest[_group(row)] = row

    def key(row: Row) -> tuple:
        last = lowest[_group(row)]
        score = last.values.get("score")
        rank = (
            (REFERENCES.index(row.method), 0.0)
            if row.is_reference
            else (len(REFERENCES) + (not last.forgot), -score.mean if score else 1.0)
        )
        return (row.corpus, *rank, *_group(row), -bits(row.precision), row.precision)

    return key


def _group(row: Row) -> tuple[str, ...]:
    return row.corpus, row.method, row.finetuning, row.settings
