"""Flatten nested values to dotted paths."""

from __future__ import annotations

from typing import Any


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Flatten dicts, lists and tuples to their members by dotted path, for example ``a.0.b``.

    An empty container is a value of its own.
    """
    if not isinstance(value, dict | list | tuple) or not value:
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    values_by_path: dict[str, Any] = {}
    for key, member in items:
        values_by_path |= flatten(member, f"{path}.{key}" if path else str(key))
    return values_by_path
