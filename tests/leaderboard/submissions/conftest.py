"""Fixtures of the tests of submissions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from leaderboard.records.store import RunFolder, read_records

from .damage import Folder


@pytest.fixture
def folder(packed: Any, tmp_path: Path) -> Folder:
    return Folder(Path(shutil.copytree(packed.folder, tmp_path / "submission")))


@pytest.fixture
def board(packed: Any, tmp_path: Path) -> Path:
    """Board with the cells of the submission and one more precision."""
    store = RunFolder(tmp_path / "board", "board")
    for record in read_records(packed.folder):
        store.write_record(record)
        if record.cell.training.method == "target" and record.is_quantized:
            eight = {"precision": "rtn-int8", "quantizer": "rtn-int8"}
            cell = record.cell.model_copy(update=eight)
            store.write_record(record.model_copy(update={"cell": cell}))
    return store.path
