"""Nested values by dotted path."""

from leaderboard.records.flatten import flatten


def test_every_member_has_a_path() -> None:
    assert flatten({"a": [1, {"b": None}], "c": (2,)}) == {"a.0": 1, "a.1.b": None, "c.0": 2}


def test_empty_containers_are_values() -> None:
    assert flatten({"a": {}, "b": []}) == {"a": {}, "b": []}
