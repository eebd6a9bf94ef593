"""Readers of JSON and YAML from untrusted files."""

from collections.abc import Callable
from typing import Any

import pytest

from leaderboard.reading.untrusted_files import UnsafeError
from leaderboard.reading.untrusted_values import read_json, read_yaml


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_json, '{"a": {"b": 1, "b": 2}}', "duplicate key b"),
        (read_yaml, "a: 1\n'a': 2", "line 2: duplicate key a"),
        (read_yaml, "a: {<<: {b: 1}, b: 2}", "line 1: tags are not allowed, nor merges"),
        (read_yaml, "a: &b 1", "line 1: anchors and aliases are not allowed"),
        (read_yaml, "a: *b", "line 1: anchors and aliases are not allowed"),
        (read_yaml, "1: a", "1: a key that is not a string"),
        (read_yaml, "a: 2020-99-99", "not YAML: month must be in 1..12"),
        (read_yaml, "a: '\u202e'", r"line 1: the invisible character U\+202E"),
    ],
)
def test_refusals(read: Callable[[bytes], Any], content: str, message: str) -> None:
    with pytest.raises(UnsafeError, match=f"^{message}"):
        read(content.encode())


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (
            "a: &x {b: 1}\nc: {<<: *x, b: 2, d: '\u202e'}",
            {"a": {"b": 1}, "c": {"b": 2, "d": "\u202e"}},
        ),
        ("a: !!str 1", {"a": "1"}),
        (f"a: {'1' * 29}", {"a": int("1" * 29)}),
        (f"a: {'x ' * 600}", {"a": ("x " * 600).strip()}),
    ],
)
def test_allowed_in_a_grid(content: str, value: Any) -> None:
    assert read_yaml(content.encode(), aliases=True, any_text=True) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: {<<: [{b: 1}, {b: 2}]}", "line 1: << takes one mapping"),
        ("a: &x {b: *x}", r"a\.b\..*: nested more than 32 deep"),
        ("a: !!timestamp x", "not YAML: "),
        ("a: !!python/name:os.system", "not YAML: could not determine a constructor"),
    ],
)
def test_refused_in_a_grid(content: str, message: str) -> None:
    with pytest.raises(UnsafeError, match=f"^{message}"):
        read_yaml(content.encode(), aliases=True, any_text=True)
