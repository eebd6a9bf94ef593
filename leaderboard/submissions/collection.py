"""Collection of submissions into one leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..records.store import (
    RUN_FILE,
    RunFolder,
    read_records,
    read_samples,
    run_name,
)
from .board import board_precisions, precision_findings
from .validation import validate


def collect(folders: Sequence[Path], out: Path) -> Iterator[str]:
    """Put the records of valid submissions into one folder, for ``table``.

    A cell that is there already stays as it is: the target and retrain rows of one corpus are in
    every submission. The precisions of a board are those in the folder; for a text that is not
    there yet, those of all the submissions.

    Yields:
        a line for each submission, and one for every record of other numbers that was not taken.

    Raises:
        InputError: a submission is not valid, or lacks a precision of the board. Nothing was
            written then.
    """
    for folder in folders:
        if problems := validate(folder).problems:
            raise InputError(
                f"{folder} is not valid ({problems[0]}); `lm-eval-muse validate {folder}` lists all"
            )
    known = (out / RUN_FILE).exists()
    _check_precisions(folders, out if known else None)
    store = RunFolder(out, run_name(out) if known else out.resolve().name)
    with store.lock():
        there = {record.cell.stem: record for record in read_records(out)} if known else {}
        for folder in folders:
            records = read_records(folder)
            for record in records:
                kept = there.setdefault(record.cell.stem, record)
                if kept is record:
                    store.write_record(record, read_samples(folder, record))
                elif kept.metrics != record.metrics:
                    yield f"{folder}: other numbers for {record.cell.stem}; those there stay"
            taken = sum(there[record.cell.stem] is record for record in records)
            yield f"{folder}: {taken} of {len(records)} records taken"


def _check_precisions(folders: Sequence[Path], out: Path | None) -> None:
    """Refuse a submission that lacks a precision of the board.

    Raises:
        InputError: naming the submission and the precision.
    """
    records = {folder: read_records(folder) for folder in folders}
    submitted = board_precisions(record for own in records.values() for record in own)
    board = {**submitted, **(board_precisions(read_records(out)) if out else {})}
    for folder, own in records.items():
        for finding in precision_findings(own, board):
            if not finding.warning:
                raise InputError(f"{folder}: {finding.text}")
