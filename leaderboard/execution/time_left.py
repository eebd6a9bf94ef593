"""Estimate of the remaining time of a run, from the times in its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..records.schema import Record
from .runner import Chain


@dataclass(frozen=True)
class Estimate:
    """Remaining time of one worker.

    Attributes:
        seconds: Total of all remaining work with timing data.
        unknown: Number of trainings and cells without timing data.
    """

    seconds: float
    unknown: int


def estimate(chains: Iterable[Chain], trained: set[str], records: Iterable[Record]) -> Estimate:
    """Sum the mean times of the recorded work most similar to each remaining training and cell.

    Similar to a training are others of its method and finetuning, else of its finetuning; similar
    to a cell are others of its precision, else all.

    Args:
        chains: Remaining work.
        trained: Names of the checkpoints that exist.
        records: Records of the run.
    """
    times: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        seconds, t = record.provenance.seconds, record.cell.training
        if seconds is None:
            continue
        cell = seconds.quantizing + seconds.evaluating
        found: list[tuple[tuple[str, ...], float | None]] = [
            (("cell", record.cell.precision), cell),
            (("cell",), cell),
            (("training", t.finetuning, t.method), seconds.training),
            (("training", t.finetuning), seconds.training),
        ]
        for key, time in found:
            if time is not None:
                times.setdefault(key, []).append(time)

    def likely(*keys: tuple[str, ...]) -> float | None:
        found: Sequence[float] | None = next((times[key] for key in keys if key in times), None)
        return fmean(found) if found else None

    parts: list[float | None] = []
    for job in (job for chain in chains for job in chain if job.cells):
        t = job.planned.training
        if not t.is_reference and t.stem not in trained:
            of_kind = ("training", t.finetuning)
            parts.append(likely((*of_kind, t.method), of_kind))
        parts += [likely(("cell", cell.cell.precision), ("cell",)) for cell in job.cells]
    return Estimate(sum(part for part in parts if part is not None), parts.count(None))
