"""Collection of submissions into one leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..records.store import RUN_FILE, RunFolder, read_records, read_samples, run_name
from .board import board_precisions, precision_findings
from .validation import validate


def collect(folders: Sequence[Path], out: Path) -> Iterator[str]:
    """Copy the records of valid submissions into one folder, for ``table``.

    A recorded cell is never replaced: the target and retrain rows of a corpus are part of every
    submission. The precisions of a board are those in the folder; for a text that is new to it,
    those of all the submissions.

    Args:
        folders: Folders of the submissions.
        out: Run folder that receives the records; created if it does not exist.

    Yields:
        One line per submission, and one per record that was rejected because its metrics differ.

    Raises:
        InputError: A submission is not valid, or lacks a precision of the board; nothing was
            written.
    """
    for folder in folders:
        if problems := validate(folder).problems:
            raise InputError(
                f"{folder} is not valid ({problems[0]}); `lm-eval-muse validate {folder}` lists all"
            )
    submitted = {folder: read_records(folder) for folder in folders}
    exists = (out / RUN_FILE).exists()
    board = {
        **board_precisions(record for records in submitted.values() for record in records),
        **(board_precisions(read_records(out)) if exists else {}),
    }
    for folder, records in submitted.items():
        for finding in precision_findings(records, board):
            if not finding.warning:
                raise InputError(f"{folder}: {finding.text}")
    store = RunFolder(out, run_name(out) if exists else out.resolve().name)
    with store.lock():
        collected = {record.cell.stem: record for record in read_records(out)} if exists else {}
        for folder, records in submitted.items():
            taken = 0
            for record in records:
                present = collected.setdefault(record.cell.stem, record)
                if present is record:
                    store.write_record(record, read_samples(folder, record))
                    taken += 1
                elif present.metrics != record.metrics:
                    yield f"{folder}: metrics of {record.cell.stem} differ; kept the recorded ones"
            yield f"{folder}: {taken} of {len(records)} records taken"
