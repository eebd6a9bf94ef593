"""Splits of a corpus folder."""

import json
from pathlib import Path
from typing import Any


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path
