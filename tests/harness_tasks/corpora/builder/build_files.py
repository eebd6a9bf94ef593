"""Source files of a corpus."""

import json
from pathlib import Path
from typing import Any


def write(path: Path, content: Any) -> Path:
    """Write bytes and text unchanged, anything else as JSON lines or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode()
    elif path.suffix == ".jsonl":
        content = "\n".join(json.dumps(row) for row in content).encode()
    elif not isinstance(content, bytes):
        content = json.dumps(content).encode()
    path.write_bytes(content)
    return path
