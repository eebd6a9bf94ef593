"""Command line in a process of its own, which prints its stages on stderr.

The process is forked from one that has imported everything, because imports take longer than the
grid; it is killed like any other.

A line `@<seconds> <stage>` stands for the moment before a stage begins, and `@<seconds> between`
for the one after it. Nothing else is different from `lm-eval-muse`.
"""

import functools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lm_eval  # noqa: F401
import peft  # noqa: F401
from transformers import Trainer

import leaderboard.cli
import leaderboard.cli.common
import leaderboard.cli.grid
import leaderboard.corpora.corpus
import leaderboard.execution.checkpoint
import leaderboard.execution.worker
import leaderboard.records.provenance
import leaderboard.report.files
import leaderboard.training.train
from leaderboard.records.store import RunFolder

FORK = multiprocessing.get_context("fork")
STAGES: list[tuple[str, Any, str]] = [
    ("training", leaderboard.execution.checkpoint, "unlearn"),
    ("saving a Trainer checkpoint", Trainer, "_save_checkpoint"),
    ("saving the model", leaderboard.training.train, "save_model"),
    ("scoring the retrained model", leaderboard.corpora.corpus.CorpusPlan, "retrain_scores"),
    (
        "quantizing",
        leaderboard.execution.worker,
        "with_calibration",
    ),  # what is called just before it
    ("evaluating", leaderboard.execution.worker, "evaluate"),
    ("writing a survival report", RunFolder, "write_survival"),
    ("writing a record", RunFolder, "write_record"),
    ("removing what is not kept", leaderboard.execution.checkpoint.Checkpoint, "prune"),
    ("regenerating tables", leaderboard.cli.grid, "table"),
]
# the stage that goes on after another inside it, or after a call that only opens it
AFTER = {"saving a Trainer checkpoint": "training", "quantizing": "quantizing"}


def announce(stage: str) -> None:
    os.write(2, f"@{time.monotonic():.4f} {stage}\n".encode())


def announced(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        announce(stage)
        try:
            return function(*arguments, **keywords)
        finally:
            if (after := AFTER.get(stage, "between")) != stage:
                announce(after)

    return call


def set_clock(ahead: timedelta) -> None:
    """Let this process believe that it is later, or earlier."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + ahead

    real = time.time
    time.time = lambda: real() + ahead.total_seconds()
    leaderboard.records.provenance.datetime = Ahead  # type: ignore[misc]


def _main(
    errors: Connection, arguments: tuple[str, ...], temporary: Path, ahead: timedelta
) -> None:
    set_clock(ahead)
    os.dup2(errors.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    leaderboard.cli.common.err.file = sys.stderr  # it has kept the one of its import
    tempfile.tempdir = str(temporary)
    sys.argv = ["lm-eval-muse", *arguments]
    for stage, owner, name in STAGES:
        setattr(owner, name, announced(stage, getattr(owner, name)))
    leaderboard.cli.main()


class Command:
    """A command that runs; its exit code is minus the signal that ended it.

    Args:
        arguments: of the command line.
        temporary: its folder for temporary files.
        ahead: of the machine's clock is its own.
    """

    def __init__(
        self, arguments: tuple[str, ...], temporary: Path, ahead: timedelta = timedelta()
    ) -> None:
        ours, theirs = Pipe(duplex=False)
        self.process = FORK.Process(target=_main, args=(theirs, arguments, temporary, ahead))
        self.process.start()
        theirs.close()
        self.errors = os.fdopen(os.dup(ours.fileno()), encoding="utf-8", errors="replace")
        ours.close()

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()

    def finish(self) -> tuple[int | None, str]:
        """Wait for the end: the exit code and the rest of what it printed on stderr."""
        with self.errors:
            rest = self.errors.read()
        self.process.join()
        return self.process.exitcode, rest
