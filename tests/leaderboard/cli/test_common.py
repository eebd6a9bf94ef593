"""Helpers of the commands."""

import pytest

from leaderboard.cli.common import parse_settings
from leaderboard.errors import InputError


def test_values_are_yaml() -> None:
    pairs = ["a=1", "b=1.5", "c=[x, y]", "d=null", "e=a=b"]
    assert parse_settings(pairs) == {"a": 1, "b": 1.5, "c": ["x", "y"], "d": None, "e": "a=b"}
    assert parse_settings(None) == {}


def test_pair_without_a_value() -> None:
    with pytest.raises(InputError, match="'rank': expected name=value"):
        parse_settings(["rank"])
