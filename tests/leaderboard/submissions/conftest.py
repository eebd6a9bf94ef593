"""Fixtures of the tests of submissions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from .damage import Folder


@pytest.fixture
def folder(packed: Any, tmp_path: Path) -> Folder:
    return Folder(Path(shutil.copytree(packed.folder, tmp_path / "submission")))
