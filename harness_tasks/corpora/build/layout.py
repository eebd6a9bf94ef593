"""The files of a corpus folder, written."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDS = 4


def write_splits(folder: Path, splits: Mapping[str, Sequence[Any]]) -> None:
    """Write rows by ``<config>/<split>``, as ``<folder>/<config>/<split>.json``."""
    for name, rows in splits.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(rows))


def encoded(rows: Sequence[Any]) -> bytes:
    """What the file of a split holds."""
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()


def folds(documents: Sequence[str]) -> dict[str, Sequence[str]]:
    """The forget sets of MUSE's scalability (growing) and sustainability (one after another)."""
    ends = [round(fold * len(documents) / FOLDS) for fold in range(FOLDS + 1)]
    splits: dict[str, Sequence[str]] = {}
    for fold, (start, end) in enumerate(itertools.pairwise(ends), start=1):
        splits[f"scal/forget_{fold}"] = documents[:end]
        splits[f"sust/forget_{fold}"] = documents[start:end]
    return splits
