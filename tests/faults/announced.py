"""The command line, telling on stderr what it is at: `python announced.py run grid.yaml …`.

A line `@<seconds> <stage>` stands for the moment before a stage begins, and `@<seconds> between`
for the one after it. Nothing else is different from `lm-eval-muse`.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from transformers import Trainer

import leaderboard.cli
import leaderboard.worker
from leaderboard.store import RunFolder

STAGES: list[tuple[str, Any, str]] = [
    ("training", leaderboard.worker, "unlearn"),
    ("saving a Trainer checkpoint", Trainer, "_save_checkpoint"),
    ("saving the model", leaderboard.worker, "save_model"),
    ("quantizing", leaderboard.worker, "with_calibration"),  # what is called just before it
    ("evaluating", leaderboard.worker, "evaluate"),
    ("writing a record", RunFolder, "write_record"),
    ("removing what is not kept", leaderboard.worker.Worker, "prune"),
    ("regenerating tables", leaderboard.cli, "table"),
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


if __name__ == "__main__":
    for stage, owner, name in STAGES:
        setattr(owner, name, announced(stage, getattr(owner, name)))
    leaderboard.cli.main()
