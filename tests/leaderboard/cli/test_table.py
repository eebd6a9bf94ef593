"""The command `table`: what it prints and writes, and `--check`."""

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from leaderboard.cli import app
from leaderboard.records.store import RunFolder


def table(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["table", str(folder), *options])


def test_written_then_checked(tmp_path: Path, make: Any) -> None:
    run = RunFolder(tmp_path / "run", "small")
    for method in ("target", "retrain", "npo"):
        run.write_record(make(method))
    result = table(run.path)
    assert result.exit_code == 0, result.output
    assert "npo" in result.stdout
    names = {path.name for path in run.path.iterdir() if path.is_file()}
    assert {"table.md", "table.csv", "table.json", "table.tex", "index.html"} <= names
    assert table(run.path, "--check").exit_code == 0
    (run.path / "table.md").write_text("edited")
    checked = table(run.path, "--check")
    assert checked.exit_code == 1
    assert "table.md" in checked.stdout


def test_folder_without_a_run(tmp_path: Path) -> None:
    assert "no run found there" in str(table(tmp_path).exception)
