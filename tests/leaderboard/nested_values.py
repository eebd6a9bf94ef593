"""Paths in nested dictionaries and lists, for tests that replace values."""

from typing import Any

Place = tuple[Any, ...]


def places(value: Any, prefix: Place = ()) -> list[Place]:
    """List the path of every value, starting with the whole."""
    if not isinstance(value, dict | list):
        return [prefix]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [prefix, *(p for key, member in items for p in places(member, (*prefix, key)))]


def replaced(value: Any, place: Place, by: Any) -> Any:
    """Copy a value with ``by`` at a path."""
    if not place:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(value[place[0]], place[1:], by)
    return copy
