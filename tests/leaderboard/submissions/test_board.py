"""Precisions of a board: a submission that lacks one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.errors import InputError
from leaderboard.records.schema import Record
from leaderboard.records.store import RunFolder
from leaderboard.submissions.board import board_precisions, precision_findings


def of_cell(record: Record, **changes: Any) -> Record:
    """Change the cell of a record."""
    return record.model_copy(update={"cell": record.cell.model_copy(update=changes)})


def of_text(record: Record, name: str) -> Record:
    """Change the text of a record."""
    corpus = record.cell.training.corpus.model_copy(update={"name": name, "fingerprint": name})
    return of_cell(record, training=record.cell.training.model_copy(update={"corpus": corpus}))


def findings(own: list[Record], board: list[Record]) -> list[str]:
    return [str(finding) for finding in precision_findings(own, board_precisions(board))]


def test_same_or_more_precisions_are_enough(make: Any) -> None:
    board = [make("target", "none"), make("target", "rtn-int4")]
    assert findings(board, board) == []
    assert findings([*board, make("target", "rtn-int8")], board) == []


def test_missing_precisions_are_named(make: Any) -> None:
    board = [make("target", name) for name in ("rtn-int8", "none", "rtn-int4")]
    assert findings([make("target", "none")], board) == [
        "problem: config.yaml: precisions: the board has rtn-int4, the submission lacks it",
        "problem: config.yaml: precisions: the board has rtn-int8, the submission lacks it",
    ]


@pytest.mark.parametrize(
    "changes", [{"quantizer": "rtn-int8"}, {"quantizer_params": {"group_size": 32}}]
)
def test_label_that_hides_another_quantizer_does_not_count(
    make: Any, changes: dict[str, Any]
) -> None:
    board = [make("target", "rtn-int4")]
    assert findings([of_cell(make("target", "rtn-int4"), **changes)], board) == [
        "problem: config.yaml: precisions: the board has rtn-int4, the submission has a "
        "different quantizer of this name"
    ]


def test_only_the_target_sets_the_precisions_of_a_board(make: Any) -> None:
    """Precisions of a method that the target lacks: others are not refused."""
    board = [make("target", "none"), make("npo", "rtn-int4")]
    assert findings([make("target", "none")], board) == []


def test_other_text_or_evaluation_is_a_warning(make: Any) -> None:
    """Text that is new to the board; the other text is still checked."""
    board = [make("target", "none"), make("target", "rtn-int4")]
    warning = "warning: config.yaml: precisions: not checked, the board has no"
    assert findings([of_text(make("target"), "mine")], board) == [
        f"{warning} mine with these settings"
    ]
    assert findings([of_cell(make("target"), limit=3)], board) == [
        f"{warning} news with these settings"
    ]
    assert findings([of_text(make("target"), "mine"), make("target")], board) == [
        f"{warning} mine with these settings",
        "problem: config.yaml: precisions: the board has rtn-int4, the submission lacks it",
    ]


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


LACKS = "problem: config.yaml: precisions: the board has rtn-int8, the submission lacks it"


def test_validate_against_a_board(packed: Any, board: Path, tmp_path: Path) -> None:
    own = run("validate", packed.folder, "--board", packed.run)
    assert own.exit_code == 0
    assert own.stdout.endswith("bounded_ascent, 6 records: valid\n")

    lacking = run("validate", packed.folder, "--board", board)
    assert lacking.exit_code == 1
    assert LACKS in lacking.stdout.splitlines()
    assert lacking.stdout.endswith("bounded_ascent, 6 records: 1 problem\n")
    assert run("validate", packed.folder).exit_code == 0

    (tmp_path / "empty").mkdir()
    wrong = run("validate", packed.folder, "--board", tmp_path / "empty")
    assert isinstance(wrong.exception, InputError)
    assert "no records found" in str(wrong.exception)


def test_board_of_another_text_is_a_warning(packed: Any, make: Any, tmp_path: Path) -> None:
    store = RunFolder(tmp_path / "board", "board")
    store.write_record(make("target", "rtn-int8"))
    result = run("validate", packed.folder, "--board", store.path)
    assert result.exit_code == 0
    assert "warning: config.yaml: precisions: not checked, the board has no" in result.stdout
