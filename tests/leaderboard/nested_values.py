"""Places in nested dictionaries and lists, for tests that put something else there."""

from typing import Any

Place = tuple[Any, ...]


def places(value: Any, here: Place = ()) -> list[Place]:
    """Every place, the whole first."""
    if not isinstance(value, dict | list):
        return [here]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [here, *(p for key, member in items for p in places(member, (*here, key)))]


def replaced(value: Any, place: Place, by: Any) -> Any:
    """A copy with ``by`` at a place."""
    if not place:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(value[place[0]], place[1:], by)
    return copy
