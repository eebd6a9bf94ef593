"""Readers of untrusted files, an audit of what they do, and mutations of valid files.

An input is one byte, which chooses the reader, and the content of a file. The seeds are the files
of a valid submission.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

import leaderboard.grid.sweep  # noqa: F401, imported by `validate` where it reads a search
from leaderboard.config import load_config
from leaderboard.errors import InputError
from leaderboard.grid.sweep import load_sweep
from leaderboard.reading.untrusted_files import UnsafeError, to_ascii_line
from leaderboard.reading.untrusted_values import read_json, read_yaml
from leaderboard.records.store import read_records
from leaderboard.submissions.answer_checks import answer_problems, read_answers
from leaderboard.submissions.record_checks import read_record, record_problems
from leaderboard.submissions.validation import validate

METHOD = "--lora--"
"""Part of the name of a cell that is not a reference."""
MOST_SECONDS = 2.0
"""Processor time of one input, in seconds."""
MOST_MIB = 500
"""Growth of the process over all inputs, in MiB."""


class Misbehaviour(BaseException):
    """A reader did more than read, or took too long; not caught by `except Exception`."""


# --- what a reader may do ------------------------------------------------------------------------

_reading: int | None = None  # id of the thread that may only read
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
FORBIDDEN = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
    "pickle.find_class",
    "ctypes.dlopen",
    "shutil.",
    "tempfile.",
)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _reading != threading.get_ident():
        return
    if event == "open":
        if arguments[2] & WRITES:
            raise Misbehaviour(f"writes {arguments[0]}")
    elif event == "import":
        if arguments[0].partition(".")[0] not in sys.stdlib_module_names:
            raise Misbehaviour(f"imports {arguments[0]}")
    elif event.startswith(FORBIDDEN):
        raise Misbehaviour(f"{event} {arguments!r:.200}")


sys.addaudithook(_audit)


@contextmanager
def only_reading() -> Iterator[None]:
    """Refuse writing, processes, connections, imports and pickles within the context.

    Raises:
        Misbehaviour: one of these happened, or the context took more than ``MOST_SECONDS``.
    """
    global _reading
    start = time.process_time()
    _reading = threading.get_ident()
    try:
        yield
    finally:
        _reading = None
    if (seconds := time.process_time() - start) > MOST_SECONDS:
        raise Misbehaviour(f"{seconds:.1f} s for one input")


def mib() -> int:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# --- readers -------------------------------------------------------------------------------------


def name_of(files: dict[str, bytes], cell: str, kind: str) -> str:
    """Return the path of the record or of the answers of a cell.

    Args:
        files: content by path.
        cell: part of the cell's name.
        kind: ``records`` or ``samples``.
    """
    return next(name for name in files if name.startswith(kind) and cell in name)


def unpacked(name: str, content: bytes) -> bytes:
    """Decompress the content of a file of answers; return other content unchanged."""
    return gzip.decompress(content) if name.endswith(".gz") else content


def packed(name: str, content: bytes) -> bytes:
    """Compress the content of a file of answers; return other content unchanged."""
    return gzip.compress(content, mtime=0) if name.endswith(".gz") else content


class Readers:
    """Readers of untrusted files, and a valid submission whose files are mutated.

    Args:
        folder: an empty folder for files.
        files: content of the submission's files by path.
    """

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.files = files
        self.submission, self.run = folder / "submission", folder / "run"
        for name, content in files.items():
            path = self.submission / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (self.run / "records").mkdir(parents=True)
        self.record = read_record(files[name_of(files, METHOD, "records")])
        self.all: list[tuple[str, Callable[[bytes], None]]] = [
            ("records", self._record_of_a_run),
            ("records", self._record_of_a_submission),
            ("samples", self._answers),
            ("records", lambda content: self._plain(read_json, content)),
            ("config.yaml", lambda content: self._plain(read_yaml, content)),
            ("config.yaml", self._configuration),
        ]
        self.all += [(name, self._in_submission(name)) for name in sorted(self.files)]

    def seeds(self) -> Iterator[bytes]:
        """Yield a valid file for each reader."""
        for number, (kind, _) in enumerate(self.all):
            name = kind if kind in self.files else name_of(self.files, METHOD, kind)
            yield bytes([number]) + unpacked(name, self.files[name])

    def read(self, data: bytes) -> None:
        """Pass an input to its reader.

        Raises:
            Misbehaviour: the reader did more than read.
            Exception: the reader raised an error that is not its own.
        """
        if data:
            _, reader = self.all[data[0] % len(self.all)]
            reader(data[1:])

    def _record_of_a_run(self, content: bytes) -> None:
        path = self.run / "records" / "record.json"
        path.write_bytes(content)
        with only_reading(), suppress(InputError):
            read_records(self.run)

    def _record_of_a_submission(self, content: bytes) -> None:
        with only_reading(), suppress(UnsafeError):
            for problem in record_problems(read_record(content)):
                _show(problem)

    def _answers(self, content: bytes) -> None:
        with only_reading(), suppress(UnsafeError):
            for problem in answer_problems(self.record, read_answers(content)):
                _show(problem)

    def _plain(self, reader: Callable[[bytes], Any], content: bytes) -> None:
        with only_reading(), suppress(UnsafeError):
            reader(content)

    def _configuration(self, content: bytes) -> None:
        path = self.run / "grid.yaml"
        path.write_bytes(content)
        for load in (load_config, load_sweep):
            with only_reading(), suppress(InputError):
                load(path)

    def _in_submission(self, name: str) -> Callable[[bytes], None]:
        def check(content: bytes) -> None:
            path = self.submission / name
            path.write_bytes(packed(name, content))
            try:
                with only_reading():
                    for finding in validate(self.submission).findings:
                        _show(str(finding))
            finally:
                path.write_bytes(self.files[name])

        return check


def _show(text: str) -> None:
    if not to_ascii_line(text).isprintable():
        raise Misbehaviour(f"a message that a terminal obeys: {text!r}")


# --- files that are nearly right -----------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**63, 10**29, 10**31, 0.5, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), "", "x", "x" * 600, "../x", "/", "\0", "\u202e", "\ud800"),
    *("=1+1", "<b>", "0" * 64, "target", "retrain", "books", "news", "hub", "done", "diverged"),
    *("failed", "all", "test", "none", [], {}, [[]], [{}], {"": ""}, [None] * 50),
)


def mutated(content: bytes, rng: random.Random) -> bytes | None:
    """Make one to three changes to the values of a file; return None if it cannot be parsed.

    Args:
        content: JSON, lines of JSON, or YAML.
        rng: source of random choices.
    """
    for read, write in (
        (json.loads, json.dumps),
        (_lines, _joined),
        (yaml.safe_load, yaml.safe_dump),
    ):
        try:
            value = read(content)
        except Exception:  # PyYAML's constructors of tags raise errors of any type
            continue
        for _ in range(rng.randint(1, 3)):
            value = _changed(value, value, rng)
        try:
            return write(value).encode("utf-8", "surrogatepass")
        except (ValueError, TypeError, RecursionError, yaml.YAMLError):
            return None
    return None


def _lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


def _joined(lines: Any) -> str:
    rows = lines if isinstance(lines, list) else [lines]
    return "".join(
        json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n" for row in rows
    )


def _changed(value: Any, whole: Any, rng: random.Random) -> Any:
    """Copy a value with one change, at a random depth."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(VALUES) if rng.random() < 0.8 else _part(whole, rng)
    copy = dict(value) if isinstance(value, dict) else list(value)
    key: Any = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
    action = rng.random()
    if action < 0.08:
        del copy[key]
    elif action < 0.12 and isinstance(copy, dict):
        copy[str(rng.choice(VALUES))] = copy.pop(key)
    elif action < 0.16 and isinstance(copy, list):
        copy.insert(rng.randrange(len(copy) + 1), _part(whole, rng))
    elif action < 0.2 and isinstance(copy, list):
        rng.shuffle(copy)
    elif action < 0.24:
        copy[key] = [copy[key]]
    else:
        copy[key] = _changed(copy[key], whole, rng)
    return copy


def _part(value: Any, rng: random.Random) -> Any:
    """Return the value at a random place."""
    while isinstance(value, dict | list) and value and rng.random() < 0.8:
        value = rng.choice(list(value.values()) if isinstance(value, dict) else value)
    return value
