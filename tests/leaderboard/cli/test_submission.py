"""The commands `submit`, `validate` and `collect`: exit codes and what they print."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.errors import InputError


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_submitting_again_runs_nothing_and_overwrites_nothing(
    packed: Any, trusted: None, tmp_path: Path
) -> None:
    options = ("--config", packed.config, "--plugin", packed.plugin, "--run", packed.run)
    before = {path: path.stat().st_mtime_ns for path in packed.run.rglob("*.json")}
    first = run("submit", *options, "--out", tmp_path)
    assert first.exit_code == 0, first.output
    assert {path: path.stat().st_mtime_ns for path in packed.run.rglob("*.json")} == before
    for path in packed.folder.rglob("*.*"):
        again = tmp_path / "bounded_ascent" / path.relative_to(packed.folder)
        assert again.read_bytes() == path.read_bytes(), "the same records give the same submission"
    second = run("submit", *options, "--out", tmp_path)
    assert isinstance(second.exception, InputError)
    assert "already exists; choose another --out" in str(second.exception)


def test_validate_exits_with_1_if_a_submission_has_problems(packed: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(packed.folder, tmp_path / "submission"))
    assert run("validate", folder).exit_code == 0
    (folder / "README.md").write_text("\u202e")
    result = run("validate", packed.folder, folder)
    assert result.exit_code == 1
    last = result.stdout.splitlines()[-1]
    assert last == f"{folder}: bounded_ascent, 6 records: 2 problems"


def test_collect_tells_what_was_taken(
    packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line per submission on standard error; the second time there is nothing new."""
    told = StringIO()
    monkeypatch.setattr("leaderboard.cli.common.err", Console(file=told, width=20))
    for _ in range(2):
        result = run("collect", packed.folder, "--out", tmp_path / "board")
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
    assert told.getvalue().splitlines() == [
        f"{packed.folder}: {taken} of 6 records taken" for taken in (6, 0)
    ]
