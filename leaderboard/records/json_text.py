"""JSON that a person can read: what fits a line stays on one."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 100


def dumps(value: Any, indent: int = 0) -> str:
    """Format JSON values with an indent of one space.

    A list of numbers or strings, and anything that fits into 100 characters, takes one line.

    Args:
        value: Plain JSON values, without NaN or infinity.
        indent: Number of spaces before the lines that follow the first.

    Raises:
        ValueError: A number is not finite.
    """
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or not value or indent + len(line) <= WIDTH:
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(key, ensure_ascii=False)}: {dumps(member, indent + 1)}"
            for key, member in value.items()
        ]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * indent + "}"
    if not any(isinstance(member, dict | list) for member in value):
        return line
    parts = [inner + dumps(member, indent + 1) for member in value]
    return "[\n" + ",\n".join(parts) + "\n" + " " * indent + "]"
