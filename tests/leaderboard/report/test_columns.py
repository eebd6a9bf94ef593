"""Texts of numbers, errors and names, which all forms of the table share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leaderboard.records.schema import Record
from leaderboard.report.columns import (
    COLUMNS,
    cell_text,
    describe,
    error_text,
    finetuning,
    markdown_table,
    name,
    number_text,
    value_text,
)
from leaderboard.standings.table import Value, build_table

MakeRecord = Callable[..., Record]


@pytest.mark.parametrize(
    ("number", "digits", "signed", "text"),
    [
        (12.34, 1, False, "12.3"),
        (12.34, 1, True, "+12.3"),
        (-12.34, 2, True, "-12.34"),
        (-0.04, 1, False, "0.0"),
        (-0.04, 1, True, "0.0"),
        (0.04, 1, True, "0.0"),
        (-0.06, 1, True, "-0.1"),
        (None, 1, True, "—"),
    ],
)
def test_zero_has_no_sign(number: float | None, digits: int, signed: bool, text: str) -> None:
    assert number_text(number, digits, signed) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value(50.0, stderr=1.52), " ±1.5"),
        (Value(50.0), ""),
        (Value(100.0, low=96.3, high=100.0), " (≥96.3)"),
        (Value(0.0, low=0.0, high=3.7), " (≤3.7)"),
        (Value(50.0, low=48.0, high=53.0), " (±3.0)"),
        (Value(50.0, low=49.96, high=50.04), ""),
    ],
)
def test_error_is_a_bound_where_all_documents_agree(value: Value, text: str) -> None:
    """Ends of the interval that round to the number itself are not shown."""
    assert error_text(value) == text
    assert value_text(value) == f"{value.mean:.1f}{text}"
    assert value_text(value, with_error=False) == f"{value.mean:.1f}"


def test_cells_follow_their_columns(make: MakeRecord) -> None:
    """Title with the arrow; decimals and sign of the column; a dash for a missing number."""
    titles = [column.title for column in COLUMNS]
    assert titles[:5] == ["VerbMem ↓", "KnowMem ↓", "PrivLeak →0", "Utility ↑", "Δ VerbMem"]
    (row,) = build_table([make("npo", values=(12.34, None, -3.0, 80.0))])
    cells = {column.key: cell_text(column, row) for column in COLUMNS}
    assert cells["verbmem"] == "12.3 ±1.5"
    assert cells["privleak"] == "-3.0 ±1.5"
    assert cells["knowmem"] == cells["score"] == cells["recovery_verbmem"] == "—"


def test_names_tell_rows_apart(make: MakeRecord, records: list[Record]) -> None:
    """A star for a method that did not forget, and the setting that differs."""
    rows = build_table(records)
    assert {name(row) for row in rows} == {"target", "retrain", "npo", "simnpo", "ga*"}
    assert {finetuning(row) for row in rows if row.is_reference} == {"—"}
    assert {finetuning(row) for row in rows if not row.is_reference} == {"full"}
    two = build_table([make("npo", "rtn-int4", settings={"epochs": n}) for n in (1, 5)])
    assert sorted(map(describe, two)) == [
        "news npo [epochs 1] full rtn-int4",
        "news npo [epochs 5] full rtn-int4",
    ]


def test_markdown_aligns_numbers_right() -> None:
    assert markdown_table(["a", "b"], [["x", "1"], ["y", "2"]], labels=1).splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        "| x | 1 |",
        "| y | 2 |",
    ]
