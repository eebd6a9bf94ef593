"""Steps of docs/submissions.md from an idea to a row, through the command line."""

from __future__ import annotations

import io
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import harness_tasks.corpora.demo
import leaderboard.corpora.demo_models
from leaderboard.cli import app
from leaderboard.cli.common import err

from .conftest import RECIPE, WORLD

DOCUMENT = Path(__file__).parents[2] / "docs" / "submissions.md"


def test_every_step(
    small_world: Any, packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write the files that the text shows, run its commands, and look for the rows in the table.

    `corpora: [demo]` means the small world here; another submission is in the folder too.
    """
    for module, name, small in (
        (harness_tasks.corpora.demo, "DemoWorld", WORLD),
        (leaderboard.corpora.demo_models, "DemoWorld", WORLD),
        (leaderboard.corpora.demo_models, "DemoRecipe", RECIPE),
    ):
        monkeypatch.setattr(module, name, lambda small=small: small)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(err, "file", io.StringIO())
    text = DOCUMENT.read_text(encoding="utf-8")
    files = re.findall(r"`([\w.]+)`:\n\n```(?:py|yaml)\n(.*?)```", text, flags=re.DOTALL)
    assert [name for name, _ in files] == ["uniform.py", "grid.yaml"]
    for name, content in files:
        Path(name).write_text(content)
    author, maintainer, later = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)

    methods, dry, submit, validate = (run(line) for line in author.splitlines())
    assert re.search(r"uniform\s+│ local\s+│ retain_weight=1.0", methods)
    assert "8 cells, 0 recorded" in dry
    assert dry.count("to do") == 8 and "demo--uniform--lora--rtn-int4--seed0" in dry
    assert "uniform keeps the contract of methods" in submit
    assert "written: submissions/uniform" in submit
    assert validate.endswith("submissions/uniform: uniform, 8 records: valid\n")

    shutil.copytree(packed.folder, Path("submissions", "bounded_ascent"))
    validate, collect, table = (run(line) for line in maintainer.splitlines())
    assert validate.count(": valid\n") == 2
    assert "submissions/uniform: 8 of 8 records taken" in collect
    assert "submissions/bounded_ascent: 6 of 6 records taken" in collect
    assert "written: board/table.md" in table
    rows = Path("board", "table.md").read_text()
    for row in ("uniform | full | rtn-int4", "uniform | lora | float32", "bounded\\_ascent | lora"):
        assert f"| {row}" in rows

    (validate,) = (run(line) for line in later.splitlines())
    assert validate.endswith("submissions/uniform: uniform, 8 records: valid\n")
    assert "precisions" not in validate


def run(line: str) -> str:
    """Run a command of the text, its patterns expanded as a shell does; it must succeed."""
    program, *words = shlex.split(line)
    assert program == "lm-eval-muse"
    arguments = [
        argument
        for word in words
        for argument in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    assert isinstance(err.file, io.StringIO)
    err.file.seek(0)
    err.file.truncate()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{line}: {result.output} {result.exception!r}"
    return result.output + err.file.getvalue()
