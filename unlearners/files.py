"""Files that are written whole, or not at all."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def unfinished(path: Path) -> Path:
    """A name for a file that is being written; no two writers share one."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object under another name, then rename it."""
    partial = unfinished(path)
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
