"""One row of the matrix: what a tiny model of one architecture does in each command."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .checks import (
    COLUMNS,
    Alone,
    DifferentError,
    PartialError,
    UpstreamError,
)
from .target import Target, make_target

OWN = {"harness_tasks", "unlearners", "quantizers", "leaderboard"}
ENCODER = "an encoder and decoder is taken for a causal language model"


def run_row(
    model_type: str, place: Path, columns: Collection[str] = tuple(COLUMNS)
) -> dict[str, Any]:
    """Make one row.

    Args:
        model_type: of the architecture.
        place: an empty folder for its models.
        columns: those to fill.

    Returns:
        JSON values: ``cells`` by column; ``class`` and ``parameters`` of the model; ``distinct``,
        the fewest different tokens among ten that it generates; ``gap``, the largest difference of
        a log-probability. Only ``not_built`` with the reason where there is no such model.
    """
    try:
        target = make_target(model_type, place)
    except Exception as error:
        return {"not_built": _named(error), "trace": traceback.format_exc()}
    return {
        "class": type(target.model).__name__,
        "parameters": target.model.num_parameters(),
        "cells": {column: _cell(target, column) for column in columns},
        "distinct": target.expected.distinct,
        "gap": target.gap,
    }


def _cell(target: Target, column: str) -> dict[str, Any]:
    """Do the work of a column and write down how it ended."""
    check, alone = COLUMNS[column]
    folder = target.place / column.replace(" ", "-")
    started = time.monotonic()
    verdict, line, trace = "works", "", ""
    try:
        check(target, folder)
        if target.model.config.is_encoder_decoder:
            raise DifferentError(ENCODER)
    except DifferentError as error:
        verdict, line = "WRONG", str(error)
    except PartialError as error:
        verdict, line = "in part", str(error)
    except UpstreamError as error:
        verdict, line = "upstream", str(error)
    except Exception as error:
        verdict, line = _judge(target, error, folder, alone)
        trace = "" if verdict == "refused" else traceback.format_exc()
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "verdict": verdict,
        "line": line.replace(str(target.place), "FOLDER"),
        "trace": trace,
        "seconds": round(time.monotonic() - started, 2),
    }


def _judge(target: Target, error: Exception, folder: Path, alone: Alone) -> tuple[str, str]:
    """Tell one line of ours from a traceback, and whose fault a traceback is."""
    if type(error).__module__.partition(".")[0] in OWN and "\n" not in str(error):
        losses = folder.with_name(f"{folder.name}.training") / "loss.jsonl"
        trained = losses.is_file() and losses.stat().st_size > 0
        return ("WRONG", f"after training: {error}") if trained else ("refused", str(error))
    try:
        alone(target)
    except Exception as other:
        if _named(other)[:60] == _named(error)[:60]:
            return "upstream", _named(other)
    return "WRONG", _named(error)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
