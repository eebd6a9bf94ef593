"""Write the files of a corpus folder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDS = 4


def write_splits(folder: Path, splits: Mapping[str, Sequence[Any]]) -> None:
    """Write the rows of each ``<config>/<split>`` to ``<folder>/<config>/<split>.json``."""
    for name, rows in splits.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(rows))


def encoded(rows: Sequence[Any]) -> bytes:
    """Encode rows as the file of a split."""
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()


def folds(documents: Sequence[str]) -> dict[str, Sequence[str]]:
    """Divide documents into MUSE's forget sets of scalability (growing) and sustainability."""
    ends = [round(fold * len(documents) / FOLDS) for fold in range(FOLDS + 1)]
    splits: dict[str, Sequence[str]] = {}
    for fold, (start, end) in enumerate(itertools.pairwise(ends), start=1):
        splits[f"scal/forget_{fold}"] = documents[:end]
        splits[f"sust/forget_{fold}"] = documents[start:end]
    return splits
