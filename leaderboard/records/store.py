"""Folder of a run: used by one process at a time; records are never overwritten."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from unlearners.files import UNFINISHED, replace_file, write_new

from ..errors import InputError
from . import samples
from .json_text import dumps
from .schema import Cell, Record, Training
from .survival import SurvivalReport
from .version1 import upgrade

RUN_FILE = "run.json"
# files and folders that a killed process leaves unfinished
LEFTOVERS = (
    *(f"{place}{UNFINISHED}" for place in ("", "*/", "checkpoints/*/training/")),
    "checkpoints/*/.*",
)


class RunFolder:
    """The folder of one run: ``run.json``, ``records/``, ``checkpoints/`` and tables.

    Args:
        path: The folder; made if it does not exist.
        name: The run's name; a folder that holds another run, or other files, is refused.

    Raises:
        InputError: The folder belongs to something else, or cannot be written to.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        marker = path / RUN_FILE
        if marker.exists():
            owner = run_name(path)
            if owner != name:
                raise InputError(
                    f"{path} holds the run '{owner}', not '{name}': choose another --out"
                )
        elif path.exists() and not _is_empty(path):
            raise InputError(f"{path} is not empty and holds no run: choose another --out")
        else:
            with _writing(marker):
                write_new(marker, json.dumps({"name": name}) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other processes; the lock ends with the process.

        Raises:
            InputError: Another process works on the folder, or it cannot be written to.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            with _writing(self.path / ".lock"):
                lock.acquire()
        except Timeout as error:
            raise InputError(f"{self.path}: another process works on this run") from error
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Remove unfinished files of a killed process."""
        for name in LEFTOVERS:
            for leftover in self.path.glob(name):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)

    def samples_path(self, cell: Cell) -> Path:
        """Path of the logged answers of ``cell``."""
        return self.path / "samples" / f"{cell.stem}.jsonl.gz"

    def checkpoint_path(self, training: Training) -> Path:
        """Folder of a checkpoint: the model, its adapter and the loss curve of its training."""
        return self.path / "checkpoints" / training.stem

    def set_failed_aside(self) -> None:
        """Move records without a result to ``superseded/``, so that their cells are run again."""
        for path in sorted((self.path / "records").glob("*.json")):
            if read_record(path).status != "done":
                place = self.path / "superseded"
                place.mkdir(exist_ok=True)
                path.rename(place / f"{path.stem}.{len(list(place.iterdir()))}.json")

    def write_survival(self, report: SurvivalReport) -> None:
        """Add a survival report to the file of its checkpoint.

        Raises:
            InputError: The existing file is not a report.
        """
        path = survival_path(self.path, report.checkpoint)
        kept = read_survival(self.path, report.checkpoint)
        if kept is not None:
            report = kept.merge(report)
        with _writing(path):
            replace_file(path, dumps(report.model_dump(mode="json", exclude_none=True)) + "\n")

    def write_record(self, record: Record, answers: Sequence[samples.Sample] = ()) -> Path:
        """Write a record, its answers first; an existing record is left alone."""
        path = record_path(self.path, record.cell)
        with _writing(path):
            if answers and not path.exists():
                lines = samples.encode(answers)
                replace_file(self.samples_path(record.cell), samples.compress(lines))
                record = record.model_copy(update={"samples": samples.sha256(lines)})
            write_new(path, record_text(record))
        return path


def record_path(folder: Path, cell: Cell) -> Path:
    """Path of the record of ``cell``."""
    return folder / "records" / f"{cell.stem}.json"


def record_text(record: Record) -> str:
    """Content of a record's file."""
    return dumps(json.loads(record.model_dump_json())) + "\n"


def survival_path(folder: Path, checkpoint: str) -> Path:
    """Path of the survival report of a checkpoint."""
    return folder / "survival" / f"{checkpoint}.json"


def read_survival(folder: Path, checkpoint: str) -> SurvivalReport | None:
    """Read the survival report of a checkpoint; None if there is none.

    Raises:
        InputError: The file is not a report.
    """
    path = survival_path(folder, checkpoint)
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            content.pop("sha256", None)  # of files before 0.2
        return SurvivalReport.model_validate(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a survival report; delete it and evaluate the checkpoint again"
        ) from error


def checkpoints(folder: Path) -> set[str]:
    """Names of the checkpoints in a run's folder that need no training."""
    return {
        path.parent.name
        for kept in ("model", "adapter")
        for path in folder.glob(f"checkpoints/*/{kept}")
    }


def read_samples(folder: Path, record: Record) -> list[samples.Sample]:
    """Read the logged answers of a record; an empty list if none were kept.

    Raises:
        InputError: The file does not have the digest in the record.
    """
    if record.samples is None:
        return []
    path = folder / "samples" / f"{record.cell.stem}.jsonl.gz"
    try:
        lines = samples.decompress(path.read_bytes())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if samples.sha256(lines) != record.samples:
        raise InputError(f"{path}: not the answers that its record is about (SHA-256 differs)")
    try:
        return samples.decode(lines)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise InputError(f"{path}: a line is not an answer: {message}") from error


def read_records(folder: Path) -> list[Record]:
    """Read all records of a run folder, sorted by name.

    Raises:
        InputError: The folder holds no records, or one is not valid.
    """
    paths = sorted((folder / "records").glob("*.json"))
    if not paths:
        raise InputError(f"{folder}: no records found (expected {folder / 'records'}/*.json)")
    records = [read_record(path) for path in paths]
    for path, record in zip(paths, records, strict=True):
        if path.stem != record.cell.stem:
            raise InputError(f"{path}: is of another cell than its name says: {record.cell.stem}")
    return records


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: There is none, or it is not a record.
    """
    try:
        return parse_record(json.loads(path.read_bytes()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        raise InputError(f"{path}: not a record: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:  # JSON that pydantic takes and Python does not
        raise InputError(f"{path}: not a record: {error}") from error


def parse_record(content: Any) -> Record:
    """Validate the content of a record's file, of this version or of version 1.

    Raises:
        ValueError: It is not a record.
    """
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key != "sha256"}  # before 0.2
        try:
            content = upgrade(content) if content.get("schema_version", 1) == 1 else content
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"a part of version 1 is missing: {error}") from error
    return Record.model_validate_json(json.dumps(content))


def _is_empty(path: Path) -> bool:
    """Tell whether a folder is empty but for unfinished files."""
    return path.is_dir() and all(entry.match(UNFINISHED) for entry in path.iterdir())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Report a file that may not be written as one line; a full disk is reported elsewhere."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def run_name(folder: Path) -> str:
    """Read the name of the run in a folder.

    Raises:
        InputError: The folder holds no run.
    """
    marker = folder / RUN_FILE
    try:
        return str(json.loads(marker.read_text(encoding="utf-8"))["name"])
    except FileNotFoundError:
        raise InputError(f"{folder}: no run found there (expected {marker})") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{marker}: not a run's marker file: {error!r}") from error
