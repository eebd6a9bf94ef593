"""Precisions of a board: `validate --board` and `collect` refuse a submission that lacks one."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.errors import InputError
from leaderboard.records.schema import Record
from leaderboard.records.store import RunFolder, read_records
from leaderboard.submissions.board import board_precisions, precision_findings
from leaderboard.submissions.collection import collect
from leaderboard.submissions.validation import validate


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


@pytest.fixture
def board(packed: Any, tmp_path: Path) -> Path:
    """Board with the cells of the submission and one more precision."""
    store = RunFolder(tmp_path / "board", "board")
    for record in read_records(packed.folder):
        store.write_record(record)
        if record.cell.training.method == "target" and record.is_quantized:
            eight = {"precision": "rtn-int8", "quantizer": "rtn-int8"}
            store.write_record(of_cell(record, **eight))
    return store.path


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


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_collect_requires_the_precisions_of_the_folder(packed: Any, board: Path) -> None:
    before = contents(board)
    with pytest.raises(InputError) as caught:
        list(collect([packed.folder], board))
    assert str(caught.value) == f"{packed.folder}: {LACKS.partition('yaml: ')[2]}"
    assert contents(board) == before


@pytest.fixture
def unquantized(packed: Any, tmp_path: Path) -> Path:
    """Valid submission of the same cells except those at rtn-int4."""
    folder = Path(shutil.copytree(packed.folder, tmp_path / "unquantized"))
    for path in folder.glob("*/*--rtn-int4--*"):
        path.unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["precisions"] = config["precisions"][:1]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    names = [p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"]
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["cells"] = [path.stem for path in names if path.parent.name == "records"]
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in names
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert validate(folder).problems == []
    return folder


def test_collect_requires_the_precisions_of_the_others(
    packed: Any, unquantized: Path, tmp_path: Path
) -> None:
    """Submissions in both orders; on its own, the smaller one is accepted."""
    for folders in ([packed.folder, unquantized], [unquantized, packed.folder]):
        with pytest.raises(InputError) as caught:
            list(collect(folders, tmp_path / "new"))
        text = "precisions: the board has rtn-int4, the submission lacks it"
        assert str(caught.value) == f"{unquantized}: {text}"
        assert not (tmp_path / "new").exists()
    assert list(collect([unquantized], tmp_path / "new")) == [
        f"{unquantized}: 3 of 3 records taken"
    ]


def test_folder_of_other_texts_sets_no_precisions(
    packed: Any, unquantized: Path, make: Any, tmp_path: Path
) -> None:
    """Text that is new to the folder: it needs the precisions of all its submissions."""
    store = RunFolder(tmp_path / "board", "board")
    store.write_record(make("target", "rtn-int8"))
    before = contents(store.path)
    with pytest.raises(InputError, match="unquantized: precisions: the board has rtn-int4"):
        list(collect([packed.folder, unquantized], store.path))
    assert contents(store.path) == before
    assert list(collect([packed.folder], store.path)) == [f"{packed.folder}: 6 of 6 records taken"]
