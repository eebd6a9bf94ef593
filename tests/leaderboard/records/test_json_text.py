"""JSON that a person can read."""

import json
from collections.abc import Callable

import pytest

from leaderboard.records.json_text import dumps
from leaderboard.records.schema import (
    ExampleScores,
    Record,
)
from leaderboard.records.store import record_text

MakeRecord = Callable[..., Record]


def test_a_record_fits_a_screen(make: MakeRecord) -> None:
    """Numbers of 100 examples and a metric take a line each."""
    examples = ExampleScores(examples=tuple(range(100)), scores=(12.345678,) * 100)
    text = record_text(make("npo").model_copy(update={"examples": {"verbmem": examples}}))
    assert len(text.splitlines()) < 100
    assert '"verbmem": {"value": 50.0, "stderr": 1.5, "low": null, "high": null}' in text


def test_layout_of_json() -> None:
    value = {"a": [1, 2.5, None], "long": {"key": "x" * 100, "list": list(range(60))}, "empty": {}}
    text = dumps(value)
    assert json.loads(text) == value
    assert text.splitlines()[0] == "{"
    assert ' "a": [1, 2.5, null],' in text
    assert any(line.startswith('  "list": [0, 1') for line in text.splitlines())
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"a": float("nan")})
